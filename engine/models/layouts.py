"""Names and shapes of DiT and SiT weights: the official layout, which is ours too, and the one of diffusers.

What a file holds is read from its tensors. Shapes: D hidden_size, C latent channels, P patch_size, T tokens, L rows of
the label table, N depth. diffusers repeats the embedders in every block and computes the position table.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from engine.errors import AssetError, InputError
from engine.models.dit import DiTConfig
from engine.models.presets import FREQUENCY_EMBEDDING_SIZE, PRESETS

LAYOUTS = ("official", "diffusers")

#: What a description may add to the tensors.
_HINTS = {"num_heads": int, "num_classes": int, "input_size": int}
_HINTS |= {"class_dropout_prob": float, "drop_sigma": bool, "time_embedding": str}
_LARGEST_SIZE = 2**31  # of one side of a tensor: what is larger comes from a damaged file

Shape = tuple[int, ...]
_T = TypeVar("_T", Tensor, Shape)

#: Modules with a weight and a bias, official name -> diffusers name. Attention's q, k, v are one module in the
#: official layout and three in diffusers.
_OUTER = {"x_embedder.proj": "pos_embed.proj", "final_layer.linear": "proj_out_2"}
_OUTER["final_layer.adaLN_modulation.1"] = "proj_out_1"
_BLOCK = {"attn.proj": "attn1.to_out.0", "mlp.fc1": "ff.net.0.proj", "mlp.fc2": "ff.net.2"}
_BLOCK["adaLN_modulation.1"] = "norm1.linear"
_QKV = ("attn1.to_q", "attn1.to_k", "attn1.to_v")
_EMBEDDERS = {
    f"t_embedder.mlp.{index}.{part}": f"norm1.emb.timestep_embedder.linear_{number}.{part}"
    for index, number in ((0, 1), (2, 2))
    for part in ("weight", "bias")
}
_EMBEDDERS["y_embedder.embedding_table.weight"] = "norm1.emb.class_embedder.embedding_table.weight"
_PREFIX = {"official": "blocks", "diffusers": "transformer_blocks"}
_TABLE = {"official": "pos_embed", "diffusers": "pos_embed.pos_embed"}  # may be left out
_BLOCK_KEY = re.compile(r"(?:transformer_)?blocks\.(0|[1-9][0-9]{0,4})\..+", re.ASCII)


def detect_layout(shapes: Mapping[str, Shape]) -> str:
    """ "official" or "diffusers". Raises AssetError, naming the first few missing and unexpected keys, for neither."""
    found = set(shapes)
    layout = max(LAYOUTS, key=lambda name: len(found & _keys(name, 1)))
    blocks = _block_indices(found, layout)
    if blocks != list(range(len(blocks))):
        absent = next(index for index, block in enumerate(blocks) if index != block)
        raise AssetError(
            f"the blocks aren't numbered in one piece: {len(blocks)} up to {_PREFIX[layout]}.{blocks[-1]}, without "
            f"{_PREFIX[layout]}.{absent}; number the kept blocks 0 … {len(blocks) - 1} in the file"
        )
    expected = _keys(layout, max(len(blocks), 1))
    missing, unexpected = sorted(expected - found), sorted(map(str, found - expected - {_TABLE[layout]}))
    if missing or unexpected:
        raise AssetError(
            f"these aren't the weights of a DiT or SiT: {_first(missing)} missing, {_first(unexpected)} unexpected; "
            "expected the tensor names of the official repositories or of diffusers' DiTTransformer2DModel"
        )
    return layout


def config_of(shapes: Mapping[str, Shape], *, hints: Mapping | None = None) -> tuple[DiTConfig, list[str]]:
    """The constructor arguments that fit official-named ``shapes``, and one sentence for every guess.

    ``hints`` may say num_heads, num_classes, class_dropout_prob, input_size, drop_sigma and time_embedding, which the
    tensors leave open (input_size only where there is no ``pos_embed``); other keys are ignored, None is no hint.
    Raises AssetError for shapes that don't fit together or don't fit the hints.
    """
    if detect_layout(shapes) != "official":
        raise AssetError("these tensors have diffusers' names; expected official ones")
    hints, notes = _checked_hints(hints or {}), []
    D, C, P = _patch_shape(shapes)
    num_classes, class_dropout_prob = _classes(_rows(shapes, "y_embedder.embedding_table.weight"), hints, notes)
    arguments = dict(
        input_size=_input_size(shapes, hints, P),
        patch_size=P,
        in_channels=C,
        hidden_size=D,
        depth=len(_block_indices(set(shapes), "official")),
        num_heads=_num_heads(D, hints, notes),
        mlp_ratio=_mlp_ratio(_rows(shapes, "blocks.0.mlp.fc1.bias"), D),
        num_classes=num_classes,
        class_dropout_prob=class_dropout_prob,
        learn_sigma=_rows(shapes, "final_layer.linear.bias") == 2 * P * P * C,
        drop_sigma=hints.get("drop_sigma", False),
        time_embedding=hints.get("time_embedding", "official"),
    )
    try:
        config = DiTConfig(**arguments)
    except InputError as error:
        raise AssetError(f"the tensors' sizes don't make a DiT: {error}") from error
    _check_shapes(shapes, config)
    return config, notes


def shapes_of(config: DiTConfig) -> dict[str, Shape]:
    """Every tensor of the official layout with its shape, in the official order."""
    D, P, wide = config.hidden_size, config.patch_size, int(config.hidden_size * config.mlp_ratio)
    shapes: dict[str, Shape] = {"pos_embed": (1, config.num_tokens, D)}

    def linear(name: str, rows: int, *columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, *columns), (rows,)

    linear("x_embedder.proj", D, config.in_channels, P, P)
    linear("t_embedder.mlp.0", D, FREQUENCY_EMBEDDING_SIZE)
    linear("t_embedder.mlp.2", D, D)
    shapes["y_embedder.embedding_table.weight"] = (config.num_classes + (config.null_class is not None), D)
    for index in range(config.depth):
        linear(f"blocks.{index}.attn.qkv", 3 * D, D)
        linear(f"blocks.{index}.attn.proj", D, D)
        linear(f"blocks.{index}.mlp.fc1", wide, D)
        linear(f"blocks.{index}.mlp.fc2", D, wide)
        linear(f"blocks.{index}.adaLN_modulation.1", 6 * D, D)
    linear("final_layer.linear", P * P * config.out_channels, D)
    linear("final_layer.adaLN_modulation.1", 2 * D, D)
    return shapes


def official_shapes(shapes: Mapping[str, Shape], *, layout: str) -> dict[str, Shape]:
    """What ``to_official`` would make of tensors of these shapes, without touching any."""

    def joined(parts: list[Shape]) -> Shape:
        if any(len(part) < 1 or part[1:] != parts[0][1:] for part in parts):
            raise AssetError(f"attention's q, k and v of a block have the shapes {parts}; expected three alike")
        return (sum(part[0] for part in parts), *parts[0][1:])

    return _renamed(shapes, joined, layout=layout)


def to_official(state: Mapping[str, Tensor], *, layout: str) -> dict[str, Tensor]:
    """``state`` under official names; tensors are shared with it except q, k, v of diffusers, which are joined.

    From diffusers there comes a ``pos_embed`` only where a model has a table of its own, else the usual one stands in.
    Raises AssetError where blocks of a diffusers file differ in an embedder that the official layout has once.
    """
    if layout == "diffusers":
        for block in _block_indices(set(state), layout):
            for name in _EMBEDDERS.values():
                if not torch.equal(state[f"transformer_blocks.0.{name}"], state[f"transformer_blocks.{block}.{name}"]):
                    raise AssetError(
                        f"transformer_blocks.{block}.{name} differs from that of block 0; a DiT has one timestep and "
                        "one label embedder for all blocks, so this file can't be read as one"
                    )
    return _renamed(state, torch.cat, layout=layout)


def to_diffusers(state: Mapping[str, Tensor], config: DiTConfig) -> dict[str, Tensor]:
    """Official ``state`` under the names of diffusers' DiTTransformer2DModel, without ``pos_embed``.

    Tensors are views into ``state``; the embedders are one tensor under the name of every block.
    """
    named = {
        f"{theirs}.{part}": state[f"{ours}.{part}"] for ours, theirs in _OUTER.items() for part in ("weight", "bias")
    }
    for index in range(config.depth):
        prefix = f"transformer_blocks.{index}"
        named |= {f"{prefix}.{theirs}": state[ours] for ours, theirs in _EMBEDDERS.items()}
        for part in ("weight", "bias"):
            for ours, theirs in _BLOCK.items():
                named[f"{prefix}.{theirs}.{part}"] = state[f"blocks.{index}.{ours}.{part}"]
            thirds = state[f"blocks.{index}.attn.qkv.{part}"].chunk(3)
            named |= {f"{prefix}.{theirs}.{part}": third for theirs, third in zip(_QKV, thirds, strict=True)}
    return named


def cut_label_table(state: Mapping[str, Tensor], *, num_classes: int) -> dict[str, Tensor]:
    """Official ``state`` with the label table's first ``num_classes`` rows and the last, which is the null class."""
    table = state["y_embedder.embedding_table.weight"]
    if not 0 < num_classes < len(table):
        raise AssetError(f"{num_classes} classes don't fit a label table of {len(table)} rows; the manifest is damaged")
    return {**state, "y_embedder.embedding_table.weight": torch.cat([table[:num_classes], table[-1:]])}


