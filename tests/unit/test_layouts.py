"""Layouts are read from the tensors; every way in which they can be wrong is one line."""

import pytest
import torch
from diffusers import DiTTransformer2DModel

from engine.errors import AssetError
from engine.models import layouts
from engine.models.dit import DiT, DiTConfig
from engine.models.presets import PRESETS
from tests.conftest import make_network


def shapes(network: DiT) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def diffusers_model(**changes) -> DiTTransformer2DModel:
    """Random weights with open gates, as diffusers makes and stores them: the embedders once in each block."""
    settings = dict(num_attention_heads=4, attention_head_dim=8, num_layers=3, sample_size=8, num_embeds_ada_norm=10)
    model = DiTTransformer2DModel(**{**settings, "out_channels": 8, "norm_eps": 1e-6, **changes})
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(t.shape, generator=generator) * 0.2 for name, t in model.state_dict().items()}
    for name in state:
        if ".norm1.emb." in name:
            state[name] = state[f"transformer_blocks.0.norm1.emb.{name.partition('.norm1.emb.')[2]}"]
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("learn_sigma", [True, False])
def test_every_published_size_is_read_from_its_shapes_alone(name, learn_sigma):
    for size in (32, 64):
        config = DiTConfig(**PRESETS[name], input_size=size, learn_sigma=learn_sigma)
        found, notes = layouts.config_of(layouts.shapes_of(config))
        assert found == config
        assert notes == ["The last of the label table's 1001 rows is taken for the null class."]


def test_shapes_are_those_of_the_network():
    for changes in ({}, {"depth": 7, "patch_size": 4}, {"learn_sigma": False}, {"class_dropout_prob": 0.0}):
        network = make_network(**changes)
        assert layouts.shapes_of(network.config) == shapes(network)
        hints = {"num_heads": 4, "class_dropout_prob": network.config.class_dropout_prob}
        assert layouts.config_of(shapes(network), hints=hints) == (network.config, [])


def test_an_xl_2_has_the_published_number_of_parameters():
    config = DiTConfig(**PRESETS["XL/2"])
    # as the official training prints it, position table included
    assert sum(torch.Size(shape).numel() for shape in layouts.shapes_of(config).values()) == 675_129_632


def test_num_heads_are_said_guessed_and_confessed_or_asked_for():
    wide = shapes(make_network(hidden_size=128, num_heads=2, depth=1))
    config, notes = layouts.config_of(wide, hints={"num_classes": 10})
    assert config.num_heads == 2 and notes == [
        "2 attention head(s) of 64 channels are assumed: the tensors don't tell their number."
    ]
    assert layouts.config_of(wide, hints={"num_classes": 10, "num_heads": 8})[0].num_heads == 8
    with pytest.raises(AssetError, match=r"hidden_size 32 is neither .* put num_heads in the JSON"):
        layouts.config_of(shapes(make_network()))
    with pytest.raises(AssetError, match="must be a multiple of 4 and of num_heads 5"):
        layouts.config_of(shapes(make_network()), hints={"num_heads": 5})


def test_rows_of_the_label_table_are_classes_and_perhaps_a_null_class():
    eleven = shapes(make_network())

    def read(**hints):
        config, notes = layouts.config_of(eleven, hints={"num_heads": 4, **hints})
        return config.num_classes, config.null_class, len(notes)

    assert read() == (10, 10, 1)
    assert read(num_classes=10) == (10, 10, 0)
    assert read(num_classes=11) == (11, None, 0)
    assert read(class_dropout_prob=0.0) == (11, None, 0)
    assert read(class_dropout_prob=0.15) == (10, 10, 0)
    with pytest.raises(AssetError, match="has 11 rows, but the description says 1000 classes; expected 1000, or 1001"):
        read(num_classes=1000)
    with pytest.raises(AssetError, match="has 11 rows, but the description says 11 classes"):
        read(num_classes=11, class_dropout_prob=0.1)


@pytest.mark.parametrize(
    "hints",
    [{"num_heads": "four"}, {"num_heads": True}, {"num_heads": 0}, {"num_classes": -1}, {"num_heads": [4]}]
    + [{"class_dropout_prob": float("nan")}, {"class_dropout_prob": False}, {"drop_sigma": 1}]
    + [{"time_embedding": "other"}, {"time_embedding": 3}, {"num_heads": 2**80}],
)
def test_a_description_that_makes_no_sense_is_one_line(hints):
    with pytest.raises(AssetError) as error:
        layouts.config_of(shapes(make_network()), hints={"num_heads": 4, **hints})
    assert "\n" not in str(error.value) and next(iter(hints)) in str(error.value)


