from dataclasses import asdict

import pytest
import torch

from engine.errors import InputError
from engine.evaluation.efficiency import count_parameters
from engine.models.dit import DiTConfig, gelu
from engine.models.presets import PRESETS, num_parameters
from tests.conftest import make_network
from tests.unit.plain_dit import plain_forward


def inputs(network, num: int = 3):
    generator = torch.Generator().manual_seed(1)
    config = network.config
    x = torch.randn(num, *config.latent_shape, generator=generator)
    return x, torch.tensor([3.0, 500.0, 999.0])[:num], torch.tensor([0, 4, config.num_classes])[:num]


@pytest.mark.parametrize("changes", [{}, {"patch_size": 4, "depth": 7}, {"learn_sigma": False}, {"hidden_size": 48}])
def test_forward_equals_an_independent_plain_implementation(changes):
    network = make_network(**changes)
    x, t, y = inputs(network)
    config = network.config
    state = {name: value.double() for name, value in network.state_dict().items()}
    plain = plain_forward(state, x.double(), t, y, num_heads=config.num_heads, patch_size=config.patch_size)
    ours = network(x, t, y)
    assert ours.shape == (3, config.out_channels, 8, 8)
    assert (ours - plain).norm() / plain.norm() < 1e-5
    assert plain.std() > 0.1  # open gates: the blocks do something


def test_parameter_names_are_the_official_ones():
    names = set(make_network(depth=1).state_dict())
    branches = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1"]
    modules = ["x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "final_layer.linear"]
    modules += ["final_layer.adaLN_modulation.1", *(f"blocks.0.{branch}" for branch in branches)]
    expected = {f"{module}.{part}" for module in modules for part in ("weight", "bias")}
    assert names == expected | {"pos_embed", "y_embedder.embedding_table.weight"}


def test_a_skipped_block_equals_a_network_built_without_it():
    network = make_network()
    x, t, y = inputs(network)
    state = network.state_dict()
    by_hand = {}
    for new, old in enumerate([0, 2, 3]):
        prefix = f"blocks.{old}."
        by_hand |= {f"blocks.{new}.{k[len(prefix) :]}": v for k, v in state.items() if k.startswith(prefix)}
    smaller = make_network(depth=3, seed=9)
    smaller.load_state_dict({**{k: v for k, v in state.items() if not k.startswith("blocks.")}, **by_hand})
    assert torch.equal(network(x, t, y, skip={1}), smaller(x, t, y))
    assert not torch.allclose(network(x, t, y), smaller(x, t, y), atol=1e-2)
    assert torch.equal(network.with_blocks([0, 2, 3])(x, t, y), smaller(x, t, y))
    assert network.with_blocks([0, 2, 3]).config.depth == 3


def test_dropped_sigma_is_the_first_half_of_the_channels():
    whole, half = make_network(), make_network(drop_sigma=True)
    assert torch.equal(whole(*inputs(whole))[:, :4], half(*inputs(half)))


def test_initialisation_is_the_identity_with_closed_gates_and_repeats_with_the_seed():
    network = make_network(gate_std=0.0)
    x, t, y = inputs(network)
    assert torch.equal(network(x, t, y), torch.zeros(3, 8, 8, 8))
    h, c = network.embed(x, t, y)
    assert torch.equal(network.blocks[0](h, c), h)
    again = make_network(gate_std=0.0).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


def test_presets_are_the_published_sizes():
    assert PRESETS["XL/2"] == dict(depth=28, hidden_size=1152, num_heads=16, patch_size=2)
    assert PRESETS["S/8"] == dict(depth=12, hidden_size=384, num_heads=6, patch_size=8)
    assert len(PRESETS) == 12


@pytest.mark.parametrize(
    "changes",
    [{}, {"learn_sigma": False, "mlp_ratio": 2.5}, {"class_dropout_prob": 0.0, "patch_size": 4}, {"depth": 1}],
)
def test_parameters_are_counted_from_the_constructor_arguments(changes):
    network = make_network(**changes)
    assert num_parameters(asdict(network.config)) == count_parameters(network)


@pytest.mark.parametrize("said", [{}, {"hidden_size": "96"}, {"mlp_ratio": float("nan")}])
def test_a_description_that_does_not_say_its_sizes_has_no_number_of_parameters(said):
    assert num_parameters({**(asdict(DiTConfig()) if said else {}), **said}) is None


@pytest.mark.parametrize(
    "changes",
    [{"patch_size": 3}, {"num_heads": 5}, {"hidden_size": 30, "num_heads": 3}, {"depth": 0}, {"num_classes": 0}],
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(InputError):
        DiTConfig(**{"input_size": 8, "hidden_size": 32, "num_heads": 4, **changes})


def test_null_class_follows_the_config():
    assert DiTConfig(num_classes=10).null_class == 10
    assert DiTConfig(num_classes=10, class_dropout_prob=0.0).null_class is None


def test_gelu_is_the_tanh_formula_for_numbers_of_any_size():
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, 1e-30, 1e4, -1e4, 1e19, -1e19])])
    with torch.inference_mode():
        fast = gelu(x.clone())
    plain = torch.nn.functional.gelu(x.double(), approximate="tanh")
    assert torch.allclose(fast.double(), plain, rtol=1e-6, atol=5e-7)
    assert gelu(x).equal(torch.nn.functional.gelu(x, approximate="tanh"))  # where gradients are kept
    with torch.inference_mode():
        assert gelu(torch.tensor([float("nan")])).isnan().all()
