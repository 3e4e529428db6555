"""The learning problem of a task: its loss, its metric, and what targets and outputs have to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map, tree_map_only

from hasa_opt._utils.scale import Scale, as_accuracy
from hasa_opt.errors import InputError
from hasa_opt.models.targets import counted, cross_entropy, known, trainable

__all__ = [
    "CLASSES",
    "OF_CLASSES",
    "LearningProblem",
    "Loss",
    "LossName",
    "Metric",
    "Summed",
    "as_accuracy",
    "takes_classes",
]

LossName: TypeAlias = Literal["cross_entropy", "next_token", "mse", "bce_with_logits"]
Loss: TypeAlias = LossName | Callable[[Any, Tensor], Tensor]
"""What is minimised: a name, or a function of outputs and targets that gives the batch's mean."""

Metric: TypeAlias = Literal["accuracy", "mse", "mae", "loss"] | Callable[..., Any]
"""What a model is judged by: a name, a function of outputs and targets, or an object with
``reset``, ``update`` and ``compute`` such as those of torchmetrics."""

_DEFAULT_METRICS = {
    "cross_entropy": "accuracy",
    "next_token": "accuracy",
    "mse": "mse",
    "bce_with_logits": "accuracy",
}
_HIGHER_IS_BETTER = {"accuracy": True, "mse": False, "mae": False, "loss": False}
OF_CLASSES = ("cross_entropy", "next_token")
"""Losses whose targets are classes or tokens, of which one is right, or shares of these."""
_ERRORS: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "bce_with_logits": functional.binary_cross_entropy_with_logits,
}


class Summed(NamedTuple):
    """A loss, summed over a batch.

    Attributes
    ----------
    total : scalar tensor
    number : int
        What it is divided by for the batch's mean: targets, or samples for a function.
    """

    total: Tensor
    number: int


