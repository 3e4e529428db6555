"""The command ``hasa-opt verify``: what two saved files prove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hasa_opt._utils.archive import Archive
from hasa_opt.cli.options import AsJson, busy, print_json, say
from hasa_opt.problem import certificate

__all__ = ["verify"]


def verify(
    problem: Annotated[Path, typer.Argument(help="File of AllocationProblem.save.")],
    result: Annotated[Path, typer.Argument(help="File of Allocation.save.")],
    as_json: AsJson = False,
) -> None:
    """Prove, in exact integers, how far from the optimum a saved result is at most."""
    with busy(f"verifying {result}"):
        for path, noun in ((problem, "AllocationProblem"), (result, "Allocation")):
            Archive.read(path, noun)
        proven, words = certificate.verify(str(problem), str(result))
    if as_json:
        print_json({"proven": proven, "verdict": words})
    else:
        say(words)
    if not proven:
        raise typer.Exit(1)
