"""A policy: a named rule of widths, which units they take, and what it changes in the training."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.policies.setting import Setting
from hasa_opt.problem.result import Allocation

__all__ = ["LOCAL_BIAS", "OPTIONS", "PERSONAL", "Policy", "full_name", "split_name"]

PERSONAL: Final = "personal"
LOCAL_BIAS: Final = "local_bias"

Change = tuple[str, str, Any]
"""Group of settings, its field, and the value."""

OPTIONS: dict[str, Change] = {
    PERSONAL: ("evaluation", "on", "personal"),
    "selective": ("server", "aggregation", "selective"),
    "full": ("server", "aggregation", "full"),
    LOCAL_BIAS: ("training", "output_bias", "local"),
    "scaler": ("training", "scaler", True),
    "subnet": ("evaluation", "on", "subnet"),
    "last_local": ("evaluation", "interpolation", 1.0),
    "uncut": ("evaluation", "on", "supernet"),
}
"""Changes to the settings of a run that a policy's name may carry, as in ``"hasa+personal"``.

``"n^0.5"`` besides weighs clients by that power of their samples, ``"ditto^0.1"`` sets the lambda
of Ditto.
"""

_NUMBERS = {"n^": ("server", "weight_power"), "ditto^": ("training", "ditto")}
_MARK = "+"

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Policy:
    """How widths are chosen, which units of the supernet they take, and how these are trained.

    Attributes
    ----------
    rule : str
        Name of the rule of widths.
    choose : callable
        From a :class:`Setting` to one width per client, ``(n_clients,)``.
    scheme : str
        Name in :data:`hasa_opt.federated.SCHEMES`. With "ordered_dropout" the widths are means of
        what the batches train.
    is_program : bool
        Whether it solves an integer program, which knows what a width costs. Other policies take a
        mean width for their budget, which is chosen so that a budget of FLOPs is spent.
    probes : bool
        Whether it asks the setting for a probe.
    scored : bool
        Whether it asks the setting for scores.
    leaves_out : bool
        Whether it may leave clients out of training: their width is 0.
    spends_less : bool
        Whether it may spend less than the budget, and then no more under a larger one.
    starts : callable, optional
        From a :class:`Setting` and the clients' widths to the share of the units before each
        client's, as in :class:`Subnets`. Default: all hold the first units.
    models : callable, optional
        From a :class:`Setting` to the number of the model that each client trains, as in
        :class:`Subnets`, or to None. Default: all share the supernet.
    allocator : callable, optional
        From a :class:`Setting`, the :class:`~hasa_opt.policies.whole_units.Meter` of the network,
        the rounds of the run and whether a higher metric is better to a
        :class:`hasa_opt.federated.Allocator`, which decides while the clients train. ``choose``
        gives what they train at first.
    method : tuple of str
        What belongs to the policy as its authors meant it, whatever the settings of a run say:
        options like those below, which override it and show in the name.
    options : tuple of str
        Changes to the settings of a run: names in :data:`OPTIONS`, or a number such as ``"n^0.5"``.
    meaning : str
        What it does, in half a sentence, for reports.

    Raises
    ------
    InputError
        If the rule has no name, an option is unknown, or one overrides another.
    """

    rule: str
    choose: Callable[[Setting], FloatArray]
    scheme: str = "prefix"
    is_program: bool = False
    probes: bool = False
    scored: bool = False
    leaves_out: bool = False
    spends_less: bool = False
    starts: Callable[[Setting, FloatArray], FloatArray] | None = None
    models: Callable[[Setting], IntArray | None] | None = None
    allocator: Callable[[Setting, Any, int, bool], Any] | None = None
    method: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    meaning: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str) or not self.rule or _MARK in self.rule:
            raise InputError(f"rule {self.rule!r} of a policy must be a name without {_MARK!r}")
        for options in (self.method, self.options):
            changed: set[tuple[str, str]] = set()
            for option in options:
                group, field, _ = _change(option, self.name)
                if (group, field) in changed:
                    raise InputError(
                        f"option {option!r} of {self.name!r} overrides another one: give one of "
                        "them"
                    )
                changed.add((group, field))

    def __call__(self, setting: Setting) -> FloatArray:
        """Widths of the clients, ``(n_clients,)``.

        Raises
        ------
        InputError
            If its function gives an allocation: what else its options are would be ignored.
        """
        found = self.choose(setting)
        if isinstance(found, Allocation):
            raise InputError(
                f"policy {self.name!r} gives an Allocation, of which all but the widths would be "
                "ignored: give allocation.widths, or train the allocation by federated.run"
            )
        return found

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The rule and its options, such as ``"hasa+personal"``."""
        return full_name(self.rule, self.options)

    @property
    def plain(self) -> Policy:
        """The same rule without options."""
        return replace(self, options=())

    def having(self, *options: str) -> Policy:
        """The same policy with further options."""
        return replace(self, options=(*self.options, *options))

    def same_as(self, other: Policy) -> bool:
        """Whether both have the same rule and the same options in any order."""
        return self.rule == other.rule and set(self.options) == set(other.options)

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """What its method and its options change: group of settings -> field -> value."""
        found: dict[str, dict[str, Any]] = {}
        for option in (*self.method, *self.options):
            group, field, value = _change(option, self.name)
            found.setdefault(group, {})[field] = value
        return found

    @property
    def is_personal(self) -> bool:
        """Whether clients deploy models of their own, made of the common and the local one."""
        return bool(self.changes.get("evaluation", {}).get("on") == PERSONAL)

    @property
    def common(self) -> Policy:
        """The same policy, deploying the common model."""
        method, options = (
            tuple(option for option in given if option != PERSONAL)
            for given in (self.method, self.options)
        )
        return replace(self, method=method, options=options)

    def changed(self, group: str, settings: Settings) -> Settings:
        """Settings of a run with what the options change in them.

        Parameters
        ----------
        group : str
            Keyword of :func:`hasa_opt.federated.run` whose value they are, such as "server".
        settings : dataclass instance
        """
        return replace(settings, **self.changes.get(group, {}))  # type: ignore[type-var]


def split_name(name: str) -> tuple[str, tuple[str, ...]]:
    """Rule and options of a policy's name.

    >>> split_name("hasa+personal+n^0.5")
    ('hasa', ('personal', 'n^0.5'))
    """
    rule, *options = name.split(_MARK)
    return rule, tuple(options)


def full_name(rule: str, options: Collection[str]) -> str:
    """Name of a policy of this rule and these options.

    >>> full_name("hasa", ["personal", "n^0.5"])
    'hasa+personal+n^0.5'
    """
    return _MARK.join((rule, *options))


def _change(option: str, name: str) -> Change:
    if option in OPTIONS:
        return OPTIONS[option]
    for mark, (group, field) in _NUMBERS.items():
        if option.startswith(mark):
            return group, field, _number(mark, option.removeprefix(mark), name)
    known = ", ".join([*OPTIONS, *(f"{mark}0.5" for mark in _NUMBERS)])
    raise InputError(f"option {option!r} of {name!r} is not known: choose from {known}")


def _number(mark: str, digits: str, name: str) -> float:
    try:
        return float(digits)
    except ValueError as error:
        raise InputError(f"{mark}{digits} of {name!r} has no number: write {mark}0.5") from error
