"""Allocation while training: an allocator is asked again, and what it decides is followed.

An :class:`Allocator` sees what the server has seen, and says what the clients train from now on.
Its answer depends on that alone, so that a run that was killed goes on to the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, whole
from hasa_opt._utils.rational import told_from, written
from hasa_opt._utils.showing import in_a_word
from hasa_opt.errors import InputError
from hasa_opt.federated.aggregation import aggregate
from hasa_opt.federated.history import History
from hasa_opt.federated.jobs import Update
from hasa_opt.federated.record import Record
from hasa_opt.federated.seen import Seen, Verdicts, Watch
from hasa_opt.federated.units import Extraction
from hasa_opt.models.subnets import block
from hasa_opt.policies.budget import budget_left
from hasa_opt.policies.subnets import Subnets
from hasa_opt.problem.result import Allocation

if TYPE_CHECKING:
    from hasa_opt.federated.federation import Federation
    from hasa_opt.federated.rounds import Round
    from hasa_opt.federated.settings import Server

_ROUNDING = 1e-9


class Allocator(Protocol):
    """Decides what clients train, from what was seen of their training.

    More attributes may be there. ``budget`` is a share of everybody at width 1, as of
    :meth:`AllocationProblem.build`, which no answer may exceed; ``budget_over`` says whether in
    the whole "run", as without it, or in each "round". ``switches`` is how many clients an answer
    may let train something else than in the round before: another width, other units, another
    model. A function ``judges`` of the number of rounds that have ended and of what the clients
    train says whether they judge by their validation data what they would deploy; without it
    validation data are not looked at. Test data never are.

    Attributes
    ----------
    every : int
        It is asked before the first round, and again after each so many.
    """

    @property
    def every(self) -> int:
        """Rounds between two questions."""

    def __call__(self, seen: Seen) -> Allocation | npt.ArrayLike | Subnets | None:
        """Decide: widths, an allocation, or subnets; None leaves what clients train as it is."""


def is_allocator(given: object) -> TypeGuard[Allocator]:
    """Whether this decides while clients train, and is no allocation itself."""
    return callable(given) and hasattr(given, "every")


def describe_allocator(allocator: Any) -> dict[str, Any]:
    """What tells an allocator from others: its name, and its fields or what it says itself."""
    if hasattr(allocator, "describe"):
        settings = allocator.describe()
    else:
        settings = asdict(allocator) if is_dataclass(allocator) else None  # type: ignore[arg-type]
    told = json.loads(json.dumps(settings, default=_plain))
    return {"allocator": in_a_word(type(allocator)), "allocator settings": told}


class Allocating:
    """Asks an allocator in the rounds of a run.

    Parameters
    ----------
    allocator : Allocator
    read : callable
        Reads an answer, and refuses what does not fit the clients.
    samples : (n_clients,) int64
    rounds : int
        Of the whole run.

    Attributes
    ----------
    first : Subnets
        What the clients train at first.

    Raises
    ------
    InputError
        If the allocator is refused, or its first answer is.
    """

    def __init__(
        self,
        allocator: Allocator,
        read: Callable[[Any], Subnets],
        samples: IntArray,
        rounds: int,
    ) -> None:
        whole(allocator.every, "every", least=1)
        self._allocator, self._read = allocator, read
        self._samples, self._rounds = samples, rounds
        self._budget: float | None = getattr(allocator, "budget", None)
        self._over: Literal["run", "round"] = getattr(allocator, "budget_over", "run")
        self._judges = getattr(allocator, "judges", lambda number, subnets: False)
        self._switches: int | None = getattr(allocator, "switches", None)
        if self._switches is not None:
            whole(self._switches, "switches")
        answer = allocator(Seen.nothing(samples, rounds, self._budget))
        if answer is None:
            raise InputError(
                f"{in_a_word(allocator)} gives nothing before the first round: say there what the "
                "clients train"
            )
        self.first = read(answer)
        self._spent = np.zeros(rounds)
        self._check(self.first, 0)

    @property
    def keeps_models(self) -> bool:
        """Whether clients keep the model that they trained last, to judge it."""
        return hasattr(self._allocator, "judges")

    def describe(self) -> dict[str, Any]:
        """What tells the allocator from others."""
        return describe_allocator(self._allocator)

    def fitting(self, server: Server) -> Server:
        """A server that averages blocks over those who hold them."""
        return server.fitting(self.first)

    def join(self, federation: Federation) -> None:
        """Watch a federation from its first round on."""
        samples = np.array(federation.samples)
        federation.watch = Watch(federation.model, federation.personal.local, samples)

    def judges(self, now: Round) -> bool:
        """Whether the clients of a round shall judge what they would deploy."""
        return bool(self._judges(now.number + 1, now.federation.plan))

    def watch(self, now: Round, judge: Callable[[Round], Verdicts]) -> None:
        """Let the clients of a round judge what they would deploy, if the allocator asks for it."""
        federation = now.federation
        assert federation.watch is not None, "join() comes first"
        if self.judges(now):
            federation.watch.judge(now.number + 1, judge(now))

    def decide(self, number: int, federation: Federation, record: Record) -> None:
        """Ask, where it is time to, and let a federation follow.

        Raises
        ------
        InputError
            If the answer does not fit the clients, spends more than the budget, or changes what
            more clients train than it may.
        """
        if number == 0:
            record.decide(0, self.first, self._rounds)
        if number == 0 or number % self._allocator.every:
            return
        assert federation.watch is not None, "join() comes first"
        federation.begin_round(number - 1)  # Whoever goes on after a checkpoint has not begun it.
        seen = federation.watch.seen(number, self._rounds, federation.subnets, federation.plan)
        answer = self._allocator(replace(seen, budget_left=self._left(number)))
        federation.watch.begin()
        if answer is None:
            return
        subnets = self._read(answer)
        self._check(subnets, number)
        self._check_switches(federation.subnets, subnets, number)
        follow(federation, subnets, number)
        record.decide(number, subnets, self._rounds)

    def go_on(self, federation: Federation, past: History) -> None:
        """Follow what was decided before a run was interrupted."""
        for decision in past.decisions:
            self._check(decision.subnets, decision.round)
            now = decision.subnets.during(decision.round, self._rounds)
            federation.plan, federation.server = decision.subnets, federation.server.fitting(now)

    def _planned(self, subnets: Subnets, number: int) -> FloatArray:
        """What each round from one on spends, as a share of everybody at width 1."""
        rounds = range(number, self._rounds)
        widths = np.array([subnets.during(each, self._rounds).widths for each in rounds])
        shares: FloatArray = widths @ self._samples / self._samples.sum()
        return shares

    def _check(self, subnets: Subnets, number: int) -> None:
        """Note what is spent, and refuse what is above the budget."""
        self._spent[number:] = self._planned(subnets, number)
        if self._budget is None:
            return
        spends = self._spent.max() if self._over == "round" else self._spent.mean()
        if spends > self._budget + _ROUNDING:
            raise InputError(
                f"{in_a_word(self._allocator)} spends {told_from(spends, self._budget)} of "
                f"everybody at width 1 in {'a' if self._over == 'round' else 'the mean'} round by "
                f"what it decides before round {number}, above its budget "
                f"{written(self._budget)}: give narrower widths"
            )

    def _check_switches(self, past: Subnets, subnets: Subnets, number: int) -> None:
        changed = int(subnets.during(number, self._rounds).changed_from(past).sum())
        if self._switches is not None and changed > self._switches:
            raise InputError(
                f"{in_a_word(self._allocator)} changes what {changed} clients train before round "
                f"{number}, more than its switches = {self._switches}: solve with "
                f"hasa_opt.Switches(seen.widths, {self._switches}) among the constraints"
            )

    def _left(self, number: int) -> float | None:
        if self._budget is None or self._over == "round":
            return self._budget
        spent = float(self._spent[:number].sum())
        return budget_left(self._budget, spent, number, self._rounds)


@dataclass(frozen=True, eq=False)
class Decided:
    """Stands for an allocator where all is decided beforehand.

    Attributes
    ----------
    first : Subnets
        What the clients train.
    keeps_models : bool
        Whether clients keep the model that they trained last: nobody asks for it.
    """

    first: Subnets
    keeps_models: bool = False

    def describe(self) -> dict[str, Any]:
        """Nothing more than the subnets."""
        return {}

    def fitting(self, server: Server) -> Server:
        """The server as it is given: blocks that it cannot average are refused."""
        return server

    def join(self, federation: Federation) -> None:
        """Watch nothing."""

    def judges(self, now: Round) -> bool:
        """No."""
        return False

    def watch(self, now: Round, judge: Callable[[Round], Verdicts]) -> None:
        """Judge nothing."""

    def decide(self, number: int, federation: Federation, record: Record) -> None:
        """Leave all as it is."""

    def go_on(self, federation: Federation, past: History) -> None:
        """Nothing was decided."""


def _plain(value: Any) -> Any:
    """Arrays as lists, and whatever else JSON does not know by its name."""
    return value.tolist() if hasattr(value, "tolist") else in_a_word(value)


def follow(federation: Federation, subnets: Subnets, number: int) -> None:
    """Let the clients train something else from a round on.

    Whose block of units begins elsewhere takes along, as a copy, what it held: units that several
    clients come to hold begin as the mean of their copies, weighted by samples. From then on units
    are averaged over those who hold them. Where clients share the supernet again, it begins as the
    mean of the models that they had.
    """
    before, after = federation.subnets, subnets.during(number, federation.rounds)
    if before.models is not None and after.models is None:
        federation.join_models()
    federation.plan, federation.server = subnets, federation.server.fitting(after)
    if not (before.has_blocks or after.has_blocks):
        return
    model, samples = federation.model, np.array(federation.samples)
    kinds: dict[tuple[float, float, float], float] = {}
    for row in np.flatnonzero(after.deploys > 0).tolist():
        width = min(before.deploys[row], after.deploys[row])
        key = float(width), before.start(row), after.start(row)
        kinds[key] = kinds.get(key, 0.0) + float(samples[row])
    extraction = Extraction(model)
    updates = [
        Update(width, weight, extraction.copy(block(model, width, old)), block(model, width, new))
        for (width, old, new), weight in kinds.items()
    ]
    model.load_state_dict(aggregate(model, updates, "selective"))
