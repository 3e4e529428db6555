"""Who takes part in a run, and what each trains."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from logging import INFO, WARNING
from typing import Any, Self

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType
from flwr.serverapp import Grid
from flwr.supercore import log

from hasa_opt._utils.checks import FloatArray, IntArray, listed
from hasa_opt._utils.names import tidy
from hasa_opt._utils.scale import ACCURACY, Scale
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import dense
from hasa_opt.errors import InputError
from hasa_opt.federated.allocating import Allocating, Decided
from hasa_opt.flower.messages import IDENTITY, PROFILE, Profile, load, pack, reason
from hasa_opt.flower.settings import Settings
from hasa_opt.models import SupernetModel, units
from hasa_opt.policies import Policy, Setting, Subnets, read_policy
from hasa_opt.policies.subnets import describe_subnets, read_subnets
from hasa_opt.policies.whole_units import Meter, subnets_of
from hasa_opt.rules.scores import SCORES

__all__ = ["Fleet", "Roster", "judged_by"]


_PATIENCE_S = 0.5
"""Pause between two looks at which nodes are connected; starting one takes seconds."""


class Fleet:
    """The nodes of a run, by the partitions of the data that they hold.

    Parameters
    ----------
    grid : flwr.serverapp.Grid
    timeout_s : float
        How long to wait for nodes, and for their answers.
    """

    def __init__(self, grid: Grid, timeout_s: float) -> None:
        self._grid, self._timeout_s = grid, timeout_s
        self._node_of: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._asked: set[int] = set()

    def enrol(self, n_clients: int, epsilon: float, delta: float) -> list[Profile]:
        """Wait for the nodes, and ask each for its profile.

        Parameters
        ----------
        n_clients : int
            Nodes to wait for.
        epsilon, delta : float
            Of the private release of their histograms; ``epsilon`` 0: as they are.

        Returns
        -------
        list of Profile
            By partition.

        Raises
        ------
        InputError
            If too few nodes come or answer, or two hold the same partition.
        """
        answers = self._ask(self._wait(n_clients), PROFILE, epsilon=epsilon, delta=delta)
        profiles: dict[int, Profile] = {}
        for node, record in answers.items():
            try:
                profiles[node] = Profile.read(record)
            except InputError as error:
                log(WARNING, "The profile of a node is of no use: %s", error)
        self._place({node: told.partition for node, told in profiles.items()})
        self._expect(n_clients)
        self._names = {told.partition: told.name for told in profiles.values()}
        return sorted(profiles.values(), key=lambda told: told.partition)

    def rejoin(self, n_clients: int, names: Mapping[int, str]) -> None:
        """Wait for the nodes of a run that goes on; they tell who they are, nothing else.

        Parameters
        ----------
        n_clients : int
            Nodes to wait for.
        names : mapping of int to str
            Partition -> name of the client that held it when the widths were allocated.

        Raises
        ------
        InputError
            As for :meth:`enrol`; a node whose partition holds another client now does not count.
        """
        self._names = dict(names)
        self._wait(n_clients)
        self.nodes()
        self._expect(n_clients)

    def nodes(self) -> dict[int, int]:
        """Nodes that are connected now: partition -> node id; new ones are asked who they are."""
        connected = set(self._grid.get_node_ids())
        unknown = sorted(connected - self._asked)
        if unknown:
            self._place(dict(self._known(self._ask(unknown, IDENTITY))))
        return {part: node for part, node in self._node_of.items() if node in connected}

    def _known(self, answers: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
        """Node and partition of each that holds the client to which a width was allocated."""
        for node, told in answers.items():
            partition, name = int(told["partition"]), str(told["name"])
            expected = self._names.get(partition, name)
            if tidy(name) == tidy(expected):
                yield node, partition
            else:
                log(
                    WARNING,
                    "A node is left out: partition %d holds client %r, not %r, whose width was "
                    "allocated: start it with the data of before",
                    *(partition, name, expected),
                )

    def _wait(self, n_clients: int) -> list[int]:
        """Wait until enough nodes are connected."""
        end = time.monotonic() + self._timeout_s
        log(INFO, "Waiting for %d nodes", n_clients)
        while len(connected := sorted(self._grid.get_node_ids())) < n_clients:
            if time.monotonic() > end:
                raise InputError(
                    f"{len(connected)} of {n_clients} nodes are connected after "
                    f"{self._timeout_s:g} s: start the others, lower hasa.clients, or raise "
                    "hasa.node-timeout-s"
                )
            time.sleep(_PATIENCE_S)
        return connected

    def _ask(
        self, nodes: Sequence[int], action: str, **question: float
    ) -> dict[int, Mapping[str, Any]]:
        """Ask nodes who they are; the answers of those that could answer, by node."""
        self._asked |= set(nodes)
        answers = self.ask(dict.fromkeys(nodes, ConfigRecord(dict(question))), action)
        return {node: load(reply, PROFILE) for node, reply in answers.items()}

    def ask(self, questions: Mapping[int, ConfigRecord], action: str) -> dict[int, Message]:
        """Send a query to nodes; the replies of those that could answer, by node."""
        kind = f"{MessageType.QUERY}.{action}"
        messages = [
            Message(pack(None, work=asked), node, kind) for node, asked in questions.items()
        ]
        answers: dict[int, Message] = {}
        for reply in self._grid.send_and_receive(messages, timeout=self._timeout_s):
            if reply.has_error():
                log(WARNING, "A node did not tell its %s: %s", action, reason(reply))
            else:
                answers[reply.metadata.src_node_id] = reply
        return answers

    def _place(self, partitions: Mapping[int, int]) -> None:
        """Note which node holds which partition; one that returns takes its old place."""
        connected = set(self._grid.get_node_ids())
        for node, partition in sorted(partitions.items()):
            holder = self._node_of.get(partition)
            if holder is not None and holder != node and holder in connected:
                raise InputError(
                    f"two nodes hold partition {partition}: give each a partition-id of its own"
                )
            self._node_of[partition] = node

    def _expect(self, n_clients: int) -> None:
        if len(self._node_of) < n_clients:
            raise InputError(
                f"{len(self._node_of)} of {n_clients} nodes told who they are: see the warnings "
                "above for the reasons"
            )


def judged_by(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the clients are judged by, as a history's metadata say it; nothing for the accuracy."""
    return {name: record[name] for name in ("metric", "higher_is_better") if name in record}


