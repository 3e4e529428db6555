"""Probes that are written down, not measured."""

from __future__ import annotations

from math import inf

import numpy as np

import hasa_opt as hasa
from hasa_opt.forecast.probing import Probe

MENU = np.array([0.2, 0.5, 0.8])
ALIKE = np.tile([0.40, 0.50, 0.56], (4, 1))
DIVERSE = np.array([[0.6, 0.6, 0.6], [0.3, 0.5, 0.65]] * 2)
CLIENTS = hasa.Clients([100, 100, 100, 100])


def written(accuracy: np.ndarray, error: float = 0.002) -> Probe:
    """A probe with hardly any noise."""
    count = len(accuracy)
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
    )
