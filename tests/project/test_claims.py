"""Figures of README and pages: a command stands beside them, and prints them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.rst")),
    ROOT / "docs" / "reproduction" / "index.rst",
]

MEASURED = re.compile(
    r"(?<![\w.,^/])\d[\d,]*(?:\.\d+)? ?(?:points?|seconds|minutes|CPU seconds|ms|GB|MB|GFLOP)\b"
    r"|(?<![\w.,^/])[\d,.]+ % more|(?<![\w.,])\d+ of \d+ (?:runs|seeds)"
)
"""What was measured, and is no setting of an example."""
COMMAND = re.compile(
    r"(?:``?|\$ |^    )(python |make |pytest |hasa-opt |tests/|docs/|benchmarks/|examples/)",
    re.MULTILINE,
)


def sections(path: Path) -> list[tuple[str, str]]:
    """Title and text of each section of a page."""
    text = path.read_text(encoding="utf-8")
    mark = r"^(?=#+ )" if path.suffix == ".md" else r"^(?=[^\n]+\n([=\-~])\1{3,}\n)"
    starts = [0, *(found.start() for found in re.finditer(mark, text, re.MULTILINE)), len(text)]
    parts = [text[a:b] for a, b in pairwise(starts) if text[a:b].strip()]
    return [(part.strip().splitlines()[0].lstrip("# "), part) for part in parts]


def plain(text: str) -> str:
    """Words with one blank between them, and one kind of minus."""
    return " ".join(text.replace("\N{MINUS SIGN}", "-").split())


def ran(command: list[str], folder: Path) -> str:
    """What a command prints; one thread, as many wait for each other."""
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=alone, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_was_measured_stands_beside_a_command(path: Path) -> None:
    alone = [
        (title, MEASURED.findall(text))
        for title, text in sections(path)
        if MEASURED.search(text) and not COMMAND.search(text)
    ]
    assert alone == []


def test_the_search_for_figures_finds_one_without_a_command(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(
        "Title\n=====\n\nIt gains 1.5 points.\n\nNext\n----\n\n``make demo``: 3 points\n"
    )
    with pytest.raises(AssertionError, match=r"1\.5 points"):
        test_what_was_measured_stands_beside_a_command(page)


def test_scripts_and_targets_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    example = (ROOT / "examples" / "flower" / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile + example, flags=re.MULTILINE))
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for script in re.findall(
            r"(?:python|pytest) ((?:docs|benchmarks|examples|tests)/\S+?\.py)", text
        ):
            assert (ROOT / script).exists(), (path.name, script)
        for target in re.findall(r"``?make (?:-k |PYTHON=\S+ )?([a-z-]+)``?", text):
            assert target in targets, (path.name, target)


@pytest.mark.slow
def test_what_is_told_in_words_is_computed_from_the_measurements() -> None:
    place = ROOT / "docs" / "reproduction"
    sys.path[:0] = [] if str(place) in sys.path else [str(place)]
    spec = importlib.util.spec_from_file_location("reproduction_told", place / "told.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = list(module.told())
    assert len(lines) > 30
    for name, line in lines:
        page = ROOT / "docs" / f"{name}.rst"
        assert plain(line) in plain(page.read_text(encoding="utf-8")), line


@dataclass(frozen=True)
class Claim:
    """Figures that a page and a command print in the same order.

    Attributes
    ----------
    page : str
    command : str
        As the page names it; "hasa-opt" and "python" are the interpreter's.
    shown, printed : str
        Regular expressions of the part of the page and of the output.
    within : float
        By how much a figure may differ: processors round differently.
    reading : str
        Regular expression of a figure in both.
    """

    page: str
    command: str
    shown: str
    printed: str
    within: float
    reading: str = r"[+-]?\d+(?:\.\d+)?"
    words: list[str] = field(init=False)

    def __post_init__(self) -> None:
        first, *rest = self.command.split()
        words = ["-m", "hasa_opt", *rest] if first == "hasa-opt" else rest
        object.__setattr__(self, "words", words)

    def figures(self, text: str, part: str) -> list[float]:
        found = re.search(part, text, flags=re.DOTALL)
        assert found is not None, part
        return [float(number) for number in re.findall(self.reading, " ".join(found.groups()))]

    def check(self, folder: Path) -> None:
        page = (ROOT / self.page).read_text(encoding="utf-8")
        assert f"``{self.command}``" in page
        text = ran(self.words, folder)
        shown, printed = self.figures(page, self.shown), self.figures(text, self.printed)
        assert len(shown) == len(printed) > 0
        assert printed == pytest.approx(shown, abs=self.within), text


PHASE = Claim(
    "docs/when_to_bother.rst",
    "python docs/reproduction/phase.py draw",
    r"at 0\.5 and 0\.35: titles (\S+) and (\S+), docstrings (\S+) and (\S+),\s"
    r"digits (\S+) and (\S+), domains (\S+) and (\S+) \(",
    "".join(r"promised (\S+)\n.*?" for _ in range(7)) + r"promised (\S+)\n",
    within=0.051,
)
GROUPS = Claim(
    "docs/subnets.rst",
    "hasa-opt study --task domains --policies uniform,groups --seeds 6 --rounds 30",
    r"--rounds 30`` measured (\S+) points.*? interval from (\S+) to (\S+):",
    r"\n *groups .*?([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]",
    within=0.5,
)
ALARMS = Claim(
    "docs/subnets.rst",
    "python benchmarks/bench_groups.py",
    r"levels 5% / 1%\n.*?\n(.*?)\n\n   Power",
    r"levels 5% / 1%\n.*?\n(.*?)\n\nPower",
    within=2.0,
)


@pytest.mark.slow
def test_the_promises_of_the_tasks_are_printed(tmp_path: Path) -> None:
    (tmp_path / "docs" / "images").mkdir(parents=True)  # for the picture that is drawn as well
    shutil.copytree(ROOT / "docs" / "reproduction", tmp_path / "docs" / "reproduction")
    PHASE.check(tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("claim", [GROUPS, ALARMS], ids=["groups", "false alarms"])
def test_what_takes_long_is_printed_too(claim: Claim, tmp_path: Path) -> None:
    if claim.words[0] != "-m":
        shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    claim.check(tmp_path)


@pytest.mark.nightly
def test_the_demo_prints_the_table_of_worth(tmp_path: Path) -> None:
    """The texts are the docstrings of the packages that are there: about the same, not the same."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (words,) = re.findall(r"hasa-opt (study .*) --output", makefile)
    text = ran(["-m", "hasa_opt", *words.split(), "--output", str(tmp_path / "demo")], tmp_path)
    page = (ROOT / "docs" / "worth.rst").read_text(encoding="utf-8")
    row = re.compile(r"^ *(\w+) +(\d+\.\d+) ± ", re.MULTILINE)
    shown, printed = (dict(row.findall(part)) for part in (page, text))
    for name in ("uniform", "hasa", "recommended"):
        assert float(printed[name]) == pytest.approx(float(shown[name]), abs=2.0)


