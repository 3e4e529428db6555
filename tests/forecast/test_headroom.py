"""The verdict on planted needs, against truths computed here; arithmetic against plain loops."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from support.probes import written
from typer.testing import CliRunner

import hasa_opt as hasa
from hasa_opt.cli import app
from hasa_opt.forecast.apart import Apart
from hasa_opt.forecast.curves import hat_weights, pooled_covariance, shrunk, smoothed
from hasa_opt.forecast.foretold import Foretold
from hasa_opt.forecast.prediction import OPTIMUM
from hasa_opt.rules.rotation import Found

MENU = np.array([0.2, 0.35, 0.5, 0.65, 0.8])
DRAWS = 200
N_CLIENTS = 12


# ---------------------------------------------------------------------------------- planted needs


def planted(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Concave curves in points, and how many points each client needs width for."""
    shape = 1 - np.exp(-MENU / 0.25)
    need = {"flat": np.zeros(N_CLIENTS), "alike": np.full(N_CLIENTS, 8.0)}.get(kind)
    if need is None:
        need = rng.permutation([0.0] * 6 + [20.0] * 6)
    level = rng.uniform(10, 60, (N_CLIENTS, 1))
    return level + need[:, None] * shape / (shape[-1] - shape[0]), need


def draw(kind: str, seed: int) -> tuple[float, hasa.Headroom]:
    """True gain of the allocation that was chosen from two noisy halves, and the verdict.

    400 held-back targets per client, half of them right; the widths agree on most targets.
    """
    rng = np.random.default_rng(seed)
    truth, need = planted(kind, rng)
    common = 100 * np.sqrt(0.25 / 200)
    halves = np.stack(
        [
            truth
            + common
            * (
                np.sqrt(0.85) * rng.standard_normal((N_CLIENTS, 1))
                + np.sqrt(0.15) * rng.standard_normal((N_CLIENTS, 5))
            )
            for _ in range(2)
        ]
    )
    scores = (-need if kind == "anti-aligned" else need) + rng.normal(0, 0.1, N_CLIENTS)
    found = hasa.headroom(halves, hasa.Clients([400] * N_CLIENTS), 0.5, widths=MENU, scores=scores)
    reached = [np.interp(width, MENU, own) for width, own in zip(found.widths, truth, strict=True)]
    return float(np.mean(reached) - truth[:, 2].mean()), found


@cache
def drawn(kind: str) -> list[tuple[float, hasa.Headroom]]:
    return [draw(kind, seed) for seed in range(DRAWS)]


def share(values: list[bool]) -> float:
    return float(np.mean(values))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "alike"])
def test_without_a_true_gain_it_says_use_uniform(kind: str) -> None:
    # Nominal: at most 2.5 % are called worthwhile; 4 % is two standard errors of 200 draws above.
    found = [verdict for _, verdict in drawn(kind)]
    assert share([verdict.worthwhile for verdict in found]) <= 0.045
    assert share(["use uniform" in verdict.sentence for verdict in found]) >= 0.955


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["diverse", "anti-aligned"])
def test_a_large_true_gain_is_found(kind: str) -> None:
    assert np.mean([true for true, _ in drawn(kind)]) > 2
    assert share([verdict.worthwhile for _, verdict in drawn(kind)]) >= 0.95


@pytest.mark.parametrize("kind", ["flat", "alike", "diverse", "anti-aligned"])
def test_the_interval_covers_the_true_gain_at_its_nominal_rate(kind: str) -> None:
    covered = [own.low - 1e-9 <= true <= own.high + 1e-9 for true, own in drawn(kind)]
    assert share(covered) >= 0.92  # nominal 95 %, two standard errors of 200 draws


@pytest.mark.parametrize("kind", ["flat", "diverse"])
def test_the_gain_is_not_flattered(kind: str) -> None:
    errors = np.array([own.gain - true for true, own in drawn(kind)])
    assert abs(errors.mean()) < 0.15


def test_rules_are_told_apart() -> None:
    aligned = [own.rules["hasa"] for _, own in drawn("diverse")]
    against = [own.rules["hasa"] for _, own in drawn("anti-aligned")]
    assert share([gain.low > 0 for gain in aligned]) >= 0.95
    assert share([gain.high < 0 for gain in against]) >= 0.95
    shares = [own.shares for _, own in drawn("diverse") if own.worthwhile]
    assert all(max(own.values()) <= 1 for own in shares)
    assert np.mean([own[OPTIMUM] for own in shares]) > 0.85
    assert np.mean([own["reverse"] for own in shares]) < 0