@dataclass(frozen=True, eq=False)
class LearningProblem:
    """What is learned, and how it is judged.

    Parameters
    ----------
    loss : str or function
        "cross_entropy": classes, or rows of probabilities (soft labels). "next_token": the token
        after each position. "mse": numbers. "bce_with_logits": shares from 0 to 1 of yes, such as
        several labels at once. Or ``f(outputs, targets)``, the mean over the batch.
    metric : str, function or object, optional
        "accuracy", "mse", "mae" or "loss"; ``f(outputs, targets)``, called with a client's whole
        split; or an object with ``reset``, ``update(outputs, targets)`` and ``compute``, such as
        those of torchmetrics, which is reset for each client. Default: "accuracy" for classes and
        labels, "mse" for numbers, "loss" for a function.
    higher_is_better : bool, optional
        Default: what is known of the metric.

    Raises
    ------
    InputError
        If a name is unknown, the metric does not go with the loss, or nobody says whether more of
        it is better.
    """

    loss: Loss = "cross_entropy"
    metric: Metric | None = None
    higher_is_better: bool | None = None

    def __post_init__(self) -> None:
        check_loss(self.loss)
        if isinstance(self.metric, type):
            raise _no_instance("metric", self.metric)
        if self.metric is None:
            default = "loss" if callable(self.loss) else _DEFAULT_METRICS[self.loss]
            object.__setattr__(self, "metric", default)
        self._check_metric()
        if self.higher_is_better is None:
            object.__setattr__(self, "higher_is_better", self._direction())

    def _check_metric(self) -> None:
        """Refuse a metric that is unknown, or that the loss's targets have no meaning for."""
        metric, loss = self.metric, self.loss
        if callable(metric) or _is_object(metric):
            return
        if metric not in _HIGHER_IS_BETTER:
            raise InputError(
                f"metric {metric!r} is not known: use one of "
                f"{', '.join(map(repr, _HIGHER_IS_BETTER))}, a function of outputs and targets, or "
                "an object of torchmetrics"
            )
        fits = {"accuracy": (*OF_CLASSES, "bce_with_logits"), "mse": ("mse",), "mae": ("mse",)}
        if metric in fits and not callable(loss) and loss not in fits[metric]:
            raise InputError(
                f"the metric {metric!r} does not go with the loss {loss!r}: it goes with "
                f"{' and '.join(map(repr, fits[metric]))}; give a function of outputs and targets"
            )

    def _direction(self) -> bool:
        """Whether more of the metric is better, where that is known."""
        if isinstance(self.metric, str):
            return _HIGHER_IS_BETTER[self.metric]
        known = getattr(self.metric, "higher_is_better", None)
        if not isinstance(known, bool):
            raise InputError(
                f"nobody says whether more of the metric {self.metric_name} is better: give "
                "higher_is_better=True or False"
            )
        return known

    @property
    def loss_name(self) -> str:
        """The loss in a word."""
        return _name(self.loss)

    @property
    def metric_name(self) -> str:
        """The metric in a word."""
        return _name(self.metric)

    @property
    def _named(self) -> str:
        """The metric, where it is a name; objects of torchmetrics equal anything."""
        return self.metric if isinstance(self.metric, str) else ""

    @property
    def scale(self) -> Scale:
        """The metric with its better end, as studies and forecasts show it."""
        return Scale(self.metric_name, bool(self.higher_is_better))

    @property
    def metric_object(self) -> Any:
        """The metric, where it is an object that is reset for each client, else None."""
        return self.metric if _is_object(self.metric) else None

    def to(self, device: torch.device | str) -> None:
        """Move what loss and metric hold, such as weights of classes, in place, as modules do."""
        for part in (self.loss, self.metric):
            if callable(move := getattr(part, "to", None)):
                move(device)

    @property
    def is_by_sample(self) -> bool:
        """Whether loss and metric are means over targets, so that each sample has its own."""
        return isinstance(self.loss, str) and isinstance(self.metric, str)

    @property
    def for_single_samples(self) -> LearningProblem:
        """The same problem, judged by what each sample adds to.

        By the metric where that is a name, and so a mean over targets. A function or an object
        judges whole splits: the loss stands in for it, where lower is better.
        """
        return self if isinstance(self.metric, str) else LearningProblem(self.loss, "loss")

    def has_classes(self, targets: Tensor) -> bool:
        """Whether targets are classes or tokens, of which one is right."""
        return self.loss in OF_CLASSES and not targets.is_floating_point()

    def has_numbers(self, targets: Tensor) -> bool:
        """Whether targets are numbers that are compared as such, neither classes nor shares."""
        if self.loss in ("mse", "bce_with_logits"):
            return True
        return callable(self.loss) and targets.is_floating_point()

    def describe(self) -> dict[str, str | bool]:
        """What tells the problem from others, in terms that JSON can hold.

        Nothing for classes and tokens that are judged by accuracy.
        """
        if self.loss in OF_CLASSES and self._named == "accuracy":
            return {}
        better = bool(self.higher_is_better)
        return {"loss": self.loss_name, "metric": self.metric_name, "higher_is_better": better}

    def summed_loss(self, outputs: Any, targets: Tensor) -> Summed:
        """Sum the loss over a batch: of classes over those known, of a function over samples.

        Raises
        ------
        InputError
            If a loss function does not give one number.
        """
        if callable(self.loss):
            mean = self.loss(outputs, targets)
            if not isinstance(mean, Tensor) or mean.numel() != 1:
                given = tuple(mean.shape) if isinstance(mean, Tensor) else type(mean).__name__
                raise InputError(
                    f"the loss {self.loss_name} gives {given}: it must give the batch's mean, one "
                    "number of torch"
                )
            return Summed(mean.reshape(()) * len(targets), len(targets))
        if self.has_classes(targets):
            losses = cross_entropy(outputs, trainable(targets), "sum")
            return Summed(losses, int(known(targets).sum()))
        losses = self._losses(outputs, targets)
        return Summed(losses.sum(), losses.numel())

    def judge(self, seen: Sequence[tuple[Any, Tensor]], loss: float) -> float:
        """The metric of a whole split, where it is a function or an object.

        Parameters
        ----------
        seen : sequence of (outputs, targets)
            All batches; an object was given them already.
        loss : float
            Mean loss of the split.

        Raises
        ------
        InputError
            If the metric does not give one number.
        """
        if self._named == "loss":
            return loss
        if self.metric_object is not None:
            found = self.metric_object.compute()
        elif callable(self.metric):
            outputs = tree_map(lambda *parts: torch.cat(parts), *(given for given, _ in seen))
            found = self.metric(outputs, torch.cat([targets for _, targets in seen]))
        else:
            scores = torch.cat([self._scores(*batch).flatten() for batch in seen])
            found = scores.nanmean()
        try:
            return float(found)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the metric {self.metric_name} gives {found!r}: it must give one number"
            ) from error

    def outcomes(self, outputs: Any, targets: Tensor) -> Tensor:
        """Outcomes of a batch, sample by sample, where the metric is a name.

        A loss function is called with one sample at a time.

        Returns
        -------
        (batch, 4) float64 tensor
            Targets by which a sample is judged, those that enter the loss, the metric summed over
            them, and their summed loss.
        """
        losses = self._losses(outputs, targets).double()
        scores = losses if self._named in ("loss", self.loss) else self._scores(outputs, targets)
        ignored = scores.isnan() if self._named == "accuracy" else torch.zeros_like(scores).bool()
        judged = (~ignored).sum(1).double()
        number = torch.full_like(losses[:, 0], losses.shape[1])
        total = scores.masked_fill(ignored, 0.0).sum(1)
        return torch.stack([judged, number, total, losses.sum(1)], 1)

    def _losses(self, outputs: Any, targets: Tensor) -> Tensor:
        """One loss for each target, ``(batch, n)``; of a function one for each sample."""
        if callable(self.loss):
            samples = (_sample(outputs, targets, row) for row in range(len(targets)))
            return torch.stack([self.summed_loss(*sample).total for sample in samples])[:, None]
        if self.loss == "cross_entropy":
            log_shares: Tensor = outputs.log_softmax(-1)
            return -(targets.to(log_shares) * log_shares).sum(-1).reshape(len(targets), -1)
        return self._entries(_ERRORS[self.loss], outputs, targets)

    def _scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The metric for each target, ``(batch, n)`` float64; NaN for targets that do not count."""
        if self._named != "accuracy":
            return self._entries(_ERRORS[self._named], outputs, targets).double()
        if self.loss == "bce_with_logits":
            right = (outputs.reshape(targets.shape) > 0) == (targets > 0.5)
        elif targets.is_floating_point():
            right = outputs.argmax(-1) == targets.argmax(-1)
        else:
            right = torch.where(counted(targets), outputs.argmax(-1) == targets, torch.nan)
        return right.reshape(len(targets), -1).double()

    @staticmethod
    def _entries(error: Callable[..., Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
        """Compare entry by entry; a column of one output stands beside one target per sample."""
        given = error(outputs.reshape(targets.shape), targets.to(outputs), reduction="none")
        return given.reshape(len(targets), -1)

    def judged(self, targets: Tensor) -> int:
        """Count the targets, or samples, by which a split is judged; padding is none."""
        if self.has_classes(targets):
            return int(counted(targets).sum())
        return len(targets)


def check_loss(loss: Loss) -> None:
    """Refuse a loss that is neither a known name nor a function.

    Raises
    ------
    InputError
        Naming those that are known.
    """
    if isinstance(loss, type):
        raise _no_instance("loss", loss)
    if not callable(loss) and loss not in get_args(LossName):
        known = ", ".join(map(repr, get_args(LossName)))
        raise InputError(
            f"loss {loss!r} is not known: use one of {known}, or a function of outputs and targets"
        )


def _no_instance(what: str, given: type) -> InputError:
    return InputError(
        f"the {what} is the class {given.__name__}: give an object, such as {given.__name__}()"
    )


def takes_classes(loss: Loss) -> bool:
    """Whether targets of a loss may be classes; what a function takes is not known."""
    return callable(loss) or loss in OF_CLASSES


def _is_object(metric: Any) -> bool:
    """Whether a metric takes batch after batch, as those of torchmetrics do."""
    return all(callable(getattr(metric, part, None)) for part in ("reset", "update", "compute"))


def _sample(outputs: Any, targets: Tensor, row: int) -> tuple[Any, Tensor]:
    """One sample of a batch."""
    only = slice(row, row + 1)
    return tree_map_only(Tensor, lambda part: part[only], outputs), targets[only]


def _name(part: Any) -> str:
    if isinstance(part, str):
        return part
    return str(getattr(part, "__name__", type(part).__name__))


CLASSES = LearningProblem()
"""Classes or tokens, judged by accuracy."""
