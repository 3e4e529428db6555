"""Write what the scenarios give now: ``python tests/freeze/record.py [NAME ...]``; default: all.

The library that is recorded is the one of this tree: it must be installed editable, or be first on
the path (``PYTHONPATH=.``).
"""

from __future__ import annotations

import json
import platform
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from apparatus import ROOT
from scenarios import SCENARIOS, observe

import hasa_opt

FROZEN = Path(__file__).parent / "frozen.json"


def environment() -> dict[str, str]:
    """What the bits of a training hang on: the processor, and the version of torch."""
    return {"processor": _processor(), "torch": torch.__version__}


def _processor() -> str:
    """Name of the model, and its numbers, as some machines name only the family."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines())
    found = {name.strip(): value.strip() for name, _, value in lines}
    names = ("model name", "cpu family", "model")
    parts = [f"{name} {found[name]}" for name in names if name in found]
    return ", ".join([*parts, torch.backends.cpu.get_cpu_capability()])


def record(names: list[str]) -> None:
    """Write all scenarios, or those named into the file that there is."""
    if ROOT not in Path(hasa_opt.__file__).parents:
        sys.exit(f"{hasa_opt.__file__} is not of {ROOT}: call with PYTHONPATH={ROOT}")
    kept: dict[str, Any] = json.loads(FROZEN.read_text(encoding="utf-8")) if names else {}
    if names and kept["environment"] != environment():
        sys.exit(f"{FROZEN} was recorded elsewhere ({kept['environment']}): record all scenarios")
    values = kept.get("scenarios", {})
    for name in names or SCENARIOS:
        values[name] = observe(name)
    content = {"environment": environment(), "scenarios": dict(sorted(values.items()))}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[-+\d.e,\s]+\]", lambda found: " ".join(found[0].split()), text)  # numbers
    FROZEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    record(sys.argv[1:])
