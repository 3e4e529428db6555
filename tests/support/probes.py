"""Probes and pilots that are written down, not measured."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np

import hasa_opt as hasa
from hasa_opt.forecast.piloting import Pilot
from hasa_opt.forecast.probing import Control, Probe

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
    local_bias: float = nan,
) -> Probe:
    """A probe with hardly any noise; ``uniform`` is what its control reaches."""
    count = len(accuracy)
    control = Control(
        width=budget,
        reached=np.full(count, uniform),
        gain=accuracy - uniform,
        error=np.full(accuracy.shape, error),
        personal=np.full(count, personal),
        personal_error=np.full(count, error),
        local_bias=np.full(count, local_bias),
        local_bias_error=np.full(count, error if np.isfinite(local_bias) else nan),
    )
    return Probe(
        widths=MENU,
        loss=np.zeros_like(accuracy),
        reached=accuracy,
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


def tried(gains: dict[str, float], common: float = 0.0, noise: float = 0.0005) -> Pilot:
    """A pilot whose ways gain so many points over uniform; uniform+personal gains ``common``."""
    names = tuple(dict.fromkeys(own.removesuffix("+personal") for own in gains))
    ways = {"uniform+personal": common} | gains
    rng = np.random.default_rng(0)
    reached = 0.5 + noise * rng.standard_normal((4, 1 + len(names), 2, 4))
    for row, name in enumerate(("uniform", *names)):
        for column, ending in enumerate(("", "+personal")):
            reached[:, row, column] += ways.get(name + ending, 0.0) / 100
    return Pilot(("uniform", *names), reached, 1, 1, 1.0)


def hard_and_easy(probe: Probe) -> Probe:
    """The first half of the clients has a tenth of the loss of the others."""
    half = len(probe.names) // 2
    loss = np.repeat([0.2, 2.0], half) + 0.01 * np.arange(2 * half)
    return replace(probe, loss=np.tile(loss[:, None], 3))
