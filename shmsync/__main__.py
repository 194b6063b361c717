"""Entry point of `python -m shmsync` and of the console script `shmsync`."""

from __future__ import annotations

import sys

from shmsync._util.include import get_include

USAGE = 2


def main() -> None:
    """Run the command line, or exit with one line that names the missing package."""
    if sys.argv[1:] == ["--include"]:  # builds call it, without the extra
        sys.stdout.write(f"{get_include()}\n")
        return
    try:
        from shmsync.cli import run  # noqa: PLC0415 - needs an extra

        run()  # imports more of it
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"click", "rich", "typer"}:
            raise
        sys.stderr.write(f"shmsync: the command line needs {package}: pip install 'shmsync[cli]'\n")
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
