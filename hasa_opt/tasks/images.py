"""What the image tasks share: scanned digits, rendered digits, how a task is made of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_digits

from hasa_opt.clients import IntArray
from hasa_opt.tasks.task import Split, Task

__all__ = ["FONTS", "SIDE", "Images", "build", "render", "resize", "scanned", "split_of"]

Images = npt.NDArray[np.float32]

SIDE = 16
"""Height and width of every image, in pixels."""

FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
"""Text fonts that matplotlib ships."""


def scanned() -> tuple[Images, IntArray]:
    """Enlarge the 1,797 scanned digits of scikit-learn from 8 x 8: images and their digits."""
    images, labels = load_digits(return_X_y=True)
    return resize(images.reshape(-1, 8, 8) / 16), labels.astype(np.int64)


def render(
    text: str, font: str, size: int, centre: tuple[float, float], *, side: int = SIDE
) -> Image.Image:
    """Write white text on black, centred in a square of ``side`` pixels."""
    canvas = Image.new("L", (side, side))
    ImageDraw.Draw(canvas).text(centre, text, fill=255, font=_font(font, size), anchor="mm")
    return canvas


def resize(images: npt.NDArray[np.float64]) -> Images:
    """Bring square images in [0, 1], ``(n, k, k)``, to ``(n, SIDE, SIDE)``."""
    factor = SIDE / images.shape[-1]
    resized: npt.NDArray[np.float64] = ndimage.zoom(
        images, (1, factor, factor), order=1, grid_mode=True, mode="nearest"
    )
    return resized.clip(0, 1).astype(np.float32)


def split_of(images: Images, labels: IntArray) -> Split:
    """Images ``(n, SIDE, SIDE)`` and their labels as a split of one channel."""
    return Split(torch.from_numpy(images[:, None]), torch.from_numpy(labels))


def build(
    name: str,
    client_names: Sequence[str],
    splits: Sequence[Sequence[Split]],
    classes: int,
    seed: int,
    packages: Iterable[str],
) -> Task:
    """Make a task of each client's training, validation and test images; it counts labels.

    Parameters
    ----------
    name : str
    client_names : n_clients strings
    splits : n_clients times three splits
    classes : int
        The labels are the digits below.
    seed : int
    packages : strings
        That ship the images.
    """
    train, validation, test = zip(*splits, strict=True)
    return Task(
        name=name,
        client_names=tuple(client_names),
        train=train,
        validation=validation,
        test=test,
        counts=np.array([torch.bincount(own.targets, minlength=classes) for own in train]),
        n_outputs=classes,
        labels=tuple(map(str, range(classes))),
        fingerprint=_fingerprint(splits, seed, packages),
    )


def _fingerprint(
    splits: Iterable[Iterable[Split]], seed: int, packages: Iterable[str]
) -> dict[str, str]:
    """Versions of the packages that ship the images, and a digest of all images and labels."""
    digest, count = hashlib.sha256(), 0
    for split in (split for own in splits for split in own):
        digest.update(split.inputs.numpy().tobytes())
        digest.update(split.targets.numpy().tobytes())
        count += len(split)
    return {
        **{package: importlib.metadata.version(package) for package in packages},
        "images": str(count),
        "images sha256": digest.hexdigest(),
        "seed of the splits": str(seed),
    }


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    return ImageFont.truetype(str(path), size)