def _renamed(state: Mapping[str, _T], join: Callable[[list[_T]], _T], *, layout: str) -> dict[str, _T]:
    if layout == "official":
        return dict(state)
    assert layout == "diffusers", layout
    official = {"pos_embed": state[_TABLE[layout]]} if _TABLE[layout] in state else {}
    official |= {key: state[f"transformer_blocks.0.{theirs}"] for key, theirs in _EMBEDDERS.items()}
    for part in ("weight", "bias"):
        official |= {f"{ours}.{part}": state[f"{theirs}.{part}"] for ours, theirs in _OUTER.items()}
        for index in _block_indices(set(state), layout):
            prefix = f"transformer_blocks.{index}"
            for ours, theirs in _BLOCK.items():
                official[f"blocks.{index}.{ours}.{part}"] = state[f"{prefix}.{theirs}.{part}"]
            official[f"blocks.{index}.attn.qkv.{part}"] = join([state[f"{prefix}.{name}.{part}"] for name in _QKV])
    return official


def _keys(layout: str, depth: int) -> set[str]:
    """The names that a file of this layout and depth must have."""
    ours = layout == "official"
    outer = _OUTER.keys() if ours else _OUTER.values()
    inner = [*_BLOCK, "attn.qkv"] if ours else [*_BLOCK.values(), *_QKV]
    keys = {f"{name}.{part}" for name in outer for part in ("weight", "bias")} | (set(_EMBEDDERS) if ours else set())
    for index in range(depth):
        prefix = f"{_PREFIX[layout]}.{index}"
        keys |= {f"{prefix}.{name}.{part}" for name in inner for part in ("weight", "bias")}
        keys |= set() if ours else {f"{prefix}.{name}" for name in _EMBEDDERS.values()}
    return keys


