"""What a new user reads works as written: blocks, commands, links, numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hasa_opt as hasa

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND_LINE = (ROOT / "docs" / "command_line.rst").read_text(encoding="utf-8")

FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
ALLOCATES, TRAINS = (text for kind, text in FENCES if kind == "python")
PRINTED, TRAINED = (text for kind, text in FENCES if kind != "python")
WITHOUT_BLOCKS = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
INDENTED = re.findall(r"^    (.*?)(?:  +#.*)?$", WITHOUT_BLOCKS, flags=re.MULTILINE)

ENTRY = "import sys; from hasa_opt.cli import main; sys.argv[0] = 'hasa-opt'; main()"


def program(code: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder where nothing of this project lies."""
    command = [sys.executable, "-c", code, *words]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads wait for each other on a busy machine
    return subprocess.run(
        command, cwd=folder, env=alone, capture_output=True, text=True, check=False
    )


def test_readme_is_read_to_its_end() -> None:
    lines = WITHOUT_BLOCKS.splitlines()
    assert sum(len(line.split()) for line in lines if not line.startswith(("    ", "|"))) <= 750
    assert len(ALLOCATES.strip().splitlines()) <= 15
    assert len([line for line in TRAINS.splitlines() if line]) <= 12


def test_nothing_statistical_comes_before_the_installation() -> None:
    before, _, _ = README.partition("pip install")
    assert not re.search(r"Holm|interval|p-value|confidence", before)


def test_allocating_prints_what_is_shown(tmp_path: Path) -> None:
    ran = program(ALLOCATES, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == PRINTED.split()


@pytest.mark.slow
def test_what_is_offered_after_the_allocation_keeps_the_caps() -> None:
    names: dict[str, object] = {}
    exec(compile(ALLOCATES.replace("print(result)", ""), "README.md", "exec"), names)
    section = README.partition(PRINTED)[2].partition("\n## ")[0]
    offered = re.findall(r"`((?:hasa|constraints)\b[^`]*)`", section)
    caps = [0.5, 0.8, 0.8, 0.35]
    assert len(offered) >= 4
    for code in offered:
        if code.startswith("constraints="):
            code = f"""hasa.solve(hasa.AllocationProblem.build(
                clients, widths=problem.widths, budget=0.5, utility=hasa.utility.hasa(scores),
                {code}))"""
        found = eval(code, names)
        widths = getattr(found, "widths", found)
        if isinstance(found, hasa.Allocation) or code.startswith("hasa.rules"):
            assert all(width <= cap for width, cap in zip(widths, caps, strict=True)), code
        else:
            assert str(found)


@pytest.mark.slow
def test_training_shows_how_far_it_is_and_ends(tmp_path: Path) -> None:
    ran = program(TRAINS, tmp_path)
    assert ran.returncode == 0, ran.stderr
    number = r"\d+\.\d+"
    assert re.sub(number, "", ran.stdout).split() == re.sub(number, "", TRAINED).split()
    found, shown = (
        [float(text) for text in re.findall(number, part)] for part in (ran.stdout, TRAINED)
    )
    assert found == pytest.approx(shown, abs=2.0)  # the texts are those of other versions


def test_commands_of_make_are_there() -> None:
    targets = [line.split()[1] for line in INDENTED if line.startswith("make ")]
    targets += re.findall(r"`make (\w+)`", README)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        ran = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
        assert ran.returncode == 0, target


def test_the_environment_is_the_one_that_make_makes() -> None:
    assert "`.venv/bin/hasa-opt`" in README
    assert "`. .venv/bin/activate`" in README
    assert "VENV := .venv\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.slow
def test_installations_of_the_readme_can_be_run_in_a_clone() -> None:
    commands = [line for line in INDENTED if line.startswith("pip install")]
    assert len(commands) == 2
    for command in commands:
        what = command.removeprefix("pip install").strip().strip("'")
        words = ["--dry-run", "--no-deps", "--no-index", "--no-build-isolation", what]
        ran = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--ignore-installed", *words],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert "does not provide the extra" not in ran.stdout + ran.stderr


def test_the_readme_names_every_solver_and_how_to_install_it() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.MULTILINE))
    records = {record.name: record for record in hasa.solvers()}
    assert rows.keys() == records.keys()
    for name in ("cpsat", "scip"):  # the package itself does not ask for these two
        assert f"`{records[name].install}`" in rows[name]


def test_files_that_the_readme_links_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_readme_leads_to_every_page_and_every_notebook() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.rst")} - {"index.rst", "api.rst"}
    notebooks = {path.name for path in (ROOT / "examples").glob("*.ipynb")}
    linked = {Path(link).name for link in re.findall(r"\]\(([^)#]+)", README)}
    assert pages | notebooks <= linked


def commands(page: str) -> Iterator[tuple[list[str], str]]:
    """Commands of the console blocks of a page, and what is shown below each."""
    for block in re.findall(r"code-block:: console\n\n((?:   .*\n|\n)+)", page):
        for part in block.split("   $ hasa-opt ")[1:]:
            line, _, shown = part.partition("\n")
            yield line.split(), shown


def test_the_page_of_the_command_line_shows_what_is_printed(tmp_path: Path) -> None:
    tables = [part.partition("\n\n")[0] for part in COMMAND_LINE.split("code-block:: text\n\n")[1:]]
    for name, table in zip(("clients", "options", "worth"), tables, strict=False):
        (tmp_path / f"{name}.csv").write_text(table.replace("   ", ""), encoding="utf-8")
    tried = list(commands(COMMAND_LINE))
    assert [words[0] for words, _ in tried] == ["score", *["allocate"] * 4]
    for words, shown in tried:
        ran = program(ENTRY, tmp_path, *words)
        assert (ran.stdout + ran.stderr).split() == shown.split()
        assert ran.returncode == ("failed:" in shown) + 2 * ("error:" in shown)
