"""Print what pages tell in words of the measurements, as it stands there.

``python docs/reproduction/told.py``. Nothing is trained here: each line is computed from the
committed results, and a test finds it on its page. Intervals are 95 % t intervals of one
comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from groups import TRIES
from records import raw
from tables import CONFIRMATION, RESULTS, Claim, gap
from tuned_figure import newest

from hasa_opt.study.claims import signed
from hasa_opt.study.inference import Difference
from hasa_opt.study.results import Kind, Results, read_results

__all__ = ["told"]

TITLES = tuple(f"titles-{hidden}-{budget}" for hidden in (16, 64, 128) for budget in (0.35, 0.5))
IMAGES = ("domains-cnn-0.5", "domains-cnn-0.35")
SAME = "uniform+personal+local_bias"


@cache
def results_of(name: str, *, confirmed: bool) -> Results:
    """Results of a setting, on the first seeds or on the confirming ones."""
    return read_results(raw(CONFIRMATION if confirmed else RESULTS, name))


def gaps(
    names: Sequence[str],
    better: str,
    worse: str = "uniform",
    measure: str = "mean",
    kind: Kind = "own",
    *,
    confirmed: bool = False,
) -> list[Difference]:
    """The difference of two policies in each setting."""
    claim = Claim("", better, worse, measure, kind)
    found = [gap(claim, results_of(name, confirmed=confirmed)) for name in names]
    return [own for own in found if own is not None]


def means(*given: object, **named: object) -> list[float]:
    """Mean differences of :func:`gaps`."""
    return [own.mean for own in gaps(*given, **named)]  # type: ignore[arg-type]


def told() -> Iterator[tuple[str, str]]:
    """Name of a page in ``docs``, and what it says."""
    for page, lines in {
        "worth": (*_benchmark(), *_personal(), *_images(), *_groups(), *_tuned()),
        "reproduction/index": (*_claims(), *_policies(), *_options(), *_rules()),
    }.items():
        yield from ((page, line) for line in lines)


def _benchmark() -> Iterator[str]:
    (docstrings,) = means(["docstrings-64-0.5"], "hasa")
    yield f"on docstrings {docstrings:+.2f} with 64 units and 0.5"
    titles = means(["titles-16-0.35", "titles-64-0.35"], "hasa")
    (docstrings,) = means(["docstrings-16-0.35"], "hasa")
    yield (
        f"({signed(titles[0])} and {signed(titles[1])} with 16 and 64 units and 0.35; "
        f"docstrings {signed(docstrings)} with 16 and 0.35)"
    )


def _personal() -> Iterator[str]:
    names = ("titles-64-0.5", "titles-16-0.35", "docstrings-64-0.5", "docstrings-16-0.35")
    least = min(means(names, "recommended", "hasa", confirmed=True))
    yield f"by {least:.2f} points or more"
    titles, titles_16, docstrings, docstrings_16 = gaps(names, "recommended", SAME, confirmed=True)
    yield (
        f"({signed(docstrings_16.mean)}, {_span(docstrings_16)}, on docstrings; "
        f"{signed(titles_16.mean)}, {_span(titles_16)}, on titles)"
    )
    yield (
        f"costs {-docstrings.mean:.2f} points ({-docstrings.high:.2f} to {-docstrings.low:.2f}) on "
        f"docstrings where it is plentiful (titles: {signed(titles.mean)}, {_span(titles)})"
    )
    own = gaps(names, "hasa+personal+local_bias", SAME, confirmed=True)
    yield f"{own[2].mean:.2f} points ({_span(own[2])}) above uniform's on docstrings with 64 units"
    yield f"{_range([-own[1].mean, -own[3].mean], 1)} below with 16"


def _images() -> Iterator[str]:
    hasa, chosen, older = (
        means(IMAGES, name, confirmed=True) for name in ("hasa", "by_domain", "recommended")
    )
    worst, older_worst = (
        means(IMAGES, name, "uniform", "worst", confirmed=True)
        for name in ("by_domain", "recommended")
    )
    above = means(IMAGES, "by_domain", "hasa", "worst", confirmed=True)
    yield f"{_both(hasa)} points above uniform in the client mean"
    yield f"{_both(chosen)}, and {_both(worst)} for the worst client ({_both(above)} above HASA)"
    yield f"not know the domains, {_both(older)}, and {_both(older_worst)} for the worst client"
    lost = [
        -value
        for name in ("measured", "measured_covered")
        for value in means(IMAGES, name, confirmed=True)
    ]
    yield f"loses {_range(lost, 1)}"


def _groups() -> Iterator[str]:
    folder, settings = TRIES["fifth"]
    cells = [read_results(raw(folder, cell)) for cell in settings]
    for other in ("clustered_by_kind", "by_domain"):
        found = [gap(Claim("", "recommended", other), cell) for cell in cells]
        yield " and ".join(f"{own.mean:+.2f}, {_span(own)}" for own in found if own is not None)


def _tuned() -> Iterator[str]:
    more = []
    for results in newest().values():
        flops = results.flops.sum(axis=-1).mean(axis=1)
        more.append(100 * (flops[results.row("recommended")] / flops[results.row("uniform")] - 1))
    yield f"computes from {-min(more):.1f} % less to {max(more):.1f} % more"


def _claims() -> Iterator[str]:
    places = [name.removeprefix("titles-").replace("-", ", ") for name in TITLES]
    listed = [
        f"{signed(mean)} ({place})"
        for place, mean in zip(places, means(TITLES, "hasa"), strict=True)
    ]
    yield f"By units and budget: {', '.join(listed)}"
    worst = means(TITLES, "hasa", "uniform", "worst")
    yield (f"({_range(worst[1:], sign=True)}), worse by {-worst[0]:.2f} with 16 units and 0.35")
    beside = [
        *means(TITLES, "hasa", "heterofl", "worst"),
        *means(TITLES, "hasa", "federated_dropout", "worst"),
    ]
    yield f"in all six, by {_range(beside, 1)}"
    fjord = means(TITLES[:2], "fjord", "hasa", "worst")
    yield f"which is {fjord[0]:.2f} and {fjord[1]:.2f} better with 16 units"
    mean = means(TITLES, "hasa", "reverse")
    third = means(TITLES, "hasa", "reverse", "worst_third")
    yield f"by {_range(mean, 1)} in the mean and {_range(third, 1)} in the worst third"
    uncut = means(TITLES, "reverse", "hasa", "mean", "supernet")
    yield (
        f"with 16 units (by {uncut[0]:.2f} and {uncut[1]:.2f}) and with 64 and 0.35 "
        f"(by {uncut[2]:.2f}), and {-uncut[5]:.2f} behind with 128 and 0.5"
    )
    selective = means(TITLES, "uniform+selective")
    yield f"changes nothing under uniform ({_range(selective, sign=True)})"
    below = [-value for value in means(TITLES, "hasa+selective", "uniform+selective")]
    yield f"uniform with it in all six, by {_range(below)}"
    helps = means(TITLES, "hasa+selective", "hasa")
    yield (
        f"with 16 units and 0.35 (by {helps[0]:.2f}) and costs it {-helps[3]:.2f} and "
        f"{-helps[5]:.2f} with 64 and 128 units and 0.5"
    )


def _policies() -> Iterator[str]:
    measured = means(TITLES, "measured")
    yield f"(``measured``, {signed(max(measured))} to {signed(min(measured))})"
    for name, title in {
        "heterofl": "HeteroFL's tiers {} points",
        "federated_dropout": "Federated Dropout {}",
        "fedrolex": "FedRolex {}",
    }.items():
        found = means(TITLES, name)
        yield title.format(f"{signed(max(found))} to {signed(min(found))}")
    fjord = means(TITLES, "fjord")
    others = [value for at, value in enumerate(fjord) if at != 3]
    yield f"({_range(others, sign=True)}), but for {signed(fjord[3])} with 64 units and 0.5"


def _options() -> Iterator[str]:
    docstrings = ("docstrings-16-0.35", "docstrings-64-0.5")
    personal = means(TITLES, "uniform+personal")
    first, second = means(docstrings, "uniform+personal")
    yield (
        f"gains {_range(personal)} points over the same uniform allocation on titles, "
        f"{first:.2f} and {second:.2f} on docstrings"
    )
    names = ["docstrings-64-0.5"]
    (own,) = gaps(names, "hasa+personal", "uniform+personal", confirmed=True)
    yield f"({own.mean:+.2f}, {_span(own)})"
    bias, both = means(TITLES, "uniform+local_bias"), means(TITLES, SAME)
    yield f"trains alone gains {_range(bias)}, both together {_range(both)}"
    root = gaps(TITLES, "uniform+n^0.5")
    yield (
        f"costs {-root[0].mean:.2f} under uniform with 16 units and 0.35, gains "
        f"{root[5].mean:.2f} ({_span(root[5])}) with 128 and 0.5"
    )
    hasa = means(TITLES, "hasa+n^0.5", "hasa")
    yield f"It costs HASA {_range([-hasa[at] for at in (0, 1, 3)])} with 16 units"


def _rules() -> Iterator[str]:
    narrow, wide = means(["docstrings-16-0.35", "docstrings-64-0.5"], "hasa")
    worst, third, weighted = (
        means(["docstrings-64-0.5"], "hasa", "uniform", measure)[0]
        for measure in ("worst", "worst_third", "weighted")
    )
    yield (
        f"HASA is {-narrow:.2f} below uniform with 16 units and 0.35, not told apart with 64 and "
        f"0.5 ({wide:+.2f}), where its worst client and worst third are better (by {worst:.2f} and "
        f"{third:.2f}) and its sample-weighted mean is worse (by {-weighted:.2f})"
    )
    (alone,) = gaps(["titles-16-0.35"], "probe_alone")
    yield (
        f"{-alone.mean:.2f} points below plain uniform ({signed(alone.low)} to "
        f"{signed(alone.high)})"
    )
    above, hasa = means(TITLES, "recommended"), means(TITLES, "recommended", "hasa")
    yield f"in all six, by {_range(above)}, and above HASA by {_range(hasa)}"
    same = gaps(TITLES, "recommended", SAME)
    others = [own.mean for own in same[1:]]
    yield (
        f"{signed(same[0].mean)} ({signed(same[0].low)} to {signed(same[0].high)}) with 16 units "
        f"and 0.35, not told apart in the others ({_range(others, sign=True)})"
    )


def _span(own: Difference) -> str:
    """Ends of an interval, a plus sign left out."""
    return " to ".join(signed(end).removeprefix("+") for end in (own.low, own.high))


def _range(values: Sequence[float], digits: int = 2, *, sign: bool = False) -> str:
    if sign:
        return f"{signed(min(values))} to {signed(max(values))}"
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _both(values: Sequence[float]) -> str:
    first, second = values
    return f"{first:.1f} and {second:.1f}"


if __name__ == "__main__":
    for where, line in told():
        print(f"docs/{where}.rst: {line}")
