"""The nodes of a run: which are connected, and which part of the data each holds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from logging import INFO, WARNING
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType
from flwr.serverapp import Grid
from flwr.supercore import log

from hasa_opt._utils.names import tidy
from hasa_opt.errors import InputError
from hasa_opt.flower.messages import IDENTITY, PROFILE, load, pack, reason
from hasa_opt.flower.profiles import Profile

__all__ = ["Fleet"]


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
        self._refused: set[int] = set()

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
        profiles = self._profiles(self._wait(n_clients), epsilon, delta)
        self._place({node: told.partition for node, told in profiles.items()})
        self._expect(n_clients)
        return self._known_from_now(profiles.values())

    def newcomers(self, epsilon: float, delta: float) -> list[Profile]:
        """Ask the nodes that hold other partitions than all before for their profiles."""
        strangers = [
            node
            for partition, node in self.nodes().items()
            if partition not in self._names and partition not in self._refused
        ]
        return self._known_from_now(self._profiles(strangers, epsilon, delta).values())

    def refuse(self, partitions: Iterable[int]) -> None:
        """Leave out newcomers with which nothing can be begun."""
        for partition in partitions:
            self._names.pop(partition, None)
            self._refused.add(partition)

    def _known_from_now(self, profiles: Iterable[Profile]) -> list[Profile]:
        """Note who holds which partition; by partition."""
        found = sorted(profiles, key=lambda told: told.partition)
        self._names |= {told.partition: told.name for told in found}
        return found

    def _profiles(self, nodes: Sequence[int], epsilon: float, delta: float) -> dict[int, Profile]:
        """Profiles of nodes, of those that can tell one."""
        answers = self._ask(nodes, PROFILE, epsilon=epsilon, delta=delta) if nodes else {}
        found: dict[int, Profile] = {}
        for node, record in answers.items():
            try:
                found[node] = Profile.read(record)
            except InputError as error:
                log(WARNING, "The profile of a node is of no use: %s", error)
        return found

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
