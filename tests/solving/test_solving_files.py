"""Fleets in Parquet files: the allocation of the solve in memory, verified, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hasa_opt as hasa
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem import fleet_file
from hasa_opt.problem.fleet_file import Chunk
from hasa_opt.solvers.exact import parts
from hasa_opt.solving import files, passes

WIDTHS = (0.25, 0.5, 0.75, 1.0)


def columns(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "name": [f"device-{at}" for at in rng.permutation(n)],
        "samples": rng.integers(20, 2000, n),
        "score": rng.gamma(2.0, 0.05, n).round(5),
        "max_width": rng.choice([0.5, 0.75, 1.0], n),
    }


def in_memory(own, utility="hasa", **how):
    clients = hasa.Clients(own["samples"], max_width=own.get("max_width"), names=own.get("name"))
    worth = getattr(hasa.utility, utility)
    worth = worth() if utility == "alpha_fair" else worth(own["score"])
    problem = hasa.AllocationProblem.build(clients, **{"widths": WIDTHS, "utility": worth, **how})
    return hasa.solve(problem, "exact")


def written(path, own, rows=1000):
    pq.write_table(pa.table(own), path, row_group_size=rows)
    return path


def chosen(output):
    return pq.read_table(output)["option"].cast(pa.string()).to_pylist()


@pytest.fixture
def fleet(tmp_path):
    return written(tmp_path / "fleet.parquet", columns(3000))


@pytest.fixture
def problem(fleet):
    return hasa.FileProblem(fleet, widths=WIDTHS, budget=0.5, chunk_rows=1000)


@pytest.mark.parametrize("utility", ["hasa", "saturating"])
@pytest.mark.parametrize(("n", "rows"), [(1, 5), (7, 3), (900, 100), (30_000, 4000)])
def test_it_is_the_allocation_in_memory(n, rows, utility, tmp_path):
    own = columns(n)
    fleet = written(tmp_path / "fleet.parquet", own, rows)
    problem = hasa.FileProblem(
        fleet, widths=WIDTHS, budget=0.45, utility=utility, chunk_rows=2 * rows
    )
    assert len(problem) == n
    found = hasa.solve_files(problem, tmp_path / "out")
    expected = in_memory(own, utility, budget=0.45)
    assert chosen(tmp_path / "out") == expected.options.tolist()
    assert pq.read_table(tmp_path / "out")["name"].to_pylist() == own["name"]
    assert found.spent == expected.spent
    assert found.limit == expected.problem.limit
    assert found.objective == pytest.approx(expected.objective, rel=1e-12)
    assert found.bound >= expected.objective - 1e-12 * abs(expected.objective)
    assert found.passes <= 12
    assert sum(found.options.values()) == n
    if n > 20_000:
        assert found.gap <= 1e-8
        assert found.settled < n / 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [200_000, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_large_fleets_too(n, tmp_path):
    own = {name: values for name, values in columns(n).items() if name != "name"}
    fleet = written(tmp_path / "fleet.parquet", own, 1 << 17)
    problem = hasa.FileProblem(fleet, widths=WIDTHS, budget=0.5, chunk_rows=1 << 17)
    found = hasa.solve_files(problem, tmp_path / "out")
    assert chosen(tmp_path / "out") == in_memory(own, budget=0.5).options.tolist()
    assert found.gap <= 1e-9


def test_an_allocation_in_files_may_be_that_of_yesterday(problem, tmp_path):
    hasa.solve_files(problem, tmp_path / "out")
    today = in_memory(columns(3000), budget=0.6)
    found = hasa.changes(today, tmp_path / "out")
    assert (
        found.in_columns()
        == hasa.changes(
            today, dict(zip(columns(3000)["name"], chosen(tmp_path / "out"), strict=True))
        ).in_columns()
    )
    assert len(found) > 100


def test_device_classes_absolute_limits_and_folders(tmp_path):
    own = columns(500)
    own["device"] = [["small", "large"][at % 2] for at in range(500)]
    own = {name: own[name] for name in ("samples", "device", "score")}
    (tmp_path / "fleet").mkdir()
    for part, rows in (("a", slice(0, 200)), ("b", slice(200, 500))):
        written(tmp_path / "fleet" / f"{part}.parquet", {k: v[rows] for k, v in own.items()}, 50)
    menu = hasa.Menu(
        ["narrow", "wide"], costs={"joules": {"small": [3, 9], "large": [1, 5]}}, per="sample",
        attributes={"width": [0.5, 1.0]},
    )  # fmt: skip
    problem = hasa.FileProblem(tmp_path / "fleet", menu=menu, limit=1_500_000, chunk_rows=100)
    assert len(problem.chunks) == 5
    found = hasa.solve_files(problem, tmp_path / "out")
    clients = hasa.Clients(own["samples"], device=own["device"])
    expected = hasa.solve(
        hasa.AllocationProblem.build(
            clients, menu=menu, utility=hasa.utility.hasa(own["score"]),
            constraints=[hasa.Budget("joules", 1_500_000)],
        ), "exact",
    )  # fmt: skip
    assert chosen(tmp_path / "out") == expected.options.tolist()
    assert found.spent == expected.spent <= 1_500_000


def test_utilities_may_be_columns(tmp_path):
    rng = np.random.default_rng(0)
    table = np.sort(rng.random((400, 4)), axis=1)
    own = {"samples": rng.integers(20, 2000, 400)}
    own |= {f"utility:{width:g}": table[:, at] for at, width in enumerate(WIDTHS)}
    fleet = written(tmp_path / "fleet.parquet", own, 90)
    problem = hasa.FileProblem(fleet, widths=WIDTHS, budget=0.6, utility="table", chunk_rows=90)
    hasa.solve_files(problem, tmp_path / "out")
    expected = hasa.solve(
        hasa.AllocationProblem.build(
            hasa.Clients(own["samples"]), widths=WIDTHS, budget=0.6,
            utility=hasa.utility.measured(table),
        ), "exact",
    )  # fmt: skip
    assert chosen(tmp_path / "out") == expected.options.tolist()


@pytest.mark.parametrize("budget", [0.26, 0.53, 0.99, 1.0])
def test_clients_that_tie_at_one_price_go_by_chunks(budget, tmp_path, monkeypatch):
    """Proportional fairness with costs by samples: all clients change at the same prices."""
    monkeypatch.setattr(passes, "_FEW", 10)
    own = {"samples": np.random.default_rng(0).integers(20, 2000, 30_000)}
    fleet = written(tmp_path / "fleet.parquet", own, 3000)
    problem = hasa.FileProblem(
        fleet, widths=WIDTHS, budget=budget, utility="alpha_fair", chunk_rows=3000
    )
    found = hasa.solve_files(problem, tmp_path / "out")
    assert found.settled <= 3000
    expected = in_memory(own, "alpha_fair", budget=budget)
    assert found.objective == pytest.approx(expected.objective, rel=1e-9)
    assert found.gap <= 1e-9
    assert found.spent <= found.limit


def test_an_interval_that_misses_the_price_is_widened(problem, fleet, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WHOLE", 100)
    true = parts.price_interval

    def too_low(sample, target, widening):
        low, high = true(sample, target, widening)
        return (low / 9, low / 8) if widening == 1 else (low, high)

    monkeypatch.setattr(parts, "price_interval", too_low)
    found = hasa.solve_files(problem, tmp_path / "out")
    assert found.passes == 5
    own = columns(3000)
    assert chosen(tmp_path / "out") == in_memory(own, budget=0.5).options.tolist()


def test_a_budget_that_is_too_small_is_explained(fleet, tmp_path):
    own = hasa.FileProblem(fleet, widths=WIDTHS, budget=0.1)
    with pytest.raises(InfeasibleError, match=r"raise the budget to at least 0\.25"):
        hasa.solve_files(own, tmp_path / "out")
    with pytest.raises(InfeasibleError, match="raise the limit"):
        hasa.solve_files(hasa.FileProblem(fleet, widths=WIDTHS, limit=5), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [fleet]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"score": "drift"}, "no column 'drift'; its columns are 'name', 'samples', 'score'"),
        ({"utility": "table"}, "no column 'utility:0.25'"),
        ({"utility": "magic"}, "'magic' is not known"),
        ({"limit": 5}, "give budget="),
        ({"budget": None}, "give budget="),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"budget": -1.0}, "budget"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(fleet, how, words):
    with pytest.raises(InputError, match=words):
        hasa.FileProblem(fleet, **{"widths": WIDTHS, "budget": 0.5, **how})


def test_a_row_group_that_is_too_large_is_refused(fleet, monkeypatch):
    monkeypatch.setattr(fleet_file, "_LARGEST_GROUP", 999)
    with pytest.raises(InputError, match="row group 0 has 1000 rows"):
        hasa.FileProblem(fleet, widths=WIDTHS, budget=0.5)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("samples", 0, "an empty client trains nothing"),
        ("samples", -3, "negative"),
        ("score", np.nan, "must be finite"),
        ("max_width", 1.5, "must lie in"),
        ("max_width", 0.1, "no width"),
    ],
)
def test_a_bad_cell_names_its_file_and_row(column, value, words, tmp_path):
    own = columns(300)
    own[column] = own[column].copy()
    own[column][250] = value
    fleet = written(tmp_path / "fleet.parquet", own, 100)
    problem = hasa.FileProblem(fleet, widths=WIDTHS, budget=0.5, chunk_rows=100)
    with pytest.raises(hasa.HasaError) as caught:
        hasa.solve_files(problem, tmp_path / "out")
    message = str(caught.value)
    assert "fleet.parquet, from client 200 on" in message
    assert "row 50" in message or "client-50" in message or "(row 50" in message, message
    assert not (tmp_path / "out").exists()


def test_nothing_else_is_overwritten(problem, fleet, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    for output in (tmp_path / "other", fleet, tmp_path):
        with pytest.raises(InputError, match="give another name"):
            hasa.solve_files(problem, output)
    hasa.solve_files(problem, tmp_path / "out")
    before = (tmp_path / "out" / "_summary.json").stat().st_mtime_ns
    hasa.solve_files(problem, tmp_path / "out")
    assert (tmp_path / "out" / "_summary.json").stat().st_mtime_ns > before


@pytest.mark.parametrize("when", ["write_part", "checked"])
def test_an_interrupted_run_leaves_nothing_half_written(
    problem, fleet, tmp_path, monkeypatch, when
):
    own = getattr(files, when)
    seen: list[Chunk] = []

    def interrupted(*arguments):
        seen.append(arguments[3])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return own(*arguments)

    with monkeypatch.context() as stopped:
        stopped.setattr(files, when, interrupted)
        with pytest.raises(KeyboardInterrupt):
            hasa.solve_files(problem, tmp_path / "out")
    assert len(seen) == 2
    assert list(tmp_path.iterdir()) == [fleet]
    hasa.solve_files(problem, tmp_path / "out")
    whole = chosen(tmp_path / "out")
    seen.clear()
    with monkeypatch.context() as stopped:
        stopped.setattr(files, when, interrupted)
        with pytest.raises(KeyboardInterrupt):
            hasa.solve_files(problem, tmp_path / "out")
    assert chosen(tmp_path / "out") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"fleet.parquet", "out"}


def rewrite(part: Path, change):
    table = pq.read_table(part).to_pydict()
    change(table)
    pq.write_table(pa.table(table), part)


def dearer(table):
    at = table["option"].index("0.25")
    table["option"][at] = "0.5"


def swapped(table):
    one, other = table["option"].index("0.25"), table["option"].index("0.5")
    table["option"][one], table["option"][other] = table["option"][other], table["option"][one]


def renamed(table):
    table["name"][0], table["name"][1] = table["name"][1], table["name"][0]


def beyond(table):
    table["option"] = ["1"] * len(table["option"])


def unknown(table):
    table["option"][3] = "0.6"


def shortened(table):
    for values in table.values():
        values.pop()


@pytest.mark.parametrize("change", [dearer, swapped, renamed, beyond, unknown, shortened])
def test_a_tampered_part_is_found(problem, tmp_path, change):
    output = tmp_path / "out"
    found = hasa.solve_files(problem, output)
    again = hasa.verify_files(problem, output)
    assert (again.objective, again.bound, again.spent) == (
        found.objective,
        found.bound,
        found.spent,
    )
    rewrite(output / "part-00001.parquet", change)
    with pytest.raises(InputError, match=r"do not use it|the files say"):
        hasa.verify_files(problem, output)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("objective", lambda value: value + 1e-9),
        ("bound", lambda value: value - 1e-6),
        ("spent", lambda value: value - 1),
        ("limit", lambda value: value + 1),
        ("price", lambda value: -value),
        ("price", lambda value: 2 * value),
    ],
)
def test_a_tampered_summary_is_found(problem, tmp_path, name, change):
    output = tmp_path / "out"
    hasa.solve_files(problem, output)
    summary = output / "_summary.json"
    stated = json.loads(summary.read_text())
    stated[name] = change(stated[name])
    summary.write_text(json.dumps(stated))
    with pytest.raises(InputError, match=r"do not use it|the files say"):
        hasa.verify_files(problem, output)


def test_a_part_that_is_missing_is_named(problem, tmp_path):
    output = tmp_path / "out"
    hasa.solve_files(problem, output)
    (output / "part-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"part-00002\.parquet is missing"):
        hasa.verify_files(problem, output)
    (output / "_summary.json").unlink()
    with pytest.raises(InputError, match="keeps no allocation"):
        hasa.verify_files(problem, output)


def test_an_executor_is_known_or_refused(problem, tmp_path):
    with pytest.raises(InputError, match="choose local or ray"):
        hasa.solve_files(problem, tmp_path / "out", executor="cloud")
    with pytest.raises(InputError, match="workers"):
        hasa.solve_files(problem, tmp_path / "out", executor="ray", workers=0)


@pytest.mark.slow
@pytest.mark.flower
@pytest.mark.filterwarnings("ignore")
def test_ray_does_the_same(problem, tmp_path):
    ray = pytest.importorskip("ray")
    try:
        here = hasa.solve_files(problem, tmp_path / "here")
        there = hasa.solve_files(problem, tmp_path / "there", executor="ray", workers=2)
    finally:
        ray.shutdown()
    assert (here.objective, here.bound, here.spent) == (there.objective, there.bound, there.spent)
    assert pq.read_table(tmp_path / "here").equals(pq.read_table(tmp_path / "there"))
