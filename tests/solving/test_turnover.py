"""What a new allocation changes since an earlier one, from objects, frames and files."""

from __future__ import annotations

import csv

import networkx as nx
import numpy as np
import pyarrow.parquet as pq
import pytest

import hasa_opt as hasa
from hasa_opt.errors import InputError

WIDTHS = (0.25, 0.5, 0.75, 1.0)


def fleet(names, seed=0, **columns):
    rng = np.random.default_rng(seed)
    samples = columns.pop("samples", None)
    return hasa.Clients(
        rng.integers(10, 500, len(names)) if samples is None else samples, names=names, **columns
    )


def solved(clients, budget=0.5, widths=WIDTHS, seed=0, constraints=()):
    scores = np.random.default_rng(seed).random(len(clients))
    problem = hasa.AllocationProblem.build(
        clients, widths=widths, budget=budget, utility=hasa.utility.hasa(scores),
        constraints=constraints,
    )  # fmt: skip
    return hasa.solve(problem, "exact")


def reason(found, name):
    return found.reasons[found.names.index(name)]


@pytest.fixture
def names():
    return [f"device-{at}" for at in range(300)]


def test_every_client_is_accounted_for_whatever_the_order(names):
    before = solved(fleet(names))
    now = [*names[::-1][20:], "new-a", "new-b"]
    after = solved(fleet(now, seed=1), budget=0.6, seed=1)
    found = hasa.changes(after, before)
    had = dict(zip(names, before.options, strict=True))
    has = dict(zip(now, after.options, strict=True))
    moved = {name for name in had.keys() & has.keys() if had[name] != has[name]}
    pairs = list(zip(found.names, found.kinds, strict=True))
    kinds = {kind: {name for name, own in pairs if own == kind} for _, kind in pairs}
    left = set(names) - set(now)
    assert kinds == {"joined": {"new-a", "new-b"}, "left": left, "changed": moved}
    assert moved
    assert found.stayed == len(had.keys() & has.keys())
    assert all(found.reasons)
    for name, before_, now_ in zip(found.names, found.before, found.now, strict=True):
        assert (before_, now_) == (had.get(name, ""), has.get(name, ""))


def test_each_reason_is_the_first_that_holds(names):
    before = solved(fleet(names))
    samples = before.problem.clients.samples.copy()
    caps = np.ones(300)
    wide = np.flatnonzero(before.widths >= 0.75)
    shrunk, grown = wide[:3], wide[3:6]
    caps[shrunk], samples[grown] = 0.5, samples[grown] * 40
    after = solved(fleet(names, samples=samples, max_width=caps))
    found = hasa.changes(after, before)
    for row in shrunk:
        assert "max_width is 0.5" in reason(found, names[row])
        assert "cannot take" in reason(found, names[row])
    for row in grown:
        if names[row] in found.names:
            assert f"from {samples[row] // 40} to {samples[row]}" in reason(found, names[row])
    rest = set(found.names) - {names[row] for row in (*shrunk, *grown)}
    assert rest
    assert all("worth" in reason(found, name) for name in rest)
    smaller = solved(fleet(names), widths=(0.25, 0.5, 1.0))
    gone = hasa.changes(smaller, before)
    at = int(np.flatnonzero(before.widths == 0.75)[0])
    assert reason(gone, names[at]) == "0.75 is not on the menu any more"


def test_what_is_worth_more_at_the_prices_of_today_is_that(names):
    before, after = solved(fleet(names)), solved(fleet(names), budget=0.7)
    found = hasa.changes(after, before)
    problem, price = after.problem, after.price
    for name, why in zip(found.names, found.reasons, strict=True):
        row = names.index(name)
        net = problem.utilities[row] - price * problem.costs[row]
        gain = net[after.choice[row]] - net[before.choice[row]]
        assert f"worth {gain:.3g} more" in why if gain > 1e-12 else "last units" in why


def test_prices_of_further_limits_count(names):
    site = [f"s{at % 3}" for at in range(300)]
    tree = nx.DiGraph([("all", "s0"), ("all", "s1"), ("all", "s2")])
    clients = fleet(names, site=site)
    limit = hasa.SiteBudgets(tree, {"s0": int(clients.samples[::3].sum() * 4 * 0.3)})
    found = hasa.changes(solved(clients, constraints=[limit]), solved(clients))
    down = [why for name, why in zip(found.names, found.reasons, strict=True)
            if int(name.split("-")[1]) % 3 == 0]  # fmt: skip
    assert len(down) > 50
    assert sum("more at today's prices" in why for why in down) > 0.95 * len(down)