# --------------------------------------------------------------------------------------- exactness


def best_gain(table: np.ndarray, samples: list[int], menu: np.ndarray, budget: float) -> float:
    """Best gain over all at the budget's width, by trying everything."""
    limit = budget * sum(samples) + 1e-9
    at = int(np.flatnonzero(np.isclose(menu, budget))[0])
    gains = [
        np.mean([table[row, k] - table[row, at] for row, k in enumerate(choice)])
        for choice in itertools.product(range(menu.size), repeat=len(samples))
        if sum(n * menu[k] for n, k in zip(samples, choice, strict=True)) <= limit
    ]
    return float(max(gains))


@pytest.mark.parametrize("seed", range(5))
def test_without_noise_it_is_the_true_headroom(seed: int) -> None:
    rng = np.random.default_rng(seed)
    menu = np.array([0.25, 0.5, 0.75])
    steps = np.sort(rng.uniform(0, 10, (5, 2)))[:, ::-1]
    table = 30 + np.cumsum(np.hstack([np.zeros((5, 1)), steps]), axis=1)  # concave, increasing
    samples = rng.integers(50, 300, 5).tolist()
    found = hasa.headroom(table, hasa.Clients(samples), 0.5, widths=menu, noise=0)
    assert found.gain == pytest.approx(best_gain(table, samples, menu, 0.5), abs=1e-9)
    assert found.low == found.high == found.gain
    assert found.promised == pytest.approx(found.gain)


def test_gain_and_interval_of_a_rule_by_hand() -> None:
    table = np.array([[10.0, 20.0], [40.0, 41.0]])
    found = hasa.headroom(
        table,
        hasa.Clients([100, 100]),
        0.75,
        widths=(0.5, 1.0),
        noise=[[1.0, 2.0], [0.0, 3.0]],
        rules={"mine": [1.0, 0.5]},
    )
    # Client 0 goes from 0.75 (15 points) to 1 (20), client 1 from 0.75 (40.5) to 0.5 (40).
    assert found.uniform == pytest.approx([0.75, 0.75])
    own = found.rules["mine"]
    assert own.value == pytest.approx((5 - 0.5) / 2)
    error = np.sqrt((0.5 * 1) ** 2 + (0.5 * 2) ** 2 + 0 + (0.5 * 3) ** 2) / 2
    assert (own.high - own.low) / 2 == pytest.approx(1.959964 * error, rel=1e-5)
    assert found.spent["mine"] == pytest.approx(0.75)


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.62])
def test_uniform_is_the_rule_of_that_name(budget: float) -> None:
    clients = hasa.Clients([100, 300, 50, 220], max_width=[0.35, 1.0, 0.65, 0.8])
    found = hasa.headroom(np.zeros((4, 5)), clients, budget, widths=MENU, noise=0)
    caps = np.array([0.35, 0.8, 0.65, 0.8])
    wanted = hasa.rules.uniform(clients.samples, budget=budget, widths=(0.2, 0.8), caps=caps)
    assert found.uniform == pytest.approx(wanted)
    assert found.gain == 0


def test_uniform_under_another_cost_spends_the_budget() -> None:
    clients = hasa.Clients([100, 100])
    table = np.array([[10, 20, 30], [10, 20, 30]])
    found = hasa.headroom(
        table, clients, 0.25, widths=(0.25, 0.5, 1.0), noise=0, cost=hasa.cost.quadratic()
    )
    assert found.uniform == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("budget", [0.1, 0.25, 0.4])
def test_rules_spend_the_budget_of_the_cost(budget: float) -> None:
    counts = np.random.default_rng(0).integers(1, 60, (8, 5))
    table = 80 - np.outer(np.linspace(5, 70, 8), np.exp(-MENU / 0.3))
    found = hasa.headroom(
        table,
        hasa.Clients.from_counts(counts),
        budget,
        widths=MENU,
        noise=0,
        cost=hasa.cost.quadratic(),
        rules=("uniform", "hasa", "reverse", "random", "inverse_size", "optimal"),
    )
    assert found.rules["uniform"].value == pytest.approx(0, abs=1e-6)
    spent = dict(found.spent)
    assert budget * 0.8 < spent.pop("optimal") <= budget
    assert budget * 0.8 < spent.pop("measured optimum") <= budget
    assert list(spent.values()) == pytest.approx([budget] * len(spent))


