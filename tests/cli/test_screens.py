"""The screens of `readers` and `top`: the real program in a pseudo-terminal, with real keys, at several sizes."""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from command_line import ESCAPES, Terminal, only, run, run_json
from helpers import SHM, Child, get_value, open_reader, open_snapshot, publish, until
from rich.text import Text

from shmsync import Writer
from shmsync.cli._infos import held_style, lag_style
from shmsync.cli._screen import Key, _keys
from shmsync.cli._table import Cell, Column, lines_of, shorten_end, shorten_middle
from shmsync.cli._top_view import _FILTER_HINTS, _HELP, _LIST_HINTS, _PAGE_HINTS, View, _wrapped, hints_text

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = [(80, 24), (120, 40), (200, 50)]


class Screen(Terminal):
    """A terminal of a size, of which only the newest frame is kept."""

    def __init__(self, width: int, height: int, *args: str, before: str) -> None:
        super().__init__(*args, before=before, size=(width, height))

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)
        super().resize(columns, rows)

    def frame(self) -> list[str]:
        """Return the lines of the newest complete frame."""
        frames = self.text.split("\x1b[H")
        lines = ESCAPES.sub("", frames[-1]).replace("\r", "").split("\n")
        return [line.rstrip() for line in lines]

    def wait_for_frame(self, pattern: str) -> list[str]:
        """Wait for a frame that fills the screen and contains a pattern."""

        def is_shown() -> bool:
            self._read(0.01)
            lines = self.frame()
            return len(lines) == self.size[1] and bool(re.search(pattern, "\n".join(lines)))

        try:
            until(is_shown)
        except AssertionError:
            pytest.fail(f"{pattern!r} is not in\n" + "\n".join(self.frame()))
        lines = self.frame()
        assert max(map(len, lines)) <= self.size[0]
        return lines

    def press_for(self, keys: str, pattern: str) -> list[str]:
        self.press(keys)
        return self.wait_for_frame(pattern)


@contextmanager
def top(width: int, height: int, prefix: str, *args: str) -> Iterator[Screen]:
    screen = Screen(width, height, "top", "--interval", "3600", *args, before=only(prefix))
    try:
        yield screen
        screen.press("q")
        assert screen.wait() == 0
    finally:
        screen.close()


@contextmanager
def published(name: str, count: int) -> Iterator[list[str]]:
    names = [f"{name}-{number:03}" for number in range(count)]
    with ExitStack() as stack:
        for number, each in enumerate(names):
            writer = stack.enter_context(Writer(each, max_readers=1))
            stack.callback(writer.unlink)
            for _ in range(number % 3 + 1):
                writer.write(0)
        yield names


# ------------------------------------------------------------------------------------------------------------ top


@pytest.mark.parametrize("count", [0, 1, 30, 500])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_top_fills_every_size(name: str, width: int, height: int, count: int) -> None:
    with published(name, count) as names, top(width, height, name) as screen:
        lines = screen.wait_for_frame("q quit")
        assert lines[-1].startswith("q quit  ? help")
        if not count:
            assert "nothing is published on this host" in "\n".join(lines)
            return
        rows = [line for line in lines if line.startswith(name[:10])]
        assert len(rows) == min(count, height - 4)
        assert f"1-{len(rows)} of {count}" in lines[-1]
        assert all(heading in lines[2] for heading in ("NAME", "WRITER", "PUB/S", "READERS", "LAG", "HELD"))
        if len(names[0]) <= 24:
            assert rows[0].startswith(names[0])


def test_top_scrolls(name: str) -> None:
    with published(name, 30) as names, top(120, 14, name) as screen:
        for keys, first, last in (
            ("", 0, 9),
            ("\x1b[B" * 9, 0, 9),
            ("\x1b[B", 1, 10),
            ("\x1b[6~", 11, 20),
            (" ", 20, 29),
            ("k", 20, 29),
            ("\x1b[H", 0, 9),
            ("G", 20, 29),
            ("\x1b[5~", 19, 28),
            ("b", 9, 18),
            ("g", 0, 9),
        ):
            lines = screen.press_for(keys, rf"{first + 1}-{last + 1} of 30")
            shown = [line.split()[0] for line in lines if line.startswith(name)]
            assert shown == names[first : last + 1]


