"""Rounds: who is asked to train what, what comes back, and what the server makes of it.

One :class:`Round` serves the loop, the probe's warm-up and the Flower server alike, in three steps:
its jobs (:meth:`Round.jobs`, or :meth:`Round.ask` where clients train elsewhere), what came back
(:meth:`Round.take`), and its end (:meth:`Round.close`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError
from hasa_opt.federated.aggregation import Average, Screen
from hasa_opt.federated.events import Event, EventKind
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.jobs import Engine, Failure, Job, LocalResult, Update
from hasa_opt.federated.measurements import COLUMNS, Row, blank
from hasa_opt.federated.participation import corrupted, draw_clients
from hasa_opt.models.cuts import Kept
from hasa_opt.models.inputs import Inputs
from hasa_opt.tasks.splits import Split


class Round:
    """One round: who takes part, what is measured, what goes wrong.

    Parameters
    ----------
    federation : Federation
        Its supernet is broadcast, and replaced when the round is closed.
    number : int
        From 0.

    Attributes
    ----------
    clients : (n_drawn,) int64
        Rows of the clients that are drawn, ascending.
    row : dict of str to (n_clients,) array
        What is measured.
    events : list of Event
        What goes wrong.
    """

    def __init__(self, federation: Federation, number: int) -> None:
        self.federation, self.number = federation, number
        federation.begin_round(number)
        federation.training.rate(number)  # A schedule without a factor for the round ends the run.
        self.row: Row = {name: blank(name, len(federation)) for name in COLUMNS}
        self.events: list[Event] = []
        waited = federation.wait(number)
        if waited:
            self.note(None, "waited", f"nobody was there for {waited:g} s", waited)
        self.clients = draw_clients(
            federation.numbers,
            federation.participation.clients_per_round,
            (federation.seed, number),
            present=federation.present(number),
        )
        self._failed: list[tuple[str, Exception]] = []
        self._is_own, self._kept_own = federation.training.is_own(number), False
        self._units: dict[int, Kept] = {}
        self._opened: dict[int | None, tuple[Screen, Average]] = {}
        federation.statistics.begin()
        self._handed_over = federation.handed_over()

    def note(self, client: int | None, kind: EventKind, reason: str, seconds: float = 0.0) -> None:
        """Record what went wrong with a client, or, without one, with the whole round."""
        self.events.append(Event(self.number, client, kind, reason, seconds))

    def units(self, client: int) -> Kept:
        """Units of the supernet that a client deploys, and trains if it does, in this round."""
        return self.federation.units(client, self.number, self.federation.deployed(client))

    def ask(self, client: int) -> Kept:
        """Send a client its subnet, which is noted; the units that it trains are returned."""
        width = self.federation.width(client)
        if self.federation.own.receives(client, width):
            self.row["bytes_down"][client] = self.federation.costs.transfer(width)
        self._units[client] = self.federation.units(client, self.number, width)
        return self._units[client]

    def jobs(self, splits: Sequence[Split]) -> Iterator[Job]:
        """Say what each client that takes part has to do; one split is loaded at a time.

        Parameters
        ----------
        splits : n_clients training splits
        """
        federation = self.federation
        for client in self.training_clients():
            key = federation.key(client, self.number)
            fate = federation.fate(client, self.number)
            if not federation.training.used(federation.samples[client]):
                self.note(client, "dropped", "its batches are too small: drop_last leaves them out")
                continue
            if fate == "dropped":
                self.note(client, "dropped", "it took no part in the round")
                continue
            try:
                split = splits[client]
            except InputError as error:
                reason = f"its training samples cannot be used: {error}"
                self.fail(client, "dropped", reason, error)
                continue
            width, kept = federation.width(client), self.ask(client)
            draw, epochs = federation.draw(client), federation.epochs(client)
            if fate == "late" or (draw is None and self._will_be_late(client, split)):
                self._late(client, self._planned(client, split))
                continue
            local = federation.local(client, kept, self.number)
            towards = federation.towards(client, kept, self.number)
            problem = federation.problem
            yield Job(client, width, kept, split, key, draw, local, epochs, problem, towards)

    def training_clients(self) -> list[int]:
        """Rows of the clients that are drawn and not left out by their allocation."""
        return [row for row in self.clients.tolist() if self.federation.width(row) > 0]

    def _planned(self, client: int, split: Split) -> int:
        """Operations of a client that trains its whole subnet in each batch."""
        costs, width = self.federation.costs, self.federation.width(client)
        planned = costs.planned(width, len(split), self.federation.epochs(client))
        return costs.flops(split.inputs, planned)

    def _will_be_late(self, client: int, split: Split) -> bool:
        """Whether a client cannot keep its deadline, so that there is no need to train it."""
        timed = self.federation.participation.has_deadline
        return timed and self._is_late(client, self._planned(client, split))

    def _late(self, client: int, flops: int) -> None:
        """Note a client that trained and sent for nothing."""
        self._sent(client)
        self.row["flops"][client] = flops
        self.note(client, "late", "its update came when the round was closed")

    def _is_late(self, client: int, flops: int) -> bool:
        """Whether a client that computes so much, and sends its update, is late by the clock."""
        participation = self.federation.participation
        if participation.clock is None or not participation.has_deadline:
            return False
        down, up = int(self.row["bytes_down"][client]), self._upload(client)
        return participation.clock.of(client).is_late(flops, down, up)

    def take(
        self, client: int, state: Mapping[str, Tensor] | None, result: LocalResult, sample: Inputs
    ) -> None:
        """Take what a client sent, and average it in if it is sound.

        Parameters
        ----------
        client : int
            Row of a client that was asked.
        state : dict of str to tensor, or None
            ``state_dict()`` of its trained subnet; None where that stays on a machine of its own.
        result : LocalResult
        sample : inputs
            Those that it trained on, for the count of operations; one is enough.
        """
        federation, row = self.federation, self.row
        costs, width = federation.costs, federation.width(client)
        federation.has_trained = True
        flops = costs.flops(sample, result.trained)
        if self._is_late(client, flops):
            self._late(client, flops)
            return
        self._sent(client)
        row["train_loss"][client], row["seconds"][client] = result.loss, result.seconds
        row["mean_width"][client] = costs.mean_width(result.trained)
        row["flops"][client] = flops
        if self._is_own or state is None:
            self._keep(client, state or {}, result)
            return
        is_corrupt = federation.fate(client, self.number) == "corrupt"
        key = federation.key(client, self.number)
        sent = corrupted(state, key) if is_corrupt else state
        update = Update(width, federation.weight(client), sent, self._units[client])
        screen, average = self._opening(client)
        fault = screen.fault(update)
        if fault is not None:
            self.reject(client, fault)
            return
        if not federation.training.ditto:
            federation.personal.take(client, sent, self._units[client], self.number)
        federation.statistics.learn(update)
        average.add(update)
        if federation.watch is not None:
            federation.watch.learn(client, update, result, federation.narrowest)

    def _keep(self, client: int, state: Mapping[str, Tensor], result: LocalResult) -> None:
        """Note a client that has trained a model of its own, which it keeps to itself."""
        federation = self.federation
        federation.personal.take(client, state, self._units[client], self.number)
        self._kept_own = True
        if not self._is_own:
            federation.own.stay(client)
            if federation.watch is not None:
                federation.watch.hear(client, result)

    def _opening(self, client: int) -> tuple[Screen, Average]:
        """What checks and averages the updates of the model that a client trains."""
        federation = self.federation
        number, model = federation.own.number(client), federation.model_of(client)
        if number not in self._opened:
            server = federation.server
            self._opened[number] = (
                Screen(model, server.max_update_norm),
                Average(model, server.aggregation, federation.personal.local),
            )
        return self._opened[number]

    def _sent(self, client: int) -> None:
        """Note what a client sent."""
        self.row["bytes_up"][client] = self._upload(client)

    def _upload(self, client: int) -> int:
        """Bytes that a client sends: none, if it keeps its model to itself."""
        federation = self.federation
        sends = federation.sends(client, self.number)
        return federation.costs.transfer(federation.width(client)) if sends else 0

    def reject(self, client: int, reason: str) -> None:
        """Note a client that sent something of no use."""
        self._sent(client)
        self.note(client, "rejected", reason)

    def train(self, engine: Engine, splits: Sequence[Split]) -> None:
        """Let the clients train on this machine, and take what they send.

        A client whose samples cannot be loaded, or whose training raises an exception, has dropped
        out, with a warning.

        Parameters
        ----------
        engine : Engine
        splits : n_clients training splits

        Raises
        ------
        InputError
            If nobody has trained yet and several clients fail, or the only one there is: then the
            model or the task is to blame.
        """
        federation = self.federation
        for answer in engine(federation.model, self.jobs(splits), federation.training):
            job = answer.job
            if isinstance(answer, Failure):
                reason = f"its training ended with {first_line(answer.error)}"
                self.fail(job.client, "dropped", reason, answer.error)
            else:
                if answer.reason:
                    federation.alone[answer.reason] += 1
                self.take(job.client, answer.state, answer.result, job.split.inputs)
        able, failed = np.count_nonzero(federation.subnets.widths), len(self._failed)
        if not federation.has_trained and failed and (failed > 1 or able == 1):
            notice, error = self._failed[0]
            raise InputError(
                f"no client could train in round {self.number}: {notice}: correct the model, or "
                "the samples of the task"
            ) from error
        self.warn()

    def fail(self, client: int, kind: EventKind, reason: str, error: Exception) -> None:
        """Note a client whose samples or training raised an exception, to be warned of."""
        self.note(client, kind, reason)
        what = "dropped out" if kind == "dropped" else "was not tested"
        name = self.federation.names[client]
        self._failed.append((f"client {name!r} {what}, as {reason}", error))

    def warn(self) -> None:
        """Warn of the clients that failed since the last call."""
        for notice, _ in self._failed:
            warnings.warn(f"round {self.number}: {notice}", stacklevel=4)
        self._failed.clear()

    def note_metrics(self, client: int, measured: Mapping[str, float]) -> None:
        """Record what a client's test measured, by the names of a history's columns."""
        for name, value in measured.items():
            self.row[name][client] = value

    def close(self) -> None:
        """Average what arrived into the supernet, or keep it, with a warning, without any."""
        for client, sent in self._handed_over.items():
            self.row["bytes_up"][client] += sent
        self._stop_clock()
        arrived = [(number, each) for number, (_, each) in self._opened.items() if not each.empty]
        if not arrived and not self._kept_own:
            self.note(None, "empty", "no update was left: the model stays as it was")
            notice = f"round {self.number}: no update was left, the model is kept"
            warnings.warn(notice, stacklevel=3)
            return
        for number, average in arrived:
            self.federation.update(number, average.state())

    def _stop_clock(self) -> None:
        """Note what the round took of each client, and let the time pass."""
        clock = self.federation.participation.clock
        if clock is None:
            return
        moved = [self.row[name] for name in ("flops", "bytes_down", "bytes_up")]
        active = np.any(moved, axis=0)
        done = [values[:, None] for values in moved]
        seconds = clock.waited(*done)[active, 0]
        self.row["clock_seconds"][active] = seconds
        if clock.compute_w is not None:
            self.row["clock_joules"][active] = clock.joules(*done)[active, 0]
        self.federation.elapsed_s += float(seconds.max(initial=0.0))