def _block_indices(keys: Iterable[str], layout: str) -> list[int]:
    matches = (_BLOCK_KEY.fullmatch(key) for key in keys if str(key).startswith(f"{_PREFIX[layout]}."))
    return sorted({int(match[1]) for match in matches if match})


def _first(keys: list[str]) -> str:
    """ "none", or "7 (a, b, c, …)"; names are cut: a damaged file may hold one of a megabyte."""
    named = ", ".join(repr(key[:80]) for key in keys[:3])
    return f"{len(keys)} ({named}{', …' if len(keys) > 3 else ''})" if keys else "none"


def _patch_shape(shapes: Mapping[str, Shape]) -> tuple[int, int, int]:
    """D, C and P."""
    shape = tuple(shapes["x_embedder.proj.weight"])
    if len(shape) != 4 or shape[2] != shape[3] or not 1 <= min(shape) <= max(shape) <= _LARGEST_SIZE:
        raise AssetError(f"x_embedder.proj.weight has shape {shape}; expected (hidden_size, channels, patch, patch)")
    return shape[0], shape[1], shape[2]


def _rows(shapes: Mapping[str, Shape], key: str) -> int:
    if not shapes[key] or not 1 <= shapes[key][0] <= _LARGEST_SIZE:
        raise AssetError(f"{key} has shape {tuple(shapes[key])}; the file is damaged")
    return shapes[key][0]


