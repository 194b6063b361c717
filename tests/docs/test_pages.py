"""The examples in README and in the documentation run as they are printed; no page is out of date."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import prometheus_client
import pytest
from helpers import TIMEOUT, environment

import shmsync
from shmsync import Writer

ROOT = Path(__file__).parent.parent.parent
PAGES = {  # with their minimum number of blocks
    "README.md": 4,
    "docs/index.md": 1,
    "docs/quickstart.md": 10,
    "docs/values.md": 7,
    "docs/howto/monitoring.md": 1,
    "docs/howto/service.md": 1,
    "docs/howto/updates.md": 1,
}
WITH_A_SERVER = {"docs/howto/replication.md"}
"""See `test_replication_page`."""
MIGRATIONS = {"docs/migrate/manager.md", "docs/migrate/shared-memory.md", "docs/migrate/polled-file.md"}
OPENED = r'((?:Writer|Reader)(?:\[[^]]*\])?\()"(\w+)"'
EXPECTED = re.compile(r"^(?P<line>[\w(].*?)  # (?P<value>\d.*|\(.*|True|False|array\(.*|[A-Z]\w*\(.*)$", re.MULTILINE)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)


def run(block: str, variables: dict[str, object]) -> None:
    """Run a block. The comment after an expression is its expected repr."""
    expected = {block[: found.start()].count("\n") + 1: found["value"] for found in EXPECTED.finditer(block)}
    for statement in ast.parse(block).body:
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "a block", "eval"), variables)
            if statement.lineno in expected:
                assert repr(value) == expected.pop(statement.lineno)
        else:
            exec(compile(ast.Module([statement], []), "a block", "exec"), variables)
    assert not expected


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_client, "REGISTRY", prometheus_client.CollectorRegistry())
    blocks = blocks_of(page)
    assert len(blocks) >= PAGES[page]
    names = {found for _, found in re.findall(OPENED, "".join(blocks))}
    variables: dict[str, object] = {"__name__": "__main__"}
    try:
        for block in blocks:
            run(re.sub(OPENED, rf'\1"{name}-\2"', block), variables)
        if page == "README.md":
            assert variables["reader"].get()[:4] == b"\0\0\x80\x3f"  # type: ignore[attr-defined]
    finally:
        variables.clear()
        for each in names:
            with Writer(f"{name}-{each}") as writer:
                writer.unlink()


@pytest.mark.parametrize("page", sorted(MIGRATIONS))
def test_before_and_after_a_migration_print_the_same(page: str, name: str, tmp_path: Path) -> None:
    outputs = []
    for number, block in enumerate(blocks_of(page)):
        script = tmp_path / f"script{number}.py"
        script.write_text(re.sub(OPENED, rf'\1"{name}-\2"', block), encoding="utf-8")
        command = [sys.executable, str(script)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), check=True, stdout=subprocess.PIPE, timeout=TIMEOUT
        )
        outputs.append(done.stdout)
    for opened in {found for _, found in re.findall(OPENED, "".join(blocks_of(page)))}:
        with Writer(f"{name}-{opened}") as writer:
            writer.unlink()
    before, after = outputs
    assert before == after != b""


def test_every_page_with_examples_is_run() -> None:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    found = {str(path.relative_to(ROOT)) for path in pages}
    tested = {page for page in PAGES if page.startswith("docs/")} | MIGRATIONS | WITH_A_SERVER
    assert {page for page in found if blocks_of(page)} == tested


def test_every_recipe_is_in_the_documentation() -> None:
    pages = "".join(text_of(str(path.relative_to(ROOT))) for path in (ROOT / "docs" / "howto").glob("*.md"))
    for recipe in (ROOT / "examples").glob("*.py"):
        assert f"```{{literalinclude}} ../../examples/{recipe.name}\n" in pages


def test_every_public_name_is_in_the_reference() -> None:
    pages = text_of("docs/reference.md") + text_of("docs/errors.md").replace(":: shmsync.", ":: ")
    found = re.findall(r"auto(?:class|exception|function):: (\w+)(?:\(\))?$", pages, re.MULTILINE)
    assert sorted(found) == sorted(shmsync.__all__)


def errors() -> list[type[Exception]]:
    public = [getattr(shmsync, each) for each in shmsync.__all__]
    return [each for each in public if isinstance(each, type) and issubclass(each, Exception)]


@pytest.mark.parametrize("error", errors(), ids=lambda error: error.__name__)
def test_the_page_of_errors_has_cause_and_remedy_of_each(error: type[Exception]) -> None:
    page = text_of("docs/errors.md")
    also = (
        error.__mro__[1]
        if error is shmsync.ShmSyncError
        else next(each for each in error.__mro__ if each.__module__ == "builtins")
    )
    assert f"| [{error.__name__}](#{error.__name__.lower()}) | `{also.__name__}` |" in page
    section = page.split(f"\n## {error.__name__}\n")[1].split("\n## ")[0]
    if error is not shmsync.ShmSyncError:
        assert "\nCause\n: " in section
        assert "\nRemedy\n: " in section
