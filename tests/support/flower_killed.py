"""A server that is killed after its second round: ``python tests/flower_killed.py DIRECTORY``."""

from __future__ import annotations

import os
import signal
import sys

import torch
from flwr.app import Message

from hasa_opt.flower import Settings, serve
from support.flower_app import client, model
from support.flower_grid import LocalGrid

if __name__ == "__main__":
    torch.set_num_threads(1)

    def kill(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == "train" and message.metadata.group_id == "2":
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    own = Settings(clients=10, rounds=5, batch_size=8, node_timeout_s=0.2, checkpoint=sys.argv[1])
    serve(model(), LocalGrid(client, range(10), kill), own)
