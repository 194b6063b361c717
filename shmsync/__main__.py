"""Entry point of `python -m shmsync` and of the console script `shmsync`."""

from __future__ import annotations

import sys

USAGE = 2


def main() -> None:
    """Run the command line, or exit with one line that names the missing package."""
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
