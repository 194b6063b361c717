"""A service that publishes a JSON file and publishes it again on SIGHUP.

python publisher.py settings.json
"""

import json
import signal
import sys
from pathlib import Path

from shmsync import WriteLockConflictError, Writer

signals = {signal.SIGHUP, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # keep them pending for sigwait

with Writer("settings") as writer:
    while True:
        try:
            print("published version", writer.write(json.loads(Path(sys.argv[1]).read_text())).version.seq, flush=True)
        except WriteLockConflictError:
            raise  # another publisher is running
        except (OSError, ValueError) as error:
            print("kept the last version:", error, file=sys.stderr, flush=True)
        if signal.sigwait(signals) == signal.SIGTERM:
            break  # no unlink: readers can still get the last version
