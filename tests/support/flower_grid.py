"""A grid without a network: each message is handled at once, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SUPERLINK = 1

Change = Callable[[Message, Message], Message | None]
"""From a message and its reply to what arrives; None: nothing."""


class LocalGrid(Grid):
    """Nodes of a client app, which may lose, change or refuse replies."""

    def __init__(
        self, app: ClientApp, partitions: Iterable[int], change: Change | None = None
    ) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = SUPERLINK
        self.app, self.change = app, change
        self.contexts: dict[int, Context] = {}
        self.sent: list[Message] = []
        self._ids = (7919 * n % 104729 for n in count(3))
        for partition in partitions:
            self.join(partition)

    def join(self, partition: int) -> int:
        """Connect a node; it gets a new id."""
        node = next(self._ids)
        config = {"partition-id": partition, "num-partitions": 10}
        self.contexts[node] = Context(1, node, config, RecordDict(), {})
        return node

    def leave(self, partition: int) -> None:
        """Disconnect the node that holds a partition."""
        gone = [node for node in self.contexts if self.partition(node) == partition]
        for node in gone:
            del self.contexts[node]

    def partition(self, node: int) -> int:
        return int(self.contexts[node].node_config["partition-id"])

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        assert isinstance(messages, list), "Flower goes through the messages twice"
        self.sent += messages
        replies = (self._reply(message) for message in reversed(messages))
        return [reply for reply in replies if reply is not None]

    def _reply(self, message: Message) -> Message | None:
        message.metadata.__dict__["_message_id"] = f"m{len(self.sent)}"
        try:
            reply = self.app(message, self.contexts[message.metadata.dst_node_id])
        except Exception as error:
            reply = Message(Error(0, f"Traceback:\n{error!r}"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
        return reply if self.change is None else self.change(message, reply)

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    def create_message(self, *args: object, **options: object) -> Message:
        raise NotImplementedError

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=node) for node in self.contexts]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError
