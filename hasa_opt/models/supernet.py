"""Supernets: networks that can be cut, profiled, and built for a task's samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self

from torch import Tensor

from hasa_opt.errors import InputError
from hasa_opt.models.inputs import Inputs
from hasa_opt.models.profile import Profile, profile
from hasa_opt.models.subnets import Cuttable

__all__ = ["SupernetModel", "TaskModel"]


class SupernetModel(Cuttable):
    """A network whose hidden units can be cut to a width.

    A subclass keeps every tensor it needs in ``state_dict()``, declares in :meth:`cuts` what cuts
    each of them, and rebuilds itself at other sizes in :meth:`build`.

    Parameters
    ----------
    sizes : mapping of str to int
        Number of units of each width group.
    n_outputs : int
        Size of the output's last dimension, which is never cut.

    Raises
    ------
    InputError
        If a size is below 1.
    """

    example_input: Inputs | None = None
    """A batch that the model can process, where the model itself knows one."""

    def profile(
        self,
        widths: Sequence[float],
        sample: Inputs | None = None,
        optimizer: Literal["adam", "sgd"] = "adam",
    ) -> Profile:
        """Measure what subnets cost to train; see :func:`hasa_opt.models.profile.profile`.

        Parameters
        ----------
        widths : sequence of float
            The menu; width 1 joins it.
        sample : (batch_size, ...) Tensor, or dict or tuple of them, optional
            A training batch. Default: :attr:`example_input`.
        optimizer : "adam" or "sgd"
            The optimizer that clients use.

        Returns
        -------
        Profile

        Raises
        ------
        InputError
            If there is no sample, or the model cannot process it.
        """
        batch = self.example_input if sample is None else sample
        if batch is None:
            raise InputError(f"{type(self).__name__} knows no input: give sample= a training batch")
        return profile(self, widths, batch, optimizer)


class TaskModel(SupernetModel):
    """A supernet that can be built for the samples of a task."""

    @classmethod
    @abstractmethod
    def for_data(cls, inputs: Tensor, n_outputs: int, **options: Any) -> Self:
        """Build a model that fits the samples of a task.

        Parameters
        ----------
        inputs : (n, ...) Tensor
            Samples.
        n_outputs : int
            Classes, or size of the vocabulary.
        **options
            Further arguments of the class.

        Raises
        ------
        InputError
            If the model cannot process such samples.
        """
