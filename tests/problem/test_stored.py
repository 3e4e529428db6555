"""Saved problems and results: nothing is lost, and a file that says what is not so is refused."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from support import TIMES, many
from support.limited_problems import KINDS, limited_problem
from test_menu import random_case

import hasa_opt as hasa
from hasa_opt import Allocation, AllocationProblem, Clients, InfeasibleError, InputError, utility
from hasa_opt._utils.archive import FORMAT, Archive
from hasa_opt.problem.limits import Row, Terms
from hasa_opt.solvers import registry


def of_menu(seed: int) -> AllocationProblem:
    case = random_case(seed)
    return AllocationProblem.build(
        case.clients, menu=case.menu, budget=case.budget, utility=utility.measured(case.worth),
        constraints=case.limits,
    )  # fmt: skip


def rich() -> AllocationProblem:
    """One with everything that a file keeps."""
    names = ["phone \u00fc", "a, b", "c", "d"]
    clients = Clients(
        [120, 80, 200, 50], counts=sp.csr_array([[9, 0], [2, 6], [0, 1], [4, 4]]),
        labels=["cat", "d\u00f6g"], max_width=[0.5, 1, 1, 1], names=names,
        site=["root", "x", "x", "root"], device=["old", "new", "new", "old"],
    )  # fmt: skip
    tree = nx.DiGraph([("root", "x")])
    return AllocationProblem.build(
        clients,
        widths=[0.25, 0.5, 1],
        budget=0.6,
        utility=utility.alpha_fair(),
        constraints=[
            hasa.SiteBudgets(tree, {"x": 900}),
            hasa.Robust(1, 0.1),
            hasa.Coverage({0.5: 0.2}),
            hasa.Budget([1, 2, 3], 11, "tokens"),
            hasa.Fixed({"c": 0.5}),
            hasa.Fairness("maxmin"),
        ],
    )


def both(problem: AllocationProblem, path: Path) -> AllocationProblem:
    problem.save(path)
    return AllocationProblem.load(path)


def same_arrays(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    equal = (one != other).nnz == 0 if sp.issparse(one) else np.array_equal(one, other)
    return one.dtype == other.dtype and equal


def check_same(problem: AllocationProblem, loaded: AllocationProblem) -> None:
    for name in ("costs", "utilities", "admissible"):
        assert same_arrays(getattr(problem, name), getattr(loaded, name)), name
    for name in ("budget", "limit", "full_cost", "resource", "budgets"):
        assert getattr(problem, name) == getattr(loaded, name), name
    for name in ("samples", "counts", "max_width"):
        assert same_arrays(getattr(problem.clients, name), getattr(loaded.clients, name)), name
    for name in ("names", "site", "labels", "device"):
        assert getattr(problem.clients, name) == getattr(loaded.clients, name), name
    assert problem.menu.names == loaded.menu.names
    assert problem.menu.full == loaded.menu.full
    assert same_arrays(problem.menu.allowed, loaded.menu.allowed)
    assert problem.menu.attributes.keys() == loaded.menu.attributes.keys()
    assert problem.resources.keys() == loaded.resources.keys()
    for name, table in problem.resources.items():
        assert same_arrays(table, loaded.resources[name])
    assert len(problem.rows) == len(loaded.rows)
    for row, other in zip(problem.rows, loaded.rows, strict=True):
        assert type(row) is type(other)
        for name, value in vars(row).items():
            again = getattr(other, name)
            alike = same_arrays(value, again) if isinstance(value, np.ndarray) else value == again
            assert alike, (row.label, name)
    assert (repr(loaded), str(loaded)) == (repr(problem), str(problem))


def solved_or_refused(problem: AllocationProblem, solver: str) -> Allocation | str:
    try:
        return hasa.solve(problem, solver)
    except InfeasibleError as error:
        return str(error)


def check_solves(problem: AllocationProblem, loaded: AllocationProblem, path: Path) -> int:
    """Every exact choice, price and bound is the same, to the bit; so is a result's own file."""
    solved = 0
    for solver in ("exact", "highs"):
        if not registry.supports(problem, solver):
            assert not registry.supports(loaded, solver)
            continue
        result, again = solved_or_refused(problem, solver), solved_or_refused(loaded, solver)
        if isinstance(result, str) or isinstance(again, str):
            assert again == result
            continue
        assert again.choice.tolist() == result.choice.tolist()
        assert (again.objective, again.bound) == (result.objective, result.bound)
        assert again.prices.tolist() == result.prices.tolist()
        result.save(path)
        kept = Allocation.load(path)
        assert (repr(kept), str(kept)) == (repr(result), str(result))
        assert kept.prices.tolist() == result.prices.tolist()
        assert kept.termination is result.termination
        for name in ("message", "fallback_from", "incumbent_from", "own_objective", "seconds"):
            assert getattr(kept, name) == getattr(result, name)
        check_same(problem, kept.problem)
        solved += 1
    return solved


