"""The golden files in tests/golden/segments: segments of every kind as bytes, and what a reader finds in them.

    python tools/golden            # compare the stored files with what is written now
    python tools/golden --write    # write them again, and say what has changed

Readers in other languages can be tested against them. They are in the byte order of x86-64 and aarch64.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # for `golden`

from golden.files import FOLDER, differences, made, store, stored


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="golden", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the files")
    options = parser.parse_args()
    changed = 0
    for title, (facts, segments) in made(f"golden-{os.getpid()}").items():
        before = stored(title)[1] if (FOLDER / title).exists() else {}
        for text in differences(before, segments):
            print(f"{title}: {text}")
            changed += 1
        if options.write:
            store(title, facts, segments)
    return 1 if changed and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
