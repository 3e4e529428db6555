"""The files of the reproduction: what was measured, and what the policy ``recommended`` chose."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hasa_opt._utils.streams import STREAMS
from hasa_opt.errors import InputError
from hasa_opt.policies import RECOMMENDED
from hasa_opt.study import Results, read_results
from hasa_opt.study.outcome import Outcome
from hasa_opt.study.results import merged

__all__ = [
    "check_streams", "chosen", "keep", "keep_choices", "raw", "reasons", "repeated", "rounded",
    "setting_of", "streams",
]  # fmt: skip

_CHOICES = "choices.csv"
_RAW = ".csv.gz"
_STREAMS = "streams.txt"
_HEADER = ("setting", "seed", "reason")


def check_streams(folder: Path) -> None:
    """Refuse to measure beside results that were measured with other random numbers.

    Policies are compared seed by seed, on the same batches. The folder says, in ``streams.txt``,
    on which version of the random streams its results were measured.
    """
    path = folder / _STREAMS
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{STREAMS}\n", encoding="utf-8")
    elif streams(folder) != STREAMS:
        raise InputError(
            f"{folder} holds results of random streams {streams(folder)}, and this version draws "
            f"streams {STREAMS}: name a new folder with --results, and measure all policies there"
        )


def streams(folder: Path) -> int:
    """Version of the random streams on which the results in a folder were measured."""
    return int((folder / _STREAMS).read_text(encoding="utf-8"))


def raw(folder: Path, setting: object) -> Path:
    """The file of the results of a setting."""
    return folder / f"{setting}{_RAW}"


def setting_of(path: Path) -> str:
    """The setting whose results a file holds."""
    return path.name.removesuffix(_RAW)


def rounded(results: Results) -> Results:
    """Six decimals are enough, and a tenth of the file."""
    columns = ("own", "supernet", "deployed", "peak", "trained", "realised")
    return replace(results, **{name: getattr(results, name).round(6) for name in columns})


def keep(found: Sequence[Results], path: Path) -> Results:
    """Write results with those of other policies that the file holds; they are returned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [read_results(path)] if path.exists() else []
    joined = merged([*known, *found])
    joined.write(path)
    return joined


def repeated(found: Results, path: Path) -> Table:
    """Results of one seed beside those that a file has of it.

    On the machine that wrote the file no client differs; another processor rounds otherwise.
    """
    kept, (seed,) = read_results(path), found.seeds
    at = kept.seeds.index(seed)
    table = Table(title=f"{setting_of(path)}, seed {seed}: client mean, percent", box=SIMPLE_HEAD)
    for name in ("policy", "committed", "repeated", "largest difference of a client"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for policy in found.policies:
        before, now = kept.own[kept.row(policy), at], found.own[found.row(policy), 0]
        means = (f"{100 * values.mean():.2f}" for values in (before, now))
        table.add_row(policy, *means, f"{100 * np.abs(now - before).max():.2f}")
    return table


def reasons(outcomes: Sequence[Outcome]) -> dict[int, str]:
    """Seed to what was decided under it, and why."""
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
    """How often each policy was chosen before training, in the runs whose results are in a file.

    The older ``recommended`` chose one; what today's decides in a round has no such name.
    """
    found = [why for (name, _), why in _read(path.parent).items() if name == setting_of(path)]
    return Counter(why.partition(":")[0] for why in found if not why.startswith("round "))


def _read(folder: Path) -> dict[tuple[str, str], str]:
    path = folder / _CHOICES
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["setting"], row["seed"]): row["reason"] for row in csv.DictReader(file)}
