"""Draw every plot, for few clients and for many: ``python docs/plots_figure.py``.

It writes docs/images/plots.png and takes some ten seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import hasa_opt as hasa

WIDTHS = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
FEW, MANY = 10, 100_000


def fleet(n_clients: int) -> hasa.AllocationProblem:
    """Clients of uneven sizes at four sites, and utilities of which some are dominated."""
    rng = np.random.default_rng(0)
    samples = np.maximum(20, rng.lognormal(5, 1, n_clients)).astype(int)
    clients = hasa.Clients(
        samples, site=rng.choice(["north", "east", "south", "west"], n_clients).tolist(),
        names=[f"device {row}" for row in range(n_clients)],
        max_width=rng.choice([0.5, 0.8], n_clients),
    )  # fmt: skip
    gain = rng.random((n_clients, 1)) * np.log1p(4 * np.array(WIDTHS))
    noise = rng.normal(0, 0.04, gain.shape)
    return hasa.AllocationProblem.build(
        clients, widths=WIDTHS, budget=0.4,
        utility=hasa.utility.measured((gain + noise) * samples[:, None]),
    )  # fmt: skip


def column(axes: list[Axes], n_clients: int) -> None:
    """Allocation, the same by site, problem, sensitivity to the price and to noise."""
    problem = fleet(n_clients)
    result = hasa.solve(problem, "exact")
    found = hasa.sensitivity(result, n_samples=50 if n_clients == FEW else 10)
    result.plot(ax=axes[0])
    result.plot(by="site", ax=axes[1])
    problem.plot(ax=axes[2])
    found.plot(ax=axes[3])
    found.plot("noise", ax=axes[4])


def draw() -> Figure:
    """Few clients to the left, many to the right."""
    figure = Figure(figsize=(11.5, 17.0), layout="constrained")
    axes = figure.subplots(5, 2)
    for at, n_clients in enumerate((FEW, MANY)):
        column(list(axes[:, at]), n_clients)
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).parent / "images" / "plots.png", dpi=80)
