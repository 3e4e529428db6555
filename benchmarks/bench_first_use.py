"""CPU seconds of the command line and of ``exact`` in a new process, with and without a cache.

Run it with ``python benchmarks/bench_first_use.py`` (under two minutes). Medians of processes of
their own, children included, on one thread. Python's own files are compiled before; what numba
stores goes to a folder that is empty at first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

CLIENTS = """name,samples,max_width,count:cat,count:dog,count:bird
phone,100,0.5,90,5,5
camera,100,0.8,10,80,10
laptop,100,0.8,30,30,40
sensor,20,0.35,2,3,15
"""
SOLVE = """
import numpy as np, hasa_opt as hasa
rng = np.random.default_rng(0)
n = {n}
problem = hasa.AllocationProblem.build(
    hasa.Clients(rng.integers(20, 2000, n)), widths=np.linspace(0.3, 1, 8).round(2),
    budget=0.5, utility=hasa.utility.hasa(rng.random(n)))
assert hasa.solve(problem, "exact").termination == "optimal"
"""
REPEATS = 7


def seconds(command: list[str], cache: Path) -> float:
    """CPU seconds of one process."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    before = os.times()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def row(what: str, command: list[str], target: float | None, *, cold: bool, times: int) -> None:
    """One line; cold runs find an empty cache each, the others what the first of them stored."""
    runs = []
    with tempfile.TemporaryDirectory() as kept:
        if not cold:
            seconds(command, Path(kept))
        for _ in range(times):
            with tempfile.TemporaryDirectory() as empty:
                runs.append(seconds(command, Path(empty if cold else kept)))
    spent = median(runs)
    verdict = "" if target is None else f"  (target {target:g})"
    missed = target is not None and spent > target
    print(f"{what:<48}{spent:>7.2f}{verdict}{'  MISSED' if missed else ''}", flush=True)


def main() -> None:
    program = "import sys; from hasa_opt.cli import main; sys.argv[0] = 'hasa-opt'; main()"
    command = [sys.executable, "-c", program]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clients.csv")
        path.write_text(CLIENTS)
        allocate = [*command, "allocate", str(path)]
        print("CPU seconds, imports included")
        row("hasa-opt --help", [*command, "--help"], 0.4, cold=False, times=REPEATS)
        row("hasa-opt allocate, empty cache", allocate, 2.0, cold=True, times=REPEATS)
        row("hasa-opt allocate, warm", allocate, 0.8, cold=False, times=REPEATS)
        for n in (1_000, 10_000):
            solve = [sys.executable, "-c", SOLVE.format(n=n)]
            row(f"exact, {n:,} clients, empty cache", solve, None, cold=True, times=1)
            row(f"exact, {n:,} clients, warm", solve, None, cold=False, times=3)


if __name__ == "__main__":
    main()
