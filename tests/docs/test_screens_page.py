"""The examples of the screens in the documentation are what the commands print."""

from __future__ import annotations

from screens import PAGE, with_examples


def test_the_examples_are_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_examples(page), "run `python tests/docs/screens.py`"
