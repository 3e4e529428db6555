"""Your own data: a folder of images, ``client/class/file``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from PIL import Image
from torch import Tensor

from hasa_opt._utils.files import entries
from hasa_opt.errors import InputError
from hasa_opt.tasks.datasets import from_datasets
from hasa_opt.tasks.learning import Loss, Metric
from hasa_opt.tasks.pixels import pixels
from hasa_opt.tasks.task import Task

__all__ = ["from_folder"]


class Images:
    """Image files of one client with the numbers of their classes.

    Parameters
    ----------
    files : sequence of (path, int)
    size : (height, width) or None
        What images are scaled to; None: they stay as they are.
    grey : bool
        One channel instead of red, green and blue.
    """

    def __init__(
        self, files: Sequence[tuple[Path, int]], size: tuple[int, int] | None, grey: bool
    ) -> None:
        self._files, self._size, self._grey = files, size, grey

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """The image, (channels, height, width) floats in [0, 1], and its class."""
        path, label = self._files[row]
        try:
            with Image.open(path) as opened:
                return pixels(opened, self._size, self._grey), label
        except OSError as error:
            raise InputError(f"{path} is no image ({error}): take it out of the folder") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def from_folder(
    path: str | PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    test: str | PathLike[str] | None = None,
    validation: str | PathLike[str] | None = None,
    test_share: float = 0.15,
    validation_share: float = 0.0,
    loss: Loss = "cross_entropy",
    metric: Metric | None = None,
    higher_is_better: bool | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Task:
    """Make a task of a folder of images: a folder for each client, in it one for each class.

    The images of a client are read when it is drawn, and not kept.

    Parameters
    ----------
    path : path
        Its files are ``client/class/file``; names that begin with a dot are passed over.
    size : (height, width), optional
        What images are scaled to, in pixels. Default: all have one size already.
    grey : bool
        One channel instead of red, green and blue.
    test, validation : path, optional
        Folders of given splits, made alike.
    test_share, validation_share, loss, metric, higher_is_better, seed
        As in :func:`from_arrays`.
    name : str, optional
        Default: that of the folder.

    Returns
    -------
    Task
        Inputs ``(n, channels, height, width)`` floats in [0, 1]; classes in alphabetical order.

    Raises
    ------
    InputError
        If a folder is missing or empty, a file is no image, or images differ in size.
    """
    folders = {"train": path, "test": test, "validation": validation}
    listed = {part: _files(Path(root)) for part, root in folders.items() if root is not None}
    every = (file for clients in listed.values() for files in clients.values() for file in files)
    classes = sorted({file.parent.name for file in every})
    numbers = {label: row for row, label in enumerate(classes)}
    datasets = {
        part: {
            client: Images([(file, numbers[file.parent.name]) for file in files], size, grey)
            for client, files in clients.items()
        }
        for part, clients in listed.items()
    }
    return from_datasets(
        datasets["train"],
        test=datasets.get("test"),
        validation=datasets.get("validation"),
        test_share=test_share,
        validation_share=validation_share,
        loss=loss,
        metric=metric,
        higher_is_better=higher_is_better,
        labels=classes,
        seed=seed,
        name=name or Path(path).resolve().name,
    )


def _files(root: Path) -> dict[str, list[Path]]:
    """Files by client, in alphabetical order."""
    if not root.is_dir():
        raise InputError(f"{root} is no folder: give one that holds client/class/file")
    clients = {
        client.name: [file for label in _visible(client) for file in _visible(label)]
        for client in _visible(root)
    }
    if not clients or not all(clients.values()):
        empty = next((client for client, files in clients.items() if not files), "CLIENT")
        raise InputError(
            f"{root / empty} holds no class/file: give a folder for each client, in it one for "
            "each class"
        )
    return clients


def _visible(folder: Path) -> Iterator[Path]:
    """What is in a folder; of a file nothing."""
    if folder.is_dir():
        yield from (entry for entry in sorted(entries(folder)) if not entry.name.startswith("."))
