"""Curves of the real tasks, from probes: training data alone, seed 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from domains import PROBE_ROUNDS, TRAINING, network
from phase import WIDTHS

import hasa_opt as hasa
from hasa_opt import models, tasks
from hasa_opt._utils.streams import STREAMS
from hasa_opt.federated import LocalTraining

__all__ = ["RECIPES", "measure"]

SEED = 0


@dataclass(frozen=True)
class Recipe:
    """Data, supernet and warm-up of one point in the diagram."""

    task: Callable[[Path | None], tasks.Task]
    model: Callable[[tasks.Task], models.SupernetModel]
    rounds: int
    training: LocalTraining | None = None


def _recurrent(task: tasks.Task) -> models.SupernetModel:
    return models.GRULanguageModel(task.n_outputs, embedding=32, hidden=16)


RECIPES = {
    "titles": Recipe(tasks.titles, _recurrent, 10),
    "docstrings": Recipe(lambda _: tasks.load("docstrings"), _recurrent, 10),
    "digits": Recipe(lambda _: tasks.load("digits"), lambda task: models.CNN(10), 10),
    "domains": Recipe(
        lambda _: tasks.load("domains"),
        lambda task: network(),
        PROBE_ROUNDS,
        TRAINING,
    ),
}


def measure(titles: Path | None, names: list[str]) -> Iterator[dict[str, str]]:
    """Probe each task: one row per client, accuracy in points at each width.

    The curves are the probe's, smoothed and shrunk; a row tells its version of the random streams.
    """
    for name in names:
        recipe = RECIPES[name]
        task = recipe.task(titles)
        model = models.fresh(recipe.model(task), SEED)
        found = hasa.probe(model, task, WIDTHS, recipe.rounds, SEED, training=recipe.training)
        for row, client in enumerate(task.client_names):
            points = found.utility[row] * len(task)
            yield {
                "task": name,
                "client": client,
                "samples": str(task.samples[row]),
                "streams": str(STREAMS),
                **{f"{width:g}": f"{own:.3f}" for width, own in zip(WIDTHS, points, strict=True)},
            }
