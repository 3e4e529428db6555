"""The policies that a study compares, by name.

To add one, write a function from a :class:`Setting` to widths, and a line in :data:`POLICIES`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasa_opt import rules
from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.registry import Registry
from hasa_opt._utils.streams import Purpose, client_numbers, priorities
from hasa_opt.errors import InputError
from hasa_opt.policies.clustered import Clustered
from hasa_opt.policies.dynamic import DynamicTiers, tiers_of_round
from hasa_opt.policies.policy import Policy, split_name
from hasa_opt.policies.recommended import Recommended, spaced
from hasa_opt.policies.setting import Measured, Setting, at_widest
from hasa_opt.policies.whole_units import Meter
from hasa_opt.problem import utility
from hasa_opt.rules.groups import by_counts
from hasa_opt.rules.widths import scaled_to_budget
from hasa_opt.solving.solver import solve

__all__ = ["COVERED_SHARE", "POLICIES", "RECOMMENDED", "read_policy"]

COVERED_SHARE = 0.1
"""Least share of the training samples that the policy ``covered`` puts at the widest subnet."""

HETEROFL = ("selective", "scaler", "subnet")
"""Averages, trains and deploys as HeteroFL does (arXiv:2010.01264, section 3)."""

SERVER_MODEL = ("selective", "uncut")
"""As FedRolex (arXiv:2212.01548) and Federated Dropout (arXiv:1812.07210): each coordinate is
averaged over those who trained it, and the server's whole model is what is tested."""

DITTO = ("ditto^1", "personal", "last_local")
"""Ditto (arXiv:2012.04221): lambda is 1, a choice; the client's own model is what it deploys."""

RECOMMENDED = "recommended"
"""Rule that decides about its options too: :class:`hasa_opt.policies.recommended.Recommended`."""


def _uniform(setting: Setting) -> FloatArray:
    return rules.uniform(setting.clients.samples, **setting.limits)


def _hasa(setting: Setting) -> FloatArray:
    return rules.hasa(setting.scores, setting.clients.samples, **setting.limits)


def _hasa_two_passes(setting: Setting) -> FloatArray:
    return rules.hasa(setting.scores, setting.clients.samples, passes=2, **setting.limits)


def _reverse(setting: Setting) -> FloatArray:
    return rules.reverse(setting.scores, setting.clients.samples, **setting.limits)


def _random(setting: Setting) -> FloatArray:
    clients = setting.clients
    return rules.random(
        clients.samples, seed=setting.seed, names=clients.all_names, **setting.limits
    )


def _capacity(setting: Setting) -> FloatArray:
    return rules.capacity(setting.clients.samples, **setting.limits)


def _smallest(setting: Setting) -> FloatArray:
    return rules.smallest(setting.clients.samples, **setting.limits)


def _exclude(setting: Setting) -> FloatArray:
    return rules.exclude(setting.clients.samples, level=setting.level, **setting.limits)


def _inverse_size(setting: Setting) -> FloatArray:
    """The rule of HASA with the client's smallness as its score."""
    smallness = -setting.clients.samples.astype(np.float64)
    return rules.hasa(smallness, setting.clients.samples, **setting.limits)


def _tiers(setting: Setting) -> FloatArray:
    """Deal the widths of the menu to equally many clients each, by the seed (HeteroFL).

    Each client draws a number, and those with the smallest get the narrowest width: one that joins
    moves at most one other past each end of a tier.
    """
    samples = setting.clients.samples
    numbers = client_numbers(setting.clients.all_names)
    order = np.argsort(priorities(Purpose.POLICY, (setting.seed,), numbers))
    tiers = np.empty(samples.size)
    tiers[order] = np.sort(np.resize(setting.widths, samples.size))
    return scaled_to_budget(np.minimum(tiers, setting.caps), samples, **setting.limits)


def _own_units(setting: Setting, widths: FloatArray) -> FloatArray:
    """Blocks of alike clients, evenly spaced over the supernet; all at 0 without groups."""
    return spaced(by_counts(setting.counts), widths)


def _one_each(setting: Setting) -> IntArray:
    """A model for each client."""
    return np.arange(len(setting.clients))


def _one_per_group(setting: Setting) -> IntArray | None:
    """A model for each group of alike clients; the supernet for all without groups."""
    groups = by_counts(setting.counts)
    return groups if groups.any() else None


def _first_tiers(setting: Setting) -> FloatArray:
    return tiers_of_round(setting, 0)


def _heterofl_dynamic(setting: Setting, meter: Meter, rounds: int, _: bool) -> DynamicTiers:
    return DynamicTiers(setting, meter, rounds)


def _fedrolex_dynamic(setting: Setting, meter: Meter, rounds: int, _: bool) -> DynamicTiers:
    return DynamicTiers(setting, meter, rounds, scheme="rolling")


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


