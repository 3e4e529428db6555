"""Problems whose answers are known, small enough to check by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np

from hasa_opt.clients.clients import Clients
from hasa_opt.problem import cost, utility
from hasa_opt.problem.budgets import Budget, Robust, SiteBudgets
from hasa_opt.problem.choices import Coverage, Fixed, Forbidden, MinWidth, Quota, Switches
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.testing.problems import knapsack, measured, share, sited, tree

__all__ = ["CATALOGUE", "INFEASIBLE", "SOLVABLE", "Known"]


@dataclass(frozen=True)
class Known:
    """A problem with its optimum, or with the limits that conflict.

    Attributes
    ----------
    name : str
    build : callable
        Makes the problem.
    objective : float or None
        The optimum; None if there is no allocation.
    choice : tuple of int or None
        The one allocation that is worth the optimum; None if there are several.
    conflict : tuple of str
        Labels of the limits that cannot hold together.
    """

    name: str
    build: Callable[[], AllocationProblem]
    objective: float | None = None
    choice: tuple[int, ...] | None = None
    conflict: tuple[str, ...] = ()


CATALOGUE: tuple[Known, ...] = (
    Known("one client, one width", lambda: measured([3], (1.0,), 1, [[7.0]]), 7.0, (0,)),
    Known(
        "everything fits",
        lambda: measured([1, 2], (0.5, 1.0), 1, [[1, 2], [3, 5]]),
        7.0,
        (1, 1),
    ),
    Known(
        "only the narrowest fits",
        lambda: measured([1, 2], (0.5, 1.0), 0.5, [[1, 2], [3, 5]]),
        4.0,
        (0, 0),
    ),
    # By value per cost, (6, 7) comes first and leaves room 4 for nothing: 7 instead of 10.
    Known(
        "greedy trap",
        lambda: knapsack([(6, 7), (5, 5), (5, 5)], 10),
        10.0,
        (0, 1, 1),
    ),
    # The budget pays for one wide client; the one that gains more may not.
    Known(
        "a device cap binds",
        lambda: measured([1, 1], (0.5, 1.0), 0.75, [[0, 9], [0, 1]], max_width=[0.7, 1.0]),
        1.0,
        (0, 1),
    ),
    # The middle width lies under the hull. Limit 4 of 6: (3, 1) is worth 10, (2, 2) only 2.
    Known(
        "not concave",
        lambda: AllocationProblem.build(
            Clients([1, 1]),
            widths=(0.2, 0.5, 1.0),
            budget=share(4, 6),
            cost=cost.table([1, 2, 3]),
            utility=utility.measured([[0, 1, 10], [0, 1, 10]]),
        ),
        10.0,
    ),
    Known(
        "all alike",
        lambda: measured([3, 4, 5], (0.25, 0.5, 1.0), 0.6, [[0.0] * 3] * 3),
        0.0,
    ),
    Known(
        "wider is worse",
        lambda: measured([1, 1], (0.25, 0.5, 1.0), 1, [[-1, -2, -3], [5, 3, 1]]),
        4.0,
        (0, 0),
    ),
    # (0.5, 0.5, 0.5) has product 1/8, every other triple of mean 0.5 has less (3/32).
    Known(
        "equal clients share equally",
        lambda: AllocationProblem.build(
            Clients([7, 7, 7]),
            widths=(0.25, 0.5, 0.75),
            budget=0.5,
            utility=utility.alpha_fair(),
        ),
        log(0.5),
        (1, 1, 1),
    ),
    # In floating point 0.1 + 0.2 > 0.3, and the client would be left at 0.1.
    Known(
        "float noise in the menu",
        lambda: measured([10], (0.1, 0.1 + 0.2), 0.3, [[0, 1]]),
        1.0,
        (1,),
    ),
    # Quadratic costs 1 and 4 of 8; floor(0.625 x 8) = 5 pays for one wide client.
    Known(
        "quadratic cost",
        lambda: AllocationProblem.build(
            Clients([1, 1]),
            widths=(0.5, 1.0),
            budget=0.625,
            cost=cost.quadratic(),
            utility=utility.measured([[0, 1], [0, 2]]),
        ),
        2.0,
        (0, 1),
    ),
    # The second item is worth more and costs one unit too much.
    Known(
        "one unit decides",
        lambda: knapsack([(10**8, 1), (10**8 + 1, 2)], 10**8),
        1.0,
        (1, 0),
    ),
    # Left alone, (0.5, 1) is worth 6. Coverage makes the first client wide.
    Known(
        "coverage",
        lambda: measured(
            [3, 1], (0.5, 1.0), 1, [[5, 0], [0, 1]], constraints=[Coverage({1.0: 0.75})]
        ),
        1.0,
        (1, 1),
    ),
    Known(
        "quota",
        lambda: measured(
            [1, 1, 1], (0.5, 1.0), 1, [[0, 3], [0, 2], [0, 1]], constraints=[Quota({1.0: 2})]
        ),
        5.0,
        (1, 1, 0),
    ),
    Known(
        "quota of zero",
        lambda: measured([1, 1], (0.5, 1.0), 1, [[0, 3], [0, 2]], constraints=[Quota({0.5: 0})]),
        5.0,
        (1, 1),
    ),
    Known(
        "budget below the narrowest",
        lambda: measured([1, 1], (0.5, 1.0), 0.4, [[0, 1], [0, 1]]),
        conflict=("budget",),
    ),
    # Coverage needs 9 of 10 samples wide: costs at least 9 + 0.5, more than 8.
    Known(
        "budget against coverage",
        lambda: measured(
            [9, 1], (0.5, 1.0), 0.8, [[0, 1], [0, 1]], constraints=[Coverage({1.0: 0.9})]
        ),
        conflict=("budget", "Coverage: 0.9 of the samples at width 1.0 or wider"),
    ),
    # One wide client covers at most 1/2 of the samples; the quota at 0.25 has no part in it.
    Known(
        "coverage against quota",
        lambda: measured(
            [10, 20, 30],
            (0.25, 0.5, 1.0),
            1,
            [[0, 1, 2]] * 3,
            constraints=[Coverage({1.0: 0.6}), Quota({1.0: 1, 0.25: 2})],
        ),
        conflict=(
            "Coverage: 0.6 of the samples at width 1.0 or wider",
            "Quota: at most 1 clients at width 1.0",
        ),
    ),
    # Three quotas of one for four clients at three widths; none of them can be spared.
    Known(
        "three quotas for four clients",
        lambda: measured(
            [1] * 4,
            (0.25, 0.5, 1.0),
            1,
            [[0, 1, 2]] * 4,
            constraints=[Quota({0.25: 1, 0.5: 1, 1.0: 1})],
        ),
        conflict=tuple(f"Quota: at most 1 clients at width {width}" for width in (0.25, 0.5, 1.0)),
    ),
    # Item 3 takes all 3 bytes and stands alone: 6. Items 1 and 2 take 2 bytes, 2 uploads: 4 + 5.
    Known(
        "two further budgets",
        lambda: knapsack(
            [(3, 4), (4, 5), (5, 6)],
            12,
            constraints=[
                Budget(np.array([[0, 1], [0, 1], [0, 3]]), 3, "bytes"),
                Budget([0, 1], 2, "uploads"),
            ],
        ),
        9.0,
        (1, 1, 0),
    ),
    # Two sites of two items each, cost 5: one item per site (limit 5), and 10 in all at the root.
    # Without the sites the best pair is worth 8 + 7 = 15; with them 8 + 4.
    Known(
        "sites on a tree of two levels",
        lambda: sited([(5, 8), (5, 7), (5, 4), (5, 3)], {"north": 5, "south": 5}),
        12.0,
        (1, 0, 1, 0),
    ),
    # The root is tighter than its parts: one item of cost 5 in all.
    Known(
        "the root of the tree binds",
        lambda: sited([(5, 8), (5, 7), (5, 4), (5, 3)], {"world": 5, "north": 10, "south": 10}),
        8.0,
        (1, 0, 0, 0),
    ),
    # All were narrow; one may change: the one worth 3.
    Known(
        "one switch",
        lambda: measured(
            [1, 1, 1],
            (0.5, 1.0),
            1,
            [[0, 3], [0, 2], [0, 1]],
            constraints=[Switches([0.5, 0.5, 0.5], 1)],
        ),
        3.0,
        (1, 0, 0),
    ),
    # Nobody may change, however good the change.
    Known(
        "no switch",
        lambda: measured(
            [1, 1], (0.5, 1.0), 1, [[0, 9], [5, 0]], constraints=[Switches([0.5, 1.0], 0)]
        ),
        0.0,
        (0, 1),
    ),
    # 0.5 and wider for the second client; wider is worse for both.
    Known(
        "least width of one client",
        lambda: measured(
            [1, 1], (0.25, 0.5, 1.0), 1, [[5, 3, 1]] * 2, constraints=[MinWidth([0.25, 0.5])]
        ),
        8.0,
        (0, 1),
    ),
    # Half of full cost 4 is 2: the fixed client takes 1, and 0.5 each is left for the others.
    Known(
        "a fixed client",
        lambda: measured(
            [1, 1, 2], (0.5, 1.0), 0.75, [[0, 9], [0, 9], [0, 1]], constraints=[Fixed({2: 1.0})]
        ),
        1.0,
        (0, 0, 1),
    ),
    # The wide width is forbidden to the client that gains most; 0.5 is its next.
    Known(
        "a forbidden width",
        lambda: measured(
            [1, 1], (0.25, 0.5, 1.0), 1, [[0, 2, 9], [0, 1, 3]], constraints=[Forbidden({0: [1.0]})]
        ),
        5.0,
        (1, 2),
    ),
    # Every width is free: each client takes its best, the budget of one unit notwithstanding.
    Known(
        "zero cost",
        lambda: AllocationProblem.build(
            Clients([1, 1]),
            widths=(0.25, 0.5, 1.0),
            budget=share(1, 10),
            cost=cost.table(np.zeros((2, 3), dtype=int), full=10),
            utility=utility.measured([[1, 3, 2], [4, 0, 4]]),
        ),
        7.0,
    ),
    # Gain 1 per unit everywhere: any allocation that spends the 6 units is best.
    Known("equal slopes", lambda: knapsack([(2, 2), (2, 2), (3, 3), (4, 4)], 6), 6.0),
    # Seven alike, room for three of them.
    Known("identical clients", lambda: knapsack([(2, 1)] * 7, 7), 3.0),
    # The greedy trap once more, in other units.
    Known(
        "utilities of 1e-12",
        lambda: knapsack([(6, 7e-12), (5, 5e-12), (5, 5e-12)], 10),
        1e-11,
        (0, 1, 1),
    ),
    Known(
        "utilities of 1e12",
        lambda: knapsack([(6, 7e12), (5, 5e12), (5, 5e12)], 10),
        1e13,
        (0, 1, 1),
    ),
    # 6 + 5 + 5 and room for 10, each times 2**50: the common factor divides out.
    Known(
        "costs near 2**53",
        lambda: knapsack([(6 << 50, 7), (5 << 50, 5), (5 << 50, 5)], 10 << 50),
        10.0,
        (0, 1, 1),
    ),
    # Every client loses by training; the least loss that the budget pays for is the narrow width.
    Known(
        "negative utilities",
        lambda: measured([2, 3], (0.5, 1.0), 0.6, [[-5, -1], [-7, -4]]),
        -12.0,
        (0, 0),
    ),
    # Room for the one that costs a million alone, worth 8, or for all the others: 3 + 3 + 3.
    Known(
        "one client dwarfs the others",
        lambda: knapsack([(10**6, 8), (1, 3), (1, 3), (1, 3)], 10**6),
        9.0,
        (0, 1, 1, 1),
    ),
    # One unit and another more leave room for two of them beside it: 10 + 3 + 3.
    Known(
        "one client dwarfs the others and pays",
        lambda: knapsack([(10**6, 10), (1, 3), (1, 3), (1, 3)], 10**6 + 2),
        16.0,
    ),
    # Both clients of the site must be wide to cover all samples: cost 2, and the site has 1.5.
    Known(
        "site against coverage",
        lambda: AllocationProblem.build(
            Clients([2, 2], site=["north", "north"]),
            widths=(0.5, 1.0),
            budget=1,
            utility=utility.alpha_fair(),
            constraints=[SiteBudgets(tree(), {"north": 7}), Coverage({1.0: 1})],
        ),
        conflict=(
            "SiteBudgets: north",
            "Coverage: 1 of the samples at width 1.0 or wider",
        ),
    ),
    # The narrow width takes 2 bytes of each of two clients: 4, more than 3.
    Known(
        "a budget below the least",
        lambda: measured(
            [1, 1], (0.5, 1.0), 1, [[0, 1]] * 2, constraints=[Budget([2, 3], 3, "bytes")]
        ),
        conflict=("Budget: bytes at most 3",),
    ),
    # Bytes want two narrow clients (1 + 1), watts two wide ones (1 + 1).
    Known(
        "two budgets against each other",
        lambda: measured(
            [1, 1],
            (0.5, 1.0),
            1,
            [[0, 1]] * 2,
            constraints=[Budget([1, 5], 3, "bytes"), Budget([5, 1], 3, "watts")],
        ),
        conflict=("Budget: bytes at most 3", "Budget: watts at most 3"),
    ),
    # All were wide, which costs 2 of 2; a budget of 1.5 needs one change, none is allowed.
    Known(
        "switches against a lower budget",
        lambda: measured(
            [1, 1], (0.5, 1.0), 0.75, [[0, 1]] * 2, constraints=[Switches([1.0, 1.0], 0)]
        ),
        conflict=("budget", "Switches: at most 0 clients change width"),
    ),
    # Any one client may cost 2 more: of 10 only 8 can be planned for, the one worth 7 alone.
    Known(
        "a robust budget",
        lambda: knapsack([(6, 7), (5, 5), (5, 5)], 10, constraints=[Robust(1, [2, 2, 2])]),
        7.0,
        (1, 0, 0),
    ),
    # Narrow widths cost 2 each, 6 together, and two clients may cost 1 more: 8, above 7.
    Known(
        "a robust budget below the least",
        lambda: measured(
            [2, 2, 2], (0.5, 1.0), share(7, 12), [[0, 1]] * 3, constraints=[Robust(2, [1, 1, 1])]
        ),
        conflict=("Robust: the budget, whichever 2 clients deviate",),
    ),
)
SOLVABLE = tuple(known for known in CATALOGUE if not known.conflict)
INFEASIBLE = tuple(known for known in CATALOGUE if known.conflict)
