"""Allocation policies that a study compares, by name.

A policy turns a :class:`Setting` into one width per client; :mod:`hasa_opt.policies.plans` then
finds the nearest widths that the network has. To add one, write a function and a line in
:data:`POLICIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from hasa_opt import rules
from hasa_opt._utils.checks import FloatArray
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem import utility
from hasa_opt.problem.choices import Coverage
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.limits import Constraint
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.rules.widths import by_difficulty, scaled_to_budget
from hasa_opt.solving.solver import solve

__all__ = [
    "OPTIONS",
    "POLICIES",
    "RECOMMENDED",
    "Policy",
    "Setting",
    "at_budget",
    "at_widest",
    "find_policy",
    "parse_policy",
]

COVERED_SHARE = 0.1
"""Least share of the training samples that the policy ``covered`` puts at the widest subnet."""

OPTIONS: dict[str, dict[str, Any]] = {
    "personal": {"deploy": "personal"},
    "selective": {"aggregation": "selective"},
    "full": {"aggregation": "full"},
    "local_bias": {"output_bias": "local"},
}
"""Options of the federated loop that a policy's name may carry, as in ``"hasa+personal"``.

``"n^0.5"`` besides weighs clients by that power of their samples.
"""

_POWER = "n^"
_SAME = 1e-12


class Measured(Protocol):
    """What a probe has measured, as far as a policy looks at it."""

    @property
    def utility(self) -> FloatArray:
        """What each client gains at each width, ``(n_clients, n_widths)``."""

    @property
    def loss(self) -> FloatArray:
        """Held-back loss of each client at each width, ``(n_clients, n_widths)``."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a policy may look at: training data columns and the budget, never the test data.

    Attributes
    ----------
    clients : Clients
    scores : (n_clients,) floats
    budget : float
    widths : tuple of float
        The menu; its ends bound the continuous rules.
    seed : int
        For policies that draw.
    cost : cost function
        What the budget is spent on.
    probe : callable, optional
        Measures what each client gains from width, on training data.
    """

    clients: Clients
    scores: FloatArray
    budget: float
    widths: tuple[float, ...]
    seed: int = 0
    cost: Cost = field(default_factory=width_cost)
    probe: Callable[[], Measured] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Narrowest and widest width."""
        return self.widths[0], self.widths[-1]

    @property
    def caps(self) -> FloatArray:
        """Widest width of each client within the menu, ``(n_clients,)``."""
        if self.clients.max_width is None:
            return np.full(len(self.clients), self.widths[-1])
        return np.minimum(self.clients.max_width, self.widths[-1])

    @property
    def limits(self) -> dict[str, Any]:
        """Budget, range of widths and caps, as the rules take them."""
        return {"budget": self.budget, "widths": self.ends, "caps": self.caps}

    def problem(
        self, worth: utility.Utility | None = None, constraints: Sequence[Constraint] = ()
    ) -> AllocationProblem:
        """The integer program of the setting, by default with the HASA utility."""
        return AllocationProblem.build(
            self.clients,
            widths=self.widths,
            budget=self.budget,
            utility=worth or utility.hasa(self.scores),
            cost=self.cost,
            constraints=constraints,
        )


@dataclass(frozen=True)
class Policy:
    """How widths are chosen, and which units of the supernet they take.

    Attributes
    ----------
    choose : callable
        Gives one width per client, ``(n_clients,)``.
    scheme : str
        Name in :data:`hasa_opt.federated.SCHEMES`. With "ordered_dropout" the widths are means of
        what the batches train.
    is_program : bool
        Whether it solves an integer program, which knows what a width costs. The widths of the
        other policies are scaled to budgets that are no width.
    coverage : float
        Least share of the training samples at the widest subnet.
    probes : bool
        Whether it asks the setting for a probe.
    scored : bool
        Whether it asks the setting for scores.
    """

    choose: Callable[[Setting], FloatArray]
    scheme: str = "prefix"
    is_program: bool = False
    coverage: float = 0.0
    probes: bool = False
    scored: bool = False

    def __call__(self, setting: Setting) -> FloatArray:
        """Widths of the clients, ``(n_clients,)``."""
        return self.choose(setting)


def _uniform(setting: Setting) -> FloatArray:
    return rules.uniform(setting.clients.samples, **setting.limits)


def _hasa(setting: Setting) -> FloatArray:
    return rules.hasa(setting.scores, setting.clients.samples, **setting.limits)


def _hasa_two_passes(setting: Setting) -> FloatArray:
    return rules.hasa(setting.scores, setting.clients.samples, passes=2, **setting.limits)


def _reverse(setting: Setting) -> FloatArray:
    return rules.reverse(setting.scores, setting.clients.samples, **setting.limits)


def _random(setting: Setting) -> FloatArray:
    return rules.random(setting.clients.samples, seed=setting.seed, **setting.limits)


def _capacity(setting: Setting) -> FloatArray:
    return rules.capacity(setting.clients.samples, **setting.limits)


def _inverse_size(setting: Setting) -> FloatArray:
    """The rule of HASA with the client's smallness as its score."""
    smallness = -setting.clients.samples.astype(np.float64)
    return rules.hasa(smallness, setting.clients.samples, **setting.limits)


def _tiers(setting: Setting) -> FloatArray:
    """Deal the widths of the menu to equally many clients each, by the seed (HeteroFL)."""
    samples = setting.clients.samples
    dealt = np.resize(setting.widths, samples.size)
    tiers = np.random.default_rng(setting.seed).permutation(dealt)
    return scaled_to_budget(np.minimum(tiers, setting.caps), samples, **setting.limits)


