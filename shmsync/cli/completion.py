"""The command completion: a script for the shell."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from shmsync.cli._options import choice
from shmsync.cli._output import print_line

VARIABLE = "_SHMSYNC_COMPLETE"
"""The script sets this environment variable when it asks for completions."""


_SHELLS = ("bash", "zsh", "fish")


def completion(
    shell: Annotated[
        str, typer.Argument(help="Shell to complete in.", parser=choice(*_SHELLS), metavar="|".join(_SHELLS))
    ],
) -> None:
    """Print a script that completes commands, options and names.

    bash: eval "$(shmsync completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, with zsh, after compinit. fish:
    shmsync completion fish > ~/.config/fish/completions/shmsync.fish
    """
    print_line(get_completion_script(prog_name="shmsync", complete_var=VARIABLE, shell=shell))
