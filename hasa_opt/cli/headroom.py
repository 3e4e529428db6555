"""The command ``hasa-opt headroom``: with data it probes, which needs the extra ``fl``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from hasa_opt._utils.checks import FloatArray
from hasa_opt.cli.options import (
    MENU,
    AsJson,
    Budget,
    ClientOption,
    Delimiter,
    Embedding,
    Encoding,
    Hidden,
    ModelName,
    Reading,
    TextOption,
    clients_of,
    counting,
    print_json,
    reading,
    say,
    show,
    split_names,
    split_numbers,
)
from hasa_opt.cli.problems import read_values, width_of
from hasa_opt.cli.study import build_model, load_task, require_learning_side
from hasa_opt.cli.training import BatchSize, LearningRate, settings
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.forecast.prediction import Headroom
from hasa_opt.forecast.prediction import headroom as predict
from hasa_opt.forecast.probing import Probe, probe

if TYPE_CHECKING:
    from hasa_opt.federated import LocalTraining
    from hasa_opt.models import SupernetModel
    from hasa_opt.tasks import Task

__all__ = ["headroom"]

ClientsTable = Annotated[
    Path | None, typer.Argument(metavar="[CLIENTS.csv]", help="One row per client.")
]
Utilities = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="CSV", help="Columns: name, then one per width. Twice: two halves of the data."
    ),
]
Noise = Annotated[
    float | None, typer.Option(help="Standard error of the entries of a single --utilities.")
]
DataFile = Annotated[Path | None, typer.Option(help="CSV of texts to probe.")]
TaskName = Annotated[
    str | None, typer.Option(help="Embedded task to probe, such as docstrings or domains.")
]
Menu = Annotated[
    str | None,
    typer.Option(help="Menu of widths, comma-separated; a table has its own.", show_default=MENU),
]
RuleNames = Annotated[
    str | None, typer.Option(help="Comma-separated; default: hasa,reverse if labels count.")
]
RunRounds = Annotated[
    int, typer.Option(min=1, help="Rounds of the real run, to compare the cost with.")
]


@dataclass(frozen=True, eq=False)
class _Forecast:
    """What was measured and predicted; without data, the prediction alone."""

    headroom: Headroom
    probe: Probe | None = None


def headroom(
    clients: ClientsTable = None,
    utilities: Utilities = None,
    noise: Noise = None,
    data: DataFile = None,
    text_column: TextOption = "text",
    client_column: ClientOption = "client",
    task: TaskName = None,
    model: ModelName = None,
    hidden: Hidden = 64,
    embedding: Embedding = 64,
    budget: Budget = 0.5,
    widths: Menu = None,
    rules: RuleNames = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the probe.")] = 10,
    run_rounds: RunRounds = 100,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Predict what the best allocation gains over uniform, before compute is spent.

    Give measured utilities with a clients file, or data (or a task) to probe.
    """
    options: dict[str, Any] = {"budget": budget, "confidence": confidence, "seed": seed}
    written = reading(encoding, delimiter)
    if rules is not None:
        options["rules"] = split_names(rules)
    if utilities:
        if clients is None or data is not None or task is not None:
            raise InputError("--utilities goes with CLIENTS.csv, without --data and --task")
        if widths is not None:
            raise InputError("a table of --utilities has its own widths: leave --widths out")
        read = clients_of(clients, written)
        menu, values = _tables(utilities, read, written)
        found = _Forecast(predict(values, read, widths=menu, noise=noise, **options))
    else:
        if clients is not None or (data is None) == (task is None):
            raise InputError(
                "what is to be measured? Give CLIENTS.csv with --utilities FILE.csv, or one of "
                "--data FILE.csv and --task NAME"
            )
        if noise is not None:
            raise InputError("--noise is that of a table: a probe measures its own, leave it out")
        menu = split_numbers(widths or MENU, "--widths")
        require_learning_side()
        loaded = load_task(data, text_column, client_column, task or "", written)
        supernet = build_model(loaded, model, hidden, embedding)
        training = settings(batch_size=batch_size, learning_rate=learning_rate)["training"]
        lab = _Lab(supernet, loaded, training, rounds, seed)
        probed = lab.probe(menu)
        found = _Forecast(predict(probed, loaded.clients(), **options), probed)
    _show(found, run_rounds, as_json)


@dataclass(frozen=True, eq=False)
class _Lab:
    """What is probed, and how."""

    model: SupernetModel
    task: Task
    training: LocalTraining
    rounds: int
    seed: int

    def probe(self, menu: Sequence[float]) -> Probe:
        """Measure what widths are worth."""
        from hasa_opt.federated.workers import free_cores

        name, rounds = self.task.name, self.rounds
        with counting(f"probing {name}: {rounds} rounds on each half of the training data") as tell:
            return probe(
                self._fresh, self.task, menu, rounds, self.seed, training=self.training,
                workers=free_cores(), on_round=tell,
            )  # fmt: skip

    @property
    def _fresh(self) -> SupernetModel:
        from hasa_opt.models import fresh

        return fresh(self.model, self.seed)


def _show(found: _Forecast, run_rounds: int, as_json: bool) -> None:
    """Print the probe, the rules and the verdict."""
    room, probed = found.headroom, found.probe
    cost = None if probed is None else probed.cost(run_rounds, room.budget)
    if as_json:
        print_json(room.record() | ({} if probed is None else {"probe": _record(probed, cost)}))
        return
    if probed is not None:
        show(probed)
    show(room.table())
    for sentence in (room.sentence, str(room.foretold)):
        say(sentence)
    if cost is not None:
        note = f"the probe cost {cost:.1%} of the training of {run_rounds} rounds at this budget"
        say(note)


def _record(probed: Probe, cost: float | None) -> dict[str, Any]:
    return {
        "widths": probed.widths.tolist(),
        "rounds": probed.rounds,
        "flops": probed.flops,
        "cost": cost,
        probed.scale.name: dict(zip(probed.names, probed.reached.tolist(), strict=True)),
    }


def _tables(
    paths: list[Path], clients: Clients, written: Reading
) -> tuple[list[float], FloatArray]:
    """Menu and values of one table, or of several parts of the same measure."""
    tables = [read_values(path, clients, written) for path in paths]
    menus = [[width_of(path, name) for name in columns] for path, (columns, _) in
             zip(paths, tables, strict=True)]  # fmt: skip
    for path, menu in zip(paths, menus, strict=True):
        if menu != menus[0]:
            raise InputError(
                f"{path} has the widths {menu}, {paths[0]} has {menus[0]}: give one menu"
            )
    values = [table for _, table in tables]
    return menus[0], values[0] if len(values) == 1 else np.stack(values)
