"""Statistics over seeds: against scipy, by simulation, and where there is little to work with."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from hasa_opt.errors import InputError
from hasa_opt.study import inference
from hasa_opt.study.inference import detectable, family, holm, paired


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def t_test_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Thousands of studies that look at the t test need not wait for the others."""
    monkeypatch.setattr(inference, "_bootstrap", lambda gaps, seed: (np.nan, np.nan))
    monkeypatch.setattr(inference, "_signed_rank", lambda gaps: np.nan)
    yield
    inference._alone.cache_clear()


def binomial_ends(rate: float, n: int) -> tuple[float, float]:
    """Shares that a simulation of n studies stays between, but for one in a thousand."""
    low, high = stats.binom.interval(0.999, n, rate)
    return low / n, high / n


# --- Against other implementations ---------------------------------------------------------------


def test_a_difference_is_what_scipy_says() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(14, 0.3, 12), rng.normal(13.8, 0.3, 12)
    found = paired(first, second)
    reference = stats.ttest_rel(first, second)
    interval = reference.confidence_interval(0.95)
    assert found.p_t == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert (found.n, found.wins, found.losses) == (12, *np.bincount(first < second))
    assert found.boot_low < found.mean < found.boot_high
    assert (found.p_holm, found.holm_low) == (found.p_t, found.low)


def test_the_signed_rank_test_is_exact_with_ties_and_zeros() -> None:
    gaps = np.array([1.0, 1.0, 2.0, -1.0, 0.0, 3.0, 0.0])
    ranks = stats.rankdata(np.abs(gaps[gaps != 0]))
    observed = ranks[gaps[gaps != 0] > 0].sum()
    sums = [ranks @ signs for signs in itertools.product((0, 1), repeat=5)]
    tail = min(np.mean(np.array(sums) >= observed), np.mean(np.array(sums) <= observed))
    assert paired(gaps, np.zeros(7)).p_wilcoxon == pytest.approx(2 * tail)


def test_holm_is_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([0.01, np.nan, 0.02]) == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)
    assert holm([]).size == 0


def test_the_corrected_interval_agrees_with_the_corrected_p() -> None:
    seen = set()
    for number in range(60):
        rng = np.random.default_rng(number)
        effects = rng.choice([0.0, 0.4, 0.8], size=5)
        base = rng.normal(size=8)
        pairs = [(base + effect + rng.normal(0, 0.5, 8), base) for effect in effects]
        for own in family(pairs):
            assert own.clear == (own.p_holm < 0.05)
            assert own.holm_low <= own.low < own.mean < own.high <= own.holm_high
            seen.add((own.clear, own.p_t < 0.05))
    assert seen == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_detectable_effect_is_seen_in_four_of_five_studies(n: int) -> None:
    effect = detectable(n, 0.7)
    gaps = np.random.default_rng(n).normal(effect, 0.7, (20_000, n))
    t = gaps.mean(axis=1) / gaps.std(axis=1, ddof=1) * np.sqrt(n)
    seen = np.mean(t > stats.t.ppf(0.975, n - 1))
    low, high = binomial_ends(0.8, 20_000)
    assert low < seen < high


def test_the_detectable_effect_is_larger_than_the_normal_approximation() -> None:
    normal = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / np.sqrt(5)
    assert detectable(5, 1.0) > 1.3 * normal
    assert detectable(10_000, 1.0) == pytest.approx(normal * np.sqrt(5 / 10_000), rel=1e-3)
    assert detectable(5, 1.0, power=0.9) > detectable(5, 1.0)
    assert np.isnan(detectable(1, 1.0))
    with pytest.raises(InputError, match="power 1"):
        detectable(5, 1.0, power=1)


# --- Simulated studies ---------------------------------------------------------------------------


