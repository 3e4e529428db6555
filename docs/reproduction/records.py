"""The files of the reproduction: what was measured, and what the policy ``recommended`` chose."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hasa_opt.policies import RECOMMENDED
from hasa_opt.study import Results, read_results
from hasa_opt.study.outcome import Outcome
from hasa_opt.study.results import merged

__all__ = ["chosen", "keep", "keep_choices", "reasons", "rounded"]

_CHOICES = "choices.csv"
_HEADER = ("setting", "seed", "reason")


def rounded(results: Results) -> Results:
    """Six decimals are enough, and a tenth of the file."""
    columns = ("own", "supernet", "deployed", "peak", "trained", "realised")
    return replace(results, **{name: getattr(results, name).round(6) for name in columns})


def keep(found: Sequence[Results], path: Path) -> None:
    """Write results, and keep those of other policies that the file holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [read_results(path)] if path.exists() else []
    merged([*known, *found]).write(path)


def reasons(outcomes: Sequence[Outcome]) -> dict[int, str]:
    """Seed to what was recommended under it, and why."""
    return {own.seed: own.reason for own in outcomes if own.policy == RECOMMENDED}


def keep_choices(setting: str, found: Mapping[int, str], folder: Path) -> None:
    """Write reasons, if there are any, beside the results, and keep those of other settings."""
    if not found:
        return
    known = _read(folder) | {(setting, str(seed)): reason for seed, reason in found.items()}
    with (folder / _CHOICES).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(_HEADER)
        out.writerows((*key, reason) for key, reason in sorted(known.items()))


def chosen(path: Path) -> Counter[str]:
    """How often each policy was recommended in the runs whose results are in a file."""
    found = _read(path.parent)
    return Counter(why.partition(":")[0] for (name, _), why in found.items() if name == path.stem)


def _read(folder: Path) -> dict[tuple[str, str], str]:
    path = folder / _CHOICES
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["setting"], row["seed"]): row["reason"] for row in csv.DictReader(file)}
