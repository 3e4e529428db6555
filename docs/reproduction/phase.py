"""When is allocation worth it? A phase diagram of planted curves, with the real tasks in it.

``python docs/reproduction/phase.py plant`` computes ``phase_planted.csv``, ``measure`` probes the
real tasks of ``--tasks`` into ``phase_tasks.csv`` (training data alone; the other rows stay), and
``draw`` writes ``docs/images/phase.png`` from the two files. The definitions are those of
``docs/when_to_bother.rst``; planted and measured curves go through the same functions.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

import hasa_opt as hasa
from hasa_opt import rules
from hasa_opt._utils.checks import FloatArray, IntArray

HERE = Path(__file__).parent
PLANTED, TASKS = HERE / "phase_planted.csv", HERE / "phase_tasks.csv"
PICTURE = HERE.parent / "images" / "phase.png"

WIDTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
BUDGETS = (0.5, 0.35)
STEEPNESS = tuple(np.linspace(0, 6, 13).tolist())
SPREAD = tuple(np.linspace(0, 2.5, 11).tolist())
N_CLIENTS, TAU = 12, 0.3
TENTH = 0.1


class Place(NamedTuple):
    """Where curves stand in the diagram.

    Attributes
    ----------
    steepness : float
        Points of the client mean per 0.1 of width.
    spread : float
        Coefficient of variation of what a unit of budget is worth at each client.
    """

    steepness: float
    spread: float


def place(table: FloatArray, samples: IntArray, budget: float) -> Place:
    """Steepness and spread of need at a budget.

    The slope of a client is that of the chord from the width below the budget to the width above
    it. Divided by its share of the samples, times N, it is what a unit of budget is worth there.
    The steepness is the unweighted mean of the slopes, which is the mean worth weighted by what the
    clients spend; the spread is the standard deviation of the worth, so weighted, over that mean.

    Parameters
    ----------
    table : (n_clients, n_widths) floats
        Accuracy of each client at each of the widths, in points.
    samples : (n_clients,) integers
    budget : float
        Inside the menu, not at its ends.
    """
    menu = np.array(WIDTHS)
    below = np.flatnonzero(menu < budget - 1e-9)[-1]
    above = np.flatnonzero(menu > budget + 1e-9)[0]
    slopes = (table[:, above] - table[:, below]) / (menu[above] - menu[below])
    shares = samples / samples.sum()
    worth = slopes / (len(samples) * shares)
    mean = float(slopes.mean())
    if mean <= 0:
        return Place(TENTH * mean, math.nan)
    return Place(TENTH * mean, float(np.sqrt(shares @ (worth - mean) ** 2)) / mean)


def optimum(table: FloatArray, samples: IntArray, budget: float) -> FloatArray:
    """Widths of the integer program on known curves, ``(n_clients,)``."""
    problem = hasa.AllocationProblem.build(
        hasa.Clients(samples),
        widths=WIDTHS,
        budget=budget,
        utility=hasa.utility.measured(table / len(table)),
    )
    return hasa.solve(problem).widths


def reach(table: FloatArray, widths: FloatArray) -> float:
    """Client mean in points; linear between the widths of the menu."""
    own = [np.interp(width, WIDTHS, row) for width, row in zip(widths, table, strict=True)]
    return float(np.mean(own))


def gain(table: FloatArray, samples: IntArray, budget: float, widths: FloatArray) -> float:
    """What an allocation gains over uniform in the client mean, in points."""
    same = rules.uniform(samples, budget=budget, widths=(WIDTHS[0], WIDTHS[-1]))
    return reach(table, widths) - reach(table, same)


def planted(steepness: float, spread: float, budget: float) -> FloatArray:
    """Curves ``-b_i exp(-r / 0.3)`` of clients of equal size, with a given place.

    The ranges ``b_i`` are quantiles of a lognormal distribution; with equal ``tau``, spread of
    slopes is spread of ranges, so its parameter is found from the wanted spread.

    Returns
    -------
    (n_clients, n_widths) floats
    """
    sizes = np.ones(N_CLIENTS, dtype=np.int64)
    normal = stats.norm.ppf((np.arange(N_CLIENTS) + 0.5) / N_CLIENTS)

    def curves(sigma: float) -> FloatArray:
        return -np.exp(sigma * normal)[:, None] * np.exp(-np.array(WIDTHS) / TAU)

    def excess(sigma: float) -> float:
        return place(curves(sigma), sizes, budget).spread - spread

    table = curves(0.0 if spread == 0 else optimize.brentq(excess, 0, 10))
    return table * (steepness / place(table, sizes, budget).steepness)


def planted_gains(steepness: float, spread: float, budget: float) -> dict[str, float]:
    """Gain of the optimum, and of HASA whose score ranks as the need, anyhow, or against it.

    Anyhow: the mean over all orders of the score. By linearity that is the mean over shifts, in
    which each client gets each width once.
    """
    table, sizes = planted(steepness, spread, budget), np.ones(N_CLIENTS, dtype=np.int64)
    ends = (WIDTHS[0], WIDTHS[-1])
    aligned = rules.hasa(np.arange(N_CLIENTS), sizes, budget=budget, widths=ends)
    shifts = [np.roll(aligned, shift) for shift in range(N_CLIENTS)]
    return {
        "optimum": gain(table, sizes, budget, optimum(table, sizes, budget)),
        "HASA, score = need": gain(table, sizes, budget, aligned),
        "HASA, unrelated": float(np.mean([gain(table, sizes, budget, own) for own in shifts])),
        "HASA, against need": gain(table, sizes, budget, aligned[::-1]),
    }


def plant() -> list[dict[str, float]]:
    """Rows of the planted grid."""
    return [
        {"budget": budget, "steepness": steepness, "spread": spread}
        | {name: round(own, 6) for name, own in planted_gains(steepness, spread, budget).items()}
        for budget in BUDGETS
        for steepness in STEEPNESS
        for spread in SPREAD
    ]


def fitted_tau(table: FloatArray) -> float:
    """The ``tau`` of ``a_i - b_i exp(-r / tau)``, common to all clients, that fits best."""

    def residual(tau: float) -> float:
        basis = np.exp(-np.array(WIDTHS) / tau)
        basis -= basis.mean()
        centred = table - table.mean(axis=1, keepdims=True)
        ranges = np.minimum(centred @ basis / (basis @ basis), 0)
        return float(np.sum((centred - np.outer(ranges, basis)) ** 2))

    return float(optimize.minimize_scalar(residual, bounds=(0.05, 2), method="bounded").x)


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[dict[str, float]] | Sequence[dict[str, str]]) -> None:
    """Write rows with equal keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, rows[0], lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


