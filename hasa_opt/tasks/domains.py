"""The embedded task whose clients differ in need: clean digits against textured photographs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import matplotlib.cbook
import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_sample_images

from hasa_opt.clients import IntArray
from hasa_opt.tasks.images import FONTS, SIDE, Images, build, render, scanned, split_of
from hasa_opt.tasks.task import Split, Task, generator, split_rows

__all__ = ["domains"]

_CLASSES, _FEW = 10, 5
_TRAIN = {"scans": (220, 160, 100, 80), "photographs": (440, 320, 200, 160)}
_HELD_BACK = {"scans": (20, 65), "photographs": (40, 150)}  # validation and test
_TILE = 2 * SIDE
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_PACKAGES = ("matplotlib", "pillow", "scikit-learn")

_Draw = Callable[[int, int, np.random.Generator], tuple[Images, IntArray]]
"""From a part (0 train, 1 validation, 2 test), a number of images and a generator to images."""


def domains(*, seed: int = 0) -> Task:
    """Digit recognition by eight clients: four hold easy images, four hard ones.

    ``scans`` hold handwritten digits of scikit-learn, as they are, of five classes (0 to 4): 220 to
    80 training images, and of each 20 for validation and 65 for the test, which uses up the scans.
    ``photographs`` hold digits of all ten classes on patches of the photographs that scikit-learn
    and matplotlib ship (china, flower, grace_hopper): 440 to 160 training images, 40 and 150.
    The digits are rendered from 20 fonts, each with its own size, position and angle of up to 10
    degrees, and blended with the patch by the absolute difference, as in MNIST-M (Ganin et al.,
    arXiv:1505.07818). Sizes overlap between the domains. One label set serves all.

    Nothing leaks between splits: every scan is used once; every print is drawn anew; and each
    photograph is cut into tiles of 32 x 32 pixels that belong to one split alone, at all clients.
    Fonts are shared by the splits.

    The counts are label counts. Clients with few classes are the furthest from the pooled labels,
    so they score highest; they are also the ones that need the least width.

    Parameters
    ----------
    seed : int
        Seed of all draws.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.
    """
    draws = {"scans": _scans(seed), "photographs": _photographs(seed)}
    names: list[str] = []
    splits: list[tuple[Split, ...]] = []
    for domain, sizes in _TRAIN.items():
        for number, size in enumerate(sizes, start=1):
            rng = generator(seed, 1, len(names))
            names.append(f"{domain} {number}")
            parts = enumerate((size, *_HELD_BACK[domain]))
            splits.append(tuple(split_of(*draws[domain](part, n, rng)) for part, n in parts))
    return build("domains", names, splits, _CLASSES, seed, _PACKAGES)


def _scans(seed: int) -> _Draw:
    """Deal out the scans of the first classes, each once."""
    images, labels = scanned()
    deck = iter(generator(seed, 0).permutation(np.flatnonzero(labels < _FEW)))

    def draw(part: int, n_images: int, rng: np.random.Generator) -> tuple[Images, IntArray]:
        rows = list(islice(deck, n_images))
        return images[rows], labels[rows]

    return draw


def _printed(digit: str, rng: np.random.Generator) -> Images:
    """Render at twice the size, turn, and halve."""
    font, size = FONTS[rng.integers(len(FONTS))], int(rng.integers(22, 29))
    right, down = SIDE + rng.uniform(-3, 3, size=2)
    drawn = render(digit, font, size, (right, down), side=2 * SIDE)
    turned = drawn.rotate(rng.uniform(-10, 10), resample=Image.Resampling.BILINEAR)
    return _halved(np.asarray(turned) / 255)


def _photographs(seed: int) -> _Draw:
    """Print digits over patches of the photographs, equally many of each but for a remainder."""
    tiles = _tiles()
    parts = split_rows(len(tiles), generator(seed, 2))

    def draw(part: int, n_images: int, rng: np.random.Generator) -> tuple[Images, IntArray]:
        labels: IntArray = rng.permutation(np.arange(n_images) % _CLASSES)
        prints = np.stack([_printed(str(digit), rng) for digit in labels])
        chosen = tiles[rng.choice(parts[part], n_images)]
        corners = rng.integers(0, _TILE - SIDE + 1, (n_images, 2))
        patches = [
            tile[down : down + SIDE, right : right + SIDE]
            for tile, (down, right) in zip(chosen, corners, strict=True)
        ]
        return np.abs(np.stack(patches) - prints), labels

    return draw


def _tiles() -> Images:
    """Cut the photographs, grey and halved, into squares that do not overlap."""
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(path) as file:
        photographs = [*load_sample_images().images, np.asarray(file)]
    tiles = []
    for photograph in photographs:
        grey = _halved(photograph @ np.array(_LUMINANCE) / 255)
        rows, columns = (length // _TILE for length in grey.shape)
        cut = grey[: rows * _TILE, : columns * _TILE].reshape(rows, _TILE, columns, _TILE)
        tiles.append(cut.swapaxes(1, 2).reshape(-1, _TILE, _TILE))
    return np.concatenate(tiles)


def _halved(image: npt.NDArray[np.float64]) -> Images:
    """Average each 2 x 2 pixels; an odd last row or column is left out."""
    rows, columns = (length // 2 for length in image.shape)
    blocks = image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)