def test_constraints_hold() -> None:
    table = np.array([[60, 60, 60], [30, 50, 70], [60, 60, 60], [30, 50, 70]])
    clients = hasa.Clients([100] * 4)
    free = hasa.headroom(table, clients, 0.5, widths=(0.2, 0.5, 0.8), noise=0)
    tied = hasa.headroom(
        table, clients, 0.5, widths=(0.2, 0.5, 0.8), noise=0, constraints=[hasa.Quota({0.8: 1})]
    )
    assert (free.widths == 0.8).sum() == 2
    assert (tied.widths == 0.8).sum() == 1
    assert tied.gain < free.gain


def test_without_a_choice_there_is_no_headroom() -> None:
    table = np.array([[50.0], [60.0]])
    one = hasa.headroom(table, hasa.Clients([5, 5]), 0.5, widths=(0.5,), noise=1.0)
    assert (one.gain, one.low, one.high) == (0, 0, 0)
    alone = hasa.headroom(np.ones((2, 1, 5)), hasa.Clients([5]), 0.5, widths=MENU)
    assert not alone.worthwhile


def test_off_the_menu_and_under_caps_uniform_is_still_possible() -> None:
    halves = np.random.default_rng(0).normal(50, 2, (2, 3, 5))
    clients = hasa.Clients([10, 20, 30], max_width=[0.3, 1.0, 0.5])
    found = hasa.headroom(halves, clients, 0.42, widths=MENU)
    spent = clients.samples @ found.uniform / 60
    assert spent == pytest.approx(0.42)
    caps = [0.3, 0.8, 0.5]
    wanted = hasa.rules.uniform(clients.samples, budget=0.42, widths=(0.2, 0.8), caps=caps)
    assert found.uniform == pytest.approx(wanted)
    assert (found.widths <= caps).all()


def test_uniform_is_the_policy_of_that_name() -> None:
    clients = hasa.Clients([100] * 4, max_width=[0.3, 0.3, 0.3, 1])
    table = np.tile(40 * np.log(MENU), (4, 1))
    for price, budget in ((None, 0.4), (hasa.cost.quadratic(), 0.2)):
        found = hasa.headroom(
            table, clients, budget, widths=MENU, noise=0, rules="uniform", cost=price
        )
        assert found.rules["uniform"].value == 0
        assert found.uniform[:3] == pytest.approx(0.3)
        assert found.spent["uniform"] == pytest.approx(budget)


@pytest.mark.parametrize("n_clients", [2, 4, 8])
@pytest.mark.parametrize("curve", [10 * MENU, 10 * MENU + np.pi, 1e6 * MENU, np.log(MENU)])
def test_rounding_is_no_headroom(n_clients: int, curve: np.ndarray) -> None:
    table = curve + 7.3 * np.arange(n_clients)[:, None]
    found = hasa.headroom(table, hasa.Clients([100] * n_clients), 0.5, widths=MENU, noise=0)
    assert (found.gain, found.promised, found.worthwhile) == (0, 0, False)
    assert found.widths == pytest.approx(found.uniform)


def test_a_table_without_noise_is_taken_as_it_is() -> None:
    convex = np.tile(np.exp(5 * MENU), (4, 1))
    found = hasa.headroom(convex, hasa.Clients([100] * 4), 0.5, widths=MENU, noise=0)
    assert found.gain == pytest.approx(found.promised)
    assert found.shares[OPTIMUM] == pytest.approx(1)
    assert sorted(found.widths) == [0.2, 0.2, 0.8, 0.8]


def test_the_order_of_clients_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    table, samples = rng.normal(50, 3, (6, 5)), rng.integers(50, 200, 6)
    first = hasa.headroom(table, hasa.Clients(samples), 0.5, widths=MENU, noise=1.0)
    order = rng.permutation(6)
    other = hasa.headroom(table[order], hasa.Clients(samples[order]), 0.5, widths=MENU, noise=1.0)
    assert (other.gain, other.low) == pytest.approx((first.gain, first.low))
    assert other.widths == pytest.approx(first.widths[order])


def test_it_depends_on_the_seed_alone() -> None:
    table = np.random.default_rng(0).normal(50, 3, (6, 5))
    clients = hasa.Clients([100] * 6)
    runs = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002
        runs.append(hasa.headroom(table, clients, 0.5, widths=MENU, noise=1.0, seed=4).gain)
    other = hasa.headroom(table, clients, 0.5, widths=MENU, noise=1.0, seed=5).gain
    assert runs[0] == runs[1] != other


# ------------------------------------------------------------------------------------------ curves