def _checked_hints(hints: Mapping) -> dict:
    """The hints that say something; a description that a person wrote may hold anything."""
    said = {key: hints[key] for key in _HINTS if hints.get(key) is not None}
    for key, value in said.items():
        kind = (int, float) if _HINTS[key] is float else _HINTS[key]
        fits = isinstance(value, kind) and (isinstance(value, bool) == (kind is bool))
        if not fits or (kind not in (bool, str) and not (kind is int) <= value <= _LARGEST_SIZE):
            raise AssetError(f"the description says {key} {value!r:.80}; expected a sensible {_HINTS[key].__name__}")
    return said


def _input_size(shapes: Mapping[str, Shape], hints: Mapping, P: int) -> int:
    if "pos_embed" not in shapes:
        if "input_size" not in hints:
            raise AssetError("there is no pos_embed to tell the latent's size; put input_size in the JSON beside it")
        return hints["input_size"]
    shape = shapes["pos_embed"]
    side = math.isqrt(max(0, shape[1])) if len(shape) == 3 else 0
    if not side or side * side != shape[1]:
        raise AssetError(f"pos_embed has shape {shape}; expected (1, tokens, hidden_size) with a square of tokens")
    return side * P


def _num_heads(D: int, hints: Mapping, notes: list[str]) -> int:
    if "num_heads" in hints:
        return hints["num_heads"]
    published = {shape["hidden_size"]: shape["num_heads"] for shape in PRESETS.values()}
    if D in published:
        return published[D]
    if D % 64:
        raise AssetError(
            f"the tensors don't tell the number of attention heads, and hidden_size {D} is neither that of a published "
            "model nor a multiple of 64; put num_heads in the JSON beside the file"
        )
    notes.append(f"{D // 64} attention head(s) of 64 channels are assumed: the tensors don't tell their number.")
    return D // 64


def _classes(rows: int, hints: Mapping, notes: list[str]) -> tuple[int, float]:
    """num_classes and class_dropout_prob of a label table with this many rows."""
    dropout = hints.get("class_dropout_prob")
    if "num_classes" in hints:
        num_classes = hints["num_classes"]
        if rows - num_classes not in (0, 1) or (dropout is not None and (dropout > 0) != (rows > num_classes)):
            raise AssetError(
                f"the label table has {rows} rows, but the description says {num_classes} classes; expected "
                f"{num_classes}, or {num_classes + 1} with a null class"
            )
        return num_classes, (dropout or 0.1) if rows > num_classes else 0.0
    if dropout is not None:
        return (rows - 1, dropout) if dropout > 0 else (rows, 0.0)
    notes.append(f"The last of the label table's {rows} rows is taken for the null class.")
    return rows - 1, 0.1


def _mlp_ratio(rows: int, D: int) -> float:
    """The ratio for which int(D·ratio), the official rule, gives these rows back."""
    ratio = rows / D
    return ratio if int(D * ratio) == rows else math.nextafter(ratio, math.inf)


def _check_shapes(shapes: Mapping[str, Shape], config: DiTConfig) -> None:
    expected = shapes_of(config)
    wrong = [key for key, shape in expected.items() if tuple(shapes.get(key, shape)) != shape]
    if wrong:
        named = ", ".join(f"{key} {tuple(shapes[key])} instead of {expected[key]}" for key in wrong[:3])
        raise AssetError(f"the tensors' shapes don't fit together: {len(wrong)} wrong, {named}; the file is damaged")
