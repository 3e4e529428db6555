"""What a device keeps to itself from one message of a run to the next: models that it trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from hasa_opt._utils.files import entries, made_directory, writing
from hasa_opt.federated.personal import Personal
from hasa_opt.models import Kept, SupernetModel

__all__ = ["Memory", "begun"]

_ME = "0/"
"""A device knows of one client alone, itself."""


class Memory:
    """Models that a device has trained, by the rounds of a run.

    They lie in the state that Flower keeps for a node and a run. A run that goes on after its
    server was killed is a new one to Flower: a directory on the device outlasts it. A server that
    goes on may ask for a model of before the newest, so that three are kept.

    Parameters
    ----------
    state : RecordDict
        Flower's, of the node.
    directory : Path or None
        On the device.
    whose : str
        What tells the device, and the run, from others.
    """

    def __init__(self, state: RecordDict, directory: Path | None, whose: str) -> None:
        self._state, self._directory, self._whose = state, directory, whose

    def recall(self, supernet: SupernetModel, local_bias: bool, number: int) -> Personal:
        """What it kept in a round; nothing if it does not know it, or of round -1."""
        found = Personal(supernet, local_bias, keep_models=True)
        found.load({f"{_ME}{name}": tensor for name, tensor in self._read(number).items()})
        return found

    def keep(self, own: Personal, number: int, before: int) -> None:
        """Keep what it has trained in a round, beside that from which it began, and one more."""
        older = [known for known in self._rounds() if known <= before][-2:]
        for known in self._rounds():
            if known not in older:
                self._drop(known)
        held = {name.removeprefix(_ME): tensor for name, tensor in own.state().items()}
        self._state[self._name(number)] = ArrayRecord({k: t.contiguous() for k, t in held.items()})
        if self._directory is not None:
            content = safetensors.torch.save({k: t.contiguous() for k, t in held.items()})
            with writing(made_directory(self._directory) / self._name(number), "wb") as file:
                file.write(content)

    def _name(self, number: int) -> str:
        return f"{self._whose}-round-{number:06d}"

    def _rounds(self) -> list[int]:
        names = set(self._state) | {path.name for path in self._files()}
        own = (name.rpartition("-round-") for name in names)
        return sorted(int(number) for whose, _, number in own if whose == self._whose)

    def _files(self) -> list[Path]:
        there = self._directory is not None and self._directory.is_dir()
        return entries(self._directory) if there and self._directory is not None else []

    def _read(self, number: int) -> dict[str, Tensor]:
        name = self._name(number)
        if name in self._state:
            return dict(self._state.array_records[name].to_torch_state_dict())
        found = [path for path in self._files() if path.name == name]
        return safetensors.torch.load(found[0].read_bytes()) if found else {}

    def _drop(self, number: int) -> None:
        self._state.pop(self._name(number), None)
        for path in self._files():
            if path.name == self._name(number):
                path.unlink()


def begun(
    supernet: SupernetModel,
    kept: Kept,
    received: Mapping[str, Tensor],
    own: Personal,
    continues: bool,
) -> dict[str, Tensor] | None:
    """Weights with which a device begins; None if it has not got all.

    Parameters
    ----------
    supernet : SupernetModel
        For its architecture.
    kept : dict of str to slice or int64 tensor
        The units.
    received : dict of str to Tensor
        Weights of these units, as far as the server sent them.
    own : Personal
        What the device has kept.
    continues : bool
        Whether it goes on with its own model, where it holds one, instead of what it received.
    """
    state = dict(received) | own.local_parameters(0)
    if continues:
        state = own.over(0, kept, supernet, received)
    return state if state.keys() == supernet.state_dict().keys() else None
