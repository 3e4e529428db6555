"""Standard output is the caller's alone, whatever compiled libraries write."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import environment

import hasa_opt as hasa
from hasa_opt._utils.native import stdout_aside, stdout_watched
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.registry import SOLVERS as SOLVERS_BY_NAME
from hasa_opt.solvers.registry import Capability, SolverRecord

pytestmark = pytest.mark.slow

SOLVERS = [record.name for record in hasa.solvers() if record.available]

SOLVE = """
import json, sys
import hasa_opt as hasa
problem = hasa.AllocationProblem.build(
    hasa.Clients([3, 4]), widths=(0.5, 1.0), budget=1, utility=hasa.utility.alpha_fair(),
    constraints=[hasa.Quota({1.0: 1})] if NAME != "greedy" else (),
)
result = hasa.solve(problem, NAME, **OPTIONS)
print(json.dumps(result.has_solution))
"""

ALLOCATE = """
import sys
import threading
from hasa_opt.cli import main
sys.argv = ["hasa-opt", "allocate", "clients.csv", "--json", *sys.argv[1:]]
main()
"""

NOISY = """
import os
from hasa_opt import Termination
from hasa_opt.solvers.registry import Answer, SolverRecord
import numpy as np

class Noisy:
    def solve(self, problem, request):
        os.write(1, b"a banner\\n")
        return Answer(Termination.GAP_REACHED, np.zeros(len(problem), dtype=np.int64))

RECORD = SolverRecord("noisy", Noisy, "prints")
"""


def ran(code: str, *arguments: str, place: Path | None = None, **more: str):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True, env=environment(**more), cwd=place, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_backend_writes_to_standard_output(solver: str) -> None:
    done = ran(f"NAME, OPTIONS = {solver!r}, {{}}\n{SOLVE}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) is True
    assert done.stdout.count(b"\n") == 1
    assert b"HiGHS" not in done.stderr  # which greets from release 1.16 on


LOGS = {
    "highs": {"output_flag": True},
    "cvxpy": {"output_flag": True},
    "pulp": {"msg": True},
    "pulp HiGHS": {"msg": True, "pulp_solver": "HiGHS"},
    "pulp SCIP": {"msg": True, "pulp_solver": "SCIP_PY"},
    "scip": {"display/verblevel": 4},
    "cpsat": {"log_search_progress": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in LOGS if name.split()[0] in SOLVERS])
def test_a_log_that_was_asked_for_goes_elsewhere(case: str) -> None:
    done = ran(f"NAME, OPTIONS = {case.split()[0]!r}, {LOGS[case]!r}\n{SOLVE}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) is True
    if case not in ("scip", "cvxpy"):  # silent whatever their options
        assert len(done.stderr) > 200  # the log


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    (tmp_path / "clients.csv").write_text(
        "name,samples,count:a,count:b\n\u624b\u673a,50,40,10\ncaf\u00e9 \u2212,60,20,40\n",
        encoding="utf-8",
    )
    return tmp_path


def noisy(fleet: Path) -> None:
    facts = fleet / "noisy-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[hasa_opt.solvers]\nnoisy = noisy:RECORD\n")
    (fleet / "noisy.py").write_text(NOISY)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--solver", "highs", "--coverage", "0.8=0.1")])
def test_the_command_line_prints_json_alone(fleet: Path, arguments: tuple[str, ...]) -> None:
    done = ran(ALLOCATE, *arguments, place=fleet)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["termination"] == "optimal"


def test_a_backend_of_another_package_may_print_what_it_likes(fleet: Path) -> None:
    noisy(fleet)
    done = ran(ALLOCATE, "--solver", "noisy", place=fleet)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["solver"] == "noisy"
    assert b"a banner" in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_output_that_lacks_a_character_gets_a_question_mark(fleet: Path, encoding: str) -> None:
    code = ALLOCATE.replace('"--json", ', "")
    done = ran(code, "--solver", "greedy", place=fleet, PYTHONIOENCODING=encoding, COLUMNS="90")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "??" in text
    assert "caf" in text
    assert ("caf\u00e9" in text) == (encoding == "cp1252")
    assert b"Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(fleet: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", ALLOCATE, "--solver", "greedy"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=fleet
    ) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_what_is_watched_is_kept_from_the_output(capfd: pytest.CaptureFixture[str]) -> None:
    with stdout_watched() as watch:
        print("by Python")
        subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
    assert sorted(watch.text.split("\n")) == ["", "by Python", "by a child"]
    assert capfd.readouterr().out == ""


def by_c(text: bytes) -> None:
    """What a compiled library prints, at once."""
    library = ctypes.CDLL(None)
    library.printf(text)
    library.fflush(None)


def test_threads_that_send_it_aside_at_once_lead_it_back(capfd: pytest.CaptureFixture[str]) -> None:
    inside, leave = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]

    def aside(number: int) -> None:
        with stdout_aside():
            inside[number].set()
            leave[number].wait(10)

    threads = [threading.Thread(target=aside, args=(number,)) for number in range(2)]
    for thread, entered in zip(threads, inside, strict=True):
        thread.start()
        assert entered.wait(10)
    for number in range(2):  # the first to come is the first to go
        by_c(b"aside\n")
        leave[number].set()
        threads[number].join()
    by_c(b"back\n")
    shown = capfd.readouterr()
    assert shown.out == "back\n"
    assert shown.err == "aside\naside\n"


class Late:
    """A backend that is left behind at the time limit and goes on to write its log."""

    start, ended = threading.Event(), threading.Event()

    def solve(self, problem: hasa.AllocationProblem, request: Request) -> Answer:
        def run() -> None:
            by_c(b"early\n")
            self.start.wait(10)
            by_c(b"late\n")
            self.ended.set()

        request.deadline.wait_for(run)
        raise AssertionError("it was not left behind")


def test_what_is_left_behind_at_a_time_limit_writes_elsewhere_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = SolverRecord("late", Late, "writes a log", capabilities=Capability.TIME_LIMIT)
    monkeypatch.setitem(SOLVERS_BY_NAME, "late", record)
    problem = hasa.AllocationProblem.build(
        hasa.Clients([3, 4]), widths=(0.5, 1.0), budget=1, utility=hasa.utility.alpha_fair()
    )
    result = hasa.solve(problem, "late", time_limit_s=0.1)
    assert result.termination is hasa.Termination.TIME_LIMIT
    os.write(1, b"ours\n")  # at once, while the other goes on
    Late.start.set()
    assert Late.ended.wait(10)
    shown = capfd.readouterr()
    assert shown.out == "ours\n"
    assert shown.err == "early\nlate\n"


def test_what_the_caller_prints_meanwhile_stays_on_standard_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with stdout_aside():
        os.write(1, b"printed\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
        by_c(b"native\n")
    shown = capfd.readouterr()
    assert shown.out == "printed\nby a child\n"
    assert shown.err == "native\n"