def test_smoothed_curves_are_concave_and_increasing_and_keep_their_level() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(50, 5, (20, 5))
    found = smoothed(MENU, table, np.tile(np.eye(5) * 4, (20, 1, 1)))
    slopes = np.diff(found) / np.diff(MENU)
    assert (slopes >= -1e-9).all()
    assert (np.diff(slopes) <= 1e-9).all()
    assert found.mean(axis=1) == pytest.approx(table.mean(axis=1))


def test_a_concave_table_without_noise_stays() -> None:
    table = np.log(MENU) * np.array([[1.0], [5.0], [9.0]]) + [[3.0], [2.0], [1.0]]
    assert smoothed(MENU, table, np.zeros((3, 5, 5))) == pytest.approx(table)


def test_noisy_clients_are_shrunk_most() -> None:
    slopes = np.array([0.0, 0.0, 4.0, 4.0, 4.0, 0.0, 4.0, 0.0])
    table = slopes[:, None] * MENU
    variance = np.array([0.01] * 4 + [100.0] * 4)
    found = shrunk(MENU, table, np.eye(5) * variance[:, None, None])
    moved = np.abs(found - table).max(axis=1)
    assert moved[4:].min() > 5 * moved[:4].max()


def test_shrinkage_is_the_posterior_mean_where_the_spread_is_known() -> None:
    # Many clients pin mean and spread down: theta ~ N(m, tau^2), weights tau^2 / (tau^2 + v).
    rng = np.random.default_rng(1)
    tau, error = 2.0, 1.5
    slope = 3 + tau * rng.standard_normal(4000) + error * rng.standard_normal(4000)
    line = (MENU - MENU.mean()) / np.linalg.norm(MENU - MENU.mean())
    covariance = np.tile(error**2 * np.outer(line, line), (4000, 1, 1))
    found = shrunk(MENU, slope[:, None] * line, covariance) @ line
    wanted = 3 + tau**2 / (tau**2 + error**2) * (slope - 3)
    assert found == pytest.approx(wanted, abs=0.15)


def test_pooled_noise_lies_between_the_own_and_that_of_all() -> None:
    scatter = np.array([[[90.0]], [[0.0]]])
    found = pooled_covariance(scatter, np.array([9.0, 1.0]), np.array([1.0, 1.0]))
    pooled = 90 / 10
    assert found[:, 0, 0] == pytest.approx([(2 * pooled + 90) / 11, 2 * pooled / 3])


def test_widths_between_are_read_linearly() -> None:
    curve = np.array([0.0, 3.0, 4.0])
    menu = np.array([0.2, 0.5, 0.8])
    assert hat_weights(menu, np.array([0.2, 0.3, 0.8])) @ curve == pytest.approx([0, 1, 4])


# -------------------------------------------------------------------------------------- bad input


def call(**changes: object) -> hasa.Headroom:
    given = {"widths": MENU, "noise": 1.0} | changes
    table = given.pop("utilities", np.ones((3, 5)))
    clients = given.pop("clients", hasa.Clients([1, 2, 3]))
    return hasa.headroom(table, clients, given.pop("budget", 0.5), **given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"noise": None}, "noise="),
        ({"noise": -1.0}, "negative"),
        ({"noise": np.nan}, "noise is nan"),
        ({"seed": -1}, "seed -1 must be a whole number"),
        ({"rules": "hassa"}, "policy 'hassa' is not known"),
        ({"noise": [1.0, 2.0]}, "noise has shape"),
        ({"noise": -np.ones((3, 5, 5))}, "negative variance"),
        ({"widths": None}, "widths are missing"),
        ({"widths": (0.2, 0.5)}, r"shape \(3, 5\)"),
        ({"utilities": np.ones((4, 5))}, "4 rows for 3 clients"),
        ({"utilities": np.ones((1, 3, 5)), "noise": None}, "one part"),
        ({"utilities": np.ones((2, 3, 5))}, "leave noise out"),
        ({"utilities": np.full((3, 5), np.nan)}, "finite"),
        ({"confidence": 1.0}, "confidence"),
        ({"rules": ["nonsense"]}, "nonsense"),
        ({"rules": ["hasa"]}, "give scores="),
        ({"rules": ["covered"]}, "rule 'covered' ranks by scores: give scores="),
        ({"rules": ["hasa_two_passes"]}, "rule 'hasa_two_passes' ranks by scores"),
        ({"rules": ["measured"]}, "rule 'measured' is chosen by measurements itself: leave it out"),
        ({"rules": ["fjord"]}, "rule 'fjord' differs in the units that are trained"),
        ({"rules": ["ditto"]}, "rule 'ditto' has options of the training"),
        ({"rules": {"mine": [0.5, 0.5, 0.9]}}, "outside the menu"),
        ({"rules": "exclude"}, "leaves clients out of training"),
        ({"rules": {"mine": [0.5, 0.5]}}, "mine"),
        ({"scores": [1.0]}, "scores"),
        ({"clients": [1, 2, 3]}, "hasa_opt.Clients"),
        ({"budget": -1}, "budget"),
    ],
)
def test_bad_input_is_refused_with_the_rule(changes: dict, words: str) -> None:
    with pytest.raises(hasa.InputError, match=words):
        call(**changes)