BENCHMARKS = {
    "bench_backends.py": "--limit 3",
    "bench_exact.py": "",
    "bench_exact.py --full": "--full",
    "bench_exact.py --easy": "--easy",
    "bench_files.py": "",
    "bench_files.py --clients 1e7 1e8": "--clients 1e6",
    "bench_files.py --clients 1e6 1e7 1e8": "--clients 1e6",
    "bench_first_use.py": "",
    "bench_flower.py": "",
    "bench_groups.py": "--runs 5",
    "bench_groups.py --gains": "--gains",
    "bench_groups.py --real images": "--real probes",
    "bench_groups.py --real probes": "--real probes",
    "bench_limits.py --seeds 3": "--seeds 1 --limit 5",
    "bench_loop.py": "",
    "bench_partition.py": "",
    "bench_rosters.py --seeds 2": "",
    "bench_rounds.py": "",
    "bench_scale.py": "",
    "bench_scores.py": "",
    "bench_scores.py --titles medium_data.csv": "",
    "bench_several.py": "--only 2",
}
"""Benchmarks as pages name them, and the options with which they are run here: in minutes."""

EXCERPTS = {
    "bench_backends.py --limit 3": ("backends", "budget alone", None),
    "bench_exact.py": ("benchmarks", "family ", None),
    "bench_files.py --clients 1e6": ("benchmarks", "1,000,000", 1),
    "bench_first_use.py": ("benchmarks", "hasa-opt --help", None),
    "bench_groups.py --gains": ("headroom", "task               budget", None),
    "bench_groups.py --real probes": ("headroom", "Groups found", None),
    "bench_groups.py --runs 5": ("subnets", "False alarms", None),
    "bench_limits.py --seeds 1 --limit 5": ("benchmarks", "1000 clients", None),
    "bench_loop.py": ("benchmarks", "MLP 32-64-10", None),
    "bench_partition.py": ("partition", "clients ", None),
    "bench_rosters.py": ("benchmarks", "clients ", None),
    "bench_scores.py": ("scores", "10000 clients", 23),
}
"""Page of the excerpt that is printed, how the excerpt begins, and how many lines of it."""


def label(line: str) -> str:
    """What a line of a table begins with: words, or the first figure."""
    words = re.match(r"\s*((?:[^\W\d_][^\d\s]*[ ]?)+)", line)
    return words[1].strip() if words else line.split()[0]


def excerpt(page: str, start: str, lines: int | None) -> list[str]:
    """Lines of a page's block of text, from the one that begins so."""
    text = (ROOT / "docs" / f"{page}.rst").read_text(encoding="utf-8")
    blocks = re.findall(r"code-block:: text\n\n((?:   .*\n|\n)+)", text)
    (block,) = (own for own in blocks if re.search(rf"^ +{re.escape(start)}", own, re.MULTILINE))
    kept = [line for line in block.splitlines() if line.strip()]
    first = next(at for at, line in enumerate(kept) if line.lstrip().startswith(start))
    return kept[first:][:lines]


def test_every_benchmark_that_pages_name_is_run_at_night() -> None:
    named = {
        " ".join(command.split())
        for path in PAGES
        for command in re.findall(
            r"``python\s+benchmarks/([^`]+)``", path.read_text(encoding="utf-8")
        )
    }
    assert named == set(BENCHMARKS)
    runs = {f"{name.split()[0]} {options}".strip() for name, options in BENCHMARKS.items()}
    assert set(EXCERPTS) <= runs


@pytest.mark.parametrize("command", EXCERPTS)
def test_an_excerpt_of_a_benchmark_has_lines(command: str) -> None:
    assert [label(line) for line in excerpt(*EXCERPTS[command])]


@pytest.mark.nightly
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_that_a_page_names_prints_its_lines(name: str, tmp_path: Path) -> None:
    """Seconds are the machine's; what is measured, and of what, is the page's."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    command = f"{name.split()[0]} {BENCHMARKS[name]}".strip()
    printed = ran(f"benchmarks/{command}".split(), tmp_path)
    assert printed.strip()
    labels = {label(line) for line in printed.splitlines() if line.strip()}
    if command in EXCERPTS:
        assert {label(line) for line in excerpt(*EXCERPTS[command])} <= labels
