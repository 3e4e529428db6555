"""Data frames of pandas and of polars: what goes in, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, InputError
from hasa_opt.errors import MissingExtraError
from hasa_opt.federated.history import History
from hasa_opt.federated.measurements import Measured
from hasa_opt.study import Results, read_results

LIBRARIES = ("pandas", "polars")


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def made(library: str, columns: dict[str, Any]) -> Any:
    return import_module(library).DataFrame(columns)


def cells(frame: Any) -> dict[str, list[Any]]:
    """Columns of a frame, None for what is missing."""
    names = list(frame.columns)
    return {name: [None if cell is None or cell != cell else cell for cell in frame[name].to_list()]
            for name in names}  # fmt: skip


def check_kind(frame: Any, library: str) -> None:
    assert isinstance(frame, import_module(library).DataFrame)


COUNTS = {"count:cat": [5, 0, 7], "count:dog": [5, 20, 23]}
CLIENTS = {"name": ["phone", "b \u00fc", "c"], "samples": [10, 20, 30],
           "max_width": [0.5, 1.0, 1.0], "site": ["x", "x", "y"],
           "device": ["old", "new", "new"]} | COUNTS  # fmt: skip


def fleet() -> Clients:
    return Clients(
        CLIENTS["samples"], names=CLIENTS["name"], max_width=CLIENTS["max_width"],
        site=CLIENTS["site"], device=CLIENTS["device"], counts=np.array([*COUNTS.values()]).T,
        labels=["cat", "dog"],
    )  # fmt: skip


def problem(**changes: Any) -> AllocationProblem:
    settings: dict[str, Any] = {"widths": [0.25, 0.5, 1], "budget": 0.6,
                                "utility": hasa.utility.alpha_fair()} | changes  # fmt: skip
    return AllocationProblem.build(fleet(), **settings)


# ---------------------------------------------------------------------------------------- out


def test_clients_come_out_as_they_go_in(library: str) -> None:
    frame = fleet().frame(library)
    check_kind(frame, library)
    assert cells(frame) == CLIENTS
    again = Clients.from_frame(frame)
    assert again.frame(library).equals(frame)
    assert again.labels == ("cat", "dog")
    plain = Clients([3, 4]).frame(library)
    assert cells(plain) == {"name": ["client-0", "client-1"], "samples": [3, 4]}


def test_a_problem_has_a_row_for_each_option_that_a_client_may_take(library: str) -> None:
    own = problem()
    found = cells(own.frame(library))
    assert list(found) == ["client", "option", "width", "cost", "utility"]
    rows, options = np.nonzero(own.admissible)
    assert rows.size == 8
    assert found["client"] == [own.clients.name(row) for row in rows]
    assert found["option"] == [own.menu.names[at] for at in options]
    assert found["width"] == own.widths[options].tolist()
    assert found["cost"] == own.costs[rows, options].tolist()
    assert found["utility"] == own.utilities[rows, options].tolist()
    menu = {name: found[name] for name in ("client", "option", "width", "cost")}
    again = hasa.Menu.from_frame(made(library, menu), client="client", costs=["cost"])
    assert again.allowed is not None
    assert again.allowed.tolist() == own.admissible.tolist()


def test_an_allocation_has_a_row_for_each_client(library: str) -> None:
    result = hasa.solve(problem(), "highs")
    found = cells(result.frame(library))
    assert list(found) == ["client", "samples", "option", "width", "cost", "utility"]
    assert found["width"] == result.widths.tolist()
    assert sum(found["cost"]) == result.spent


def test_a_comparison_has_a_row_for_each_solver(library: str) -> None:
    found = hasa.compare(problem(), ["highs", "greedy"])
    columns = cells(found.frame(library))
    records = found.records()
    assert columns == {name: [record[name] for record in records] for name in records[0]}
    assert columns["solver"] == ["highs", "greedy"]


def test_a_frontier_has_a_row_for_each_budget(library: str) -> None:
    found = hasa.frontier(problem(), [0.4, 0.6], "highs")
    columns = cells(found.frame(library))
    assert columns["budget"] == [0.4, 0.6]
    assert columns["objective"] == found.objectives.tolist()
    assert columns["bound"] == found.bounds.tolist()
    assert columns["price"] == found.prices.tolist()
    assert columns["termination"] == ["optimal", "optimal"]


def test_a_sweep_has_a_row_for_each_point_and_nothing_where_there_is_no_allocation(
    library: str,
) -> None:
    found = hasa.sweep(problem(), "highs", limits={"budget": [0.1, 0.6]}, scales={"c": [1, 9]})
    columns = cells(found.frame(library))
    assert columns["budget"] == [0.1, 0.1, 0.6, 0.6]
    assert columns["scale of c"] == [1, 9, 1, 9]
    assert columns["termination"] == ["infeasible", "infeasible", "optimal", "optimal"]
    assert columns["objective"][:2] == [None, None]
    assert columns["objective"][3] == found.points[3].allocation.objective
    assert columns["why"][2:] == ["", ""]


def test_a_sensitivity_has_a_row_for_each_client(library: str) -> None:
    result = hasa.solve(problem(), "highs")
    found = hasa.sensitivity(result, n_samples=5)
    columns = cells(found.frame(library))
    assert columns["client"] == CLIENTS["name"]
    assert columns["option"] == result.options.tolist()
    names = np.array(result.problem.menu.names)
    assert columns["wider"] == names[found.wider].tolist()
    assert columns["narrower"] == names[found.narrower].tolist()
    for name in ("widen_price", "narrow_price", "kept"):
        assert columns[name] == getattr(found, name).tolist()


def test_a_history_has_a_row_for_each_client_that_was_measured(library: str) -> None:
    rounds = [
        Measured(np.array([0, 2]), {"train_loss": np.array([0.5, 0.25])}),
        Measured(
            np.array([1]), {"test_metric": np.array([0.75]), "bytes_up": np.array([2**40 + 1])}
        ),
    ]
    widths = np.array([0.5, 1.0, 0.25])
    history = History(widths, rounds, {"client_names": ["a", "b", "c"]})
    assert cells(history.frame(library)) == {
        "round": [0, 0, 1], "client": ["a", "c", "b"],
        "train_loss": [0.5, 0.25, None], "test_accuracy": [None, None, 0.75],
        "bytes_up": [0, 0, 2**40 + 1],
    }  # fmt: skip
    assert [len(column) for column in cells(History(widths).frame(library)).values()] == [0, 0]


def test_results_of_a_study_are_as_they_are_written(library: str, tmp_path: Any) -> None:
    shape, rng = (2, 2, 3), np.random.default_rng(0)
    half = np.full(shape, 0.5)
    results = Results(
        policies=("uniform", "hasa"), seeds=(0, 1), clients=("a", "b", "c"),
        samples=np.array([40, 30, 20]), own=rng.random(shape), supernet=half, deployed=half,
        peak=half, trained=half, flops=np.full(shape, 10**9), bytes=np.full(shape, 10**6),
        realised=half[..., 0], rounds=np.full((2, 2), 10), memory=np.full((2, 2), 1e6),
    )  # fmt: skip
    frame = results.frame(library)
    assert cells(frame)["own"] == results.own.ravel().tolist()
    results.write(tmp_path / "written.csv")
    made_of_it = getattr(frame, "to_csv", None) or frame.write_csv
    made_of_it(tmp_path / "framed.csv", **({"index": False} if library == "pandas" else {}))
    one, other = (read_results(tmp_path / name) for name in ("written.csv", "framed.csv"))
    assert (one.own == other.own).all()
    assert one.policies == other.policies == results.policies


def test_a_library_that_is_unknown_or_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="library 'numpy' is not known: choose from pandas"):
        fleet().frame("numpy")
    monkeypatch.setattr("hasa_opt._utils.frames.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="polars"):
        fleet().frame("polars")


# ----------------------------------------------------------------------------------------- in


def test_columns_of_a_frame_are_columns_of_clients(library: str) -> None:
    frame = made(library, CLIENTS)
    own = Clients(
        frame["samples"], names=frame["name"], max_width=frame["max_width"], site=frame["site"],
        device=frame["device"], counts=frame[list(COUNTS)], labels=["cat", "dog"],
    )  # fmt: skip
    assert own.frame(library).equals(fleet().frame(library))
    scores = hasa.scores.jensen_shannon(frame[list(COUNTS)])
    assert scores.tolist() == hasa.scores.jensen_shannon(fleet().counts).tolist()


WORTH = {"0.25": [1.0, 2.0, 3.0], "0.5": [2.0, 3.0, 4.0], "1": [9.0, 4.0, 7.0]}
PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "measured": lambda frame: {"utility": hasa.utility.measured(frame[list(WORTH)])},
    "scores": lambda frame: {"utility": hasa.utility.hasa(frame["0.25"])},
    "weights": lambda frame: {"utility": hasa.utility.alpha_fair(frame["0.5"])},
    "costs": lambda frame: {"cost": hasa.cost.table(frame[["p", "q", "r"]], full=60)},
    "budget": lambda frame: {"constraints": [hasa.Budget(frame[["p", "q", "r"]], 40)]},
    "switches": lambda frame: {"constraints": [hasa.Switches(frame["before"], 2)]},
    "least": lambda frame: {"constraints": [hasa.MinWidth(frame["before"])]},
    "groups": lambda frame: {"constraints": [hasa.SameOption(frame["site"])]},
    "deviation": lambda frame: {"constraints": [hasa.Robust(1, frame["p"])]},
}
GIVEN = WORTH | {"p": [1, 2, 3], "q": [4, 5, 6], "r": [9, 9, 9], "before": [0.25, 0.5, 0.5],
                 "site": ["x", "x", "y"]}  # fmt: skip


class Plain(dict[str, Any]):
    """The same columns as arrays, several together as a table."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, list):
            return np.array([super(Plain, self).__getitem__(name) for name in key]).T
        return super().__getitem__(key)


