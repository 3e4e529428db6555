"""A study's settings in words, for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasa_opt import __version__

if TYPE_CHECKING:
    from hasa_opt.study.study import Study

__all__ = ["describe"]

_WORDS = {"fixed": "the last one counts", "validation": "the best on validation data counts"}


def describe(study: Study) -> dict[str, str]:
    """Lines that describe how a study trains and deploys, by title."""
    return {
        "Supernet": f"{type(study.model).__name__} ({_sizes(study)})",
        "Local training": f"{study.local_epochs} epoch(s), batches of {study.batch_size}",
        "Rounds": f"{study.rounds}, {_WORDS[study.rounds_by]}",
        "Budget": f"{study.budget:g} of the supernet's {study.budget_in}",
        "Optimiser": f"{study.optimizer}, learning rate {study.learning_rate:g}",
        "Aggregation": f"{study.aggregation}, clients weigh by samples^{study.weight_power:g}",
        "Output bias": study.output_bias,
        "Personal models": f"mix {study.mix}",
        "Engine": study.engine,
        "Clients a round": "all" if study.sample is None else str(study.sample),
        "Caps": "none" if study.max_width is None else "given",
        "Faults": "none" if study.faults is None else str(study.faults),
        "Evaluation": f"each client's test data on the {study.evaluate}",
        "Score": study.score,
        **{f"Recommended for seed {own.seed}": own.reason for own in study.outcomes if own.reason},
        "Version": f"hasa_opt {__version__}",
    }


def _sizes(study: Study) -> str:
    return ", ".join(f"{group} {size}" for group, size in study.model.sizes.items())
