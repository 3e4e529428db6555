"""The closed-form rules: the paper to the letter, and the budget to 1e-12."""

from __future__ import annotations

import numpy as np
import pytest
from support import many

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, rules, utility
from hasa_opt.errors import HasaError, InfeasibleError, InputError

SCORES = [0.31, 0.05, 0.22, 0.05, 0.47]
SAMPLES = [400, 100, 250, 50, 200]


def paper(scores, samples, budget=0.5, low=0.2, high=0.8, caps=None, passes=2) -> list[float]:
    """Section 3 of arXiv:2606.07621 in plain Python, written without the library."""
    n = len(scores)
    caps = [high] * n if caps is None else caps
    ranks = [
        sum(other < own for other in scores) + (sum(other == own for other in scores) + 1) / 2
        for own in scores
    ]
    weights = [size / sum(samples) for size in samples]
    width = [low + (high - low) * (rank - 1) / (n - 1) for rank in ranks]
    for _ in range(passes):
        mean = sum(w * r for w, r in zip(weights, width, strict=True))
        width = [min(max(r * budget / mean, low), cap) for r, cap in zip(width, caps, strict=True)]
    return width


def instance(seed: int, n_clients: int | None = None):
    """Scores with ties, uneven sizes, uneven caps on or off the 0.01 grid, and a budget."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9)) if n_clients is None else n_clients
    scores = rng.integers(0, 5, n) / 10 if rng.random() < 0.3 else rng.random(n)
    samples = rng.integers(1, int(rng.choice([10, 3000])), n)
    caps = rng.uniform(0.2, 0.8, n)
    if rng.random() < 0.5:
        caps = np.maximum(0.2, np.round(caps, 2))
    caps = np.where(rng.random(n) < 0.3, 0.8, caps)
    budget = float(rng.uniform(0.2, 0.85))
    return scores, samples, caps, budget


@pytest.mark.parametrize("passes", [1, 2, 7])
@pytest.mark.parametrize("seed", range(30))
def test_passes_are_the_paper_to_the_letter(passes, seed):
    scores, samples, caps, budget = instance(seed)
    found = rules.hasa(scores, samples, budget=budget, caps=caps, passes=passes)
    expected = paper(scores.tolist(), samples.tolist(), budget, caps=caps.tolist(), passes=passes)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_defaults_are_the_papers():
    np.testing.assert_allclose(
        rules.hasa(SCORES, SAMPLES, passes=2), paper(SCORES, SAMPLES), rtol=1e-14
    )
    assert rules.preliminary_widths(SCORES).tolist() == pytest.approx(
        [0.65, 0.275, 0.5, 0.275, 0.8]
    )


def apply(rule: str, scores, samples, budget, caps, seed: int) -> np.ndarray:
    more = {"budget": budget, "caps": caps}
    if rule in ("hasa", "reverse"):
        return getattr(rules, rule)(scores, samples, **more)
    if rule == "random":
        return rules.random(samples, seed=seed, **more)
    return getattr(rules, rule)(samples, **more)


@pytest.mark.parametrize("rule", ["hasa", "reverse", "uniform", "capacity", "random"])
def test_the_exact_scale_meets_the_budget_on_many_instances(rule):
    at_caps = 0
    for seed in range(400):
        scores, samples, caps, budget = instance(seed, n_clients=1 if seed < 10 else None)
        found = apply(rule, scores, samples, budget, caps, seed)
        weights = samples / samples.sum()
        assert np.all(found >= 0.2 - 1e-15)
        assert np.all(found <= caps)
        if weights @ caps <= budget:
            np.testing.assert_array_equal(found, caps)
            at_caps += 1
        else:
            assert weights @ found == pytest.approx(budget, abs=1e-12)
            assert rules.budget_miss(found, samples, budget=budget) == pytest.approx(0, abs=1e-11)
    assert 50 < at_caps < 350


def test_the_exact_widths_are_one_scale_clipped():
    for seed in range(200):
        scores, samples, caps, budget = instance(seed)
        found = rules.hasa(scores, samples, budget=budget, caps=caps)
        wanted = rules.preliminary_widths(scores)
        free = (found > 0.2 + 1e-12) & (found < caps - 1e-12)
        scales = found[free] / wanted[free]
        if scales.size:
            scale = scales[0]
            np.testing.assert_allclose(found, np.clip(scale * wanted, 0.2, caps), rtol=1e-9)


@pytest.mark.parametrize("budget", [0.2, 0.2 + 1e-13, 0.8 - 1e-13, 0.8, 5.0])
def test_budgets_at_the_ends(budget):
    found = rules.hasa(SCORES, SAMPLES, budget=budget)
    np.testing.assert_allclose(found, min(budget, 0.8), atol=1e-11)


def test_a_budget_between_two_plateaus():
    # Client 0 is at its cap 0.3 before client 1 leaves 0.2: every budget has one scale.
    found = rules.hasa([1, 0], [1, 1], budget=0.25, caps=[0.3, 0.8])
    np.testing.assert_allclose(found, [0.3, 0.2])
    found = rules.hasa([1, 0], [1, 1], budget=0.35, caps=[0.3, 0.8])
    np.testing.assert_allclose(found, [0.3, 0.4])


def test_two_passes_miss_a_budget_that_the_exact_scale_meets():
    worst = 0.0
    for seed in range(200):
        scores, samples, caps, budget = instance(seed)
        if samples @ caps / samples.sum() <= budget:
            continue
        two = rules.hasa(scores, samples, budget=budget, caps=caps, passes=2)
        worst = max(worst, abs(rules.budget_miss(two, samples, budget=budget)))
        repeated = rules.hasa(scores, samples, budget=budget, caps=caps, passes=300)
        exact = rules.hasa(scores, samples, budget=budget, caps=caps)
        assert repeated @ samples == pytest.approx(exact @ samples, rel=1e-3)
    assert worst > 0.05


def test_reverse_is_the_rule_of_the_negated_scores():
    np.testing.assert_array_equal(
        rules.reverse(SCORES, SAMPLES), rules.hasa(-np.array(SCORES), SAMPLES)
    )
    order = np.argsort(SCORES, kind="stable")
    assert np.all(np.diff(rules.hasa(SCORES, SAMPLES)[order]) >= 0)
    assert np.all(np.diff(rules.reverse(SCORES, SAMPLES)[order]) <= 0)


def test_uniform_gives_what_capped_clients_leave_to_the_others():
    assert rules.uniform(SAMPLES).tolist() == pytest.approx([0.5] * 5)
    found = rules.uniform([1, 1], caps=[0.3, 0.8])
    assert found.tolist() == pytest.approx([0.3, 0.7])


def test_capacity_is_proportional_to_the_caps():
    found = rules.capacity([1, 1], caps=[0.4, 0.8], budget=0.45)
    assert found.tolist() == pytest.approx([0.3, 0.6])
    assert rules.capacity([1, 1], caps=[0.4, 0.8], budget=0.9).tolist() == [0.4, 0.8]


def test_random_depends_on_its_seed_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state must not move
    first = rules.random(SAMPLES, seed=1)
    np.testing.assert_array_equal(first, rules.random(SAMPLES, seed=1))
    assert not np.allclose(first, rules.random(SAMPLES, seed=2))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_random_widths_hang_on_names():
    names = [f"client-{row}" for row in range(len(SAMPLES))]
    first = rules.random(SAMPLES, seed=1)
    np.testing.assert_array_equal(first, rules.random(SAMPLES, seed=1, names=names))
    moved = rules.random(SAMPLES[::-1], seed=1, names=names[::-1])
    np.testing.assert_allclose(moved[::-1], first)
    with pytest.raises(InputError, match="'names' has 1 rows"):
        rules.random(SAMPLES, seed=1, names=["a"])


def test_permuting_clients_permutes_widths():
    order = np.random.default_rng(0).permutation(5)
    scores, samples = np.array(SCORES), np.array(SAMPLES)
    np.testing.assert_allclose(
        rules.hasa(scores[order], samples[order]), rules.hasa(scores, samples)[order]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_inputs_of_any_layout_are_left_alone(dtype):
    table = (np.arange(24).reshape(4, 6) % 7).astype(dtype)
    table.flags.writeable = False
    samples = np.arange(1, 9)[::2]
    caps = np.full(4, 0.9)
    found = rules.hasa(table[:, 2], samples, caps=caps, budget=5)
    assert not np.shares_memory(found, caps)
    found[:] = 0
    assert np.all(caps == 0.9)
    assert samples.tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rules.hasa(SCORES, SAMPLES, budget=0), "budget"),
        (lambda: rules.hasa(SCORES, SAMPLES, budget=-1), "budget"),
        (lambda: rules.hasa(SCORES, SAMPLES, budget=np.nan), "budget"),
        (lambda: rules.hasa(SCORES, SAMPLES, budget=np.inf), "budget"),
        (lambda: rules.hasa(SCORES, SAMPLES, widths=(0.8, 0.2)), "r_min"),
        (lambda: rules.hasa(SCORES, SAMPLES, widths=(0, 0.2)), "r_min"),
        (lambda: rules.hasa(SCORES, SAMPLES, widths=(0.2, 1.2)), "r_min"),
        (lambda: rules.hasa(SCORES, SAMPLES, widths=(np.nan, 0.2)), "r_min"),
        (lambda: rules.hasa(SCORES, SAMPLES[:3]), "samples"),
        (lambda: rules.hasa(SCORES, [*SAMPLES[:4], 0]), "samples"),
        (lambda: rules.hasa([*SCORES[:4], np.nan], SAMPLES), "scores of row 4"),
        (lambda: rules.hasa(SCORES, SAMPLES, caps=[0.5] * 3), "caps"),
        (lambda: rules.hasa(SCORES, SAMPLES, caps=[0.5] * 4 + [0.1]), "row 4"),
        (lambda: rules.hasa(SCORES, SAMPLES, caps=[0.5] * 4 + [np.nan]), "row 4"),
        (lambda: rules.hasa(SCORES, SAMPLES, caps=[0.5] * 4 + [1.1]), "row 4"),
        (lambda: rules.hasa(SCORES, SAMPLES, passes=0), "passes"),
        (lambda: rules.hasa(SCORES, SAMPLES, passes=1.5), "passes"),
        (lambda: rules.hasa(SCORES, SAMPLES, passes=True), "passes"),
        (lambda: rules.hasa(SCORES, SAMPLES, passes="twice"), "passes"),
        (lambda: rules.budget_miss([0.5], [1], budget=0), "budget"),
        (lambda: rules.capacity(SAMPLES, caps=[2] * 5), "row 0"),
        (lambda: rules.random(SAMPLES, seed=0, widths=(0.5, 0.2)), "r_min"),
        (lambda: hasa.solve_continuous(SCORES, SAMPLES, caps=[0.5] * 3), "caps"),
    ],
)
def test_bad_values_name_themselves(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("passes", [2, "exact"])
def test_a_budget_below_the_narrowest_width_is_infeasible(passes):
    with pytest.raises(InfeasibleError, match=r"0\.1 is below .*\(0\.2\).*raise the budget") as it:
        rules.hasa(SCORES, SAMPLES, budget=0.1, passes=passes)
    assert it.value.limits == ("budget",)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rules.hasa(["a"], [1]),
        lambda: rules.reverse(["a"], [1]),
        lambda: rules.hasa([1, 2], [1, 2], budget="half"),
        lambda: rules.hasa([1, 2], [1, 2], widths=(0.2,)),
        lambda: rules.budget_miss([0.2], [1, 2], budget=0.5),
    ],
)
def test_what_is_no_number_is_an_input_error(call):
    with pytest.raises(HasaError):
        call()


def test_numpy_integers_are_whole_numbers_of_passes():
    rules.hasa(SCORES, SAMPLES, passes=np.int64(2))


STEP = 0.01
GAP = 1e-6
MENU = np.arange(20, 81) / 100


def value(widths, samples, scores) -> float:
    """``sum_i w_i q_i log r_i``, the program that the rule solves."""
    weights = samples / samples.sum()
    return float(np.sum(weights * rules.preliminary_widths(scores) * np.log(widths)))


def integer_widths(scores, samples, caps, budget) -> np.ndarray:
    problem = AllocationProblem.build(
        Clients(samples, max_width=caps),
        widths=MENU,
        budget=budget,
        utility=utility.hasa(scores, widths=(0.2, 0.8)),
    )
    result = hasa.solve(problem, "highs", gap=GAP)
    assert result.gap <= 2 * GAP
    return result.widths


@pytest.mark.slow
@pytest.mark.fuzz
def test_rule_conic_program_and_fine_menu_agree():
    """Three independent ways to one answer.

    Rule and conic program: objectives within 1e-6 relative, widths within 1e-4.

    Integer program: its menu lies within the continuous range, and the continuous optimum
    rounded down to the menu is affordable, so its value lies between the two. How far its widths
    may stand off follows: the Lagrangian is strongly concave with modulus ``w_i q_i / 0.8^2``,
    so ``sum_i w_i q_i (r_i - r*_i)^2 <= 2 * 0.8^2 * (loss in value)``. Each single width need
    *not* be within a step of the continuous one: a client of few samples costs next to nothing
    and soaks up what the others' rounding leaves over. Nine clients in ten are within a step.
    """
    within = []
    for seed in many(60):
        scores, samples, caps, budget = instance(seed, n_clients=6)
        exact = rules.hasa(scores, samples, budget=budget, caps=caps)
        best = value(exact, samples, scores)

        conic = hasa.solve_continuous(scores, samples, budget=budget, caps=caps)
        assert value(conic, samples, scores) == pytest.approx(best, rel=1e-6)
        np.testing.assert_allclose(conic, exact, atol=1e-4)

        found = integer_widths(scores, samples, caps, budget)
        assert np.all(found <= caps + 1e-9)
        assert samples @ found / samples.sum() <= budget + 1e-12
        rounded = MENU[np.searchsorted(MENU, exact + 1e-9, side="right") - 1]
        loss = best - value(found, samples, scores)
        assert -1e-12 <= loss <= best - value(rounded, samples, scores) + 2 * GAP * abs(best)
        importance = samples / samples.sum() * rules.preliminary_widths(scores)
        spread = float(importance @ (found - exact) ** 2)
        assert spread <= 2 * 0.8**2 * loss + 1e-7
        within.append(np.abs(found - exact) <= STEP + 1e-9)
    assert np.mean(within) > 0.9


def test_with_equal_clients_every_integer_width_is_within_two_steps():
    """One step costs every client the same, so no one can soak up the others' rounding."""
    for seed in range(40):
        scores, _, caps, budget = instance(seed, n_clients=6)
        samples = np.full(6, 50)
        exact = rules.hasa(scores, samples, budget=budget, caps=caps)
        found = integer_widths(scores, samples, caps, budget)
        np.testing.assert_allclose(found, exact, atol=2 * STEP)


