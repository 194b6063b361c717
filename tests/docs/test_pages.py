"""The examples of README and of the documentation run, one after the other, as they stand there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import prometheus_client
import pytest

import shmsync
from shmsync import Writer

ROOT = Path(__file__).parent.parent.parent
PAGES = {"README.md": 4, "docs/tutorial.md": 10, "docs/howto/observe.md": 1}  # and how many blocks at least
OPENED = r'((?:Writer|Reader)(?:\[[^]]*\])?\()"(\w+)"'
EXPECTED = re.compile(r"^(?P<line>[\w(].*?)  # (?P<value>\d.*|\(.*|True|False|[A-Z]\w*\(.*)$", re.MULTILINE)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)


def run(block: str, variables: dict[str, object]) -> None:
    """Run a block; what a line says in its comment that it is, it must be."""
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


def test_every_page_with_examples_is_run() -> None:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    found = {str(path.relative_to(ROOT)) for path in pages}
    assert {page for page in found if blocks_of(page)} == {page for page in PAGES if page.startswith("docs/")}


def test_every_recipe_stands_in_the_documentation() -> None:
    pages = "".join(text_of(str(path.relative_to(ROOT))) for path in (ROOT / "docs" / "howto").glob("*.md"))
    for recipe in (ROOT / "examples").glob("*.py"):
        assert f"```{{literalinclude}} ../../examples/{recipe.name}\n" in pages


def test_every_public_name_stands_in_the_reference() -> None:
    found = re.findall(
        r"auto(?:class|exception|function):: (\w+)(?:\(\))?$", text_of("docs/reference.md"), re.MULTILINE
    )
    assert sorted(found) == sorted(shmsync.__all__)
