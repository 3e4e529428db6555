"""What to do with a probe: uniform or ordered dropout, and what a pilot confirms to be better.

A pure decision on measurements: nothing is trained here.

*Ordered dropout* is what the probe's supernet was trained by, while its control was trained at the
width of the budget. It is taken where devices may deploy wider than they train on average and it
was ahead of the control there.

Elsewhere a probe makes *proposals*: the measured optimum where the whole interval of its headroom
is above zero, and the narrowest width for easy clients where the held-back losses fall into two
groups. No table knows what training under an allocation does, so a proposal is taken only after a
pilot in which the whole interval of its gain is above zero over uniform *and* over uniform with
personal deployment; of several, the one with the largest gain. By default that is an interval of
one standard error, as in the 1-SE rule of model selection (Breiman et al., Classification and
Regression Trees, 1984): a wrong choice within the noise costs little, and 95 % intervals hardly
ever choose.

*Personal deployment* costs no training, and under uniform it gains more after a whole run than
after the few rounds of a probe, so it is taken unless the whole interval of its measured gain is
below zero. So is an *output bias* that each client trains alone, by what the probe has measured
that it gains beyond that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, confidence_level, expect, float_array, number
from hasa_opt._utils.rational import SAME_WIDTH, widest_within, written
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.forecast.gains import Gain
from hasa_opt.forecast.piloting import ENDING, Pilot
from hasa_opt.forecast.prediction import Headroom, headroom
from hasa_opt.forecast.probing import Control, Probe
from hasa_opt.policies import POLICIES, Policy, Subnets
from hasa_opt.policies.catalogue import COVERED_SHARE
from hasa_opt.policies.policy import LOCAL_BIAS, PERSONAL
from hasa_opt.problem.choices import Coverage
from hasa_opt.rules.difficulty import by_difficulty, easy_clients, falls_in_two

__all__ = ["Proposal", "Recommendation", "advise", "recommend"]

_UNIFORM = POLICIES["uniform"]


class Proposal(NamedTuple):
    """What a probe gives reason to try in a pilot.

    Attributes
    ----------
    policy : Policy
    subnets : Subnets
        On the menu of the probe.
    reason : str
    """

    policy: Policy
    subnets: Subnets
    reason: str


@dataclass(frozen=True, eq=False)
class Recommendation:
    """Which policy to train, with its subnets.

    Attributes
    ----------
    policy : Policy
        Its options say whether clients deploy personal models ("personal") and whether each trains
        an output bias of its own ("local_bias"); the bias holds for the pilot, too.
    subnets : Subnets
        Under the scheme "ordered_dropout", batches train narrower widths than those given, and
        their mean is the budget.
    reason : str
    headroom : Headroom
    proposals : tuple of Proposal
        What a pilot should compare with uniform, or has compared.
    """

    policy: Policy
    subnets: Subnets
    reason: str
    headroom: Headroom
    proposals: tuple[Proposal, ...] = ()

    @property
    def to_pilot(self) -> dict[str, Subnets]:
        """What a pilot is to train, by the names of rules: uniform, and all proposals."""
        tried = {proposal.policy.rule: proposal.subnets for proposal in self.proposals}
        return {_UNIFORM.rule: Subnets(self.headroom.uniform), **tried}

    def __str__(self) -> str:
        return self.reason


def advise(
    probe: Probe,
    clients: Clients,
    budget: float,
    *,
    pilot: Callable[[Recommendation], Pilot] | None = None,
    **options: Any,
) -> tuple[Recommendation, Pilot | None]:
    """Recommend by a probe and, where it proposes something, by a pilot of that.

    Parameters
    ----------
    probe : Probe
    clients : Clients
    budget : float
    pilot : callable, optional
        From what is recommended without a pilot to the pilot of its proposals. Default: none is
        made.
    **options : Any
        Further arguments of :func:`recommend`.

    Returns
    -------
    tuple of Recommendation and Pilot or None
    """
    decide = partial(recommend, probe, clients, budget, **options)
    found = decide()
    if pilot is None or not found.proposals:
        return found, None
    tried = pilot(found)
    return decide(pilot=tried), tried


def recommend(
    probe: Probe,
    clients: Clients,
    budget: float,
    *,
    subnets: Callable[[Policy], Subnets] | None = None,
    deploy: npt.ArrayLike | None = None,
    coverage: Mapping[float, float] | None = None,
    pilot: Pilot | None = None,
    confidence: float = 0.95,
    pilot_confidence: float = 0.68,
) -> Recommendation:
    """Recommend uniform or ordered dropout, unless a pilot has confirmed something better.

    The module says how it decides.

    Parameters
    ----------
    probe : Probe
        Made with this ``budget``: its control is what uniform reaches.
    clients : Clients
    budget : float
        Mean width.
    subnets : callable, optional
        Gives the subnets of a policy in whole units of a network. Default: they are left on the
        menu of the probe.
    deploy : float or (n_clients,) floats, optional
        Widest subnet that devices can deploy, where it may be wider than what they spend in
        training on average. Default: no wider, and ordered dropout is left out.
    coverage : mapping of width to share, optional
        What the measured optimum must keep trained; see :class:`Coverage`. Default: a tenth of the
        samples at the widest width, where that is feasible. ``{}``: nothing.
    pilot : Pilot, optional
        Of "uniform", first, and of the ``proposals`` that this function gives without one, trained
        with what its policy changes in the training.
    confidence, pilot_confidence : float in (0, 1)
        Of each two-sided interval of the probe, and of the pilot.

    Returns
    -------
    Recommendation

    Raises
    ------
    InputError
        If the probe has no control at this budget, the pilot does not begin with uniform or lacks
        a proposal, or a value breaks a rule.
    InfeasibleError
        If the budget is below the narrowest allocation, or the given coverage cannot be met.
    """
    expect(probe, Probe, "probe")
    expect(clients, Clients, "clients")
    pilot_level = confidence_level(pilot_confidence, "pilot_confidence")
    control = _control(probe, number(budget, "budget"))
    room, covered = _headroom(probe, clients, budget, coverage, confidence)
    alone = _mean_gain(control.personal, control.personal_error, probe, confidence)
    bias = _bias_gain(control, probe, confidence)
    ordered = _ordered(probe, control, clients, deploy, confidence)
    proposals = [] if ordered else [*_optimum(room, covered), *_grouped(probe, clients, budget)]
    ways = [] if pilot is None else _tried(proposals, pilot, pilot_level)
    chosen, personal = _chosen(ordered, proposals, ways, room)
    personal = alone.high >= 0 if personal is None else personal
    local_bias = bias is not None and bias.high >= 0
    options = [PERSONAL] * personal + [LOCAL_BIAS] * local_bias
    return Recommendation(
        chosen.policy.having(*options),
        chosen.subnets if subnets is None else subnets(chosen.policy),
        f"{chosen.reason}; {_deployed(personal, local_bias, alone, bias)}",
        room,
        tuple(proposals),
    )


def _control(probe: Probe, budget: float) -> Control:
    """What uniform reaches at the budget."""
    control = probe.control
    if control is None or abs(control.width - budget) > SAME_WIDTH:
        made = "no budget" if control is None else f"budget {written(control.width)}"
        raise InputError(
            f"the probe was made with {made}: call probe(..., budget={written(budget)}), so that "
            "uniform is measured too"
        )
    return control


def _chosen(
    ordered: Proposal | None, proposals: Sequence[Proposal], ways: Sequence[_Way], room: Headroom
) -> tuple[Proposal, bool | None]:
    """What to train, and whether to deploy personal models, where a pilot has decided that."""
    if ordered is not None:
        return ordered, None
    sure = [way for way in ways if way.surely_ahead]
    if sure:
        best = max(sure, key=lambda way: way.over_personal.value)
        reason = f"{best.proposal.reason}; in the pilot {best}"
        return best.proposal._replace(reason=reason), best.personal
    reason = f"uniform: {_untaken(proposals, ways) if proposals else room.sentence}"
    return Proposal(_UNIFORM, Subnets(room.uniform), reason), None


def _bias_gain(control: Control, probe: Probe, confidence: float) -> Gain | None:
    """What an output bias of its own gains a client; None where the model has none."""
    if not np.isfinite(control.local_bias).any():
        return None
    return _mean_gain(control.local_bias, control.local_bias_error, probe, confidence)


def _deployed(personal: bool, local_bias: bool, alone: Gain, bias: Gain | None) -> str:
    """Which models to deploy, and what the probe has measured of them."""
    worn = "personal" if personal else "common"
    local = " with an output bias of the client's own" if local_bias else ""
    beside = "" if bias is None else f", with an output bias of their own {bias} more"
    return f"deploy {worn} models{local} (personal ones: {alone}{beside} in the probe)"


class _Way(NamedTuple):
    """A proposal as it would be deployed, and its gain over both deployments of uniform."""

    proposal: Proposal
    personal: bool
    over_common: Gain
    over_personal: Gain
    confidence: float

    @property
    def surely_ahead(self) -> bool:
        return min(self.over_common.low, self.over_personal.low) > 0

    def __str__(self) -> str:
        policy, uniform = self.proposal.policy, _UNIFORM.having(PERSONAL)
        name = policy.having(PERSONAL) if self.personal else policy
        return (
            f"{name} gains {self.over_common.told} over {_UNIFORM} and {self.over_personal} over "
            f"{uniform} ({self.confidence:.0%} intervals)"
        )


def _tried(proposals: Sequence[Proposal], pilot: Pilot, confidence: float) -> list[_Way]:
    """What the pilot says about each proposal under each deployment."""
    expect(pilot, Pilot, "pilot")
    uniform = _UNIFORM.rule
    missing = [
        proposal.policy.rule for proposal in proposals if proposal.policy.rule not in pilot.names
    ]
    if pilot.names[0] != uniform or missing:
        lacking = f"lacks {', '.join(missing)}" if missing else f"begins with {pilot.names[0]!r}"
        raise InputError(
            f"the pilot {lacking}: give it 'uniform', first, and all proposals of "
            "recommend(...) without a pilot"
        )
    gain = partial(pilot.gain, confidence=confidence)
    return [
        _Way(
            proposal,
            bool(ending),
            gain(proposal.policy.rule + ending, uniform),
            gain(proposal.policy.rule + ending, uniform + ENDING),
            confidence,
        )
        for proposal in proposals
        for ending in ("", ENDING)
    ]


def _untaken(proposals: Sequence[Proposal], ways: Sequence[_Way]) -> str:
    """Why none of the proposals is taken."""
    if not ways:
        rules = ", ".join(proposal.policy.rule for proposal in proposals)
        reasons = "; ".join(proposal.reason for proposal in proposals)
        return f"a pilot could try {rules} ({reasons})"
    best = max(ways, key=lambda way: min(way.over_common.value, way.over_personal.value))
    return f"the pilot confirms no proposal; the best, {best}"


def _headroom(
    probe: Probe,
    clients: Clients,
    budget: float,
    coverage: Mapping[float, float] | None,
    confidence: float,
) -> tuple[Headroom, bool]:
    """Headroom, and whether under a coverage; the default one is given up if it cannot be met."""
    wanted = {float(probe.widths[-1]): COVERED_SHARE} if coverage is None else coverage
    limits = [Coverage(wanted)] if wanted else []
    try:
        found = headroom(probe, clients, budget, constraints=limits, confidence=confidence)
        return found, bool(limits)
    except InfeasibleError:
        if coverage is not None:
            raise
        return headroom(probe, clients, budget, confidence=confidence), False


def _optimum(room: Headroom, covered: bool) -> list[Proposal]:
    """The measured optimum, if the whole interval of its predicted gain is above zero."""
    if not room.worthwhile:
        return []
    policy = POLICIES["measured_covered" if covered else "measured"]
    return [Proposal(policy, Subnets(room.widths), f"measured optimum: {room.sentence}")]


def _grouped(probe: Probe, clients: Clients, budget: float) -> list[Proposal]:
    """The narrowest width for easy clients, if there are two groups."""
    loss = probe.loss.mean(axis=1)
    if not falls_in_two(loss, clients.samples):
        return []
    easy = easy_clients(loss)
    reason = (
        f"narrowest width for easy clients: {easy.sum()} of {len(easy)} have a loss of "
        f"{loss[easy].mean():.2g}, the others of {loss[~easy].mean():.2g}"
    )
    narrowest, widest = float(probe.widths[0]), float(probe.widths[-1])
    widths = by_difficulty(
        loss,
        clients.samples,
        budget=budget,
        widths=(narrowest, widest),
        caps=clients.caps(widest),
    )
    return [Proposal(POLICIES["by_difficulty"], Subnets(widths), reason)]


def _ordered(
    probe: Probe,
    control: Control,
    clients: Clients,
    deploy: npt.ArrayLike | None,
    confidence: float,
) -> Proposal | None:
    """Ordered dropout, if its supernet is ahead of the control at the deployed widths.

    Its interval does not count: drawn widths learn more slowly, so that a short probe says no too
    often.
    """
    if deploy is None:
        return None
    given = float_array(deploy, "deploy")
    if given.shape not in {(), (len(clients),)}:
        raise InputError(
            f"deploy has shape {given.shape}: give one width, or one for each of the "
            f"{len(clients)} clients"
        )
    caps = np.broadcast_to(given, (len(clients),))
    if clients.max_width is not None:
        caps = np.minimum(caps, clients.max_width)
    fitting = widest_within(probe.widths, caps)
    stuck = np.flatnonzero(fitting < 0)
    if stuck.size:
        raise InputError(
            f"{clients.name(int(stuck[0]))!r} can deploy {written(caps[stuck[0]])}, below the "
            f"narrowest width {written(probe.widths[0])}: add a narrower width or leave the client "
            "out"
        )
    rows = np.arange(len(clients))
    gain = _mean_gain(control.gain[rows, fitting], control.error[rows, fitting], probe, confidence)
    if gain.value <= 0:
        return None
    widths = probe.widths[fitting]
    reason = (
        f"ordered dropout deployed at width {widths.mean():.2g}: the probe, trained that way, "
        f"gains {gain.told} over uniform"
    )
    policy = POLICIES["fjord"]
    return Proposal(policy, Subnets(widths, policy.scheme), reason)


def _mean_gain(gains: FloatArray, errors: FloatArray, probe: Probe, confidence: float) -> Gain:
    """Mean over the clients that were measured."""
    known = np.isfinite(gains)
    count = max(int(known.sum()), 1)
    value, variance = gains[known].sum() / count, (errors[known] ** 2).sum() / count**2
    factor, scale = probe.scale.factor, probe.scale
    value, variance = factor * float(value), factor**2 * float(variance)
    return Gain.measured(value, variance, probe.degrees, confidence, scale)