# --------------------------------------------------------------- leaving the weakest out


def test_who_cannot_train_the_equal_width_is_left_out_and_the_others_spend_the_budget():
    caps = [0.2, 0.8, 0.5, 1, 0.5, 0.5, 1]
    # Without the first, an equal share of 3.5 is 3.5 / 6 = 0.583: three stand at their cap of 0.5,
    # and the other three share the rest of 2.
    widths = rules.exclude([1] * 7, caps=caps, budget=0.5, widths=(0.2, 1.0))
    np.testing.assert_allclose(widths, [0, 2 / 3, 0.5, 2 / 3, 0.5, 0.5, 2 / 3])
    noisy = rules.exclude([1] * 7, caps=caps, budget=0.1 + 0.4 + 1e-13, widths=(0.2, 1.0))
    np.testing.assert_allclose(noisy, widths)
    samples, share = [10, 30, 20, 40], np.array([0.1, 0.3, 0.2, 0.4])
    uneven = rules.exclude(samples, caps=[0.3, 0.5, 0.3, 1.0], budget=0.5, widths=(0.2, 1.0))
    np.testing.assert_allclose(uneven, [0, 0.5, 0, 0.875])
    assert uneven @ share == pytest.approx(0.5)
    roomy = rules.exclude(samples, caps=[0.3, 0.8, 0.3, 1.0], budget=0.5, widths=(0.2, 1.0))
    np.testing.assert_allclose(roomy, [0, 0.5 / 0.7, 0, 0.5 / 0.7])
    nobody = rules.exclude(samples, caps=[1, 1, 1, 1], budget=0.5, widths=(0.2, 1.0))
    np.testing.assert_allclose(nobody, [0.5] * 4)


def test_the_others_train_at_their_caps_where_they_cannot_spend_the_budget():
    limits = {"budget": 0.7, "widths": (0.2, 1.0)}
    few = rules.exclude([1, 1, 1], caps=[0.3, 0.8, 0.9], **limits)
    np.testing.assert_allclose(few, [0, 0.8, 0.9])
    weak = rules.exclude([1, 1, 1], caps=[0.3, 0.6, 0.6], **limits)
    np.testing.assert_allclose(weak, [0, 0.6, 0.6])
    with pytest.raises(InfeasibleError, match="below the narrowest"):
        rules.exclude([1, 1], caps=[0.3, 0.8], budget=0.1, widths=(0.2, 1.0))


def test_the_smallest_device_sets_the_width_of_all_within_the_budget():
    samples, widths = [10, 30, 20], (0.2, 1.0)
    for caps, width in (([0.3, 0.5, 1], 0.3), ([0.8, 0.9, 1], 0.5)):
        found = rules.smallest(samples, caps=caps, budget=0.5, widths=widths)
        assert found.tolist() == [width] * 3
