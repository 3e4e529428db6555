"""Policies that decide while the clients train, and models of clients' own, in a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hasa_opt as hasa
from hasa_opt import federated
from hasa_opt.models import MLP
from hasa_opt.study import Study
from hasa_opt.tasks import Split, Task

pytestmark = pytest.mark.slow

ROUNDS = 15
POLICIES = ("uniform", "recommended", "heterofl_dynamic", "fedrolex_dynamic", "clustered", "local")


def two_kinds() -> Task:
    """Two clients with many of the first class, two with many of the last, and other inputs."""
    rng = np.random.default_rng(0)

    def draw(client: int, size: int) -> Split:
        labels = rng.choice(3, size=size, p=np.roll([0.8, 0.1, 0.1], 2 * (client // 2)))
        points = np.eye(3)[labels] * (3 if client < 2 else -3) + rng.normal(size=(size, 3))
        return Split(torch.tensor(points, dtype=torch.float32), torch.tensor(labels))

    parts = [[draw(client, size) for client in range(4)] for size in (40, 12, 12)]
    counts = np.array([np.bincount(own.targets, minlength=3) for own in parts[0]])
    return Task("kinds", tuple("abcd"), *parts, counts, 3)


def study(**options: object) -> Study:
    given = {"policies": POLICIES, "seeds": (0,), "rounds": ROUNDS, "budget": 0.5}
    given |= {"execution": federated.Execution(workers=1)} | options
    return Study(two_kinds(), MLP(3, 3, hidden=(8,)), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study().run(directory=tmp_path_factory.mktemp("runs"), compare_solvers=False)


def test_all_spend_the_budget(done: Study) -> None:
    assert [own.policy for own in done.outcomes] == list(POLICIES)
    everybody_a_unit_wider_in_a_round = 1 / 8 / ROUNDS
    for own in done.outcomes:
        assert 0.5 - everybody_a_unit_wider_in_a_round < own.realised <= 0.5 + 1e-9
        assert np.isfinite(own.own).all()


def test_what_is_recommended_finds_the_groups_and_says_so(done: Study, tmp_path: Path) -> None:
    own = done.outcomes[1]
    told = "(2 of 4 clients change: blocks of units from 0, 0.5)"
    assert own.reason == f"round 3: 2 groups by the counts of labels {told}"
    assert [decision.round for decision in own.history.decisions] == [0, 3]
    starts = own.history.decisions[-1].subnets.starts
    assert starts[0] == starts[1] < starts[2] == starts[3]
    text = done.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Decided by recommended, seed 0" in text
    assert own.reason in text


def test_tiers_are_drawn_in_each_round(done: Study) -> None:
    drawn = done.outcomes[2].history.mean_width
    assert len({tuple(row) for row in drawn}) > ROUNDS // 2
    np.testing.assert_array_equal(done.outcomes[3].history.mean_width, drawn)
    assert not np.array_equal(done.outcomes[3].own, done.outcomes[2].own), "other units"


def test_models_of_ones_own_cost_what_uniform_costs_and_send_less(done: Study) -> None:
    uniform, clustered, local = (done.outcomes[row].history for row in (0, 4, 5))
    for other in (clustered, local):
        np.testing.assert_array_equal(other.flops, uniform.flops)
        assert not np.array_equal(other.test_loss, uniform.test_loss)
    np.testing.assert_array_equal(clustered.bytes_up, uniform.bytes_up)
    assert local.bytes_up.sum() == 0, "who trains alone sends nothing"


def test_models_of_ones_own_are_kept_somewhere(done: Study) -> None:
    costs = {row.policy: row.costs for row in done.summary()}
    whole, subnet = costs["uniform"].server, done.outcomes[0].history.bytes_down[0].max()
    assert whole > 0 == costs["uniform"].device
    assert (costs["clustered"].server, costs["clustered"].device) == (2 * whole, 0)
    assert (costs["local"].server, costs["local"].device) == (whole, subnet)
    assert costs["recommended"].server == whole, "groups have blocks of one supernet"


def test_what_was_decided_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = ("recommended", "fedrolex_dynamic")
    first = study(policies=policies).run(directory=tmp_path, compare_solvers=False)
    monkeypatch.setattr("hasa_opt.study.trials.run", lambda *_, **__: pytest.fail("trained again"))
    again = study(policies=policies).run(directory=tmp_path, compare_solvers=False)
    np.testing.assert_array_equal(again.results.own, first.results.own)
    assert again.outcomes[0].reason == first.outcomes[0].reason


def test_no_table_of_widths_judges_them() -> None:
    clients = two_kinds().clients()
    table = np.tile([60.0, 70.0], (4, 1))
    for name in ("recommended", "heterofl_dynamic"):
        with pytest.raises(hasa.InputError, match="decides while the clients train"):
            hasa.headroom(table, clients, 0.5, widths=(0.2, 0.8), noise=1.0, rules=name)
    for name in ("groups", "clustered", "local", "fedrolex"):
        with pytest.raises(hasa.InputError, match="differs in the units that are trained"):
            hasa.headroom(table, clients, 0.5, widths=(0.2, 0.8), noise=1.0, rules=name)
