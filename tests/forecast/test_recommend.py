"""The decision, on probes that are written down here."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np
import pytest
from support.probes import ALIKE, CLIENTS, DIVERSE, hard_and_easy, tried, written

import hasa_opt as hasa
from hasa_opt.forecast.piloting import Pilot
from hasa_opt.forecast.recommendation import Recommendation, _tried, recommend


def names(found: Recommendation) -> list[str]:
    return [own.policy.rule for own in found.proposals]


def told(found: Recommendation) -> tuple[str, str, bool]:
    """Rule, scheme, and whether personal models are deployed."""
    return found.policy.rule, found.subnets.scheme, "personal" in found.policy.options


def test_uniform_where_clients_are_alike() -> None:
    found = recommend(written(ALIKE), CLIENTS, 0.5)
    assert told(found) == ("uniform", "prefix", True)
    assert found.subnets.widths == pytest.approx([0.5] * 4)
    assert found.reason.startswith("uniform: allocation is worth")
    assert found.proposals == ()


def test_a_table_alone_proposes_and_decides_nothing() -> None:
    found = recommend(written(DIVERSE), CLIENTS, 0.5)
    assert found.headroom.worthwhile
    assert told(found) == ("uniform", "prefix", True)
    assert found.subnets.widths == pytest.approx([0.5] * 4)
    assert names(found) == ["measured_covered"]
    assert found.proposals[0].subnets.widths.tolist() == [0.2, 0.8, 0.2, 0.8]
    assert "a pilot could try measured_covered" in found.reason


def test_what_a_pilot_confirms_is_taken() -> None:
    ways = {"measured_covered": 2.0, "measured_covered+personal": 3.0}
    found = recommend(written(DIVERSE), CLIENTS, 0.5, pilot=tried(ways, common=1.0))
    assert told(found) == ("measured_covered", "prefix", True)
    assert found.subnets.widths.tolist() == [0.2, 0.8, 0.2, 0.8]
    assert "in the pilot measured_covered+personal gains +" in found.reason
    worse = {"measured_covered": 2.0, "measured_covered+personal": 1.5}
    common = recommend(written(DIVERSE), CLIENTS, 0.5, pilot=tried(worse, common=1.0))
    assert told(common) == ("measured_covered", "prefix", False)
    assert "deploy common models" in common.reason


@pytest.mark.parametrize("common", [-2.0, 2.0])
def test_both_deployments_of_uniform_must_be_beaten(common: float) -> None:
    ways = {"measured_covered": -1.0, "measured_covered+personal": 1.0 if common > 0 else -0.5}
    found = recommend(written(DIVERSE), CLIENTS, 0.5, pilot=tried(ways, common=common))
    assert told(found) == ("uniform", "prefix", True)
    assert "the pilot confirms no proposal; the best, measured_covered" in found.reason


def test_a_gain_within_the_noise_of_a_pilot_is_not_taken() -> None:
    ways = {"measured_covered": 0.1, "measured_covered+personal": 0.1}
    noisy = tried(ways, noise=0.05)
    found = recommend(written(DIVERSE), CLIENTS, 0.5, pilot=noisy)
    assert found.policy.rule == "uniform"
    assert recommend(written(DIVERSE), CLIENTS, 0.5, pilot=tried(ways)).policy.rule != "uniform"


def test_the_confidence_of_the_pilot_decides_how_much_proof_is_wanted() -> None:
    ways = {"measured_covered": -9.0, "measured_covered+personal": 1.0}
    pilot = tried(ways, noise=0.008)
    low = [
        min(
            pilot.gain("measured_covered+personal", over, confidence=level).low
            for over in ("uniform", "uniform+personal")
        )
        for level in (0.68, 0.999)
    ]
    assert low[0] > 0 > low[1]
    probe = written(DIVERSE)
    assert recommend(probe, CLIENTS, 0.5, pilot=pilot).policy.rule == "measured_covered"
    strict = recommend(probe, CLIENTS, 0.5, pilot=pilot, pilot_confidence=0.999)
    assert strict.policy.rule == "uniform"


def planted(gain: float, rng: np.random.Generator) -> Pilot:
    """Two proposals that gain so much over both deployments of uniform, with noise of pilots.

    The standard error of each gain is 1.3 points; half of the variance is shared by all clients of
    a training run.
    """
    own = 0.037 * rng.standard_normal((4, 3, 2, 8)) + 0.013 * rng.standard_normal((4, 3, 2, 1))
    reached = 0.5 + own
    reached[:, 1:] += gain / 100
    return Pilot(("uniform", "measured_covered", "by_difficulty"), reached, 1, 1, 1.0)


def taken(gain: float) -> float:
    """Share of 200 pilots after which a proposal is taken."""
    probe = hard_and_easy(written(np.tile(DIVERSE, (2, 1))))
    clients, rng = hasa.Clients([100] * 8), np.random.default_rng(0)
    proposals = tuple(recommend(probe, clients, 0.5).proposals)
    assert len(proposals) == 2
    found = [_tried(proposals, planted(gain, rng), 0.68) for _ in range(200)]
    return float(np.mean([any(way.surely_ahead for way in ways) for ways in found]))


def test_how_often_proposals_are_taken_that_gain_nothing_or_lose() -> None:
    # Four ways are looked at, and each has to be ahead of both deployments of uniform.
    assert taken(0.0) <= 0.2
    assert taken(-1.0) <= 0.08
    assert taken(-2.0) <= 0.03
    assert taken(2.0) >= 0.75
    assert taken(4.0) >= 0.97


def test_groups_by_difficulty_are_proposed() -> None:
    probe = hard_and_easy(written(ALIKE))
    found = recommend(probe, CLIENTS, 0.5)
    assert names(found) == ["by_difficulty"]
    assert found.proposals[0].subnets.widths == pytest.approx([0.2, 0.2, 0.8, 0.8])
    assert "2 of 4 have a loss of 0.2" in found.proposals[0].reason
    capped = hasa.Clients([100] * 4, max_width=[0.8, 0.8, 0.5, 0.8])
    under = recommend(hard_and_easy(written(ALIKE, budget=0.4)), capped, 0.4)
    assert under.proposals[0].subnets.widths == pytest.approx([0.2, 0.2, 0.5, 0.7])
    few = hasa.Clients([5, 5, 100, 100])
    assert names(recommend(probe, few, 0.5)) == []
    taken = recommend(probe, CLIENTS, 0.5, pilot=tried({"by_difficulty": 2.0}))
    assert told(taken) == ("by_difficulty", "prefix", False)


def test_the_larger_of_two_confirmed_gains_wins() -> None:
    probe = hard_and_easy(written(DIVERSE))
    ways = {"measured_covered": 2.0, "by_difficulty": 1.0, "by_difficulty+personal": 4.0}
    found = recommend(probe, CLIENTS, 0.5, pilot=tried(ways))
    assert told(found) == ("by_difficulty", "prefix", True)


def test_coverage_is_kept_by_default_and_can_be_chosen() -> None:
    clients = hasa.Clients([100, 100, 100, 100])
    top = np.array([[0.60, 0.60, 0.60], [0.30, 0.50, 0.501]] * 2)  # the widest gains nothing
    probe = written(top, budget=0.35)
    free = recommend(probe, clients, 0.35, coverage={})
    assert free.headroom.widths.max() == 0.5
    assert names(free) == ["measured"]
    assert recommend(probe, clients, 0.35).headroom.widths.max() == 0.8
    with pytest.raises(hasa.InfeasibleError):
        recommend(written(DIVERSE), clients, 0.5, coverage={0.8: 1.0})
    capped = hasa.Clients([100] * 4, max_width=[0.5] * 4)
    assert recommend(written(DIVERSE), capped, 0.5).subnets.widths.max() == 0.5


def test_ordered_dropout_is_taken_where_it_beat_uniform_and_may_be_deployed() -> None:
    steep = written(ALIKE, uniform=0.5)  # at the widest width 0.56
    found = recommend(steep, CLIENTS, 0.5, deploy=0.8)
    assert told(found) == ("fjord", "ordered_dropout", True)
    assert found.subnets.widths.tolist() == [0.8] * 4
    assert "gains +6.0" in found.reason
    assert found.proposals == ()
    assert recommend(steep, CLIENTS, 0.5).policy.rule == "uniform"
    assert recommend(steep, CLIENTS, 0.5, deploy=0.5).policy.rule == "uniform"


def test_ordered_dropout_is_left_where_it_did_not_beat_uniform() -> None:
    assert (
        recommend(written(ALIKE, uniform=0.56), CLIENTS, 0.5, deploy=0.8).policy.rule == "uniform"
    )
    noisy = written(ALIKE, uniform=0.55, error=0.05)  # + 1 point with an interval of 5
    assert recommend(noisy, CLIENTS, 0.5, deploy=0.8).policy.rule == "fjord"


def test_nothing_is_proposed_to_a_pilot_where_ordered_dropout_is_taken() -> None:
    diverse = written(DIVERSE, uniform=0.4)
    assert names(recommend(diverse, CLIENTS, 0.5)) == ["measured_covered"]
    found = recommend(diverse, CLIENTS, 0.5, deploy=0.8)
    assert (found.policy.rule, names(found)) == ("fjord", [])


def test_deployed_widths_are_within_the_caps() -> None:
    capped = hasa.Clients([100] * 4, max_width=[0.5, 0.8, 0.8, 0.8])
    found = recommend(written(ALIKE, uniform=0.4), capped, 0.5, deploy=[0.8, 0.79, 0.8, 1.0])
    assert found.subnets.widths.tolist() == [0.5, 0.5, 0.8, 0.8]


def test_a_pilot_of_something_else_is_refused() -> None:
    with pytest.raises(hasa.InputError, match="lacks measured_covered"):
        recommend(written(DIVERSE), CLIENTS, 0.5, pilot=tried({"hasa": 1.0}))
    other = replace(tried({"measured_covered": 1.0}), names=("measured_covered", "uniform"))
    with pytest.raises(hasa.InputError, match="begins with 'measured_covered'"):
        recommend(written(DIVERSE), CLIENTS, 0.5, pilot=other)
    with pytest.raises(hasa.InputError, match=r"give a hasa_opt\.Pilot"):
        recommend(written(DIVERSE), CLIENTS, 0.5, pilot="yes")


@pytest.mark.parametrize(
    ("gain", "chosen"), [(0.01, True), (0.0, True), (-0.0001, True), (-0.01, False)]
)
def test_personal_deployment_unless_it_clearly_loses(gain: float, chosen: bool) -> None:
    found = recommend(written(ALIKE, personal=gain), CLIENTS, 0.5)
    assert told(found)[2] is chosen
    assert str(found) == found.reason


def test_a_probe_without_its_control_is_refused() -> None:
    with pytest.raises(hasa.InputError, match=r"call probe\(..., budget=0.4\)"):
        recommend(written(ALIKE), CLIENTS, 0.4)
    with pytest.raises(hasa.InputError, match="no budget"):
        recommend(replace(written(ALIKE), control=None), CLIENTS, 0.5)
    with pytest.raises(hasa.InputError, match=r"budget '0\.5'"):
        recommend(replace(written(ALIKE), control=None), CLIENTS, "0.5")
    with pytest.raises(hasa.InputError, match="pilot_confidence 5"):
        recommend(written(ALIKE), CLIENTS, 0.5, pilot_confidence=5)


def test_a_device_that_can_deploy_nothing_is_named() -> None:
    with pytest.raises(hasa.InputError, match="client-1"):
        recommend(written(ALIKE), CLIENTS, 0.5, deploy=[0.8, 0.1, 0.8, 0.8])
    with pytest.raises(hasa.InputError, match=r"deploy has shape \(2,\): give one width"):
        recommend(written(ALIKE), CLIENTS, 0.5, deploy=[0.8, 0.8])


@pytest.mark.parametrize(
    ("gain", "chosen"), [(0.02, "local"), (-0.0005, "local"), (-0.02, "shared"), (nan, "shared")]
)
def test_an_output_bias_of_its_own_unless_it_clearly_loses_or_there_is_none(
    gain: float, chosen: str
) -> None:
    found = recommend(written(ALIKE, local_bias=gain), CLIENTS, 0.5)
    local = "local_bias" in found.policy.options
    assert (local, told(found)[2]) == (chosen == "local", True)
    assert ("with an output bias of the client's own" in found.reason) == (chosen == "local")
    assert ("with an output bias of their own" in found.reason) == np.isfinite(gain)
    ways = {"measured_covered": 2.0, "measured_covered+personal": 3.0}
    taken = recommend(written(DIVERSE, local_bias=gain), CLIENTS, 0.5, pilot=tried(ways))
    assert taken.policy.name == "measured_covered+personal" + "+local_bias" * local
