"""Supernets from users' modules, each held against a full-width reference written here.

The reference is the user's own module at full width with every coordinate of a dropped unit set to
zero, by the hand-written tables of ``zoo.py``; a normalisation over a cut dimension is computed
over the kept units alone.
"""

import copy
import pickle
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from support.zoo import ZOO, Specimen
from torch import nn
from torch.nn import functional

from hasa_opt.federated import LocalTraining, Server, run
from hasa_opt.models import LSTMLanguageModel, Supernet, extract, fresh, scatter
from hasa_opt.tasks import Split, Task

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
WIDTHS = (0.25, 0.5, 0.75)
OTHERS = ("gpt2", "bert")  # of a library that takes seconds to import
NAMES = [*ZOO, *(() if find_spec("transformers") else OTHERS)]


def each_of(names: list[str]) -> pytest.MarkDecorator:
    night = pytest.mark.nightly
    named = [pytest.param(name, marks=night) if name in OTHERS else name for name in names]
    return pytest.mark.parametrize("name", named)


each = each_of(NAMES)


@cache
def make(name: str) -> tuple[Specimen, nn.Module, Supernet]:
    if name not in ZOO:
        pytest.skip("needs transformers")
    specimen = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = specimen.build()
        for tensor in module.state_dict().values():  # No weight is zero or one by default.
            if tensor.is_floating_point():
                tensor.uniform_(-0.5, 0.5) if tensor.dim() > 1 else tensor.uniform_(0.1, 0.6)
        return specimen, module, Supernet(module, specimen.example())


def logits(output):
    return output if isinstance(output, torch.Tensor) else output.logits