def test_top_sorts_and_filters(name: str) -> None:
    def shown(lines: list[str]) -> list[str]:
        return [line.split()[0].removeprefix(f"{name}-") for line in lines if line.startswith(name)]

    with published(name, 12) as names, top(120, 24, name) as screen:
        screen.wait_for_frame("sorted by PUB/S")
        assert shown(screen.press_for("v", "sorted by VERSION"))[:4] == ["002", "005", "008", "011"]
        assert shown(screen.press_for("i", "VERSION, inverted"))[:4] == ["000", "003", "006", "009"]
        assert shown(screen.press_for("n", "sorted by NAME"))[0] == "000"
        assert shown(screen.press_for("i", "NAME, inverted"))[0] == "011"
        part = f"{name[-4:]}-00"  # -00 alone may occur in a random name
        lines = screen.press_for(f"/{part}q", f"filter: {part}q")
        assert f"no name contains '{part}q'" in "\n".join(lines)
        assert lines[-1] == "Enter keep  Esc remove"
        found = shown(screen.press_for("\x7f", f"filter: {part}\N{FULL BLOCK}"))
        assert found == [f"{at:03}" for at in range(9, -1, -1)]
        screen.press_for("\r", f"only names with '{part}'")
        assert len(shown(screen.press_for("\x1b", "1-12 of 12"))) == len(names)


def test_top_has_a_help(name: str) -> None:
    with published(name, 1), top(80, 24, name) as screen:
        screen.wait_for_frame("q quit")
        lines = screen.press_for("?", "sequence number of the newest version")
        assert lines[-1].startswith("q quit  Esc back")
        screen.press_for("G", "invert the order")
        screen.press_for("\x1b", "sorted by PUB/S")


def test_top_shows_the_details_of_a_name(name: str) -> None:
    with published(name, 3) as names, Child() as child, top(120, 40, name) as screen:
        child.call(open_snapshot, names[1])
        screen.wait_for_frame("q quit")
        screen.press_for("njj", "sorted by NAME")
        screen.press_for("k\r", rf"NAME +{names[1]}")
    with published(name, 3) as names, Child() as child:
        child.call(open_snapshot, names[1])
        with top(120, 40, name) as screen:
            screen.wait_for_frame("q quit")  # before that, the terminal is not in its mode
            screen.press_for("nj\r", rf"NAME +{names[1]}")
            lines = "\n".join(screen.wait_for_frame("COMMAND"))
            assert re.search(rf"0 +{child.pid} +\w+ +reading .* pins v2 \(4.0 KiB\)", lines)
            screen.press_for("\r", "sorted by NAME")


def test_top_follows_the_size_of_the_window(name: str) -> None:
    with published(name, 1), top(80, 24, name) as screen:
        screen.wait_for_frame("q quit")
        screen.resize(200, 50)
        assert "OLD MEMORY" in screen.wait_for_frame("SIZE")[2]
        screen.resize(20, 5)
        assert screen.wait_for_frame("q quit")[-1] == "q quit  ? help"


IN_ANOTHER_THREAD = """
import signal, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH, signal.SIGTERM})
"""


def test_top_notices_signals_that_do_not_interrupt_its_wait(name: str) -> None:
    """As those that come just before it; here, because another thread gets them."""
    before = only(name) + IN_ANOTHER_THREAD
    with published(name, 1), closing(Screen(80, 24, "top", "--interval", "3600", before=before)) as screen:
        screen.wait_for_frame("q quit")
        screen.resize(200, 50)
        screen.wait_for_frame("SIZE")
        screen.process.terminate()
        assert screen.wait() == 128 + signal.SIGTERM


def test_top_with_whatever_is_on_the_host(name: str) -> None:
    """A dead writer, a damaged name, a stopped reader, memory that is retained."""
    names = [f"{name}-{what}" for what in ("damaged", "dead", "stopped")]
    damaged, dead, stopped = names
    try:
        (SHM / f"{damaged}_state").write_bytes(b"something else" * 1000)
        with Child() as child, Child() as reader, Writer(stopped) as writer:
            child.call(publish, dead, 1)
            child.kill()
            writer.write_raw(b"x" * 100_000)
            reader.call(open_snapshot, stopped)
            reader.suspend()
            for _ in range(3):
                writer.write_raw(b"y", grace_duration=0)
            with top(200, 50, name) as screen:
                lines = "\n".join(screen.wait_for_frame("q quit"))
                assert "1 dead writer, 1 damaged name, 1 evicted reader" in lines
                assert re.search(rf"{damaged} +damaged ", lines)
                assert re.search(rf"{dead} +dead \d+ ", lines)
                assert re.search(rf"{stopped} .* 1 \(1 evicted, 1 stopped\) .* 104.0 KiB", lines)
                screen.press_for("n\r", "is not a shmsync segment")
            reader.resume()
            writer.unlink()
    finally:
        for path in SHM.glob(f"{name}-*"):
            path.unlink()


