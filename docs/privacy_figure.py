"""Draw what privacy costs: ``python docs/privacy_figure.py`` writes docs/images/privacy.png.

It trains for some three CPU minutes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.progress import track

from hasa_opt import federated, models, privacy, tasks
from hasa_opt._utils.checks import FloatArray

EPSILONS = (0.1, 0.3, 1, 3, 10, 30, 100)
PANELS = (
    ("digits", 1.0, "Digits: a sample is one label"),
    ("docstrings", 12.0, "Docstrings: a sample is up to 12 words"),
)
SEEDS, ROUNDS = range(5), 15


def draw() -> Figure:
    """Draw one panel for each task, and one of what the digits' allocations are worth."""
    figure = Figure(figsize=(13.6, 3.6), layout="constrained")
    *panels, last = figure.subplots(1, 3)
    found = {}
    for axes, (name, norm, title) in zip(panels, PANELS, strict=True):
        clients = tasks.load(name).clients()
        found[name] = privacy.widths_against_epsilon(clients, EPSILONS, sample_norm=norm)
        found[name].draw(axes)
        axes.set_title(title, loc="left", fontsize=11)
        changed = found[name].changed.mean(axis=1).round(1)
        print(name, "changed:", changed, "of", found[name].plain.size)
    draw_accuracy(last, found["digits"])
    return figure


def draw_accuracy(axes: Axes, found: privacy.WidthChanges) -> None:
    """Draw the client mean after training with the widths of private scores."""
    private = np.array(
        [
            [accuracy(found.widths[row, seed], seed) for seed in SEEDS]
            for row in track(range(len(EPSILONS)), "digits, trained")
        ]
    )
    plain = np.array([accuracy(found.plain, seed) for seed in SEEDS])
    uniform = np.array([accuracy(np.full(found.plain.size, 0.5), seed) for seed in SEEDS])
    error = private.std(axis=1, ddof=1) / len(SEEDS) ** 0.5
    axes.errorbar(EPSILONS, private.mean(axis=1), error, marker="o", label="private scores")
    axes.axhline(plain.mean(), color="black", ls=":", label="plain scores")
    axes.axhline(uniform.mean(), color="0.6", ls="--", label="uniform")
    axes.set(xscale="log", xlabel="epsilon", ylabel="Client mean test accuracy (%)")
    axes.set_title(f"Digits: accuracy, {len(SEEDS)} seeds", loc="left", fontsize=11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    for name, own in (("plain", plain), ("uniform", uniform), *zip(EPSILONS, private, strict=True)):
        gap = own - plain
        print(f"{name}: {own.mean():.1f} %, {gap.mean():+.1f} points from plain scores")


def accuracy(widths: FloatArray, seed: int) -> float:
    """Client mean on the test data after training, in percent."""
    task = tasks.load("digits")
    model = models.CNN.for_data(task.train[0].inputs, task.n_outputs)
    history = federated.run(
        models.fresh(model, seed), task, widths, rounds=ROUNDS, seed=seed, engine="auto"
    )
    return 100 * float(history.final_accuracy.mean())


if __name__ == "__main__":
    draw().savefig(Path(__file__).parent / "images" / "privacy.png", dpi=110)
