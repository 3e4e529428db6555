"""The pages: their examples run, their tables are the registry's, they build without warnings."""

from __future__ import annotations

import doctest
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

import hasa_opt as hasa
from hasa_opt.problem import CONSTRAINTS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.rst"))
CONTENTS = {"tutorials", "howto", "reference", "explanation"}
WITHOUT_EXAMPLES = CONTENTS | {"api", "gallery", "recipes", "worth"}
"""Recipes have a test of their own; pictures are drawn when the pages are built."""
SPHINX = all(find_spec(name) for name in ("sphinx", "pydata_sphinx_theme", "numpydoc", "myst_nb"))


def text(name: str) -> str:
    return (DOCS / f"{name}.rst").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_examples_print_what_is_shown(path: Path) -> None:
    before = {line.name for line in hasa.solvers()}
    flags = doctest.ELLIPSIS
    failed, tried = doctest.testfile(str(path), module_relative=False, optionflags=flags)
    assert failed == 0
    assert (tried == 0) == (path.stem in WITHOUT_EXAMPLES)
    assert {line.name for line in hasa.solvers()} == before


@pytest.mark.parametrize("table", ["constraint_table", "capability_table"])
def test_tables_of_backends_are_the_registry(table: str) -> None:
    printed = runpy.run_path(str(DOCS / "registry_table.py"))[table]()
    assert printed in text("backends"), f"python docs/registry_table.py prints:\n{printed}"


def test_measured_table_has_every_backend() -> None:
    block = text("backends").split(".. code-block:: text")[1].split("\n\n*gap* is")[0]
    for line in hasa.solvers():
        assert len(re.findall(rf"^   {line.name} ", block, flags=re.MULTILINE)) == 2


def test_every_error_has_a_section() -> None:
    for name in hasa.errors.__all__:
        assert f"\n{name}\n{'-' * len(name)}\n" in text("errors")


def test_every_constraint_has_a_section() -> None:
    sections = re.findall(r"\n([^\n]+)\n-{4,}\n", text("constraints"))
    named = {name for section in sections for name in section.split(", ")}
    assert {name.partition("(")[0] for name in CONSTRAINTS} <= named


@pytest.mark.parametrize("kind", ["policies", "scores", "utilities", "costs", "aggregations"])
def test_every_name_has_its_definition(kind: str) -> None:
    from hasa_opt.federated.averages import AGGREGATIONS
    from hasa_opt.policies import POLICIES
    from hasa_opt.rules.scores import SCORES

    families = {
        "policies": POLICIES,
        "scores": SCORES,
        "utilities": set(hasa.utility.__all__) - {"Utility"},
        "costs": ("width", "quadratic", "table", "profiled"),
        "aggregations": AGGREGATIONS,
    }
    section = text("names").lower().split(f"\n{kind}\n----")[1].split("\n----")[0]
    defined = set(re.findall(r"``(\w+)", section))
    assert set(families[kind]) <= defined


def test_every_page_is_in_one_of_the_four_parts() -> None:
    parts = "".join(text(part).split("toctree::")[1] for part in CONTENTS)
    listed = set(re.findall(r"^   (\w+)$", parts, flags=re.MULTILINE))
    assert {path.stem for path in PAGES} - CONTENTS - {"index"} == listed


def test_every_public_name_is_in_the_reference() -> None:
    listed = set(re.findall(r"^   (\w+)$", text("api"), flags=re.MULTILINE))
    own_page = {"HasaError", "InputError", "InfeasibleError"}  # in errors
    assert set(hasa.__all__) - own_page <= listed


def test_contributing_names_every_room_and_only_files_that_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {name.rstrip("/") for name in re.findall(r"`((?:hasa_opt|tests|docs)/[^`]*)`", page)}
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    rooms = {f"hasa_opt/{path.parent.name}" for path in ROOT.glob("hasa_opt/*/__init__.py")}
    assert rooms <= named


def built(place: Path, builder: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of Sphinx."""
    command = [sys.executable, "-m", "sphinx", "-q", "-b", builder, *options]
    folders = ["-d", str(place / "trees"), str(DOCS), str(place / builder)]
    return subprocess.run([*command, *folders], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.skipif(not SPHINX, reason="needs hasa-opt[docs]")
def test_pages_without_the_reference_are_read_without_warnings(tmp_path: Path) -> None:
    left_out = "exclude_patterns=_build,generated,api.rst"
    ended = built(
        tmp_path, "dummy", "-D", left_out, "-D", "suppress_warnings=toc.excluded,config.cache"
    )
    assert ended.returncode == 0, ended.stderr
    expected = r"WARNING: (autosummary: stub file not found|unknown document: 'api')"
    wrong = [line for line in ended.stderr.splitlines() if line and not re.search(expected, line)]
    assert not wrong


@pytest.mark.nightly
@pytest.mark.skipif(not SPHINX, reason="needs hasa-opt[docs]")
def test_pages_build_without_warnings(tmp_path: Path) -> None:
    shutil.rmtree(DOCS / "generated", ignore_errors=True)  # pages of what went
    ended = built(tmp_path, "html", "-W", "--keep-going")
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "html" / "mathematics.html").read_text(encoding="utf-8")
    assert "<math" in page
    assert "mathjax" not in page.lower()
    pages = [path.name for path in (tmp_path / "html" / "generated").iterdir()]
    assert "hasa_opt.AllocationProblem.html" in pages
    assert len({name.lower() for name in pages}) == len(pages)
    assert (tmp_path / "html" / "tutorials" / "00_quickstart.html").exists()
    assert not dead_links(tmp_path / "html")


def dead_links(site: Path) -> list[tuple[str, str]]:
    """Pages and their links within the site that lead nowhere; sources of modules aside."""
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    dead = []
    for page, content in pages.items():
        if "_modules" in page.parts:
            continue
        for link in re.findall(r'<a[^>]*\bhref="([^":]+)"', content):
            name, _, anchor = unquote(link).partition("#")
            target = (page.parent / name).resolve() if name else page
            known = anchors.get(target, {anchor})
            if not target.exists() or (anchor and anchor not in known):
                dead.append((page.name, link))
    return dead