def _optimal(setting: Setting) -> FloatArray:
    return solve(setting.problem()).widths


def _covered(setting: Setting) -> FloatArray:
    return solve(setting.problem(constraints=at_widest(setting.widths, COVERED_SHARE))).widths


def _measured(setting: Setting) -> FloatArray:
    return _measured_optimum(setting, 0.0)


def _measured_covered(setting: Setting) -> FloatArray:
    return _measured_optimum(setting, COVERED_SHARE)


def _measured_optimum(setting: Setting, coverage: float) -> FloatArray:
    """The integer program with the utilities of the probe."""
    worth = utility.measured(_probed(setting).utility)
    return solve(setting.problem(worth, at_widest(setting.widths, coverage))).widths


def _by_difficulty(setting: Setting) -> FloatArray:
    """The narrowest width for the clients that the probe found easy."""
    loss = _probed(setting).loss.mean(axis=1)
    return by_difficulty(loss, setting.clients.samples, **setting.limits)


def _probed(setting: Setting) -> Measured:
    if setting.probe is None:
        raise InputError("a measured policy needs a probe: use it in a Study, or give Setting one")
    return setting.probe()


RECOMMENDED = "recommended"
"""Name that a study replaces by the policy that its forecast recommends."""

POLICIES: dict[str, Policy] = {
    "uniform": Policy(_uniform),
    "hasa": Policy(_hasa, scored=True),
    "hasa_two_passes": Policy(_hasa_two_passes, scored=True),
    "reverse": Policy(_reverse, scored=True),
    "random": Policy(_random),
    "capacity": Policy(_capacity),
    "inverse_size": Policy(_inverse_size),
    "optimal": Policy(_optimal, is_program=True, scored=True),
    "covered": Policy(_covered, is_program=True, coverage=COVERED_SHARE, scored=True),
    "measured": Policy(_measured, is_program=True, probes=True),
    "measured_covered": Policy(
        _measured_covered, is_program=True, coverage=COVERED_SHARE, probes=True
    ),
    "by_difficulty": Policy(_by_difficulty, probes=True),
    "heterofl": Policy(_tiers),
    "fedrolex": Policy(_uniform, scheme="rolling"),
    "federated_dropout": Policy(_uniform, scheme="random"),
    "fjord": Policy(_uniform, scheme="ordered_dropout"),
}
"""Name to policy."""


def at_widest(widths: Sequence[float] | FloatArray, share: float) -> list[Constraint]:
    """Limit that puts at least a share of the training samples at the widest subnet; 0: none."""
    return [Coverage({float(widths[-1]): share})] if share else []


def at_budget(policy: Policy, setting: Setting, share: Callable[[FloatArray], float]) -> FloatArray:
    """Widths of a policy that spend the budget of a resource.

    A rule is asked at the width budget that does so. The answer of an integer program, which
    leaves a rest, is scaled within the range of widths and the caps.

    Parameters
    ----------
    policy : Policy
    setting : Setting
    share : callable
        What widths spend, as a share of what the full width would cost.

    Returns
    -------
    (n_clients,) floats
        Those that come nearest where none spend it.
    """
    low, high = setting.ends
    if policy.is_program:
        answer, caps = policy(setting), setting.caps
        return _spending(
            lambda scale: np.clip(scale * answer, low, caps), share, setting.budget, 1.0, high / low
        )
    return _spending(
        lambda budget: policy(replace(setting, budget=budget)), share, setting.budget, low, high
    )


def _spending(
    widths: Callable[[float], FloatArray],
    share: Callable[[FloatArray], float],
    budget: float,
    low: float,
    high: float,
) -> FloatArray:
    """Widths at the argument that spends the budget, or at the end that comes nearest."""
    from scipy.optimize import brentq

    def excess(argument: float) -> float:
        return share(widths(argument)) - budget

    if excess(low) >= 0:
        return widths(low)
    if excess(high) <= 0:
        return widths(high)
    return widths(brentq(excess, low, high, xtol=_SAME))


def find_policy(name: str) -> Policy:
    """Policy of a name.

    Raises
    ------
    InputError
        Naming the known policies.
    """
    if name not in POLICIES:
        raise InputError(f"policy {name!r} is not known: choose from {', '.join(POLICIES)}")
    return POLICIES[name]


def parse_policy(text: str) -> tuple[Policy, dict[str, Any]]:
    """Read a policy with options of the loop, such as ``"hasa+personal+n^0.5"``.

    Returns
    -------
    tuple
        The policy, and arguments of :func:`hasa_opt.federated.run`.

    Raises
    ------
    InputError
        Naming the known policies or options.
    """
    name, *parts = text.split("+")
    options: dict[str, Any] = {}
    for part in parts:
        if part in OPTIONS:
            given = OPTIONS[part]
        elif part.startswith(_POWER):
            given = {"weight_power": _power(text, part.removeprefix(_POWER))}
        else:
            known = ", ".join([*OPTIONS, f"{_POWER}0.5"])
            raise InputError(f"option {part!r} of {text!r} is not known: choose from {known}")
        if given.keys() & options.keys():
            raise InputError(f"option {part!r} of {text!r} overrides another one: give one of them")
        options |= given
    return find_policy(name), options


def _power(text: str, digits: str) -> float:
    try:
        return float(digits)
    except ValueError as error:
        raise InputError(f"the power {digits!r} of {text!r} is no number: write n^0.5") from error
