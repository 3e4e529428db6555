"""What a server has seen of its clients since it last decided what they train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hasa_opt._utils.checks import FloatArray, IntArray, listed
from hasa_opt.federated.batch_norm import running_statistics
from hasa_opt.federated.jobs import LocalResult, Update
from hasa_opt.federated.units import Extraction
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets

_SEEN = "seen/"
_UPDATE, _ROUNDS, _LOSS = "update", "rounds", "loss"
_JUDGED, _GAIN = "judged/", "local_gain/"


@dataclass(frozen=True, eq=False)
class Seen:
    """What an allocator may look at: what clients sent in training, and nothing of their tests.

    Before the first round nothing has been seen: there are no clients, and losses, norms and
    similarities are NaN.

    Attributes
    ----------
    round : int
        Rounds that have ended, which is the number of the next one.
    rounds : int
        Of the whole run.
    clients : (n_seen,) int64
        Rows of the clients that sent an update since the allocator was asked last.
    widths : (n_clients,) floats
        Width of each client in the last round; NaN before the first.
    train_loss : (n_clients,) floats
        Mean loss of a client in the newest round in which it trained.
    update_norm : (n_clients,) floats
        Euclidean norm of the sum of a client's updates since the allocator was asked last.
    update_similarity : (n_clients, n_clients) floats
        Cosines between these sums, over the coordinates that all clients hold; NaN beside a client
        that sent none, and everywhere if clients do not hold the first units.
    samples : (n_clients,) int64
        Training samples.
    subnets : Subnets, optional
        What the clients train by the last decision; None before the first.
    judged : dict of int to (n_clients,) floats
        By the number of rounds that had ended, where the allocator asked for it: the metric of
        each client's validation data on the model that it would deploy. That is its own, or the
        mixture of the common and its last local model that is best for all clients together. See
        :class:`Allocator`.
    local_gain : dict of int to (n_clients,) floats
        By the same numbers: how far each client's last local model is above the common one.
    budget_left : float, optional
        What each of the rounds left may spend on average, as a share of everybody at width 1.
        None: the allocator has no budget.
    """

    round: int
    rounds: int
    clients: IntArray
    widths: FloatArray
    train_loss: FloatArray
    update_norm: FloatArray
    update_similarity: FloatArray
    samples: IntArray
    judged: Mapping[int, FloatArray]
    local_gain: Mapping[int, FloatArray] = field(default_factory=dict)
    subnets: Subnets | None = None
    budget_left: float | None = None

    if not TYPE_CHECKING:  # There an unknown name is an error of its own.

        def __getattr__(self, name: str):
            """Say why there is no such thing, and test data in particular."""
            why = (
                "test data decide nothing"
                if name.startswith("test")
                else "the server has not seen it"
            )
            raise AttributeError(
                f"allocators are not shown {name!r}, as {why}: use "
                f"{listed([each.name for each in fields(self)])}, or judges for validation"
            )

    @classmethod
    def nothing(cls, samples: IntArray, rounds: int, budget: float | None = None) -> Seen:
        """What is seen before the first round."""
        unknown = np.full(len(samples), np.nan)
        apart, nobody = np.full((len(samples), len(samples)), np.nan), np.array([], dtype=np.int64)
        return cls(
            0, rounds, nobody, unknown, unknown, unknown, apart, samples, {},
            budget_left=budget,
        )  # fmt: skip


class Verdicts(NamedTuple):
    """What clients say of their models, by their validation data: see :class:`Seen`."""

    judged: FloatArray
    local_gain: FloatArray


class Watch:
    """Sums what clients send, between two questions to an allocator.

    Parameters
    ----------
    model : SupernetModel
        The supernet, as it is broadcast.
    local : frozenset of str
        Parameters that clients keep to themselves.
    samples : (n_clients,) int64
        Training samples.
    """

    def __init__(self, model: SupernetModel, local: frozenset[str], samples: IntArray) -> None:
        self._model, self._samples = model, samples
        fixed = running_statistics(model).keys() | local
        self._names = [name for name, _ in model.named_parameters() if name not in fixed]
        self._updates: dict[int, Tensor] = {}
        self._rounds: dict[int, int] = {}
        self._losses: dict[int, float] = {}
        self._judged: dict[int, FloatArray] = {}
        self._gain: dict[int, FloatArray] = {}

    def begin(self) -> None:
        """Forget what was seen: the allocator has been asked."""
        self._updates, self._rounds, self._losses = {}, {}, {}

    def judge(self, number: int, verdicts: Verdicts) -> None:
        """See what the clients say of their models after so many rounds."""
        self._judged[number], self._gain[number] = verdicts

    @torch.no_grad()
    def learn(self, client: int, update: Update, result: LocalResult, least: float) -> None:
        """See a client's sound update.

        Parameters
        ----------
        client : int
            Row of the client.
        update : Update
        result : LocalResult
        least : float
            Width of the narrowest client, whose units all hold; 0: they hold none in common.
        """
        self.hear(client, result)
        if least:
            change = self._change(update, least)
            self._updates[client] = (
                self._updates[client] + change if self._known(client) else change
            )

    def hear(self, client: int, result: LocalResult) -> None:
        """See that a client has trained, and its loss."""
        self._rounds[client] = self._rounds.get(client, 0) + 1
        self._losses[client] = result.loss

    def _known(self, client: int) -> bool:
        return client in self._updates

    def _change(self, update: Update, least: float) -> Tensor:
        """What an update changes in the units that all hold, in one row."""
        extraction, kept = Extraction(self._model), update.units(self._model)
        where, common = extraction.place(kept).where, extraction.place(prefix(self._model, least))
        before, parts = extraction.copy(kept), []
        for name in self._names:
            whole = torch.zeros_like(self._model.state_dict()[name])
            where[name].write(whole, update.state[name] - before[name])
            parts.append(common.where[name].read(whole).flatten())
        return torch.cat(parts)

    def seen(self, number: int, rounds: int, now: Subnets, plan: Subnets) -> Seen:
        """What was seen until a round begins.

        Parameters
        ----------
        number, rounds : int
            Rounds that have ended, and of the whole run.
        now, plan : Subnets
            What the clients trained in the last round, and were to train in all.
        """
        count = len(self._samples)
        losses, norms = np.full(count, np.nan), np.full(count, np.nan)
        cosines = np.full((count, count), np.nan)
        for client, loss in self._losses.items():
            losses[client] = loss
        rows = np.array(sorted(self._updates), dtype=np.int64)
        if rows.size and not now.has_blocks:
            table = torch.stack([self._updates[row] for row in rows.tolist()]).double()
            lengths = torch.linalg.vector_norm(table, dim=1)
            norms[rows] = lengths.numpy()
            directions = table / lengths.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
            products = (directions @ directions.T).numpy()
            cosines[np.ix_(rows, rows)] = (products + products.T) / 2
        clients = np.array(sorted(self._rounds), dtype=np.int64)
        return Seen(
            number, rounds, clients, now.widths, losses, norms, cosines, self._samples,
            dict(self._judged), dict(self._gain), plan,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """What was seen, by names such as ``"seen/3/update"``."""
        found = {f"{_SEEN}{row}/{_UPDATE}": update for row, update in self._updates.items()}
        for name, values in ((_ROUNDS, self._rounds), (_LOSS, self._losses)):
            found |= {
                f"{_SEEN}{row}/{name}": torch.tensor(value, dtype=torch.float64)
                for row, value in values.items()
            }
        for begin, known in ((_JUDGED, self._judged), (_GAIN, self._gain)):
            found |= {f"{begin}{each}": torch.from_numpy(own) for each, own in known.items()}
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave; other names are left alone."""
        for key, tensor in state.items():
            for begin, known in ((_JUDGED, self._judged), (_GAIN, self._gain)):
                if key.startswith(begin):
                    known[int(key.removeprefix(begin))] = tensor.numpy()
            if not key.startswith(_SEEN):
                continue
            row, _, name = key.removeprefix(_SEEN).partition("/")
            if name == _UPDATE:
                self._updates[int(row)] = tensor
            elif name == _ROUNDS:
                self._rounds[int(row)] = int(tensor)
            else:
                self._losses[int(row)] = float(tensor)
