"""What the README shows is what its code prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import hasa_opt as hasa

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README, flags=re.DOTALL)


def test_readme_has_an_example_of_fifteen_lines() -> None:
    assert BLOCKS
    assert len(BLOCKS[0][0].strip().splitlines()) <= 15


@pytest.mark.parametrize(("code", "shown"), BLOCKS)
def test_example_prints_what_is_shown(code: str, shown: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().split() == shown.split()


def test_readme_names_every_solver() -> None:
    for line in hasa.solvers():
        assert f"`{line.name}`" in README


def test_files_that_the_readme_links_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