def test_any_order_is_matched(names):
    before = solved(fleet(names))
    had = dict(zip(names, before.options, strict=True))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        now = [name for name in names if rng.random() < 0.9]
        for at in range(20):
            now.insert(int(rng.integers(len(now))), f"new-{at}")
        if seed % 3 == 0:
            rng.shuffle(now)
        found = hasa.changes(solved(fleet(now), seed=seed), before)
        for name, old in zip(found.names, found.before, strict=True):
            assert old == had.get(name, "")
        assert found.kinds.count("left") == len(had.keys() - set(now))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_frames_and_mappings_say_the_same(names, kind, tmp_path):
    before, after = solved(fleet(names)), solved(fleet([*names[5:], "new"]), budget=0.6)
    expected = hasa.changes(after, before).in_columns()
    path = tmp_path / f"old.{kind}"
    frame = before.frame("pyarrow")
    if kind == "csv":
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(frame.column_names)
            out.writerows(zip(*frame.to_pydict().values(), strict=True))
    else:
        pq.write_table(frame, path)
    for given in (path, frame, before.frame("pandas")):
        assert hasa.changes(after, given).in_columns() == expected
    widths = dict(zip(names, before.widths.tolist(), strict=True))
    known = hasa.changes(after, widths).in_columns()
    assert {**known, "reason": 0} == {**expected, "reason": 0}
    written = tmp_path / f"changes.{kind}"
    hasa.changes(after, path).write(written)
    back = pq.read_table(written).to_pydict() if kind == "parquet" else None
    if kind == "csv":
        with written.open(newline="") as file:
            back = {name: list(cells) for name, *cells in zip(*csv.reader(file), strict=True)}
    assert back == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,samples\na,1\n", ["'option' or 'width'"]),
        ("client,width\na,1\n", ["other clients"]),
        ("name,width\ndevice-1,0.5\ndevice-1,0.5\n", ["line 3", "already stands on line 2"]),
        ("name,width,samples\ndevice-1,0.5,x\n", ["line 2", "'samples'"]),
        ("name,option\ndevice-1,\n", ["empty"]),
    ],
)
def test_a_bad_file_is_refused_in_words(names, text, words, tmp_path):
    path = tmp_path / "old.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        hasa.changes(solved(fleet(names)), path)
    assert all(word in str(caught.value) for word in words), caught.value


def test_widths_of_a_file_are_numbers(tmp_path):
    after = solved(fleet(["a", "b", "c"]))
    path = tmp_path / "before.csv"
    commas = [str(width).replace(".", ",") for width in after.widths]
    rows = [f"{name};{width}" for name, width in zip("abc", commas, strict=True)]
    path.write_text("\n".join(["name;width", *rows]), encoding="utf-8-sig")
    with pytest.warns(UserWarning, match="semicolons"):
        found = hasa.changes(after, path)
    assert found.summary == "0 joined, 0 left, 0 of the other 3 changed"
    for cell in ("half", "nan", ""):
        path.write_text(f"name,width\na,0.5\nb,{cell}\n")
        with pytest.raises(InputError, match="line 3, column 'width'"):
            hasa.changes(after, path)


def test_an_allocation_of_nobody_is_refused(tmp_path):
    after = solved(fleet(["a", "b", "c"]))
    path = tmp_path / "before.csv"
    path.write_text("name,width\n")
    for nobody in ({}, path):
        with pytest.raises(InputError, match="no client has anything"):
            hasa.changes(after, nobody)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"holds no file that ends in \.parquet"):
        hasa.changes(after, tmp_path / "folder")


def test_options_of_one_net_worth_are_worth_as_much():
    clients = hasa.Clients([1, 1], names=["a", "b"])
    problem = hasa.AllocationProblem.build(
        clients, widths=(0.5, 1.0), budget=0.75, utility=hasa.utility.alpha_fair()
    )
    after = hasa.solve(problem)
    before = dict(zip(clients.names, after.widths[::-1].tolist(), strict=True))
    found = hasa.changes(after, before)
    assert found.reasons == ("the last units of the limits: alone worth as much",) * 2
