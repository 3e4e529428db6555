"""Try a supernet of each of eighty real networks: what is cut, and why the others are refused.

``python docs/networks_table.py`` writes docs/networks.csv, which the page on slicing shows; with
names of networks behind it, those alone are tried and printed. It needs ``transformers`` and
``pytorchcv`` (``pip install --no-deps pytorchcv``: torch is all that its networks need).
"""

from __future__ import annotations

import csv
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from support.networks import NETWORKS, Network  # noqa: E402
from support.networks.comparison import assert_is_masked_module  # noqa: E402

from hasa_opt.errors import InputError  # noqa: E402
from hasa_opt.models import Supernet, extract  # noqa: E402


@dataclass(frozen=True)
class Line:
    """What holds of a network.

    ``at_half`` is the share of the parameters at width 0.5, ``whole`` the number of those that an
    operation leaves at full width in some dimension, and ``reason`` the first of these operations.
    """

    family: str
    network: str
    source: str
    asks: str
    result: str
    at_half: str = ""
    whole: str = ""
    cpu_s: str = ""
    reason: str = ""


def literal(text: str) -> str:
    """Mark a text of which nothing is to be set in italics or as a link."""
    return f"``{text}``" if text else ""


def tried(network: Network) -> Line:
    """Build a supernet and compare two subnets with the masked module."""
    told = (network.family, network.name, network.source, network.asks)
    if not network.is_installed:
        return Line(*told, "not tried", reason=f"{network.source} is not installed")
    module, example = network.make()
    start = time.process_time()
    try:
        supernet = Supernet(module, example)
    except InputError as error:
        return Line(*told, "refused", reason=literal(str(error).partition(": change")[0]))
    seconds = f"{time.process_time() - start:.1f}"
    for width, seed in ((0.5, None), (0.75, 2)):
        assert_is_masked_module(supernet, module, example, width, seed)
    whole, half = (sum(p.numel() for p in extract(supernet, w).parameters()) for w in (1.0, 0.5))
    reason = literal(next(iter(supernet.whole.values()), ""))
    n_whole = str(len(supernet.whole) or "")
    return Line(*told, "cut", f"{half / whole:.2f}", n_whole, seconds, reason)


def main(names: list[str]) -> None:
    """Try the networks and write the table, or print it."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = []
    for name in names or NETWORKS:
        lines.append(tried(NETWORKS[name]))
        print(*(value for value in asdict(lines[-1]).values() if value), sep=", ", flush=True)
    print(f"{sum(line.result == 'cut' for line in lines)} of {len(lines)} are cut")
    if not names:
        with (DOCS / "networks.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, asdict(lines[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(map(asdict, lines))


if __name__ == "__main__":
    main(sys.argv[1:])
