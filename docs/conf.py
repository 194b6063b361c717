"""How the documentation is built: sphinx-build -W -n docs docs/_build/html."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync import __version__

if TYPE_CHECKING:
    from docutils.nodes import Element, reference
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "shmsync"
author = "the shmsync authors"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
autosummary_generate = False  # the tables only: everything is on one page
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
smartquotes = False  # texts name options such as --raw
default_role = "code"  # single backticks in a docstring

autodoc_default_options = {"exclude-members": "after_fork_in_child, before_fork, retire"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
# References to names of this package must resolve; those to other packages are not checked.
nitpick_ignore_regex = [("py:.*", r"(?!shmsync\.)(?!\w*Error$).*"), ("py:.*", r"shmsync\.[\w.]+\.[A-Z]")]

html_theme = "furo"
html_show_copyright = False
html_title = f"shmsync {release}"


def _public(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> reference | None:
    """Resolve an annotation that names a public class by the private module that defines it."""
    target: str = node["reftarget"]
    if not target.startswith("shmsync._") and not target.startswith("shmsync.codecs."):
        return None
    name = f"shmsync.{target.rpartition('.')[2]}"
    domain: Any = env.domains["py"]
    found: reference | None = domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], name, node, content
    )
    return found


def setup(app: Sphinx) -> None:
    """Connect the function above; Sphinx calls this."""
    app.connect("missing-reference", _public)
