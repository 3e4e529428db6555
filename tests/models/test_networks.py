"""Eighty real networks: what docs/networks.csv says of each holds, and none is cut wrongly."""

from __future__ import annotations

import csv
import warnings

import pytest
import torch
from support import TESTS
from support.marks import some_nightly
from support.networks import NETWORKS, comparison
from support.networks.comparison import assert_is_masked_module
from torch import nn

from hasa_opt.errors import InputError
from hasa_opt.models import Supernet, extract

torch.set_num_threads(1)
pytestmark = pytest.mark.slow

DAILY = (
    *("llama", "qwen2", "vit", "swin", "mobilenet_wd4"),
    *("llama_by_hand", "resnet20_padded", "unet", "vae", "projected_lstm"),
)
with (TESTS.parent / "docs" / "networks.csv").open(encoding="utf-8", newline="") as file:
    TABLE = {line["network"]: line for line in csv.DictReader(file)}


def test_the_table_has_a_line_for_each_network() -> None:
    assert list(TABLE) == list(NETWORKS)
    assert len(TABLE) == 80
    assert len({line["family"] for line in TABLE.values()}) >= 20
    cut = sum(line["result"] == "cut" for line in TABLE.values())
    assert cut >= 0.9 * len(TABLE)


@pytest.mark.parametrize("name", some_nightly(NETWORKS, DAILY))
def test_what_the_table_says_of_a_network_holds(name: str) -> None:
    network, line = NETWORKS[name], TABLE[name]
    if not network.is_installed:
        pytest.skip(f"needs {network.source}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, example = network.make()
        if line["result"] == "refused":
            with pytest.raises(InputError) as refused:
                Supernet(module, example)
            assert str(refused.value).startswith(line["reason"].strip("`"))
            return
        supernet = Supernet(module, example)
        for width, seed in ((0.5, None), (0.75, 2)):
            assert_is_masked_module(supernet, module, example, width, seed)
    assert line["whole"] == str(len(supernet.whole) or "")
    whole, half = (sum(p.numel() for p in extract(supernet, w).parameters()) for w in (1.0, 0.5))
    assert line["at_half"] == f"{half / whole:.2f}"


@pytest.mark.parametrize("what", ["output", "norm"])
def test_the_comparison_notices_a_wrong_cut(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, example = NETWORKS["llama_by_hand"].make()
    supernet = Supernet(module, example)

    def wrong(*arguments: object) -> nn.Module:
        subnet = extract(*arguments)
        with torch.no_grad():
            subnet.get_parameter(f"{what}.weight")[..., -1] += 0.01
        return subnet

    assert_is_masked_module(supernet, module, example, 0.5)
    monkeypatch.setattr(comparison, "extract", wrong)
    with pytest.raises(AssertionError):
        assert_is_masked_module(supernet, module, example, 0.5)