@pytest.mark.parametrize("place", PLACES)
def test_columns_and_frames_go_wherever_arrays_do(library: str, place: str) -> None:
    own = problem(**PLACES[place](made(library, GIVEN)))
    other = problem(**PLACES[place](Plain(GIVEN)))
    assert (own.utilities == other.utilities).all()
    assert (own.costs == other.costs).all()
    for row, same in zip(own.rows, other.rows, strict=True):
        assert (row.coefficients == same.coefficients).all()
        assert row.upper == same.upper


@pytest.mark.parametrize("key", ["name", "client"])
def test_utilities_are_matched_by_the_names_of_clients(library: str, key: str) -> None:
    order = [2, 0, 1]
    names = [CLIENTS["name"][row] for row in order]
    mixed = {key: names} | {name: [values[row] for row in order] for name, values in WORTH.items()}
    own = problem(utility=hasa.utility.measured(made(library, mixed)))
    assert own.utilities.tolist() == np.array([*WORTH.values()]).T.tolist()
    with pytest.raises(InputError, match="must name the same clients, once each: see 'c', 'd'"):
        problem(utility=hasa.utility.measured(made(library, mixed | {key: ["d", *names[1:]]})))


def test_names_of_pyarrow_are_strings() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(CLIENTS)
    own = Clients(table["samples"], names=table["name"], site=table["site"])
    assert own.names == tuple(CLIENTS["name"])
    assert own.site == tuple(CLIENTS["site"])
    assert cells_of_arrow(own.frame("pyarrow")) == {
        name: CLIENTS[name] for name in ("name", "samples", "site")
    }


def cells_of_arrow(table: Any) -> dict[str, list[Any]]:
    return {name: table[name].to_pylist() for name in table.column_names}
