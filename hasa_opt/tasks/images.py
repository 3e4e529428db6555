"""What the image tasks share: digits from several sources, and how a task is made of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import matplotlib
import matplotlib.cbook
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_digits, load_sample_images

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.streams import client_number, generator
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.task import Task, split_rows

__all__ = [
    "CLASSES",
    "FONTS",
    "PACKAGES",
    "SIDE",
    "Draw",
    "Images",
    "build",
    "drawn",
    "photographs",
    "printed",
    "render",
    "resize",
    "scanned",
    "split_of",
]


Images = npt.NDArray[np.float32]

Draw = Callable[[int, IntArray, np.random.Generator], Images]
"""From a part (0 train, 1 validation, 2 test), labels and a generator to images of the labels."""

CLASSES = 10

PACKAGES = ("matplotlib", "pillow", "scikit-learn")
"""That ship the images."""

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

_TILE = 2 * SIDE  # room to place a patch in it
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def scanned() -> tuple[Images, IntArray]:
    """Enlarge the 1,797 scanned digits of scikit-learn from 8 x 8: images and their digits."""
    images, labels = load_digits(return_X_y=True)
    return resize(images.reshape(-1, 8, 8) / 16), labels.astype(np.int64)


def render(
    text: str, font: str, size: int, centre: tuple[float, float], *, side: int = SIDE
) -> Image.Image:
    """Write white text on black, centred in a square.

    Parameters
    ----------
    text : str
    font : str
        Name in :data:`FONTS`.
    size : int
        Of the font, in pixels.
    centre : pair of float
        Of the text, in pixels from the left and the upper edge.
    side : int
        Height and width of the square, in pixels.
    """
    canvas = Image.new("L", (side, side))
    ImageDraw.Draw(canvas).text(centre, text, fill=255, font=_font(font, size), anchor="mm")
    return canvas


def printed(digit: str, rng: np.random.Generator) -> Images:
    """Render a digit in a font, size, position and angle that are drawn.

    Parameters
    ----------
    digit : str
    rng : numpy Generator

    Returns
    -------
    (SIDE, SIDE) float32
        White on black. Drawn at twice the size, turned by up to 10 degrees, and halved.
    """
    font, size = FONTS[rng.integers(len(FONTS))], int(rng.integers(22, 29))
    right, down = SIDE + rng.uniform(-3, 3, size=2)
    upright = render(digit, font, size, (right, down), side=2 * SIDE)
    turned = upright.rotate(rng.uniform(-10, 10), resample=Image.Resampling.BILINEAR)
    return _halved(np.asarray(turned) / 255)


def photographs(seed: int) -> Draw:
    """Prints over patches of the photographs that scikit-learn and matplotlib ship.

    They are blended by the absolute difference, as in MNIST-M (Ganin et al., arXiv:1505.07818).
    Each photograph is cut into tiles that belong to one split alone, at all clients.

    Parameters
    ----------
    seed : int
        Of the tiles of the splits.
    """
    tiles = _tiles()
    parts = split_rows(len(tiles), generator(seed, 2))

    def draw(part: int, labels: IntArray, rng: np.random.Generator) -> Images:
        prints = np.stack([printed(str(digit), rng) for digit in labels])
        chosen = tiles[rng.choice(parts[part], len(labels))]
        corners = rng.integers(0, _TILE - SIDE + 1, (len(labels), 2))
        patches = [
            tile[down : down + SIDE, right : right + SIDE]
            for tile, (down, right) in zip(chosen, corners, strict=True)
        ]
        return np.abs(np.stack(patches) - prints)

    return draw


def resize(images: npt.NDArray[np.float64]) -> Images:
    """Bring square images to the size of the tasks.

    Parameters
    ----------
    images : (n, k, k) floats
        In [0, 1].

    Returns
    -------
    (n, SIDE, SIDE) float32
    """
    factor = SIDE / images.shape[-1]
    resized: npt.NDArray[np.float64] = ndimage.zoom(
        images, (1, factor, factor), order=1, grid_mode=True, mode="nearest"
    )
    return resized.clip(0, 1).astype(np.float32)


def split_of(images: Images, labels: IntArray) -> Split:
    """Put images and their labels into a split of one channel.

    Parameters
    ----------
    images : (n, SIDE, SIDE) float32
    labels : (n,) integers
    """
    return Split(torch.from_numpy(images[:, None]), torch.from_numpy(labels))


def drawn(
    name: str,
    sizes: Mapping[str, Sequence[int]],
    draw: Callable[[str, int, int, np.random.Generator], tuple[Images, IntArray]],
    seed: int,
    classes: int = CLASSES,
) -> Task:
    """Make a task by drawing each client's images, training first, from a stream of its own.

    Parameters
    ----------
    name : str
    sizes : dict of client name to three integers
        Training, validation and test images.
    draw : function
        From a client, a part (0 train, 1 validation, 2 test), a number of images and a generator
        to images and labels.
    seed : int
    classes : int
        As in :func:`build`.
    """
    splits: list[list[Split]] = []
    for client, parts in sizes.items():
        rng = generator(seed, 1, client_number(client))
        splits.append([split_of(*draw(client, *part, rng)) for part in enumerate(parts)])
    return build(name, list(sizes), splits, classes, seed, PACKAGES)


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
        counts=np.array([torch.bincount(split.targets, minlength=classes) for split in train]),
        n_outputs=classes,
        labels=tuple(map(str, range(classes))),
        fingerprint=_fingerprint(splits, seed, packages),
    )


def _fingerprint(
    splits: Iterable[Iterable[Split]], seed: int, packages: Iterable[str]
) -> dict[str, str]:
    """Versions of the packages that ship the images, and a digest of all images and labels."""
    digest, count = hashlib.sha256(), 0
    for split in chain.from_iterable(splits):
        digest.update(split.tensor.numpy().tobytes())
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


def _tiles() -> Images:
    """Cut the photographs, grey and halved, into squares that do not overlap."""
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(path) as file:
        pictures = [*load_sample_images().images, np.asarray(file)]
    tiles = []
    for picture in pictures:
        grey = _halved(picture @ np.array(_LUMINANCE) / 255)
        rows, columns = (length // _TILE for length in grey.shape)
        cut = grey[: rows * _TILE, : columns * _TILE].reshape(rows, _TILE, columns, _TILE)
        tiles.append(cut.swapaxes(1, 2).reshape(-1, _TILE, _TILE))
    return np.concatenate(tiles)


def _halved(image: npt.NDArray[np.float64]) -> Images:
    """Average each 2 x 2 pixels; an odd last row or column is left out."""
    rows, columns = (length // 2 for length in image.shape)
    blocks = image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)
