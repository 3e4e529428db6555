"""Tests that draw ``TIMES`` as many random problems at night are marked, so that they are run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support import TESTS

FILES = sorted(TESTS.glob("*/**/test_*.py"))


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def drawing(module: ast.Module) -> set[str]:
    """Names of a module that stand for more draws: of ``support``, and constants made of them."""
    found = {
        name.asname or name.name
        for node in module.body
        if isinstance(node, ast.ImportFrom) and node.module == "support"
        for name in node.names
        if name.name in ("TIMES", "many")
    }
    for node in module.body:
        if isinstance(node, ast.Assign) and names_in(node.value) & found:
            found |= names_in(ast.Module([ast.Expr(own) for own in node.targets], []))
    return found


def is_fuzz(*trees: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr == "fuzz"
        for tree in trees
        for node in ast.walk(tree)
    )


def unmarked(path: Path) -> list[str]:
    """Tests that draw more at night, which does not run them."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    more = drawing(module)
    marks = [node for node in module.body if "pytestmark" in names_in(node)]
    return [
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and names_in(node) & more
        and not is_fuzz(*node.decorator_list, *marks)
    ]


def test_those_that_draw_more_at_night_are_found() -> None:
    assert sum(bool(drawing(ast.parse(path.read_text(encoding="utf-8")))) for path in FILES) > 20
    example = "from support import many\ndef test_it():\n    for seed in many(3): pass\n"
    assert drawing(ast.parse(example)) == {"many"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_test_that_draws_more_at_night_is_marked_fuzz(path: Path) -> None:
    assert unmarked(path) == []