def test_diffusers_names_are_those_of_the_installed_diffusers():
    network = make_network(depth=3)
    state = layouts.to_diffusers(network.state_dict(), network.config)
    diffusers_model().load_state_dict(state, strict=True)
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert layouts.detect_layout(found) == "diffusers"
    assert layouts.detect_layout(shapes(network)) == "official"
    back = layouts.to_official(state, layout="diffusers")
    assert back.keys() == network.state_dict().keys() - {"pos_embed"}
    assert all(torch.equal(back[name], network.state_dict()[name]) for name in back)
    renamed = layouts.official_shapes(found, layout="diffusers")
    assert renamed == {name: tuple(tensor.shape) for name, tensor in back.items()}
    assert layouts.config_of(renamed, hints={"num_heads": 4, "num_classes": 10, "input_size": 8})[0] == network.config
    with pytest.raises(AssetError, match="put input_size in the JSON"):
        layouts.config_of(renamed, hints={"num_heads": 4, "num_classes": 10})


def test_a_position_table_of_its_own_comes_along_from_diffusers():
    model = diffusers_model()
    table = torch.arange(16 * 32.0).reshape(1, 16, 32)
    state = {**model.state_dict(), "pos_embed.pos_embed": table}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert layouts.detect_layout(found) == "diffusers"
    assert torch.equal(layouts.to_official(state, layout="diffusers")["pos_embed"], table)
    assert layouts.official_shapes(found, layout="diffusers")["pos_embed"] == (1, 16, 32)


@pytest.mark.parametrize("part", ["class_embedder.embedding_table.weight", "timestep_embedder.linear_2.bias"])
def test_diffusers_blocks_with_embedders_of_their_own_are_refused(part):
    state = diffusers_model().state_dict()
    name = f"transformer_blocks.2.norm1.emb.{part}"
    state[name] = state[name].clone()
    state[name][..., 0] += 1e-3
    with pytest.raises(AssetError, match=f"{name} differs from that of block 0"):
        layouts.to_official(state, layout="diffusers")


def test_gaps_between_blocks_are_named():
    found = shapes(make_network())
    gap = {name: shape for name, shape in found.items() if not name.startswith("blocks.1.")}
    with pytest.raises(AssetError, match=r"3 up to blocks\.3, without blocks\.1; number the kept blocks 0 … 2"):
        layouts.detect_layout(gap)
    headless = {name: shape for name, shape in found.items() if not name.startswith("blocks.0.")}
    with pytest.raises(AssetError, match=r"without blocks\.0"):
        layouts.detect_layout(headless)


def test_missing_and_unexpected_names_are_named_but_only_the_first_few():
    found = shapes(make_network())
    found = {name: shape for name, shape in found.items() if "mlp.fc1" not in name} | {"projector.weight": (3, 3)}
    with pytest.raises(AssetError) as error:
        layouts.detect_layout(found)
    assert "8 ('blocks.0.mlp.fc1.bias', 'blocks.0.mlp.fc1.weight', 'blocks.1.mlp.fc1.bias', …) missing" in str(
        error.value
    )
    assert "1 ('projector.weight') unexpected" in str(error.value)
    for nonsense in ({}, {"conv1.weight": (64, 3, 7, 7)}, {"blocks.": (1,)}, {"k" * 2**20: (1,)}, {"blocks.²": (1,)}):
        with pytest.raises(AssetError, match="aren't the weights of a DiT or SiT") as error:
            layouts.detect_layout(nonsense)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blocks.2.attn.qkv.weight", (96, 31)),
        ("x_embedder.proj.weight", (32, 4, 2, 3)),
        ("x_embedder.proj.weight", ()),
        ("x_embedder.proj.bias", (33,)),
        ("pos_embed", (1, 15, 32)),
        ("pos_embed", (16, 32)),
        ("pos_embed", (1, 9, 32, 1)),
        ("y_embedder.embedding_table.weight", ()),
        ("y_embedder.embedding_table.weight", (0, 32)),
        ("blocks.0.mlp.fc1.bias", (2**62,)),
        ("final_layer.linear.bias", (24,)),
        ("t_embedder.mlp.0.weight", (32, 128)),
    ],
)
def test_shapes_that_do_not_fit_together_are_one_line_that_names_the_tensor(name, shape):
    with pytest.raises(AssetError, match=r".") as error:
        layouts.config_of({**shapes(make_network()), name: shape}, hints={"num_heads": 4})
    assert name in str(error.value) and "\n" not in str(error.value)


def test_q_k_and_v_of_unlike_shapes_are_refused():
    found = {name: tuple(tensor.shape) for name, tensor in diffusers_model().state_dict().items()}
    with pytest.raises(AssetError, match="expected three alike"):
        layouts.official_shapes({**found, "transformer_blocks.1.attn1.to_k.weight": (32, 16)}, layout="diffusers")


def test_an_odd_width_of_the_mlp_is_given_back_exactly():
    for width in range(1, 400, 7):
        config, _ = layouts.config_of(
            {
                name: tuple(width if side == 128 else side for side in shape)
                for name, shape in shapes(make_network(depth=1, learn_sigma=False)).items()
            },
            hints={"num_heads": 4},
        )
        assert int(config.hidden_size * config.mlp_ratio) == width