def one_policy_twice(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean accuracies in percent of one policy under n seeds, twice, with other batch orders.

    Seven clients with 40 to 400 test targets each: accuracies are as coarse as they are.
    """
    targets = np.array([40, 60, 80, 100, 150, 200, 400])
    level = rng.normal(0.14, 0.01, (n, 1))  # the initial weights, shared by both
    runs = level + rng.normal(0, 0.005, (2, n, 7))  # the batch orders
    correct = rng.binomial(targets, np.clip(runs, 0, 1))
    first, second = (100 * correct / targets).mean(axis=-1)
    return first, second


@pytest.mark.slow
@pytest.mark.usefixtures("t_test_alone")
@pytest.mark.parametrize("n", [5, 10, 20])
def test_a_policy_against_itself_is_significant_in_five_percent_of_studies(n: int) -> None:
    rng = np.random.default_rng(n)
    studies = [paired(*one_policy_twice(rng, n)) for _ in range(2000)]
    low, high = binomial_ends(0.05, 2000)
    assert low < np.mean([own.p_t < 0.05 for own in studies]) < high
    assert low < np.mean([own.low > 0 or own.high < 0 for own in studies]) < high


def test_a_policy_against_itself_passes_the_signed_rank_test_too() -> None:
    rng = np.random.default_rng(3)
    p_values = [inference._signed_rank(np.subtract(*one_policy_twice(rng, 20))) for _ in range(800)]
    assert 0.01 < np.mean(np.array(p_values) < 0.05) < binomial_ends(0.05, 800)[1]


@pytest.mark.slow
@pytest.mark.usefixtures("t_test_alone")
def test_ten_equal_policies_are_told_apart_in_five_percent_of_studies() -> None:
    rng = np.random.default_rng(0)
    wrong = uncorrected = 0
    for _ in range(500):
        base = rng.normal(0, 1, 10)
        found = family([(base + rng.normal(0, 1, 10), base) for _ in range(10)])
        wrong += any(own.clear for own in found)
        uncorrected += any(own.p_t < 0.05 for own in found)
    assert wrong / 500 < binomial_ends(0.05, 500)[1]
    assert uncorrected / 500 > 0.25, "without the correction it would be far more"


@pytest.mark.slow
@pytest.mark.parametrize(("n", "covered"), [(5, 0.852), (10, 0.910), (20, 0.932)])
def test_the_bootstrap_covers_what_its_documentation_says(
    n: int, covered: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_RESAMPLES", 999)
    rng = np.random.default_rng(n)
    ends = [inference._bootstrap(rng.normal(0, 1, n), seed) for seed in range(600)]
    low, high = binomial_ends(covered, 600)
    assert low < np.mean([below < 0 < above for below, above in ends]) < high


# --- Little to work with -------------------------------------------------------------------------


def test_one_seed_proves_nothing() -> None:
    found = paired([14.0], [13.0])
    assert (found.n, found.mean, found.wins) == (1, 1.0, 1)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert np.isnan([found.std, found.p_t, found.p_wilcoxon, found.detectable]).all()
    assert found.verdict == "not told apart"


def test_two_seeds_have_a_wide_interval() -> None:
    found = paired([14.0, 14.4], [13.0, 13.1])
    # Differences 1 and 1.3: 1.15 +- 12.706 * 0.15.
    assert (found.low, found.high) == pytest.approx((1.15 - 1.906, 1.15 + 1.906), abs=1e-3)
    assert found.verdict == "not told apart"
    assert found.detectable > 2


@pytest.mark.parametrize(("n", "verdict"), [(2, "not told apart"), (5, "not told apart"),
                                            (6, "better"), (20, "better")])  # fmt: skip
def test_equal_differences_are_judged_by_the_exact_signed_rank_test(n: int, verdict: str) -> None:
    base = np.linspace(10, 12, n)
    found = paired(base + 0.1, base)  # not equal in the last bits
    assert found.std == 0
    assert found.p_t == found.p_wilcoxon < (0.05 if n > 5 else 1)
    assert found.verdict == verdict
    assert (found.low > 0) == (verdict == "better")
    assert paired(base, base + 0.1).verdict == verdict.replace("better", "worse")


def test_equal_columns_are_no_difference() -> None:
    found = paired([0.1 + 0.2, 1, 2], [0.3, 1, 2])
    assert (found.mean, found.low, found.high, found.p_t, found.p_wilcoxon) == (0, 0, 0, 1, 1)
    assert (found.wins, found.losses, found.detectable) == (0, 0, 0)
    assert found.verdict == "not told apart"


def test_pairs_with_nan_are_left_out() -> None:
    found = paired([1.0, np.nan, 3.0, 5.0], [0.5, 1.0, np.nan, 4.0])
    assert (found.n, found.mean) == (2, pytest.approx(0.75))
    empty = paired([np.nan, np.nan], [1.0, 2.0])
    assert empty.n == 0
    assert np.isnan([empty.mean, empty.low, empty.p_t, empty.boot_low]).all()
    assert empty.verdict == "not told apart"
    alone, both = family([([1, 2, 3.5], [0, 0, 0]), ([np.nan] * 3, [0, 0, 0])])
    assert alone.p_holm == alone.p_t, "a test that could not be made is not counted"
    assert np.isnan(both.p_holm)


def test_an_empty_family_is_empty() -> None:
    assert family([]) == []


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"shapes \(2,\) and \(3,\): give one pair per seed"):
        paired([1, 2], [1, 2, 3])


def test_the_bootstrap_depends_on_its_seed_alone() -> None:
    columns = np.random.default_rng(0).normal(size=(2, 10))
    np.random.seed(1)  # noqa: NPY002
    first = paired(*columns)
    np.random.seed(2)  # noqa: NPY002
    assert paired(*columns) == first
    assert paired(*columns, seed=1).boot_low != first.boot_low


@pytest.mark.slow
def test_statistics_need_no_torch() -> None:
    code = "import sys, hasa_opt.study.claims; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
