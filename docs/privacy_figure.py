"""Draw what privacy costs: ``python docs/privacy_figure.py`` writes docs/images/privacy.png."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from hasa_opt import privacy, tasks

EPSILONS = (0.1, 0.3, 1, 3, 10, 30, 100)
PANELS = (
    ("digits", 1.0, "Digits: a sample is one label"),
    ("docstrings", 12.0, "Docstrings: a sample is up to 12 words"),
)


def draw() -> Figure:
    """Draw one panel for each task."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    for axes, (name, norm, title) in zip(figure.subplots(1, 2), PANELS, strict=True):
        found = privacy.widths_against_epsilon(
            tasks.load(name).clients(), EPSILONS, sample_norm=norm
        )
        found.draw(axes)
        axes.set_title(title, loc="left", fontsize=11)
        print(name, "changed:", found.changed.mean(axis=1).round(1), "of", found.plain.size)
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).parent / "images" / "privacy.png", dpi=110)
