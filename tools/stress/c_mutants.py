"""Variants of `shmsync.h` that are known to be wrong. A run with readers in C must find a violation in each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from shmsync import get_include

_HEADER = "shmsync.h"


class CMutant(NamedTuple):
    """A change to the header that breaks it.

    Attributes:
        rule: what the header does and the variant does not.
        changes: source texts, each of which must occur exactly once, and their replacements.
    """

    rule: str
    changes: tuple[tuple[str, str], ...]

    def write(self, folder: str) -> None:
        """Write the changed header into a folder."""
        source = (Path(get_include()) / _HEADER).read_text()
        for before, after in self.changes:
            if source.count(before) != 1:
                raise AssertionError(f"{self.rule}: {before!r} occurs {source.count(before)} times in {_HEADER}")
            source = source.replace(before, after)
        (Path(folder) / _HEADER).write_text(source)


MUTANTS = {
    "no-recheck": CMutant(
        "after a pin, the version is loaded again",
        (("    if (shmsync__load(version, __ATOMIC_SEQ_CST) == seq) return seq;\n", "    if (version) return seq;\n"),),
    ),
    "no-recheck-fast": CMutant(
        "after a pin of the version that was read last, the version is loaded again",
        (("    if (shmsync__load(version, __ATOMIC_SEQ_CST) == seq && !(", "    if (!("),),
    ),
    "no-announcement": CMutant(
        "a pin moves to the other data segment by an announcement",
        (
            ("SHMSYNC_ANNOUNCE_ - one, __ATOMIC_SEQ_CST);", "0 - one, __ATOMIC_SEQ_CST);"),
            ("shmsync__one(shmsync__index(seq)) - SHMSYNC_ANNOUNCE_,", "shmsync__one(shmsync__index(seq)),"),
        ),
    ),
    "no-evicted": CMutant(
        "after a segment was opened, the pin word is compared with EVICTED",
        (
            (
                "    return (shmsync__load(&slot->words[0], __ATOMIC_ACQUIRE) & SHMSYNC_EVICTED_) != 0;",
                "    return !slot;",
            ),
        ),
    ),
    "late-hazard": CMutant(
        "a snapshot is retained before it is unpinned",
        (
            (
                '    shmsync__set_hazard(snapshot);\n    SHMSYNC_STEP("retaining");\n    shmsync__unpin(snapshot);\n',
                '    shmsync__unpin(snapshot);\n    SHMSYNC_STEP("retaining");\n    shmsync__set_hazard(snapshot);\n',
            ),
        ),
    ),
    "shared-hazard": CMutant(
        "a hazard word is cleared by the last of the snapshots that retain its generation",
        (("&& !--slot->retained[index]) {", "&& slot->retained[index]--) {"),),
    ),
    "newer-hazard": CMutant(
        "a hazard word is not cleared by a snapshot of an older generation",
        (("    if (snapshot->map_->generation == slot->generation[index] &&", "    if (slot->generation[index] &&"),),
    ),
    "no-generation": CMutant(
        "a segment is mapped again if its generation has changed",
        (("    if (!map || map->generation != generations[index]) {", "    if (!map) {"),),
    ),
    "no-header": CMutant(
        "incarnation, generation and sequence number in a data segment are compared with the state",
        (
            (" || shmsync__u64(at + 8) != link->incarnation) return SHMSYNC_E_DAMAGED;", ") return SHMSYNC_E_DAMAGED;"),
            (
                "    if (!result && is_right) return SHMSYNC_OK;",
                "    if (!result && (is_right || map)) return SHMSYNC_OK;",
            ),
        ),
    ),
    "no-inode-lock": CMutant(
        "an inode is locked while it is mapped",
        (("{ return shmsync__lock(fd, F_RDLCK, 0); }", "{ return fd < 0; }"),),
    ),
    "no-seal": CMutant(
        "what a child goes on reading is sealed",
        (("        while (now < generation &&\n", "        while (!word &&\n"),),
    ),
    "child-unpins": CMutant(
        "a child does not unpin what its parent has pinned",
        (
            (
                "    if (!shmsync__is_inherited(snapshot->owner_)) shmsync__unpin(snapshot);",
                "    shmsync__unpin(snapshot);",
            ),
        ),
    ),
    "no-liveness": CMutant(
        "a segment that does not match is not damaged if its incarnation has ended",
        (
            (
                "            return shmsync__is_live(handle, handle->link) ? result : 1;\n        }",
                "            return result;\n        }",
            ),
        ),
    ),
    "mixed-attachment": CMutant(
        "an attachment that fails is tried again if the name has changed meanwhile",
        (("    *again = result && shmsync__state_inode(handle) != before;", "    *again = result && !before;"),),
    ),
    "no-claim": CMutant(
        "the high-water mark is above each slot in use",
        (("    shmsync__add_claim(link, number + 1);", "    if (!slot) shmsync__add_claim(link, number + 1);"),),
    ),
    "early-unlock": CMutant(
        "a slot that was left is kept until the last of its snapshots is closed",
        (
            (
                " || (is_own && shmsync__load(&slot->words[0], __ATOMIC_RELAXED) & SHMSYNC_COUNTS_)) return;",
                ") return;",
            ),
        ),
    ),
}
"""By name."""
