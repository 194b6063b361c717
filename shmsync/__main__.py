"""Entry point of `python -m shmsync` and of the console script `shmsync`."""

from __future__ import annotations

import sys

USAGE = 2


def main() -> None:
    """Run the command line, or exit with one line that names the missing package."""
    try:
        from shmsync.cli import run  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"click", "rich", "typer"}:
            raise
        sys.stderr.write(f"shmsync: the command line needs {error.name}: pip install 'shmsync[cli]'\n")
        sys.exit(USAGE)
    run()


if __name__ == "__main__":
    main()