@pytest.mark.fuzz
def test_loaded_problems_are_the_same_and_are_solved_the_same(tmp_path: Path) -> None:
    solved = 0
    makers = [lambda seed, kind=kind: limited_problem(kind, seed) for kind in KINDS] + [of_menu] * 3
    for seed in many(18):
        try:
            problem = makers[seed % len(makers)](seed)
        except InfeasibleError:
            continue
        loaded = both(problem, tmp_path / "problem")
        check_same(problem, loaded)
        solved += check_solves(problem, loaded, tmp_path / "result")
    assert solved > 10 * TIMES


def test_everything_that_a_problem_has_is_kept(tmp_path: Path) -> None:
    problem = rich()
    loaded = both(problem, tmp_path / "one")
    check_same(problem, loaded)
    assert check_solves(problem, loaded, tmp_path / "result") == 1
    loaded.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    words = [repr(item) for item in loaded.constraints]
    assert words[1:3] == [repr(item) for item in problem.constraints[1:3]]
    assert not registry.supports(loaded, "greedy")


def test_kinds_of_constraints_decide_who_solves_a_loaded_problem(tmp_path: Path) -> None:
    clients = Clients([10, 20, 30])
    for constraint in (hasa.Quota({0.5: 1}), hasa.Budget([1, 5], 9), hasa.Robust(1, 0.2)):
        problem = AllocationProblem.build(
            clients, widths=[0.5, 1], budget=1.0, utility=utility.alpha_fair(),
            constraints=[constraint],
        )  # fmt: skip
        loaded = both(problem, tmp_path / "problem")
        for record in hasa.solvers():
            able = registry.supports(problem, record.name)
            assert registry.supports(loaded, record.name) == able, record.name


def test_stored_limits_belong_to_their_own_problem(tmp_path: Path) -> None:
    loaded = both(rich(), tmp_path / "problem")
    with pytest.raises(InputError, match=r"Coverage.*state it anew"):
        AllocationProblem.build(
            loaded.clients, menu=loaded.menu, utility=utility.alpha_fair(),
            constraints=[loaded.constraints[2]],
        )  # fmt: skip
    again = AllocationProblem.build(
        loaded.clients, menu=loaded.menu, utility=utility.measured(loaded.utilities),
        constraints=[hasa.Coverage({0.5: 0.2})],
    )  # fmt: skip
    assert again.resources.keys() == loaded.resources.keys()


def test_a_result_without_an_allocation_is_kept(tmp_path: Path) -> None:
    result = Allocation(rich(), "mine", hasa.Termination.TIME_LIMIT, np.inf, np.zeros(5), 1.0)
    result.save(tmp_path / "result")
    kept = Allocation.load(tmp_path / "result")
    assert (kept.has_solution, kept.bound, repr(kept)) == (False, np.inf, repr(result))