def _probed(setting: Setting) -> Measured:
    if setting.probe is None:
        raise InputError("a measured policy needs a probe: use it in a Study, or give Setting one")
    return setting.probe()


_OURS = (
    Policy("uniform", _uniform, meaning="the same width for all"),
    Policy("hasa", _hasa, scored=True, meaning="the wider, the more unlike the others its data"),
    Policy(
        "hasa_two_passes",
        _hasa_two_passes,
        scored=True,
        meaning="hasa, scaled to the budget as the paper writes it, which may miss it",
    ),
    Policy("reverse", _reverse, scored=True, meaning="hasa turned round, as a control"),
    Policy("random", _random, meaning="widths by chance, as a control"),
    Policy("capacity", _capacity, meaning="in proportion to what the devices can train"),
    Policy("smallest", _smallest, spends_less=True, meaning="all at what the weakest can train"),
    Policy(
        "exclude",
        _exclude,
        leaves_out=True,
        meaning="who cannot train the common width is left out, and tested all the same",
    ),
    Policy("inverse_size", _inverse_size, meaning="hasa with fewer samples as the score"),
    Policy(
        "optimal",
        _optimal,
        is_program=True,
        scored=True,
        meaning="optimum of the integer program with the utility of hasa",
    ),
    Policy(
        "covered",
        _covered,
        is_program=True,
        scored=True,
        meaning="optimal, with a tenth of the samples at the widest width at least",
    ),
    Policy(
        "measured",
        _measured,
        is_program=True,
        probes=True,
        meaning="optimum by what a probe has measured of each client at each width",
    ),
    Policy(
        "measured_covered",
        _measured_covered,
        is_program=True,
        probes=True,
        meaning="measured, with a tenth of the samples at the widest width at least",
    ),
    Policy("heterofl", _tiers, method=HETEROFL, meaning="tiers of widths, dealt once (HeteroFL)"),
    Policy(
        "heterofl_dynamic",
        _first_tiers,
        allocator=_heterofl_dynamic,
        method=HETEROFL,
        meaning="tiers of widths, dealt anew each round (HeteroFL)",
    ),
    Policy(
        "fedrolex",
        _uniform,
        scheme="rolling",
        method=SERVER_MODEL,
        meaning="the same width for all, of units that roll on each round (FedRolex)",
    ),
    Policy(
        "fedrolex_dynamic",
        _first_tiers,
        scheme="rolling",
        allocator=_fedrolex_dynamic,
        method=SERVER_MODEL,
        meaning="tiers dealt anew each round, of units that roll on (FedRolex)",
    ),
    Policy(
        "federated_dropout",
        _uniform,
        scheme="random",
        method=SERVER_MODEL,
        meaning="the same width for all, of units drawn each round (Federated Dropout)",
    ),
    Policy(
        "groups",
        _uniform,
        starts=_own_units,
        meaning="units of their own for groups that the counts of labels show",
    ),
    Policy(
        "clustered",
        _uniform,
        models=_one_per_group,
        meaning="a model of their own for groups that the counts of labels show",
    ),
    Policy(
        "clustered_found",
        _uniform,
        allocator=Clustered,
        meaning="a model of their own for groups that counts or updates show",
    ),
    Policy("local", _uniform, models=_one_each, meaning="each client alone, nothing is sent"),
    Policy(
        "ditto",
        _uniform,
        method=DITTO,
        meaning="a model of each client's own, pulled to the common one (Ditto)",
    ),
    Policy(
        "fjord",
        _uniform,
        scheme="ordered_dropout",
        method=("selective", "subnet"),
        meaning="the same mean width for all, drawn for each batch (FjORD)",
    ),
    Policy(
        RECOMMENDED,
        _uniform,
        allocator=Recommended,
        meaning="units of their own for groups that are found, or going on alone where that pays",
    ),
)

POLICIES: Registry[Policy] = Registry("policies", {policy.rule: policy for policy in _OURS})
"""Policies by the names of their rules, those that other packages add among them."""


def read_policy(given: str | Policy) -> Policy:
    """Read a policy by its name, which may carry options, as in ``"hasa+personal+n^0.5"``.

    Raises
    ------
    InputError
        Naming the known policies or options.
    """
    if isinstance(given, Policy):
        policy = given
    elif isinstance(given, str):
        rule, options = split_name(given)
        if rule not in POLICIES:
            raise InputError(f"policy {rule!r} is not known: choose from {', '.join(POLICIES)}")
        policy = replace(POLICIES[rule], rule=rule, options=options)
    else:
        raise InputError(
            f"policy {given!r} is neither a name nor a Policy: choose from {', '.join(POLICIES)}"
        )
    if policy.rule == RECOMMENDED and policy.options:
        raise InputError(
            f"policy {policy.name!r} has options, about which {policy.rule!r} decides: leave them "
            "out"
        )
    return policy