def choose(specimen: Specimen, width: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """Units in any order; seed 0 is the prefix."""
    generator = torch.Generator().manual_seed(seed)
    counts = {group: max(1, int(width * size)) for group, size in specimen.sizes.items()}
    return {
        group: torch.randperm(specimen.sizes[group], generator=generator)[:count]
        if seed
        else torch.arange(count)
        for group, count in counts.items()
    }


def kept_index(specimen: Specimen, name: str, tensor: torch.Tensor, kept):
    dims = specimen.dimensions(name, tensor)
    return [
        specimen.entries(dim, length, kept) for dim, length in zip(dims, tensor.shape, strict=True)
    ]


def take(tensor: torch.Tensor, index) -> torch.Tensor:
    for dim, entries in enumerate(index):
        tensor = tensor.index_select(dim, entries)
    return tensor


def mask(tensor: torch.Tensor, index) -> torch.Tensor:
    result = torch.ones(tensor.shape)
    for dim, entries in enumerate(index):
        along = torch.zeros(tensor.shape[dim])
        along[entries] = 1
        result = result * along.view(-1, *[1] * (tensor.dim() - dim - 1))
    return result


def masked_reference(specimen: Specimen, module: nn.Module, kept) -> nn.Module:
    """The module with all coordinates of dropped units at zero."""
    reference = copy.deepcopy(module)
    state = dict(reference.named_parameters()) | dict(reference.named_buffers())
    for name, tensor in state.items():
        if tensor.is_floating_point() and "running" not in name:
            tensor.data *= mask(tensor, kept_index(specimen, name, tensor, kept))
    for path, part in reference.named_modules():
        if isinstance(part, (nn.LayerNorm, nn.RMSNorm)):
            (entries,) = kept_index(specimen, f"{path}.weight", part.weight, kept)
            part.register_forward_hook(over_kept_units(entries))
    return reference


def over_kept_units(entries: torch.Tensor):
    def hook(part: nn.Module, inputs, output: torch.Tensor) -> torch.Tensor:
        kept, weight = inputs[0][..., entries], part.weight[entries]
        if isinstance(part, nn.RMSNorm):
            normal = functional.rms_norm(kept, entries.shape, weight, part.eps)
        else:
            normal = functional.layer_norm(
                kept, entries.shape, weight, part.bias[entries], part.eps
            )
        return torch.zeros_like(output).index_copy(-1, entries, normal)

    return hook


def assert_same_state(left, right) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.slow
@each
def test_full_width_is_the_users_module_bit_by_bit(name):
    specimen, module, supernet = make(name)
    assert list(supernet.state_dict()) == list(module.state_dict())
    assert [n for n, _ in supernet.named_parameters()] == [n for n, _ in module.named_parameters()]
    assert dict(sorted(supernet.sizes.items())) == dict(sorted(specimen.sizes.items()))
    example = specimen.example()
    for training in (True, False):
        mine, theirs = extract(supernet, 1.0).train(training), copy.deepcopy(module).train(training)
        outputs = []
        for model in (mine, theirs):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(5)
                outputs.append(logits(model(example)))
                outputs[-1].logsumexp(-1).sum().backward()
        assert torch.equal(*outputs)
        assert_same_state(mine.state_dict(), theirs.state_dict())
        for (which, p), (_, q) in zip(
            mine.named_parameters(), theirs.named_parameters(), strict=True
        ):
            assert (p.grad is None) == (q.grad is None)
            assert p.grad is None or torch.equal(p.grad, q.grad), which


@each
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("width", WIDTHS)
def test_subnet_is_the_masked_module(name, width, seed):
    specimen, module, supernet = make(name)
    kept, example = choose(specimen, width, seed), specimen.example()
    assert kept.keys() == supernet.sizes.keys()
    subnet = extract(supernet, width, kept).eval()
    reference = masked_reference(specimen, module, kept).eval()
    full = dict(module.state_dict())
    for which, tensor in subnet.state_dict().items():
        expected = take(full[which], kept_index(specimen, which, full[which], kept))
        assert torch.equal(tensor, expected), which

    actual, expected = subnet(example), logits(reference(example))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(7))
    (actual * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = {which: p.grad for which, p in reference.named_parameters()}
    for which, parameter in subnet.named_parameters():
        if parameter.grad is None:
            assert gradients[which] is None
            continue
        index = kept_index(specimen, which, gradients[which], kept)
        torch.testing.assert_close(
            parameter.grad, take(gradients[which], index), atol=1e-5, rtol=1e-4, msg=which
        )


@pytest.mark.parametrize("name", ["vgg", "resnet_batchnorm", "mobilenet", "densenet"])
def test_batch_statistics_of_a_subnet_in_training(name):
    specimen, module, supernet = make(name)
    kept = choose(specimen, 0.5, seed=2)
    subnet = extract(supernet, 0.5, kept).train()
    reference = masked_reference(specimen, module, kept).train()
    for model in (subnet, reference):
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    example = specimen.example()
    if name == "vgg":  # Its dropout is no part of the traced network: compare the statistics.
        subnet(example), reference(example)
    else:
        torch.testing.assert_close(subnet(example), reference(example), atol=1e-5, rtol=1e-4)
    expected = reference.state_dict()
    for which, tensor in subnet.state_dict().items():
        if "running" in which or "num_batches" in which:
            index = kept_index(specimen, which, expected[which], kept)
            torch.testing.assert_close(tensor, take(expected[which], index), msg=which)


@each
def test_scatter_leaves_other_coordinates_alone(name):
    specimen, _, supernet = make(name)
    width = 0.5
    subnet = extract(supernet, width)
    before = copy.deepcopy(supernet.state_dict())
    assert_same_state(scatter(supernet, width, subnet.state_dict()), before)
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.add_(0.25)
    after = scatter(supernet, width, subnet.state_dict())
    assert_same_state(supernet.state_dict(), before)
    kept = choose(specimen, width)
    trained = dict(supernet.named_parameters(remove_duplicate=False))
    for which, tensor in after.items():
        held = mask(tensor, kept_index(specimen, which, tensor, kept)).bool()
        assert torch.equal(tensor[~held], before[which][~held]), which
        assert torch.equal(tensor[held], subnet.state_dict()[which].flatten()), which
        assert (which in trained) == (not torch.equal(tensor, before[which])), which


@each
def test_subnet_is_a_model_of_its_own(name):
    specimen, _, supernet = make(name)
    example, subnet = specimen.example(), extract(supernet, 0.5).eval()
    expected = subnet(example)
    for twin in (copy.deepcopy(subnet), pickle.loads(pickle.dumps(subnet))):
        assert torch.equal(twin(example), expected)
    nested = extract(subnet, 1.0)
    assert torch.equal(nested(example), expected)
    torch.testing.assert_close(
        copy.deepcopy(subnet).double()(double(example)).float(), expected, atol=1e-5, rtol=1e-4
    )
    for n in (1, 2):
        torch.testing.assert_close(subnet(example[:n]), expected[:n], atol=1e-5, rtol=1e-4)
    shared = {id(p) for p in subnet.parameters()}
    assert len(shared) == len({id(p) for p in supernet.parameters()})
    assert not {p.data_ptr() for p in subnet.parameters()} & {
        p.data_ptr() for p in supernet.parameters()
    }


def double(example: torch.Tensor) -> torch.Tensor:
    return example.double() if example.is_floating_point() else example


class ZeroState(nn.Module):
    """Starts from zeros of the default type, as is usual."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(11, 6), nn.GRU(6, 8, 2, batch_first=True)
        self.head = nn.Linear(8, 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embedding(x), torch.zeros(2, x.shape[0], 8))[0])


def test_tensors_made_of_sizes_follow_the_type_of_the_weights():
    module, tokens = ZeroState().eval(), torch.randint(0, 11, (3, 5))
    supernet = Supernet(module, tokens)
    subnet = extract(supernet, 1.0).double()
    torch.testing.assert_close(subnet(tokens).float(), module(tokens))
    assert supernet.profile([0.5]).flops[0] > 0


@each
def test_subnet_trains(name):
    specimen, _, supernet = make(name)
    subnet, example = extract(supernet, 0.5).train(), specimen.example()
    optimizer = torch.optim.Adam(subnet.parameters(), lr=0.02)
    target = torch.ones(subnet(example).shape[:-1], dtype=torch.int64)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(20):
            loss = functional.cross_entropy(subnet(example).flatten(0, -2), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@each_of([name for name in ZOO if ZOO[name].varies_in_time])
def test_number_of_time_steps_may_change(name):
    specimen, module, supernet = make(name)
    kept, example = choose(specimen, 0.5), specimen.example()
    reference = masked_reference(specimen, module, kept).eval()
    subnet = extract(supernet, 0.5).eval()
    for other in (example[:, :1], example[:, :4], torch.cat([example, example[:, :3]], dim=1)):
        torch.testing.assert_close(subnet(other), logits(reference(other)), atol=1e-5, rtol=1e-5)


@each_of([name for name in NAMES if name != "vit"])
def test_fresh_draws_what_the_module_draws(name):
    _, _, supernet = make(name)
    one, again, other = fresh(supernet, 1), fresh(supernet, 1), fresh(supernet, 2)
    assert_same_state(one.state_dict(), again.state_dict())
    drawn = dict(one.named_parameters())
    assert any(not torch.equal(p, drawn[n]) for n, p in other.named_parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        typical = ZOO[name].build()
    for which, parameter in typical.named_parameters():
        spread, expected = float(drawn[which].detach().std()), float(parameter.detach().std())
        if parameter.numel() > 30:
            assert 0.5 * expected <= spread <= 2 * expected, which


def counting_task() -> Task:
    """Three clients with sequences that count upwards, each from elsewhere."""

    def split(client: int, n: int) -> Split:
        generator = torch.Generator().manual_seed(10 * client + n)
        start = torch.randint(0, 4, (n, 1), generator=generator) + client
        sequence = (start + torch.arange(7)) % (len_vocabulary - 1) + 1
        return Split(sequence[:, :-1], sequence[:, 1:])

    len_vocabulary = 11
    parts = [tuple(split(client, n) for client in range(3)) for n in (24, 6, 8)]
    counts = np.ones((3, len_vocabulary), dtype=np.int64)
    return Task("counting", ("a", "b", "c"), *parts, counts=counts, n_outputs=len_vocabulary)


class PlainLSTM(nn.Module):
    """The shipped language model, as a user would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8, padding_idx=0)
        self.dropout = nn.Dropout(0.1)
        self.lstms = nn.ModuleList([nn.LSTM(8, 10, batch_first=True)])
        self.decoder = nn.Linear(10, 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.dropout(self.embedding(x))
        return self.decoder(self.dropout(self.lstms[0](states)[0]))


@pytest.mark.parametrize("aggregation", ["full", "selective"])
def test_federated_run_equals_that_of_the_declared_model(aggregation):
    task, module = counting_task(), PlainLSTM()
    declared = fresh(LSTMLanguageModel(11, 8, 10, dropout=0.1), seed=0)
    module.load_state_dict(declared.state_dict())
    traced = Supernet(module, task.train[0].inputs[:2])
    histories = [
        run(model, task, [0.3, 0.6, 1.0], rounds=2, seed=1, server=Server(aggregation=aggregation))
        for model in (traced, declared)
    ]
    assert_same_state(histories[0].weights, histories[1].weights)
    assert np.array_equal(histories[0].test_loss, histories[1].test_loss)
    assert np.array_equal(histories[0].flops, histories[1].flops)


def test_federated_run_learns_with_tied_weights():
    _, _, supernet = make("lstm")
    task = counting_task()
    history = run(
        fresh(supernet, 0),
        task,
        [0.5, 0.5, 1.0],
        rounds=6,
        seed=1,
        training=LocalTraining(epochs=4),
    )
    assert history.test_accuracy[-1].mean() > history.test_accuracy[0].mean() + 0.2
    assert torch.equal(history.weights["embedding.weight"], history.weights["decoder.weight"])