class Odd:
    """A constraint of somebody else's, with coefficients of another type."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        return (Row("odd", np.ones(terms.shape, dtype=self.kind), upper=2),)


class Dear:
    feature = "Dear"


def test_constraints_of_others(tmp_path: Path) -> None:
    def with_(item: Any) -> AllocationProblem:
        return AllocationProblem.build(
            Clients([10, 20]), widths=[0.5, 1], budget=1.0, utility=utility.alpha_fair(),
            constraints=[item],
        )  # fmt: skip

    loaded = both(with_(Odd(np.int16)), tmp_path / "problem")
    assert loaded.rows[0].coefficients.tolist() == [[1, 1], [1, 1]]
    assert "Odd" in repr(loaded.constraints[0])
    for item, words in ((Odd(object), "rows/0/coefficients"), (Dear(), "only Fairness")):
        with pytest.raises(InputError, match=words):
            with_(item).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


# ---------------------------------------------------------------------------------- refusals


def plain() -> Allocation:
    problem = AllocationProblem.build(
        Clients([10, 20, 30], names=["a", "b", "c"]), widths=[0.25, 0.5, 1.0], budget=0.5,
        utility=utility.alpha_fair(), constraints=[hasa.Quota({0.5: 2})],
    )  # fmt: skip
    return hasa.solve(problem, "highs")


def signed_again(
    path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None], noun: str
) -> None:
    """Change what a file keeps, and make both of its checksums right again."""
    kept = Archive.read(path, noun)
    content = copy.deepcopy(kept.content)
    arrays = {name: array.copy() for name, array in kept.arrays.items()}
    change(content, arrays)
    if noun == "Allocation" and "problem_sha256" in content:
        own = {name: array for name, array in arrays.items() if not name.startswith("result/")}
        content["problem_sha256"] = Archive(content["problem"], own).digest("problem")
    Archive(content, arrays).write(path, noun)


def claim(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    return lambda content, arrays: content["result"].update({name: value})


def widest(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays["result/choice"][:] = 2


def outside(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays["result/choice"][0] = 7


def smaller_budget(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    content["problem"]["limit"] = 1


def better_utility(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays["utilities"][:] += 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (widest, "within the limits, but budget is broken by"),
        (outside, "choice 7 of row 0 is outside the menu"),
        (smaller_budget, "within the limits, but budget is broken by"),
        (better_utility, "says that the allocation is worth"),
        (claim("objective", 0.5), "is worth 0.5, but it is worth"),
        (claim("spent", 3), "of cost 3, but it costs"),
        (claim("bound", -99.0), "at most worth -99.0, but it is worth"),
        (claim("bound", 99.0), "optimal, but leaves a gap"),
        (claim("termination", "best of all"), "damaged .*best of all"),
        (claim("seconds", "1"), "damaged .*seconds '1'"),
    ],
)
def test_a_result_that_lies_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "result"
    plain().save(path)
    signed_again(path, lambda *kept: None, "Allocation")
    Allocation.load(path)
    signed_again(path, change, "Allocation")
    with pytest.raises(InputError, match=words):
        Allocation.load(path)


def test_a_result_beside_another_problem_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result"
    plain().save(path)
    kept = Archive.read(path, "Allocation")
    kept.content["problem"]["clients"]["names"] = ["a", "b", "d"]
    kept.write(path, "Allocation")
    with pytest.raises(InputError, match="for another problem than the one beside it"):
        Allocation.load(path)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the index of a file and leave its checksum as it was."""
    with zipfile.ZipFile(path) as members:
        data = {name: members.read(name) for name in members.namelist()}
    index = json.loads(data["content.json"])
    change(index)
    data["content.json"] = json.dumps(index).encode()
    with zipfile.ZipFile(path, "w") as members:
        for name, content in data.items():
            members.writestr(name, content)


def test_other_files_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "problem"
    result = plain()
    result.problem.save(path)
    with pytest.raises(InputError, match="keeps 'AllocationProblem': load it with the class"):
        Allocation.load(path)
    rewritten(path, lambda index: index.update(format=FORMAT + 1))
    with pytest.raises(InputError, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        AllocationProblem.load(path)
    result.problem.save(path)
    rewritten(path, lambda index: index["content"].update(limit=10**6))
    with pytest.raises(InputError, match="not what was saved"):
        AllocationProblem.load(path)
    for there in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError, match=r"cannot be read .*: give a file of save"):
            AllocationProblem.load(there)
    path.write_text("name,samples\n")
    with pytest.raises(InputError, match="no file of save"):
        AllocationProblem.load(path)
    np.savez_compressed(path.with_suffix(".npz"), choice=np.array([None], dtype=object))
    with pytest.raises(InputError, match="damaged"):
        AllocationProblem.load(path.with_suffix(".npz"))


def test_a_file_is_read_by_numpy_too_and_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "problem.npz"
    problem = plain().problem
    problem.save(path)
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["utilities"].tolist() == problem.utilities.tolist()
    before = path.read_bytes()
    broken = AllocationProblem.build(
        problem.clients, widths=[0.5], budget=1.0, utility=utility.alpha_fair(),
        constraints=[Odd(object)],
    )  # fmt: skip
    with pytest.raises(InputError):
        broken.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["problem.npz"]