@dataclass(frozen=True, eq=False)
class Roster:
    """The clients of a run, in the order of their partitions; rows of this order are clients.

    Attributes
    ----------
    partitions : (n_clients,) integers
    names : n_clients strings
    samples : (n_clients,) integers
    subnets : Subnets
        What each client trains, at first.
    scale : Scale
        What all are judged by.
    clients : Clients, optional
        Columns that an allocator looks at; without one None.
    allocating : Allocating, optional
        Asks the policy's allocator, if it has one.
    """

    partitions: tuple[int, ...]
    names: tuple[str, ...]
    samples: IntArray
    subnets: Subnets
    scale: Scale = ACCURACY
    clients: Clients | None = None
    allocating: Allocating | None = None

    def __len__(self) -> int:
        return len(self.partitions)

    @property
    def deciding(self) -> Allocating | Decided:
        """What says what clients train: an allocator, or what was decided beforehand."""
        return self.allocating or Decided(self.subnets)

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
        scales = list(dict.fromkeys(profile.scale for profile in profiles))
        if len(scales) > 1:
            told = listed([f"{scale.name} ({scale.direction})" for scale in scales])
            raise InputError(f"devices are judged by {told}: give all of them one problem")
        lengths = {profile.counts.size for profile in profiles}
        if len(lengths) > 1:
            raise InputError(
                f"devices count {listed(sorted(lengths))} labels: all must count the same"
            )
        clients = Clients(
            [profile.samples for profile in profiles],
            counts=np.stack([profile.counts for profile in profiles]),
            max_width=[profile.max_width for profile in profiles],
            names=[profile.name for profile in profiles],
        )
        setting = _setting(clients, settings)
        setting.problem().check_budget()
        meter, policy = Meter.of(model.sizes, partial(units, model)), read_policy(settings.policy)
        allocating = _allocating(policy, setting, meter, settings, scales[0])
        if allocating is None:
            chosen = subnets_of(policy, setting, meter, settings.rounds)
        return cls(
            tuple(profile.partition for profile in profiles),
            tuple(profile.name for profile in profiles),
            clients.samples,
            chosen if allocating is None else allocating.first,
            scales[0],
            None if allocating is None else clients,
            allocating,
        )

    def fitting(self, settings: Settings, model: SupernetModel) -> Settings:
        """The settings with those about which the policy decides itself."""
        return settings.resolved(None if self.clients is None else self.clients.counts, model)

    def record(self) -> dict[str, Any]:
        """All but the widths, ready for JSON."""
        scale = self.scale
        judged = {"metric": scale.name, "higher_is_better": scale.higher_is_better}
        columns = {} if self.clients is None else _columns(self.clients)
        return {
            "partitions": list(self.partitions),
            "client_names": list(self.names),
            "samples": self.samples.tolist(),
            **describe_subnets(self.subnets),
            **({} if scale == ACCURACY else judged),
            **columns,
        }

    @classmethod
    def read(
        cls, record: Mapping[str, Any], widths: FloatArray, model: SupernetModel, settings: Settings
    ) -> Self:
        """Take up what :meth:`record` gave."""
        names, samples = tuple(record["client_names"]), np.array(record["samples"], dtype=np.int64)
        scale = Scale(record.get("metric", ACCURACY.name), record.get("higher_is_better", True))
        clients, allocating, subnets = None, None, read_subnets(record, widths)
        if "counts" in record:
            caps, counts = record["max_width"], np.array(record["counts"])
            clients = Clients(samples, counts=counts, max_width=caps, names=names)
            meter = Meter.of(model.sizes, partial(units, model))
            policy, setting = read_policy(settings.policy), _setting(clients, settings)
            allocating = _allocating(policy, setting, meter, settings, scale)
        return cls(tuple(record["partitions"]), names, samples, subnets, scale, clients, allocating)


def _setting(clients: Clients, settings: Settings) -> Setting:
    scores = SCORES[settings.score](clients.counts)
    return Setting(clients, scores, settings.budget, settings.menu, settings.seed)


def _allocating(
    policy: Policy, setting: Setting, meter: Meter, settings: Settings, scale: Scale
) -> Allocating | None:
    """What asks the policy's allocator; None for a policy that decides beforehand."""
    if policy.allocator is None:
        return None
    allocator = policy.allocator(setting, meter, settings.rounds, scale.higher_is_better)
    samples = setting.clients.samples
    return Allocating(allocator, lambda subnets: subnets, samples, settings.rounds)


def _columns(clients: Clients) -> dict[str, Any]:
    """What an allocator looks at, ready for JSON."""
    return {"counts": dense(clients.counts).tolist(), "max_width": clients.caps(1.0).tolist()}