def test_a_budget_below_the_narrowest_is_infeasible() -> None:
    with pytest.raises(hasa.InfeasibleError, match=r"at least 0\.2"):
        call(budget=0.1)


# ------------------------------------------------------------------------------------ command line


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["phone", "camera", "laptop", "sensor"]
    counts = [[90, 10], [10, 90], [50, 50], [60, 40]]
    hasa.Clients.from_counts(counts, names=names).to_csv(tmp_path / "clients.csv")
    rows = ["camera,30,50,65", "phone,60,60,60", "laptop,60,60,60", "sensor,30,50,65"]
    (tmp_path / "utilities.csv").write_text("\n".join(["name,0.2,0.5,0.8", *rows]))
    return tmp_path


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["headroom", *arguments])


def test_command_prints_the_verdict(files) -> None:
    done = invoke("clients.csv", "--utilities", "utilities.csv", "--noise", "0.5")
    assert done.exit_code == 0, done.output
    assert "allocation is worth +7.5" in done.output
    assert "measured optimum" in done.output
    assert "no groups of alike clients by the counts of labels" in done.output


def test_command_prints_json(files) -> None:
    both = ("--utilities", "utilities.csv") * 2
    done = invoke("clients.csv", *both, "--json", "--rules", "hasa")
    record = json.loads(done.stdout)
    assert record["worthwhile"] is True
    assert record["widths"] == [0.2, 0.8, 0.2, 0.8]
    assert set(record["rules"]) == {"hasa"}
    assert record["groups"] == [0, 0, 0, 0]
    assert record["foretold"].startswith("no groups")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name,0.2,0.5\nphone,1,2", "same clients"),
        ("name,a,b\nphone,1,2\ncamera,1,2\nlaptop,1,2\nsensor,1,2", "header"),
        ("name,0.2,0.5\nphone,1\ncamera,1,2\nlaptop,1,2\nsensor,1,2", "line 2: 2 fields"),
        ("", "utilities.csv is empty: the first row"),
    ],
)
def test_command_refuses_a_bad_table(files, content: str, words: str) -> None:
    (files / "utilities.csv").write_text(content)
    done = invoke("clients.csv", "--utilities", "utilities.csv", "--noise", "1")
    assert isinstance(done.exception, hasa.InputError)
    assert words in str(done.exception)


@pytest.mark.parametrize(
    "arguments",
    [(), ("clients.csv",), ("clients.csv", "--task", "digits"), ("--task", "a", "--data", "b")],
)
def test_command_asks_what_to_measure(files, arguments: tuple[str, ...]) -> None:
    done = invoke(*arguments)
    assert isinstance(done.exception, hasa.InputError)
    assert "--utilities" in str(done.exception)


def test_command_refuses_what_it_would_ignore(files) -> None:
    table = ("clients.csv", "--utilities", "utilities.csv", "--noise", "1")
    for arguments, words in (
        ((*table, "--widths", "0.3,0.9"), "has its own widths: leave --widths out"),
        (("--task", "digits", "--noise", "1"), "a probe measures its own, leave it out"),
    ):
        done = invoke(*arguments)
        assert isinstance(done.exception, hasa.InputError)
        assert words in str(done.exception)


def test_tables_are_shown() -> None:
    console = Console(record=True, width=100)
    console.print(call(rules={"[mine]": [0.5, 0.5, 0.5]}))
    text = console.export_text()
    assert "[mine]" in text
    assert "use uniform" in text


# ------------------------------------------------------------------------------------------ groups


def foretold(counts: list[list[int]] | None) -> hasa.Headroom:
    clients = hasa.Clients([100] * 6, counts=counts)
    return hasa.headroom(np.full((6, 2), 50.0), clients, 0.5, widths=(0.2, 0.8), noise=0.5)


