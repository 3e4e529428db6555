"""Every policy goes through the check that is offered to those of other packages."""

from __future__ import annotations

import numpy as np
import pytest

from hasa_opt import rules
from hasa_opt.errors import CheckError, InputError
from hasa_opt.policies import POLICIES, Policy, Setting
from hasa_opt.testing import check_policy


@pytest.mark.parametrize("name", list(POLICIES))
def test_it_keeps_its_contract(name: str) -> None:
    check_policy(name)


def test_a_policy_with_options_is_checked_too() -> None:
    check_policy("hasa+personal+n^0.5")
    with pytest.raises(InputError, match="'best' is not known"):
        check_policy("best")


def uniform(setting: Setting) -> np.ndarray:
    return rules.uniform(setting.clients.samples, **setting.limits)


def ignores_caps(setting: Setting) -> np.ndarray:
    return rules.uniform(setting.clients.samples, budget=setting.budget, widths=setting.ends)


def too_few(setting: Setting) -> np.ndarray:
    return uniform(setting)[:-1]


def not_finite(setting: Setting) -> np.ndarray:
    return uniform(setting) * np.nan


def never_the_same(setting: Setting) -> np.ndarray:
    return rules.random(
        setting.clients.samples, seed=int(np.random.default_rng().integers(10**6)), **setting.limits
    )


def deaf(setting: Setting) -> np.ndarray:
    return np.full(len(setting.clients), setting.ends[0])


def first_is_widest(setting: Setting) -> np.ndarray:
    order = -np.arange(len(setting.clients), dtype=float)
    return rules.hasa(order, setting.clients.samples, **setting.limits)


def scored(setting: Setting) -> np.ndarray:
    return rules.hasa(setting.scores, setting.clients.samples, **setting.limits)


def refuses(setting: Setting) -> np.ndarray:
    raise InputError("not today")


FAULTS = {
    ignores_caps: r"seven clients with caps, budget 0.4: gives 'c' the width 0.4: from 0.2 to 0.35",
    too_few: r"gives float64\(6,\): float64\(7,\) wanted",
    not_finite: r"gives 'a' the width nan",
    never_the_same: r"other widths when it is asked again: draw by setting.seed",
    deaf: r"spends 0.2, and under a smaller budget 0.2 already",
    first_is_widest: r"other widths where the clients stand in another order",
    scored: r"depends on the scores: say scored=True",
    refuses: r"refuses: not today",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_told(fault) -> None:
    with pytest.raises(CheckError, match=f"^policy 'own', .*{FAULTS[fault]}"):
        check_policy(Policy("own", fault))


def test_one_of_ones_own_passes() -> None:
    check_policy(Policy("own", uniform))
    check_policy(Policy("own", scored, scored=True))
