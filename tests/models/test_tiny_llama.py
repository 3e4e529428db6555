"""A tiny Llama is cut, trained by clients, and deployed in about a second."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import NETWORKS
from support.networks.listed import VOCABULARY

from hasa_opt.federated import LocalTraining, run
from hasa_opt.models import Supernet, extract
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
pytestmark = pytest.mark.slow
SECONDS = 10.0
"""Of CPU, generous, since the machine may be busy. Run as a script, this file prints those that it
takes."""


def counting() -> Task:
    """Three clients with sequences that count upwards."""

    def split(client: int, n: int) -> Split:
        generator = torch.Generator().manual_seed(10 * client + n)
        start = torch.randint(0, VOCABULARY - 2, (n, 1), generator=generator)
        sequence = (start + torch.arange(7)) % (VOCABULARY - 2) + 2
        return Split(sequence[:, :-1], sequence[:, 1:])

    parts = [tuple(split(client, n) for client in range(3)) for n in (32, 8, 8)]
    counts = np.ones((3, VOCABULARY), dtype=np.int64)
    return Task("counting", ("a", "b", "c"), *parts, counts=counts, n_outputs=VOCABULARY)


def seconds_of_each_step(folder: Path) -> dict[str, float]:
    """Cut, train, save, load in a new model, and predict: CPU seconds of each."""
    module, tokens = NETWORKS["llama"].make()
    task, widths = counting(), [0.5, 0.5, 1.0]
    marks = {"": time.process_time()}
    Supernet(module, tokens, trace=folder / "trace")
    marks["trace, once"] = time.process_time()
    supernet = Supernet(module, tokens, trace=folder / "trace")
    marks["cut"] = time.process_time()
    training = LocalTraining(batch_size=8, learning_rate=0.01)
    history = run(supernet, task, widths, rounds=4, training=training, seed=0)
    marks["train"] = time.process_time()
    assert history.test_loss[-1].mean() < history.test_loss[0].mean()

    supernet.load_state_dict(history.weights)
    torch.save(extract(supernet, 0.5).state_dict(), folder / "weights.pt")
    device = extract(Supernet(module, tokens, trace=folder / "trace"), 0.5).eval()
    device.load_state_dict(torch.load(folder / "weights.pt"))
    marks["deploy"] = time.process_time()
    with torch.no_grad():
        assert device(tokens[:1]).shape == (1, 6, VOCABULARY)
        assert torch.equal(device(tokens), extract(supernet, 0.5).eval()(tokens))

    whole, half = (sum(p.numel() for p in model.parameters()) for model in (supernet, device))
    assert half < 0.35 * whole
    return {name: now - before for (_, before), (name, now) in pairwise(marks.items())}


def test_a_tiny_llama_is_cut_trained_and_deployed(tmp_path: Path) -> None:
    if not NETWORKS["llama"].is_installed:
        pytest.skip("needs transformers")
    seconds = seconds_of_each_step(tmp_path)
    assert sum(seconds.values()) < SECONDS
    assert seconds["cut"] < seconds["trace, once"]


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        found = seconds_of_each_step(Path(folder))
    print(*(f"{name}: {value:.2f} CPU s" for name, value in found.items()), sep="\n")
    print(f"all but the trace: {sum(found.values()) - found['trace, once']:.2f} CPU s")
