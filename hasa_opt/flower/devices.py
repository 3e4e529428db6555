"""What the server sends to devices that keep models to themselves, and takes from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import RecordDict
from torch import Tensor

from hasa_opt.federated.aggregation import Screen
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.history_files import digest, to_json
from hasa_opt.federated.jobs import Update
from hasa_opt.federated.personal import Elsewhere
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.units import Extraction
from hasa_opt.flower.messages import PERSONAL, Asked, Work, pack, pack_slice
from hasa_opt.flower.settings import Settings
from hasa_opt.models import Kept

__all__ = ["Devices", "identify"]


@dataclass(frozen=True)
class Devices:
    """Slices of the supernet, and what goes with them.

    A device is not sent what it keeps: its output bias, or a model that it has to itself.

    Attributes
    ----------
    federation : Federation
        Knows what each device keeps, and holds the newest weights.
    settings : Settings
    run : str
        What tells the run from others.
    """

    federation: Federation
    settings: Settings
    run: str

    def train(self, row: int, now: Round) -> RecordDict:
        """What a client is sent to train in a round."""
        federation, number = self.federation, now.number
        subnets, training = federation.subnets, self.settings.training
        means, personal = subnets.mean_widths, federation.personal
        keeps = personal.keep_models or bool(personal.local)
        work = Work(
            *federation.key(row, number),
            row,
            federation.width(row),
            subnets.scheme,
            self.run,
            0.0 if means is None else float(means[row]),
            None if subnets.starts is None else subnets.start(row),
            self._last(row),
            training.is_own(number) if training.ditto else keeps,
            training.is_own(number) or federation.own.continues(row),
            federation.sends(row, number),
        )
        state = self._slice(row, now.ask(row), work.width)
        return pack(state, work=work.record(replace(training, epochs=federation.epochs(row))))

    def question(self, row: int, test_on: str, shares: list[float], kinds: list[str]) -> Asked:
        """What a client is asked about its models."""
        federation = self.federation
        continues, bias = federation.own.continues(row), bool(federation.personal.local)
        return Asked(row, self.run, self._last(row), continues, bias, test_on, shares, kinds)

    def test(self, row: int, now: Round, asked: Asked) -> RecordDict:
        """What a client is sent to be tested, or to judge its models."""
        content = pack(None, work=asked.record())
        for kind in asked.kinds:
            kept, width = now.units(row), self.federation.deployed(row)
            last = self.federation.personal.last_units(row)
            if kind == PERSONAL and last is not None:
                kept, width = last, 0.0
            state = self._slice(row, kept, width)
            if state is not None:
                pack_slice(content, kind, kept, state)
        return content

    def _slice(self, row: int, kept: Kept, width: float) -> dict[str, Tensor] | None:
        """Weights that a client has not got; None if it has all."""
        if not self.federation.own.receives(row, width):
            return None
        state = Extraction(self.federation.model_of(row)).copy(kept)
        unsent = self.federation.personal.local if self._last(row) >= 0 else ()
        return {name: tensor for name, tensor in state.items() if name not in unsent}

    def whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a client sent, beside the server's values of what it keeps to itself."""
        own = self.federation.model.state_dict()
        return {name: own[name] for name in self.federation.personal.local} | dict(state)

    def unfit(self, row: int, state: Mapping[str, Tensor]) -> str | None:
        """Say why a model that a client has had to itself cannot be shared; None if it can."""
        federation, last = self.federation, self.federation.personal.last_units(row)
        update = Update(1.0, federation.weight(row), self.whole(state), last)
        return Screen(federation.model, federation.server.max_update_norm).fault(update)

    def forget(self, row: int) -> None:
        """Know that a client has lost what it kept."""
        self._held.forget(row)
        self.federation.own.forget(row)

    def _last(self, row: int) -> int:
        return self._held.last_round(row)

    @property
    def _held(self) -> Elsewhere:
        assert isinstance(self.federation.personal, Elsewhere), "clients are elsewhere"
        return self.federation.personal


def identify(metadata: Mapping[str, Any]) -> str:
    """What tells a run from others, with which it has no bits in common."""
    fixed = {name: value for name, value in metadata.items() if name not in ("rounds", "versions")}
    return digest(to_json(fixed).encode())[:16]