def test_groups_are_foretold_where_counts_show_them() -> None:
    two = foretold([[90, 10], [80, 9], [85, 5], [8, 92], [1, 70], [3, 60]])
    assert two.groups.tolist() == two.record()["groups"] == [0, 0, 0, 1, 1, 1]
    assert str(two.foretold).startswith(
        "2 groups of 3 and 3 alike clients by the counts of labels: give"
    )
    assert "policy recommended" in two.record()["foretold"]
    assert str(two.foretold) in " ".join(str(two).split())


def test_without_groups_nothing_is_promised() -> None:
    none = foretold([[50, 50]] * 6)
    assert not none.groups.any()
    assert str(none.foretold).startswith("no groups of alike clients by the counts of labels: do")
    unknown = foretold(None)
    assert unknown.groups is None
    assert unknown.record()["groups"] is None
    assert "do not bother" not in str(unknown.foretold)
    for found in (none, unknown):
        assert "differ in inputs alone show in the clients' updates" in str(found.foretold)


ALIKE_UPDATES = np.full((6, 6), 0.5) + 0.5 * np.eye(6)
TWO_KINDS = np.kron(np.eye(2), np.full((3, 3), 0.8)) + 0.2 * np.eye(6)


def watched(*similarities: np.ndarray, counts: list[list[int]] | None = None) -> hasa.Headroom:
    """Headroom of a probe that has seen such cosines of updates."""
    seen = Foretold.of(counts, similarities, 0)
    probe = replace(written(np.full((6, 3), 0.5)), similarities=similarities, foretold=seen)
    clients = hasa.Clients([100] * 6, counts=counts)
    return hasa.headroom(probe, clients, 0.5, rules=())


def test_updates_of_a_probe_show_groups_that_no_counts_show() -> None:
    found = watched(ALIKE_UPDATES, TWO_KINDS, counts=[[50, 50]] * 6)
    assert found.groups.tolist() == found.record()["groups"] == [0, 0, 0, 1, 1, 1]
    assert str(found.foretold).startswith("2 groups of 3 and 3 alike clients by the updates in the")
    assert watched(TWO_KINDS).foretold.by_updates.p_value <= 0.05


def test_counts_that_show_groups_spare_a_look_at_the_updates() -> None:
    apart = [[90, 10], [8, 92]] * 3
    assert watched(TWO_KINDS, counts=apart).groups.tolist() == [0, 1, 0, 1, 0, 1]
    assert watched(TWO_KINDS, counts=apart).foretold.by_updates is None


def test_without_groups_in_counts_or_updates_it_says_do_not_bother() -> None:
    for counts, by in ((None, "by the updates"), ([[50, 50]] * 6, "by the counts of labels or by")):
        none = watched(ALIKE_UPDATES, counts=counts)
        assert none.groups.tolist() == [0] * 6
        assert str(none.foretold).startswith(f"no groups of alike clients {by}")
        assert "do not bother with units of their own" in str(none.foretold)


def test_several_looks_share_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []

    def by_updates(similarity: np.ndarray, *, level: float, seed: int) -> Found:
        levels.append(level)
        return Found(np.zeros(6, dtype=np.int64), 1.0, 0.0, 0, "")

    monkeypatch.setattr("hasa_opt.forecast.foretold.by_updates", by_updates)
    watched(TWO_KINDS, TWO_KINDS, TWO_KINDS, TWO_KINDS)
    assert sum(levels) == pytest.approx(0.05)
    assert len(set(levels)) == 1


def test_the_gain_of_groups_is_read_at_uniforms_widths() -> None:
    rng = np.random.default_rng(0)
    difference, roots = rng.normal(0, 0.1, (6, 3)), rng.normal(0, 0.02, (6, 3, 3))
    covariance = roots @ roots.transpose(0, 2, 1)
    seen = Foretold.of([[90, 10], [8, 92]] * 3)
    probe = replace(
        written(np.full((6, 3), 0.5)), foretold=seen, apart=Apart(difference, covariance, 40.0)
    )
    room = hasa.headroom(probe, hasa.Clients([100] * 6), float(probe.widths[1]), rules=())
    value = 100 * difference[:, 1].mean()
    reach = 100 * stats.t.ppf(0.975, 40) * np.sqrt(covariance[:, 1, 1].sum()) / 6
    gain = room.foretold.gain
    assert [gain.value, gain.low, gain.high] == pytest.approx([value, value - reach, value + reach])
    assert room.record()["own_units"]["high"] == gain.high
