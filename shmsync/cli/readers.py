"""The command readers: the readers of a name."""

from __future__ import annotations

from shmsync.cli._infos import info_or_fail, print_readers
from shmsync.cli._output import Json, Name, fail, print_json, print_note, reader_to_dict


def readers(name: Name, *, json: Json = False) -> None:
    """List the readers of a name and what they hold.

    STATE is "reading" if a read is in progress or a snapshot is open, "retaining" if views of an earlier read are still
    referenced, "evicted" if a read took longer than the writer's grace duration, "dead" if the process was killed
    during a read and its slot has not been reclaimed yet, and otherwise "idle".

    PROCESS is the state of its process: "stopped" if a signal or a debugger has suspended it.

    HELD is how long the reader has held an outdated version: since the version that follows the oldest one it pins or
    retains was published. "-" if it holds nothing, or only the newest version.

    OLD MEMORY: memory of replaced segments that the process still has mapped; "-" if this user may not see that.

    HOLDS is what the reader pins (in open snapshots) and retains (for views that are still referenced), with its size.

    A narrow terminal shows fewer columns. The readers of a name in isolated mode are not known.

    Exits with status 1 if the reader table cannot be read.
    """
    info = info_or_fail(name)
    if info.isolated and not json:
        print_note(f"not known: {name} is in isolated mode, in which readers take no slot")
        return
    if info.max_readers is None:
        fail(*(info.problems or (f"{name}: nothing has been published yet; start its writer",)))
    if json:
        print_json([reader_to_dict(reader) for reader in info.readers])
    elif info.readers:
        print_readers(info)
    else:
        print_note(f"no readers: no process is attached to {name}")
