"""The study: policies trained side by side, what was measured, and what may be said of it.

The names here are imported on first use: training and its outcomes need the extra ``fl``;
:class:`Results` and the statistics made from them do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hasa_opt._utils.scale import Scale
    from hasa_opt.study.outcome import Outcome
    from hasa_opt.study.results import Results, read_results
    from hasa_opt.study.study import Study

__all__ = ["Outcome", "Results", "Scale", "Study", "read_results"]

_HOMES = {
    "Outcome": "hasa_opt.study.outcome",
    "Results": "hasa_opt.study.results",
    "Scale": "hasa_opt._utils.scale",
    "Study": "hasa_opt.study.study",
    "read_results": "hasa_opt.study.results",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
