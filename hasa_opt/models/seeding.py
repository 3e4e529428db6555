"""Fresh weights: an architecture anew, and random numbers that leave all others as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from hasa_opt.errors import InputError
from hasa_opt.models.subnets import Cuttable, Network

__all__ = ["fresh", "no_supernet", "seeded_rng"]


def fresh(model: Network, seed: int) -> Network:
    """Build the same architecture with new initial weights that depend on the seed alone.

    Parameters
    ----------
    model : SupernetModel
        It is not changed.
    seed : int

    Returns
    -------
    SupernetModel
        Of the same class, on the same device.

    Raises
    ------
    InputError
        If it is no supernet.
    """
    if not isinstance(model, Cuttable):
        raise no_supernet(model)
    with seeded_rng(seed):
        return model.build(model.sizes).to(next(model.parameters()))


def no_supernet(model: object) -> InputError:
    """Say how a model becomes a supernet."""
    name = type(model).__name__
    return InputError(
        f"model is a {name}: give a hasa_opt.models.SupernetModel; "
        "hasa_opt.models.Supernet(module, sample) makes one of a torch.nn.Module and the inputs of "
        "a sample"
    )


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Run a block on freshly seeded global generators, then put their state back.

    Parameters
    ----------
    seed : int
    """
    devices: Sequence[int] = ()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(int(seed))
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
