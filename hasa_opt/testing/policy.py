"""Does a policy keep its contract? Widths within the caps, from what it says it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.rational import written
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import CheckError, HasaError
from hasa_opt.policies import MENU, Policy, Setting, read_policy
from hasa_opt.policies.whole_units import Meter, subnets_of

__all__ = ["check_policy"]

_BUDGETS = (0.4, 0.5, 0.7)
"""Of the menu's range from 0.2 to 0.8; the first still lets a tenth of the samples be at 0.8."""
_ROUNDING = 1e-9
"""Widths may be off the menu and the caps by what floats round."""
_UNITS = 40
"""Hidden units of the network in which the widths are realised: the menu's are whole units."""


def check_policy(policy: str | Policy) -> None:
    """Check that a policy keeps its contract; made for those that other packages add.

    For fleets with and without caps, and for several budgets: one finite width per client, from
    the narrowest of the menu to the client's cap (or 0, if it says ``leaves_out``); the same when
    it is asked again; more of them under a larger budget, unless it says ``spends_less``, so that
    it can be scaled to budgets of any resource. It depends on the scores and the probe only if it
    says so, and, unless it draws by the seed, not on the order of the clients. In whole units of
    a network it keeps the budget.

    Parameters
    ----------
    policy : str or Policy
        A name in :data:`hasa_opt.policies.POLICIES`, or a policy that is registered nowhere.

    Raises
    ------
    CheckError
        Saying for which fleet and budget what is wrong.

    Examples
    --------
    >>> check_policy("hasa")
    """
    read = read_policy(policy)
    for fleet, clients in _fleets():
        check = _Check(read, fleet, clients)
        spent = [check.widths(budget) for budget in _BUDGETS]
        check.reacts(spent)
        check.says_what_it_looks_at()
        check.order()
        check.whole_units()


def _fleets() -> Iterator[tuple[str, Clients]]:
    rng = np.random.default_rng(0)
    samples = rng.integers(20, 900, 7)
    names = list("abcdefg")
    counts = rng.integers(0, 9, (7, 3)) + np.outer(np.arange(7) < 3, [200, 0, 0])
    yield "seven clients", Clients(samples, counts=counts, names=names)
    caps = [1.0, 0.8, 0.35, 0.5, 1.0, 0.65, 0.8]
    yield "seven clients with caps", Clients(samples, counts=counts, names=names, max_width=caps)
    alike = np.full((3, 2), 25)
    yield "clients alike", Clients([50] * 3, counts=alike, names=list("abc"), max_width=[0.8] * 3)


@dataclass(frozen=True, eq=False)
class _Probed:
    """What a probe of these clients would have measured."""

    utility: FloatArray


class _Check:
    def __init__(self, policy: Policy, fleet: str, clients: Clients) -> None:
        self.policy, self.fleet, self.clients = policy, fleet, clients
        rng = np.random.default_rng(1)
        need = rng.random((len(clients), 1))
        self._scores = rng.random(len(clients))
        self._probed = _Probed(need * np.sqrt(MENU))

    def setting(self, budget: float) -> Setting:
        probe = (lambda: self._probed) if self.policy.probes else None
        return Setting(self.clients, self._scores, budget, probe=probe)

    def widths(self, budget: float) -> FloatArray:
        """Ask twice, and check the form."""
        setting = self.setting(budget)
        first, again = (self.asked(setting) for _ in range(2))
        low, caps = setting.ends[0], setting.caps
        for row, width in enumerate(first.tolist()):
            left_out = self.policy.leaves_out and width == 0
            if not left_out and not low - _ROUNDING <= width <= caps[row] + _ROUNDING:
                self.complain(
                    budget,
                    f"gives {self.clients.name(row)!r} the width {written(width)}: from "
                    f"{written(low)} to {written(caps[row])} is possible",
                )
        if not np.array_equal(first, again):
            self.complain(budget, "gives other widths when it is asked again: draw by setting.seed")
        return first

    def asked(self, setting: Setting) -> FloatArray:
        try:
            widths = np.asarray(self.policy(setting))
        except HasaError as error:
            self.complain(setting.budget, f"refuses: {error}")
        if widths.dtype != np.float64 or widths.shape != (len(setting.clients),):
            self.complain(
                setting.budget,
                f"gives {widths.dtype}{widths.shape}: float64({len(setting.clients)},) wanted",
            )
        return widths

    def reacts(self, widths: list[FloatArray]) -> None:
        """More is spent under a larger budget, unless the caps bind."""
        shares = [self.clients.mean(chosen) for chosen in widths]
        most = self.clients.mean(self.setting(1.0).caps)
        for budget, less, more in zip(_BUDGETS[1:], shares, shares[1:], strict=False):
            as_much = more < less if self.policy.spends_less else more <= less
            if less < most - 0.01 and as_much:
                self.complain(
                    budget, f"spends {more:.4g}, and under a smaller budget {less:.4g} already"
                )

    def says_what_it_looks_at(self) -> None:
        """Scores matter only to a policy that says so."""
        setting = self.setting(0.5)
        other = replace(setting, scores=setting.scores[::-1].copy())
        if not self.policy.scored and (self.asked(setting) != self.asked(other)).any():
            self.complain(0.5, "depends on the scores: say scored=True")

    def order(self) -> None:
        """The order of the clients does not matter to a policy that does not draw."""
        setting = self.setting(0.5)
        widths = self.asked(setting)
        if (self.asked(replace(setting, seed=1)) != widths).any():
            return
        rows = np.arange(len(self.clients))[::-1]
        turned = _Check(self.policy, self.fleet, self.clients.subset(rows))
        turned._scores = self._scores[rows]
        turned._probed = _Probed(self._probed.utility[rows])
        if not np.allclose(turned.asked(turned.setting(0.5)), widths[rows], atol=1e-6):
            self.complain(0.5, "gives other widths where the clients stand in another order")

    def whole_units(self) -> None:
        """The widths can be had in whole units of a network, within the budget."""
        meter = Meter.of({"hidden": _UNITS}, lambda width: int(width * _UNITS + _ROUNDING))
        try:
            found = subnets_of(self.policy, self.setting(0.5), meter, rounds=10)
        except HasaError as error:
            self.complain(0.5, f"cannot be had in whole units of a network: {error}")
        if found.share is not None and found.share > 0.5 + _ROUNDING:
            self.complain(0.5, f"spends {found.share:g} in whole units of a network")

    def complain(self, budget: float, words: str) -> NoReturn:
        raise CheckError(f"policy {self.policy.name!r}, {self.fleet}, budget {budget:g}: {words}")
