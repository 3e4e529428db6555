"""What a study compares and how it trains: all that is known, and checked, before any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from itertools import combinations
from typing import Any, Literal

from hasa_opt._utils.checks import FloatArray, listed, number, several, whole
from hasa_opt._utils.rational import told_from, written
from hasa_opt._utils.showing import in_a_word
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.federated.execution import GROUPS, Execution, check_groups
from hasa_opt.federated.participation import Participation
from hasa_opt.federated.settings import Evaluation, LocalTraining, Server, check_choice, check_run
from hasa_opt.models import SupernetModel, training_flops, units
from hasa_opt.models.inputs import Inputs
from hasa_opt.policies import MENU, RECOMMENDED, Policy, Setting, read_policy
from hasa_opt.policies.budget import BUDGET_TOLERANCE
from hasa_opt.policies.policy import PERSONAL
from hasa_opt.policies.setting import Measured
from hasa_opt.policies.whole_units import Meter
from hasa_opt.problem import cost
from hasa_opt.problem.cost import Cost
from hasa_opt.rules.numeric import frechet
from hasa_opt.rules.scores import SCORES
from hasa_opt.tasks import Task
from hasa_opt.tasks.moments import Side
from hasa_opt.tasks.splits import samples_to_try

__all__ = ["SetUp"]

METERS: dict[str, Callable[[SupernetModel, Inputs], Callable[[float], int]]] = {
    "width": lambda model, sample: partial(units, model),
    "flops": lambda model, sample: partial(training_flops, model, sample=sample),
}
"""What a budget can be spent on, and the cost of training a sample at a width."""

ROUNDS_BY = {
    "fixed": "the last one counts",
    "validation": "the best on validation data counts",
}
"""Which round counts, in words."""

MOMENTS: dict[str, Side] = {"input_moments": "inputs", "target_moments": "targets"}
"""Scores of what is not counted, and which half of the samples they look at."""


@dataclass(frozen=True, eq=False)
class SetUp:
    """What a study compares and how it trains.

    Attributes
    ----------
    task : Task
    model : SupernetModel
        Gives the architecture; each seed draws its own initial weights.
    policies : sequence of str or Policy
        Names in :data:`hasa_opt.policies.POLICIES`, which may carry options of the training:
        ``"hasa+personal"``, ``"uniform+selective"``, ``"uniform+n^0.5"``,
        ``"uniform+local_bias"``. ``"recommended"`` decides while the clients train, also about
        personal models and output bias, and takes no options. They are read: the study holds
        policies.
    seeds : sequence of int
    budget : float
        Sample-weighted mean cost, as a share of the whole supernet's.
    budget_in : {"width", "flops"}
        What the budget is spent on; the paper's is "width".
    widths : sequence of float
        Menu of the integer program; its ends bound the continuous rules.
    rounds : int
    training : LocalTraining
    server : Server
    evaluation : Evaluation
        A study measures the supernet and the personal models of all runs, whatever ``also`` says;
        which policies deploy personal models is part of their names.
    participation : Participation
        As for :func:`hasa_opt.federated.run`.
    execution : Execution
        How and where the runs are trained. Probes are measured on this machine. All
        machines of a Ray cluster must share the ``directory`` of :meth:`Study.run`, if one is
        given. The numbers do not depend on ``executor`` and ``workers``.
    max_width : sequence of float, optional
        Widest subnet of each client's device, for training and deployment. Default: no caps, so
        that the policy ``"capacity"`` is ``"uniform"``.
    rounds_by : {"fixed", "validation"}
        Which round counts: the last one, or the one with the best pooled validation metric of
        what the run deploys before any personal model is made.
    probe_rounds : int
        Rounds of the probe, for the policies that need one. It knows no faults, averages all
        coordinates by samples, and interpolates personal models as :class:`Evaluation` does by
        default where validation data are to choose.
    score : str
        Name in :data:`~hasa_opt.rules.scores.SCORES`, of what the task counts: tokens, classes or
        labels, or how many numbers lie in each tenth of all clients'. Or "input_moments" or
        "target_moments": :func:`~hasa_opt.rules.numeric.frechet` of their means and variances,
        where they are numbers.
    command : str, optional
        Command line that repeats the study, for the report.

    Raises
    ------
    InputError
        For an unknown name or a value that breaks a rule, before any work starts.
    """

    task: Task
    model: SupernetModel
    policies: Sequence[str | Policy] = ("uniform", "hasa", "reverse", "optimal")
    seeds: Sequence[int] = (0, 1, 2)
    budget: float = 0.5
    budget_in: Literal["width", "flops"] = "width"
    widths: Sequence[float] = MENU
    rounds: int = 10
    training: LocalTraining = LocalTraining()
    server: Server = Server()
    evaluation: Evaluation = Evaluation()
    participation: Participation = Participation()
    execution: Execution = Execution()
    max_width: Sequence[float] | None = None
    rounds_by: Literal["fixed", "validation"] = "fixed"
    probe_rounds: int = 6
    score: str = "jensen_shannon"
    command: str | None = None

    def __post_init__(self) -> None:
        given = (self.policies,) if isinstance(self.policies, Policy) else self.policies
        values = {"policies": given, "seeds": self.seeds, "widths": self.widths}
        for name, value in values.items():
            read = several(value, name)
            if not read:
                raise InputError(f"{name} is empty: give at least one")
            object.__setattr__(self, name, read)
        object.__setattr__(self, "policies", tuple(map(read_policy, self.policies)))
        _check(self)

    def __getstate__(self) -> dict[str, Any]:
        """What was given, without what can be computed again: not all of it can be sent."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def compared(self) -> dict[str, Policy]:
        """The policies by their names."""
        return {policy.name: policy for policy in map(read_policy, self.policies)}

    @cached_property
    def clients(self) -> Clients:
        """Columns of the clients, from training data, with the caps of their devices."""
        known = self.task.clients()
        if self.max_width is None:
            return known
        return Clients(
            known.samples, counts=known.counts, names=known.names, max_width=self.max_width
        )

    @property
    def partial(self) -> bool:
        """Whether not all clients take part in all rounds."""
        given = self.participation
        return given.draws(len(self.task)) or given.faults is not None or given.has_deadline

    @cached_property
    def scores(self) -> FloatArray:
        """How heterogeneous each client's training data are, ``(n_clients,)``."""
        if self.score in MOMENTS:
            return frechet(*self.task.moments(MOMENTS[self.score]))
        return SCORES[self.score](self.task.counts)

    @cached_property
    def meter(self) -> Meter:
        """What the network charges for training a sample."""
        split = next(iter(samples_to_try(self.task.train).values()))
        return Meter.of(self.model.sizes, METERS[self.budget_in](self.model, split.blank().inputs))

    @cached_property
    def menu_cost(self) -> Cost:
        """What the widths of the menu cost."""
        if not cost.RESOURCES[self.budget_in].profiled:
            return cost.named(self.budget_in)
        charges = self.meter.in_time(self.widths, self.widths[0], self.widths[-1])
        return cost.table(charges, full=self.meter.cost(1.0))

    @property
    def description(self) -> dict[str, str]:
        """Lines that describe how the study trains and deploys, by title."""
        training, server, evaluation = self.training, self.server, self.evaluation
        drawn, faults = self.participation.clients_per_round, self.participation.faults
        sizes = ", ".join(f"{group} {size}" for group, size in self.model.sizes.items())
        aggregation = f"{server.aggregation}, clients weigh by samples^{server.weight_power:g}"
        if server.optimizer is not None:
            aggregation += f", stepped by {in_a_word(server.optimizer)}"
        return {
            "Supernet": f"{type(self.model).__name__} ({sizes})",
            **self._learning,
            "Local training": f"{training.epochs} epoch(s), batches of {training.batch_size}",
            "Rounds": f"{self.rounds}, {ROUNDS_BY[self.rounds_by]}",
            "Budget": f"{self.budget:g} of the supernet's {self.budget_in}",
            "Optimiser": _optimiser(training),
            "Aggregation": aggregation,
            **self._methods,
            "Output bias": training.output_bias,
            "Personal models": f"interpolation {evaluation.interpolation}",
            "Engine": self.execution.engine,
            "Clients per round": "all" if drawn is None else str(drawn),
            "Caps": "none" if self.max_width is None else "given",
            "Faults": "none" if faults is None else str(faults),
            **_times(self.participation),
            "Evaluation": f"each client's test data on the {evaluation.on}",
            "Score": self._score,
        }

    @property
    def _learning(self) -> dict[str, str]:
        """Loss and metric, where they are not those of classes that are judged by accuracy."""
        problem = self.task.problem
        if not problem.describe():
            return {}
        judged = f"{problem.metric_name}, {problem.scale.direction}"
        return {"Loss": problem.loss_name, "Judged by": judged}

    @property
    def _methods(self) -> dict[str, str]:
        """Policies that are trained and tested as their authors meant them, whatever is given."""
        found = [
            f"{policy.name} ({', '.join(policy.method)})"
            for policy in self.compared.values()
            if policy.method
        ]
        return {"Of their own": "; ".join(found)} if found else {}

    @property
    def _score(self) -> str:
        """The score, and what it is of where the task says it."""
        counted = "" if self.score in MOMENTS else self.task.counted
        return f"{self.score} of counts: {counted}" if counted else self.score

    def setting_for(self, seed: int, probe: Callable[[], Measured] | None = None) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu.

        Parameters
        ----------
        seed : int
        probe : callable, optional
            Measures what each client gains from width.
        """
        menu = tuple(self.widths)
        return Setting(self.clients, self.scores, self.budget, menu, seed, self.menu_cost, probe)


def _times(participation: Participation) -> dict[str, str]:
    """Clock and availability, where they are given."""
    clock, found = participation.clock, {}
    if clock is not None:
        found["Clock"] = "given" if clock.deadline_s is None else "given, with a deadline"
    if participation.availability is not None:
        found["Availability"] = "given"
    return found


def _check(setup: SetUp) -> None:
    """Refuse what a run or a probe of the study would refuse later."""
    check_groups(**{name: getattr(setup, name) for name in GROUPS})
    check_run(setup.model, setup.task, setup.rounds, *setup.seeds)
    _check_repeated(setup)
    for policy in setup.compared.values():
        _check_policy(setup, policy)
    setup.participation.check(setup.task)
    check_choice("budget_in", setup.budget_in, METERS)
    check_choice("rounds_by", setup.rounds_by, ROUNDS_BY)
    if setup.rounds_by == "validation" and setup.participation.draws(len(setup.task)):
        raise InputError(
            'rounds_by="validation" needs all clients in each round, not clients_per_round = '
            f"{setup.participation.clients_per_round} or an availability: of some of them only the "
            "last round measures all. Leave one of them out"
        )
    if setup.score not in SCORES and setup.score not in MOMENTS:
        names = ", ".join([*SCORES, *MOMENTS])
        raise InputError(f"score {setup.score!r} is not known: choose from {names}")
    whole(setup.probe_rounds, "probe_rounds", least=1)
    _check_budget(setup)


def _check_policy(setup: SetUp, policy: Policy) -> None:
    """Refuse options that do not fit the study."""
    policy.changed("server", setup.server)
    policy.changed("training", setup.training)
    on = setup.evaluation.on
    if on == "personal":
        raise InputError(
            'a study measures common and personal models of every run, so that on = "personal" '
            f'would hide one of them: name policies, such as "{policy}+{PERSONAL}"'
        )
    if on == "supernet" and (policy.rule == RECOMMENDED or policy.is_personal):
        raise InputError(
            f'policy {policy.name!r} deploys personal subnets, which on = "supernet" does not '
            'test: use Evaluation(on="subnet"), or leave the policy out'
        )


def _check_repeated(setup: SetUp) -> None:
    """Refuse what would count twice, also the same policy with its options in another order."""
    names = [policy.name for policy in map(read_policy, setup.policies)]
    for what, values in (("policies", names), ("seeds", setup.seeds)):
        again = [value for value, times in Counter(values).items() if times > 1]
        if again:
            raise InputError(f"{what} repeat a value ({listed(again)}): give each once")
    for first, second in combinations(setup.compared.values(), 2):
        if first.same_as(second):
            raise InputError(
                f"policies {first.name!r} and {second.name!r} are the same: give one of them"
            )


def _check_budget(setup: SetUp) -> None:
    """Refuse a budget that no widths of the menu can spend, or that is not enough for any."""
    number(setup.budget, "budget")
    problem = setup.setting_for(setup.seeds[0]).problem()
    problem.check_budget()
    widest = problem.share_of(problem.dearest)
    if problem.share > widest * (1 + BUDGET_TOLERANCE):
        raise InputError(
            f"budget {written(problem.share)} is above the widest possible allocation "
            f"({told_from(widest, problem.share)}): policies are compared where they spend it. "
            "Lower the budget or add a wider width"
        )


def _optimiser(training: LocalTraining) -> str:
    """How clients step, in words."""
    words = [in_a_word(training.optimizer), f"learning rate {training.learning_rate:g}"]
    if training.schedule is not None:
        words.append(f"times {in_a_word(training.schedule)}")
    if training.clip_norm is not None:
        words.append(f"gradients clipped to {training.clip_norm:g}")
    if training.proximal:
        words.append(f"proximal {training.proximal:g}")
    return ", ".join(words)
