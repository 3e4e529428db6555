"""The decision, on probes that are written down here."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.probe import Control, Probe
from hasa_opt.recommend import recommend

MENU = np.array([0.2, 0.5, 0.8])
ALIKE = np.tile([0.40, 0.50, 0.56], (4, 1))
DIVERSE = np.array([[0.6, 0.6, 0.6], [0.3, 0.5, 0.65]] * 2)
CLIENTS = hasa.Clients([100, 100, 100, 100])


def written(
    accuracy: np.ndarray,
    uniform: float = 0.5,
    personal: float = 0.01,
    error: float = 0.002,
    budget: float = 0.5,
) -> Probe:
    """A probe with hardly any noise; ``uniform`` is what its control reaches."""
    count = len(accuracy)
    control = Control(
        width=budget,
        accuracy=np.full(count, uniform),
        gain=accuracy - uniform,
        error=np.full(accuracy.shape, error),
        personal=np.full(count, personal),
        personal_error=np.full(count, error),
    )
    return Probe(
        widths=MENU,
        loss=np.zeros_like(accuracy),
        accuracy=accuracy,
        halves=np.stack([accuracy, accuracy]),
        covariance=np.tile(np.eye(3) * error**2, (count, 1, 1)),
        degrees=inf,
        utility=100 * accuracy / count,
        rounds=1,
        flops=1,
        round_flops=np.ones(3),
        names=tuple(f"c{row}" for row in range(count)),
        control=control,
    )


def test_uniform_where_clients_are_alike() -> None:
    found = recommend(written(ALIKE), CLIENTS, 0.5)
    assert found.scheme == "prefix"
    assert found.widths == pytest.approx([0.5] * 4)
    assert found.reason.startswith("uniform: allocation is worth")


def test_the_measured_optimum_where_they_differ() -> None:
    found = recommend(written(DIVERSE), CLIENTS, 0.5)
    assert found.scheme == "prefix"
    assert found.widths.tolist() == [0.2, 0.8, 0.2, 0.8]
    assert found.headroom.worthwhile


def test_coverage_is_kept_by_default_and_can_be_chosen() -> None:
    clients = hasa.Clients([100, 100, 100, 100])
    top = np.array([[0.60, 0.60, 0.60], [0.30, 0.50, 0.501]] * 2)  # the widest gains nothing
    probe = written(top, budget=0.35)
    assert recommend(probe, clients, 0.35, coverage={}).headroom.widths.max() == 0.5
    assert recommend(probe, clients, 0.35).headroom.widths.max() == 0.8
    with pytest.raises(hasa.InfeasibleError):
        recommend(written(DIVERSE), clients, 0.5, coverage={0.8: 1.0})
    capped = hasa.Clients([100] * 4, max_width=[0.5] * 4)
    assert recommend(written(DIVERSE), capped, 0.5).widths.max() == 0.5


def test_ordered_dropout_where_it_beat_uniform_and_may_be_deployed() -> None:
    steep = written(ALIKE, uniform=0.5)  # at the widest width 0.56
    found = recommend(steep, CLIENTS, 0.5, deploy=0.8)
    assert found.scheme == "ordered_dropout"
    assert found.widths.tolist() == [0.8] * 4
    assert "+6.0" in found.reason
    assert recommend(steep, CLIENTS, 0.5).scheme == "prefix"
    assert recommend(steep, CLIENTS, 0.5, deploy=0.5).scheme == "prefix"


def test_ordered_dropout_is_left_where_it_did_not_beat_uniform() -> None:
    assert recommend(written(ALIKE, uniform=0.56), CLIENTS, 0.5, deploy=0.8).scheme == "prefix"
    noisy = written(ALIKE, uniform=0.55, error=0.05)  # + 1 point with an interval of 5
    assert recommend(noisy, CLIENTS, 0.5, deploy=0.8).scheme == "prefix"


def test_deployed_widths_are_within_the_caps() -> None:
    capped = hasa.Clients([100] * 4, max_width=[0.5, 0.8, 0.8, 0.8])
    found = recommend(written(ALIKE, uniform=0.4), capped, 0.5, deploy=[0.8, 0.79, 0.8, 1.0])
    assert found.widths.tolist() == [0.5, 0.5, 0.8, 0.8]


def test_the_larger_gain_wins() -> None:
    little = recommend(written(DIVERSE, uniform=0.6), CLIENTS, 0.5, deploy=0.8)
    assert little.scheme == "prefix"  # ordered dropout +2.5, the optimum +7.5
    much = recommend(written(DIVERSE, uniform=0.4), CLIENTS, 0.5, deploy=0.8)
    assert much.scheme == "ordered_dropout"


@pytest.mark.parametrize(
    ("gain", "chosen"), [(0.01, True), (0.0, True), (-0.0001, True), (-0.01, False)]
)
def test_personal_deployment_unless_it_clearly_loses(gain: float, chosen: bool) -> None:
    found = recommend(written(ALIKE, personal=gain), CLIENTS, 0.5)
    assert found.personal is chosen
    assert str(found) == found.reason


def test_a_probe_without_its_control_is_refused() -> None:
    with pytest.raises(hasa.InputError, match=r"call probe\(..., budget=0.4\)"):
        recommend(written(ALIKE), CLIENTS, 0.4)
    with pytest.raises(hasa.InputError, match="no budget"):
        recommend(replace(written(ALIKE), control=None), CLIENTS, 0.5)


def test_a_device_that_can_deploy_nothing_is_named() -> None:
    with pytest.raises(hasa.InputError, match="client-1"):
        recommend(written(ALIKE), CLIENTS, 0.5, deploy=[0.8, 0.1, 0.8, 0.8])
