"""What to do with a probe: uniform, the measured optimum, or ordered dropout; personal or not.

A pure decision on measurements: nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from hasa_opt.basics.checks import expect, float_array, number
from hasa_opt.clients import Clients, FloatArray
from hasa_opt.constraints import Coverage
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.headroom import Gain, Headroom, headroom, interval
from hasa_opt.policies import COVERED_SHARE
from hasa_opt.probe import Control, Probe

__all__ = ["Recommendation", "recommend"]

PolicyName = Literal["uniform", "measured", "measured_covered", "fjord"]

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Recommendation:
    """Which allocation to train, and how to deploy it.

    Attributes
    ----------
    widths : (n_clients,) floats
        Under ``"prefix"`` the width that each client trains and deploys. Under
        ``"ordered_dropout"`` the width that it holds and deploys: its batches train narrower ones,
        whose mean is the budget.
    scheme : "prefix" or "ordered_dropout"
        As for :func:`hasa_opt.federated.run`.
    personal : bool
        Whether clients deploy a mixture of the common and their last local model.
    reason : str
    headroom : Headroom
    policy : str
        Name of the policy that trains it in a study.
    """

    widths: FloatArray
    scheme: Literal["prefix", "ordered_dropout"]
    personal: bool
    reason: str
    headroom: Headroom
    policy: PolicyName = "uniform"

    def __str__(self) -> str:
        return self.reason


def recommend(
    probe: Probe,
    clients: Clients,
    budget: float,
    *,
    deploy: npt.ArrayLike | None = None,
    coverage: Mapping[float, float] | None = None,
    confidence: float = 0.95,
) -> Recommendation:
    """Choose between uniform, the measured optimum and ordered dropout by held-back evidence.

    A way is taken only if the whole interval of its predicted gain over uniform is above zero; of
    two such ways the one with the larger gain. Personal deployment costs no training, and gains
    more after a whole run than after the few rounds of a probe, so it is taken unless the whole
    interval of its measured gain is below zero.

    Parameters
    ----------
    probe : Probe
        Made with this ``budget``: its control is what uniform reaches.
    clients : Clients
    budget : float
        Mean width.
    deploy : float or (n_clients,) floats, optional
        Widest subnet that devices can deploy, where it may be wider than what they spend in
        training on average. Default: no wider, and ordered dropout is left out.
    coverage : mapping of width to share, optional
        What the measured optimum must keep trained; see :class:`Coverage`. Default: a tenth of the
        samples at the widest width, where that is feasible. ``{}``: nothing.
    confidence : float in (0, 1)

    Returns
    -------
    Recommendation

    Raises
    ------
    InputError
        If the probe has no control at this budget, or a value breaks a rule.
    InfeasibleError
        If the budget is below the narrowest allocation, or the given coverage cannot be met.
    """
    expect(probe, Probe, "probe")
    control = probe.control
    if control is None or abs(control.width - number(budget, "budget")) > 1e-9:
        made = "no budget" if control is None else f"budget {control.width:g}"
        raise InputError(
            f"the probe was made with {made}: call probe(..., budget={budget:g}), so that uniform "
            "is measured too"
        )
    room, covered = _headroom(probe, clients, budget, coverage, confidence)
    personal = _mean_gain(control.personal, control.personal_error, probe, confidence)
    ways = [_Way(0.0, room.uniform, "prefix", f"uniform: {room.sentence}", "uniform")]
    if room.worthwhile:
        reason = f"measured optimum: {room.sentence}"
        name: PolicyName = "measured_covered" if covered else "measured"
        ways.append(_Way(room.gain, room.widths, "prefix", reason, name))
    if deploy is not None:
        ways += _ordered(probe, control, clients, deploy, confidence)
    best = max(ways, key=lambda way: way.gain)
    is_personal = personal.high >= 0
    worn = "personal" if is_personal else "common"
    return Recommendation(
        widths=best.widths,
        scheme=best.scheme,
        personal=is_personal,
        reason=f"{best.reason}; deploy {worn} models (personal ones: {personal} in the probe)",
        headroom=room,
        policy=best.policy,
    )


class _Way(NamedTuple):
    """A way to spend the budget, and what it gains over uniform in points."""

    gain: float
    widths: FloatArray
    scheme: Literal["prefix", "ordered_dropout"]
    reason: str
    policy: PolicyName


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
        own = headroom(probe, clients, budget, constraints=limits, confidence=confidence)
        return own, bool(limits)
    except InfeasibleError:
        if coverage is not None:
            raise
        return headroom(probe, clients, budget, confidence=confidence), False


def _ordered(
    probe: Probe,
    control: Control,
    clients: Clients,
    deploy: npt.ArrayLike,
    confidence: float,
) -> list[_Way]:
    """Ordered dropout, if what its supernet reached at the deployed widths beats the control."""
    caps = np.broadcast_to(float_array(deploy, "deploy"), (len(clients),))
    if clients.max_width is not None:
        caps = np.minimum(caps, clients.max_width)
    fitting = np.searchsorted(probe.widths, caps + _ROUNDING, side="right") - 1
    stuck = np.flatnonzero(fitting < 0)
    if stuck.size:
        raise InputError(
            f"{clients.name(int(stuck[0]))!r} can deploy {caps[stuck[0]]:g}, below the narrowest "
            f"width {probe.widths[0]:g}: add a narrower width or leave the client out"
        )
    rows = np.arange(len(clients))
    own, error = control.gain[rows, fitting], control.error[rows, fitting]
    gain = _mean_gain(own, error, probe, confidence)
    widths = probe.widths[fitting]
    reason = f"ordered dropout deployed at width {widths.mean():.2g} gains {gain} points"
    return [_Way(gain.value, widths, "ordered_dropout", reason, "fjord")] if gain.low > 0 else []


def _mean_gain(gains: FloatArray, errors: FloatArray, probe: Probe, confidence: float) -> Gain:
    """Mean over the clients that were measured, in points."""
    known = np.isfinite(gains)
    count = max(int(known.sum()), 1)
    value, variance = gains[known].sum() / count, (errors[known] ** 2).sum() / count**2
    return interval(100 * float(value), 1e4 * float(variance), probe.degrees, confidence)
