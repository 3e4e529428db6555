"""The server's half of a Flower app: wait, ask, allocate, and run the rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import INFO
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.supercore import log

from hasa_opt.errors import InputError
from hasa_opt.federated import History
from hasa_opt.federated.checkpoint import Checkpoints, check_same_run
from hasa_opt.federated.loop import describe_model
from hasa_opt.federated.record import Record
from hasa_opt.federated.statistics import running_statistics
from hasa_opt.flower.fleet import Fleet
from hasa_opt.flower.roster import Roster
from hasa_opt.flower.settings import Settings
from hasa_opt.flower.strategy import SupernetStrategy
from hasa_opt.models import SupernetModel

__all__ = ["serve", "server_app"]

_ROSTER = "roster"


def server_app(model: Callable[[], SupernetModel]) -> ServerApp:
    """Make the app that the server runs.

    Its settings are those of :class:`Settings`, in the project's run configuration.

    Parameters
    ----------
    model : callable
        Builds the supernet with its initial weights, the same each time.

    Returns
    -------
    flwr.serverapp.ServerApp
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(model(), grid, Settings.read(context.run_config))

    return app


def serve(model: SupernetModel, grid: Grid, settings: Settings) -> History:
    """Wait for the nodes, give each a width, and train the supernet on them.

    Parameters
    ----------
    model : SupernetModel
        With the initial weights; it is changed.
    grid : flwr.serverapp.Grid
    settings : Settings

    Returns
    -------
    History
        As of :func:`hasa_opt.federated.run`.

    Raises
    ------
    InputError
        If a setting or a profile is invalid, too few nodes come, or the checkpoint is another
        run's; no round has started then.
    """
    if running_statistics(model):
        raise InputError(
            f"{type(model).__name__} has BatchNorm layers, whose statistics would have to be "
            "estimated from data that stay on the devices: build it with GroupNorm"
        )
    metadata: dict[str, Any] = describe_model(model) | settings.record()
    fleet = Fleet(grid, settings.node_timeout_s)
    with _checkpoints(settings) as store:
        past = None if store is None else store.read()
        if past is None:
            profiles = fleet.enrol(settings.clients, settings.epsilon, settings.delta)
            roster = Roster.allocate(profiles, model, settings)
            record = Record(roster.widths, metadata | {_ROSTER: roster.record()})
        else:
            kept = past.metadata.get(_ROSTER, {})
            record = Record(past.widths, metadata | {_ROSTER: kept})
            check_same_run(Path(settings.checkpoint), past, record.metadata, past.widths)
            roster = Roster.read(kept, past.widths)
            record.take(past)
            model.load_state_dict(past.weights)
            fleet.rejoin(settings.clients)
            log(INFO, "Going on after round %d of %d", past.rounds, settings.rounds)
        history = _run(model, roster, fleet, settings, record, store, grid)
    if settings.output:
        history.save(Path(settings.output))
    accuracy = np.nanmean(history.test_accuracy[-1])
    log(INFO, "Mean test accuracy of the clients' subnets: %.2f %%", 100 * accuracy)
    return history


def _run(
    model: SupernetModel,
    roster: Roster,
    fleet: Fleet,
    settings: Settings,
    record: Record,
    store: Checkpoints | None,
    grid: Grid,
) -> History:
    """Run the rounds that are left, each stored once it has ended."""

    def keep() -> None:
        if store is not None:
            store.save(record.history(model, {}))

    strategy = SupernetStrategy(model, roster, fleet, settings, record, keep)
    strategy.start(
        grid,
        ArrayRecord(dict(model.state_dict())),
        num_rounds=settings.rounds - len(record.rows),
        timeout=settings.round_timeout_s,
    )
    return record.history(model, {})


@contextmanager
def _checkpoints(settings: Settings) -> Iterator[Checkpoints | None]:
    if not settings.checkpoint:
        yield None
        return
    with Checkpoints.open(settings.checkpoint, resume=True) as store:
        yield store
