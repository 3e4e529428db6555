"""Who takes part in a run, and what each trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np

from hasa_opt.basics.listing import listed
from hasa_opt.clients import Clients, FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.flower.messages import Profile
from hasa_opt.flower.settings import Settings
from hasa_opt.models import SupernetModel, units
from hasa_opt.policies import Setting, find_policy
from hasa_opt.scores import SCORES
from hasa_opt.study.plan import Meter, plan

__all__ = ["Roster"]


@dataclass(frozen=True, eq=False)
class Roster:
    """The clients of a run, in the order of their partitions; rows of this order are clients.

    Attributes
    ----------
    partitions : (n_clients,) integers
    names : n_clients strings
    samples : (n_clients,) integers
    widths : (n_clients,) floats
        Width of each client's subnet.
    scheme : str
        Which units a subnet is made of; name in :data:`hasa_opt.federated.SCHEMES`.
    means : (n_clients,) floats, optional
        Mean of the widths that the batches train; None: all train the whole subnet.
    """

    partitions: tuple[int, ...]
    names: tuple[str, ...]
    samples: IntArray
    widths: FloatArray
    scheme: str = "prefix"
    means: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.partitions)

    @classmethod
    def allocate(
        cls, profiles: Sequence[Profile], model: SupernetModel, settings: Settings
    ) -> Self:
        """Give each client its width, by the policy and within the budget.

        Parameters
        ----------
        profiles : sequence of Profile
            By partition.
        model : SupernetModel
        settings : Settings

        Raises
        ------
        InputError
            If the policy needs a probe, or the profiles do not fit together.
        InfeasibleError
            If the budget is below the narrowest allocation.
        """
        lengths = {own.counts.size for own in profiles}
        if len(lengths) > 1:
            raise InputError(
                f"devices count {listed(sorted(lengths))} labels: all must count the same"
            )
        clients = Clients(
            [own.samples for own in profiles],
            counts=np.stack([own.counts for own in profiles]),
            max_width=[own.max_width for own in profiles],
            names=[own.name for own in profiles],
        )
        scores = SCORES[settings.score](clients.counts)
        setting = Setting(clients, scores, settings.budget, settings.menu, settings.seed)
        setting.problem().check_budget()
        meter = Meter.of(model.sizes, partial(units, model))
        chosen = plan(find_policy(settings.policy), setting, meter)
        return cls(
            tuple(own.partition for own in profiles),
            tuple(own.name for own in profiles),
            clients.samples,
            chosen.widths,
            chosen.scheme,
            chosen.means,
        )

    def record(self) -> dict[str, Any]:
        """All but the widths, ready for JSON."""
        return {
            "partitions": list(self.partitions),
            "client_names": list(self.names),
            "samples": self.samples.tolist(),
            "scheme": self.scheme,
            "mean_widths": None if self.means is None else self.means.tolist(),
        }

    @classmethod
    def read(cls, record: Mapping[str, Any], widths: FloatArray) -> Self:
        """Take up what :meth:`record` gave."""
        means = record["mean_widths"]
        return cls(
            tuple(record["partitions"]),
            tuple(record["client_names"]),
            np.array(record["samples"], dtype=np.int64),
            widths,
            record["scheme"],
            None if means is None else np.array(means),
        )