@pytest.mark.parametrize(
    ("part", "values"),
    [("indptr", [0, 5, 5, 9, 0]), ("indptr", [0, 2, 1, 3, 6]), ("indices", [0, 1, 2, 1, 0, 1])],
)
def test_counts_whose_indices_are_none_are_refused(
    tmp_path: Path, part: str, values: list[int]
) -> None:
    def change(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        assert arrays[f"clients/counts/{part}"].shape == (len(values),)
        arrays[f"clients/counts/{part}"] = np.array(values)

    path = tmp_path / "problem"
    rich().save(path)
    signed_again(path, change, "AllocationProblem")
    with pytest.raises(InputError, match="counts whose indices are none"):
        AllocationProblem.load(path)


# ---------------------------------------------------------------------------------- hostile files


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    place, end = sorted(rng.integers(len(data) + 1, size=2).tolist())
    kind = int(rng.integers(5))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[min(end, place + 9) :]
    if kind == 2:
        return data[:place] + data[place:end][::-1] + data[end:]
    if kind == 3:
        return data[:place] + rng.bytes(3) + data[place:]
    flipped = bytearray(data)
    flipped[min(place, len(data) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


VALUES = (
    *(None, True, -1, 2**70, 10**400, 1e308, 0.5, "", "x", [], [1], {}, {"a": 1}, [[]], "\ud800"),
    *("utilities", "admissible", "clients/samples"),
)


def value_replaced(content: Any, rng: np.random.Generator) -> None:
    place = content
    while True:
        keys = list(place) if isinstance(place, Mapping) else list(range(len(place)))
        key = keys[rng.integers(len(keys))]
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.2:
            break
        place = inner
    if rng.random() < 0.15:
        del place[key]
    else:
        place[key] = VALUES[rng.integers(len(VALUES))]


def array_changed(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    name = list(arrays)[rng.integers(len(arrays))]
    kind, array = int(rng.integers(4)), arrays[name]
    if kind == 0:
        arrays[name] = array[1:]
    elif kind == 1:
        arrays[name] = array.astype(np.float64)
    elif array.dtype == np.bool_:
        array.reshape(-1)[rng.integers(array.size)] ^= True
    else:
        worst = (-1, 0, 2**62, np.iinfo(np.int64).min)
        own = worst if array.dtype == np.int64 else (np.nan, np.inf, -1e308, 0)
        array.reshape(-1)[rng.integers(array.size)] = own[rng.integers(len(own))]


@pytest.mark.fuzz
@pytest.mark.filterwarnings("error")
def test_mutated_files_are_refused(tmp_path: Path) -> None:
    result = hasa.solve(rich(), "highs")
    result.save(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    path, read, refusals = tmp_path / "hostile", 0, list[str]()
    for seed in many(150):
        path.write_bytes(mutated(data, np.random.default_rng(seed)))
        try:
            found = Allocation.load(path)
        except InputError as error:
            refusals.append(str(error))
            continue
        read += 1  # bytes that nobody reads, such as the date of a member
        assert found.choice.tolist() == result.choice.tolist(), seed
    assert not any("\n" in message for message in refusals)
    assert read < 30


@pytest.mark.fuzz
@pytest.mark.filterwarnings("error")
def test_mutated_content_with_true_checksums_is_checked_or_refused(tmp_path: Path) -> None:
    hasa.solve(rich(), "highs").save(tmp_path / "whole")
    data, path = (tmp_path / "whole").read_bytes(), tmp_path / "hostile"
    signed, read = 0, 0
    for seed in many(150):
        rng = np.random.default_rng(seed)

        def change(content: Any, arrays: Any, rng: np.random.Generator = rng) -> None:
            if rng.random() < 0.7:
                value_replaced(content, rng)
            else:
                array_changed(arrays, rng)

        path.write_bytes(data)
        try:
            signed_again(path, change, "Allocation")
        except (KeyError, AttributeError, TypeError):  # what is left cannot be signed
            continue
        signed += 1
        try:
            found = Allocation.load(path)
        except InputError:
            continue
        read += 1
        assert found.problem.evaluate(found.choice).feasible, seed
    assert 0 < read < signed / 2