# ---------------------------------------------------------------------------------------------------------- readers


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_readers_at_every_size(writer: Writer, name: str, width: int, height: int) -> None:
    writer.write_raw(b"x" * 100_000)
    with Child() as child, Child() as idle:
        child.call(open_snapshot, name)
        child.suspend()
        for _ in range(3):
            writer.write_raw(b"y" * 10, grace_duration=0)
        idle.call(open_reader, name)
        idle.call(get_value)
        screen = Screen(width, height, "readers", name, before="")
        try:
            assert screen.wait() == 0
            lines = ESCAPES.sub("", screen.text).replace("\r", "").splitlines()
        finally:
            screen.close()
        child.resume()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert re.search(
        rf"0 +{child.pid} +(stopped +)?evicted +\d+s .*pins old data_0 \(104.0 KiB\) .*python\S* -W", lines[1]
    )
    assert re.search(rf"1 +{idle.pid} +(\w+ +)?retaining +- ", lines[2])


def test_readers_in_a_pipe(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * 10_000)
    with Child() as child:
        child.call(open_snapshot, name)
        child.suspend()
        done = run("readers", name)
        (found,) = run_json("readers", name)
        child.resume()
    assert not ESCAPES.search(done.out)
    assert re.search(rf"{child.pid} +stopped +reading +- +0 B +\d+s +pins v1 \(12.0 KiB\) +python\S* -W", done.out)
    assert (found["process"]["state"], found["outdated"]) == ("stopped", None)


# --------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("hints", [_LIST_HINTS, _PAGE_HINTS, _FILTER_HINTS])
def test_no_hint_is_cut_off(hints: tuple[str, ...]) -> None:
    for width in range(1, 200):
        text = hints_text(hints, "1-2 of 3", width)
        assert len(text) <= width
        assert set(filter(None, text.split("  "))) <= {*hints, "1-2 of 3"}
    assert hints_text(hints, "1-2 of 3", 200) == "  ".join([*hints, "1-2 of 3"])


def test_alerts_are_not_cut_off() -> None:
    alerts = ["1 dead writer", "3 damaged names"]
    assert hints_text(alerts, "", 30, ", ") == "1 dead writer, 3 damaged names"
    assert hints_text(alerts, "", 29, ", ") == "1 dead writer"
    assert not hints_text(alerts, "", -5, ", ")


def test_lines_are_broken_between_words() -> None:
    def wrapped(text: str, width: int) -> list[str]:
        return [part.plain for part in _wrapped(Text(text), width)]

    for line in _HELP.split("\n"):
        for width in (1, 7, 24, 80, 200):
            parts = wrapped(line, width)
            assert max(map(len, parts)) <= width
            if width >= 24:
                assert " ".join(parts).split() == line.split()
    assert wrapped("LAG   the versions that are behind", 20) == ["LAG   the versions", "      that are", "      behind"]
    assert wrapped("NAME  " + 20 * "x", 16) == ["NAME  " + 10 * "x", "      " + 10 * "x"]
    assert wrapped("", 16) == [""]
    assert _wrapped(Text("red words", "red"), 5)[1].spans[0].style == "red"


@pytest.mark.parametrize("height", range(1, 8))
def test_a_screen_of_few_lines(height: int) -> None:
    view = View()
    view.update([])
    for key in ("", "?"):
        view.press(key)
        for width in (1, 10, 200):
            lines = view.lines(width, height)
            assert len(lines) == height
            assert max(map(len, lines)) <= width


def test_a_table_leaves_out_columns_then_shortens() -> None:
    columns = (
        Column("NAME", shorten=shorten_middle, least=6),
        Column("A"),
        Column("B", to_right=True, optional=1),
        Column("C", optional=2),
    )
    rows = [[Cell(text) for text in ("recommendation-1", "a", "1", "cc")]]

    def at(width: int | None) -> list[str]:
        return [line.plain.rstrip() for line in lines_of(columns, rows, width)]

    assert at(None) == ["NAME              A  B  C", "recommendation-1  a  1  cc"]
    assert at(19)[1] == "reco\N{HORIZONTAL ELLIPSIS}on-1  a  1  cc"
    assert [len(at(width)[1]) <= width for width in range(1, 30)] == [True] * 29
    assert "C" not in at(14)[0]
    assert at(8)[0].split() == ["NAME", "A"]
    assert shorten_end("python worker.py", 8) == "python \N{HORIZONTAL ELLIPSIS}"


def test_bad_values_are_coloured() -> None:
    assert [held_style(seconds) for seconds in (None, 9, 10, 60)] == ["", "", "yellow", "red"]
    assert [lag_style(versions) for versions in (None, 1, 2, 100)] == ["", "", "yellow", "red"]


def test_keys() -> None:
    pressed = b"a\x1b[A\x1bOB\x1b[5~\x1b[1;5C\r\x7f\x1b\xc3\xa9/"
    assert list(_keys(pressed)) == ["a", Key.UP, Key.DOWN, Key.PAGE_UP, Key.ENTER, Key.BACKSPACE, Key.ESCAPE, "/"]
