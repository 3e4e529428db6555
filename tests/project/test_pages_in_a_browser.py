"""The built pages in a real browser: nothing wider than the window, no code cut, all pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.browser import CHROMIUM, Page, browser

ROOT = Path(__file__).parents[2]
SPHINX = all(find_spec(name) for name in ("sphinx", "pydata_sphinx_theme", "numpydoc", "myst_nb"))

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
    pytest.mark.skipif(not SPHINX, reason="needs the extra docs"),
]

LOOK = """(() => JSON.stringify({
  wide: document.documentElement.scrollWidth,
  cut: [...document.querySelectorAll("article pre")].filter(
    own => own.scrollWidth > own.clientWidth + 2).map(own => own.innerText.slice(0, 80)),
  clipped: [...document.querySelectorAll("h1, h2, dt.sig")].filter(
    own => own.scrollWidth > own.clientWidth + 2).map(own => own.innerText.slice(0, 80)),
  missing: [...document.images].filter(
    own => own.complete && !own.naturalWidth).map(own => own.src),
  silent: [...document.images].filter(own => !own.alt).map(own => own.src),
}))()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    subprocess.run([*command, str(ROOT / "docs"), str(place)], check=True, cwd=ROOT)
    every = sorted(place.rglob("*.html"))
    return [path for path in every if not {"_modules", "_static"} & set(path.parts)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def looked_at(page: Page, path: Path, width: int) -> dict[str, Any]:
    page.open(path, width)
    found: dict[str, Any] = json.loads(page.get(LOOK))
    return found


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page: Page, pages: list[Path], width: int) -> None:
    assert len(pages) > 100
    for path in pages:
        found = looked_at(page, path, width)
        assert found["wide"] <= width, path.name
        assert found["missing"] == found["silent"] == found["clipped"] == [], path.name


def test_code_of_a_hundred_columns_is_not_cut(page: Page, pages: list[Path]) -> None:
    cut = {path.name: looked_at(page, path, 1280)["cut"] for path in pages}
    assert {name: lines for name, lines in cut.items() if lines} == {}


def test_tables_of_notebooks_are_as_dark_as_their_page(page: Page, pages: list[Path]) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", features=dark)
    page.open(next(path for path in pages if path.stem == "02_swap_backends"), 1280)
    place = "document.querySelector('.cell_output .text_html')"
    assert page.get(f"getComputedStyle({place}).backgroundColor") == "rgba(0, 0, 0, 0)"
    page.call("Emulation.setEmulatedMedia", features=[])