def tables() -> dict[str, tuple[FloatArray, IntArray]]:
    """Measured curves of each task, ``(n_clients, n_widths)`` in points, and its samples."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in read(TASKS):
        found.setdefault(row["task"], []).append(row)
    return {
        task: (
            np.array([[float(row[f"{width:g}"]) for width in WIDTHS] for row in rows]),
            np.array([int(row["samples"]) for row in rows]),
        )
        for task, rows in found.items()
    }


def promises() -> Iterator[tuple[str, float, Place, float]]:
    """Name, budget, place, and what the integer program on a task's own curves gains, in points."""
    for name, (table, samples) in tables().items():
        for budget in BUDGETS:
            promised = gain(table, samples, budget, optimum(table, samples, budget))
            yield name, budget, place(table, samples, budget), promised


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=("plant", "measure", "draw"))
    parser.add_argument("--titles", type=Path, help="CSV of the titles, for measure")
    parser.add_argument("--tasks", nargs="*", default=["digits", "docstrings", "domains"])
    options = parser.parse_args()
    if "plant" in options.what:
        write(PLANTED, plant())
    if "measure" in options.what:
        from phase_measure import measure

        kept = [row for row in read(TASKS) if row["task"] not in options.tasks]
        write(TASKS, [*kept, *measure(options.titles, options.tasks)])
    if "draw" in options.what:
        from phase_figure import draw

        draw().savefig(PICTURE, dpi=90)
        for name, budget, found, promised in promises():
            print(
                f"{name} at {budget:g}: steepness {found.steepness:.2f}, "
                f"spread {found.spread:.2f}, promised {promised:+.2f}"
            )


if __name__ == "__main__":
    main()
