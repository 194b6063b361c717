"""How the documentation is built: sphinx-build -W -n docs docs/_build/html."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer.main

from shmsync import __version__
from shmsync.cli import app as command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

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
smartquotes = False  # help texts name options such as --raw
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


def _plain(text: str | None) -> str:
    """Return a help text as one line of a Markdown table."""
    return " ".join((text or "").replace("|", "\\|").split())


def _parameters(command: Any, context: Any) -> Iterator[str]:
    """Yield a table of the arguments and options of a command."""
    yield "| argument or option | |"
    yield "|---|---|"
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) is not None:
            yield f"| `{_plain(record[0])}` | {_plain(record[1])} |"


def _command_reference(command: Any) -> Iterator[str]:
    """Yield the Markdown of the command line reference: one section for each command."""
    context = command.make_context("shmsync", [], resilient_parsing=True)
    yield "| command | |"
    yield "|---|---|"
    for name, each in command.commands.items():
        yield f"| [`{name}`](#shmsync-{name}) | {_plain(each.get_short_help_str(200))} |"
    for name, each in command.commands.items():
        inner = each.make_context(name, [], parent=context, resilient_parsing=True)
        usage = " ".join(["shmsync", name, *each.collect_usage_pieces(inner)])
        yield from ("", f"## shmsync {name}", "", "```console", f"$ {usage}", "```", "", each.help or "", "")
        yield from _parameters(each, inner)


def _fill_in_commands(_app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the mark in cli.md by the reference, generated from the commands themselves."""
    if page == "cli":
        text = "\n".join(_command_reference(typer.main.get_command(command_line)))
        source[0] = source[0].replace("<!-- commands -->", text)


def setup(app: Sphinx) -> None:
    """Connect the functions above; Sphinx calls this."""
    app.connect("missing-reference", _public)
    app.connect("source-read", _fill_in_commands)
