"""A longer, coverage-guided search for corrupt segments that are not handled.

pytest tests/hostile --fuzz 300
pytest tests/hostile --fuzz 300 --fuzz-seed 17   # repeat a run
"""

from __future__ import annotations

import random

import pytest

from hostile.fuzzer import Fuzzer


@pytest.mark.timeout(0)
def test_every_corruption_is_handled(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = request.config.getoption("--fuzz")
    if seconds is None:
        pytest.skip("needs --fuzz SECONDS")
    seed = request.config.getoption("--fuzz-seed")
    fuzzer = Fuzzer(random.SystemRandom().randrange(1 << 32) if seed is None else seed)
    fuzzer.run(seconds)
    with capsys.disabled():
        print(f"\n{fuzzer}")
    assert len(fuzzer.corpus) > 1
