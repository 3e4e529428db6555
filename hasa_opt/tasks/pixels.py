"""Pixels: what images of pillow become for a model."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from hasa_opt.errors import InputError

__all__ = ["is_image", "pixels"]

_GREY = ("1", "L")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of more than eight bits, whose largest value nobody says."""


def is_image(value: Any) -> TypeGuard[Image]:
    """Whether a value is an image of pillow, as Hugging Face's datasets give them."""
    return isinstance(value, Image)


def pixels(image: Image, size: tuple[int, int] | None = None, grey: bool | None = None) -> Tensor:
    """Convert an image.

    Parameters
    ----------
    image : Image
    size : (height, width), optional
        What it is scaled to.
    grey : bool, optional
        One channel instead of red, green and blue. Default: as the image has it.

    Returns
    -------
    (channels, height, width) float32 in [0, 1]

    Raises
    ------
    InputError
        If a pixel has more than eight bits.
    """
    if image.mode in _DEEP:
        raise InputError(
            f"an image has the mode {image.mode!r}, more than eight bits for a pixel: convert it "
            "to numbers from 0 to 1"
        )
    is_grey = image.mode in _GREY if grey is None else grey
    made = image.convert("L" if is_grey else "RGB")
    if size is not None:
        made = made.resize(size[::-1])
    table = np.array(made, dtype=np.float32) / 255
    channels = table[None] if is_grey else table.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels))
