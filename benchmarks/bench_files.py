"""Fleets in files: the nightly job of a million devices, and fleets that memory does not hold.

Run it with ``python benchmarks/bench_files.py``: CPU seconds of ``hasa-opt allocate`` on one
thread, each time in a new process whose kernels are warm. The fleet and the allocation of yesterday
are read, the fleet is matched and solved, and the allocation and the changes with their reasons are
written. One device in a hundred has joined or left.

With ``--clients 1e7 1e8``: ``solve_files`` on fleets of 8 widths, each in a process of its own:
seconds, the most memory that it held, passes over the data and gap.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

import hasa_opt as hasa
from hasa_opt import cli
from hasa_opt._utils.column_files import write_columns

CLIENTS = 1_000_000
REPEATS = 5
WIDTHS = "0.25,0.375,0.5,0.625,0.75,1"
HOW = ("--score", "score", "--budget", "0.45", "--widths", WIDTHS)
JOBS = {
    "Parquet": ("parquet", "", 2.0),
    "CSV": ("csv", "", 2.5),
    "CSV without pyarrow": ("csv", "pyarrow", 4.0),
}
"""Kind of the files, package that is hidden, and CPU seconds at most."""


def days(n: int) -> tuple[dict[str, list[object]], dict[str, list[object]]]:
    """The fleet of yesterday and of today: one in 200 has left, and as many have joined."""
    rng = np.random.default_rng(0)
    every = n + n // 200
    columns: dict[str, list[object]] = {
        "name": [f"device-{at}" for at in range(every)],
        "samples": (10 + rng.lognormal(4.5, 1.2, every)).astype(int).tolist(),
        "max_width": np.array([0.5, 0.75, 1.0])[rng.choice(3, every, p=[0.5, 0.35, 0.15])].tolist(),
        "score": rng.gamma(2.0, 0.05, every).round(6).tolist(),
    }
    stayed = np.ones(every, dtype=bool)
    stayed[rng.choice(n, n // 200, replace=False)] = False
    rows = np.flatnonzero(stayed).tolist()
    yesterday = {name: values[:n] for name, values in columns.items()}
    return yesterday, {name: [values[row] for row in rows] for name, values in columns.items()}


def job(hidden: str, *arguments: str) -> None:
    """Run the command in this process, after a small solve; CPU seconds on standard error."""
    if hidden:
        sys.modules[hidden] = None  # type: ignore[assignment]
    rng = np.random.default_rng(0)
    few = hasa.Clients(rng.integers(20, 2000, 30_000))
    utility = hasa.utility.hasa(rng.random(30_000))
    hasa.solve(hasa.AllocationProblem.build(few, widths=(0.25, 1), budget=0.5, utility=utility))
    sys.argv = ["hasa-opt", *arguments]
    started = time.process_time()
    try:
        cli.main()
    finally:
        print(f"{time.process_time() - started}", file=sys.stderr)


def run(hidden: str, *arguments: object) -> tuple[float, str]:
    """CPU seconds of the command in a process of its own, and the last line that it prints."""
    command = [sys.executable, __file__, "--job", hidden, *map(str, arguments)]
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=one, check=True, capture_output=True, text=True)
    return float(done.stderr.split()[-1]), done.stdout.splitlines()[-1]


def nightly(folder: Path, name: str) -> None:
    """Two lines: the job on files of one kind."""
    kind, hidden, target = JOBS[name]
    old, new, changes = (folder / f"{name}.{kind}" for name in ("old", "new", "changes"))
    run(hidden, "allocate", folder / f"yesterday.{kind}", *HOW, "-o", old)
    arguments = ("allocate", folder / f"today.{kind}", *HOW, "--previous", old, "-o", new)
    runs = [run(hidden, *arguments, "--changes", changes) for _ in range(REPEATS)]
    seconds = median(seconds for seconds, _ in runs)
    verdict = "" if seconds <= target else "  MISSED"
    print(f"{name:<22}{seconds:5.2f} CPU s  (target {target:g}){verdict}")
    print(f"  {runs[0][1].partition(': ')[2]}", flush=True)


def write_fleet(path: Path, n: int) -> None:
    """A fleet of so many clients, written a million at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for first in range(0, n, CLIENTS):
        rng, size = np.random.default_rng([n, first]), min(CLIENTS, n - first)
        caps = np.array([0.5, 0.75, 1.0])[rng.choice(3, size, p=[0.5, 0.35, 0.15])]
        part = pa.table(
            {
                "samples": rng.integers(20, 2000, size).astype(np.int32),
                "max_width": caps,
                "score": rng.gamma(2.0, 0.05, size).round(6),
            }
        )
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()


def chunked(path: str, output: str) -> None:
    """One line: solve a fleet in files."""
    problem = hasa.FileProblem(path, widths=np.linspace(0.3, 1, 8).round(2), budget=0.5)
    started = time.process_time()
    found = hasa.solve_files(problem, output)
    spent = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{found.clients:>12,}{found.seconds:9.1f} s {spent:9.1f} CPU s {memory:7.2f} GiB "
        f"{found.passes:4} passes  gap {found.gap:.1e}, {found.settled:,} settled together"
    )


def main() -> None:
    if sys.argv[1:2] == ["--job"]:
        job(*sys.argv[2:])
        return
    if sys.argv[1:2] == ["--chunked"]:
        chunked(*sys.argv[2:])
        return
    if sys.argv[1:2] == ["--clients"]:
        for n in sys.argv[2:]:
            with tempfile.TemporaryDirectory() as name:
                fleet = Path(name, "fleet.parquet")
                write_fleet(fleet, int(float(n)))
                command = [sys.executable, __file__, "--chunked", str(fleet), f"{name}/allocation"]
                subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for day, columns in zip(("yesterday", "today"), days(CLIENTS), strict=True):
            for kind in ("parquet", "csv"):
                write_columns(folder / f"{day}.{kind}", columns)
        for own in JOBS:
            nightly(folder, own)


if __name__ == "__main__":
    main()
