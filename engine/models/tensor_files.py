"""Tensors out of files that others made: PyTorch checkpoints and safetensors. Nothing in them is run.

What a file is, is read from its first bytes, never from its name. A PyTorch checkpoint is a zip of raw storages and one
pickle; the pickle may name tensors and plain containers only, which is checked before torch's own restricted unpickler
sees it, and no size is believed before it was compared with the file's.
"""

import argparse
import json
import pickle
import pickletools
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import AssetError

#: What a pickle of tensors names; anything else could run code.
_PLAIN = re.compile(
    r"collections OrderedDict|argparse Namespace"
    r"|torch\._utils (_rebuild_tensor|_rebuild_tensor_v2|_rebuild_parameter)"
    r"|torch(\.storage)? [A-Z][A-Za-z0-9]*Storage|torch (Size|device|b?float\d+|int\d+|uint\d+|bool)"
)
_WEIGHTS = ("ema", "model", "state_dict")  # under these names a training checkpoint holds weights; the first is taken
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
_LARGEST_PICKLE = 64 * 2**20
_LARGEST_INDEX = 16 * 2**20
_ALLOW_LIST = threading.Lock()  # torch's list of allowed classes is one for all threads
# what torch's reader and unpickler are seen to raise for damaged files
_DAMAGE = (
    OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError,
    MemoryError, EOFError, ImportError, BadZipFile, struct.error, pickle.UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """``state`` lies in the file, mapped: it is read when touched, and whoever keeps a tensor copies it."""

    state: dict[str, Tensor]
    about: dict[str, Any]  # what the file says beside the tensors: training arguments, metadata; plain values
    taken: str  # "ema", "model", "state_dict", or "bare" where the file holds nothing else
    notes: tuple[str, ...]
    files: tuple[Path, ...]


def read_tensors(path: Path) -> TensorFile:
    """Opens a .pt, .pth, .ckpt, .bin, .safetensors or a sharded safetensors index. Raises AssetError."""
    with _readable(path):
        with open(path, "rb") as file:
            start = file.read(9)
        size = path.stat().st_size
    if start[:4] == b"PK\x03\x04":
        if path.suffix == ".safetensors":  # torch would go by the name
            raise AssetError(f"{path} is a PyTorch checkpoint, not safetensors; give it a name that ends in .pt")
        return _read_checkpoint(path, size)
    if len(start) == 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size:
        state, about = _read_safetensors(path)
        return _named(state, about, "bare", [], (path,))
    if start.lstrip()[:1] == b"{":
        return _read_shards(path, size)
    raise AssetError(f"{path} {_what_else(start, size)}; expected a PyTorch checkpoint (.pt) or safetensors")


def _what_else(start: bytes, size: int) -> str:
    if size == 0:
        return "is empty"
    if len(start) == 9 and start[8:9] == b"{":
        return f"says that its header has {int.from_bytes(start[:8], 'little')} bytes, but has only {size} in all"
    if start[:1] == b"\x80":
        return "is a bare pickle, or was saved by PyTorch before 1.6, and could run code when opened"
    return "is neither a zip nor safetensors, or was cut short"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise AssetError(f"{path} is missing; it may have been deleted or moved") from error
    except SafetensorError as error:
        raise AssetError(f"{path} is damaged or cut short ({_line(error)}); get the file again") from error
    except _DAMAGE as error:
        raise AssetError(f"{path} can't be read ({_line(error)}); get the file again") from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _read_checkpoint(path: Path, size: int) -> TensorFile:
    with _readable(path):
        pickled = _pickle_of(path, size)
    _refuse_code(path, pickled)
    with _readable(path):
        # sizes first, on a device without memory: a claim of 40 GB must not become an attempt to allocate them
        claimed = _tensors_in(_torch_load(path, map_location="meta"))
        wrong = [name for name, tensor in claimed.items() if not _within(tensor, size)]
        if wrong:
            raise AssetError(f"{path}: {wrong[0][:80]!r} claims more bytes than the file's {size}; the file is damaged")
        content = _torch_load(path, mmap=True)
    weights, about, taken, notes = _weights_of(path, content)
    return _named(weights, about, taken, notes, (path,))


def _pickle_of(path: Path, size: int) -> bytes:
    """The one pickle of a checkpoint. Refuses packed members, which torch.save never writes: they may be bombs."""
    with ZipFile(path) as archive:
        members = archive.infolist()
        packed = [member for member in members if member.compress_type != ZIP_STORED or member.file_size > size]
        if packed:
            raise AssetError(f"{path} is a packed archive, not a PyTorch checkpoint; unpack it and name what is inside")
        pickles = [member for member in members if member.filename.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > _LARGEST_PICKLE:
            raise AssetError(f"{path} is a zip, but not one that torch.save wrote; expected a PyTorch checkpoint (.pt)")
        return archive.read(pickles[0])


def _refuse_code(path: Path, pickled: bytes) -> None:
    with _readable(path):
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                raise AssetError(
                    f"{path} is pickled in a way that torch.save doesn't use; save its weights alone again"
                )
            if operation.name == "GLOBAL" and not _PLAIN.fullmatch(str(argument)):
                named = ".".join(str(argument).split())[:80]
                raise AssetError(
                    f"{path} names {named}, which could run code, so nothing of it was loaded; save its weights alone, "
                    "with torch.save(model.state_dict(), …), or as safetensors"
                )


def _torch_load(path: Path, **how: Any) -> Any:
    with _ALLOW_LIST, torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True, **how)


def _tensors_in(content: Any, prefix: str = "") -> dict[str, Tensor]:
    """Those of the dicts that a checkpoint consists of; its optimizer's are left out."""
    if isinstance(content, Tensor):
        return {prefix or "it": content}
    if not isinstance(content, Mapping):
        return {}
    found = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{key}"] = value
        elif key in _WEIGHTS and not prefix:
            found |= _tensors_in(value, f"{key}.")
    return found


def _within(tensor: Tensor, size: int) -> bool:
    """Whether a tensor lies in its storage, and the storage can lie in a file of ``size`` bytes."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return False
    claimed = tensor.numel() * tensor.element_size()
    return claimed <= tensor.untyped_storage().nbytes() <= size


def _weights_of(path: Path, content: Any) -> tuple[Mapping, dict[str, Any], str, list[str]]:
    if not isinstance(content, Mapping):
        raise AssetError(f"{path} holds a {type(content).__name__}; expected a dict of tensors, as state_dict() gives")
    candidates = [name for name in _WEIGHTS if isinstance(content.get(name), Mapping) and content[name]]
    if not candidates:
        return content, {}, "bare", []
    taken, others = candidates[0], [str(key) for key in content if key not in (candidates[0], "args")]
    about = content.get("args", {})
    about = vars(about) if isinstance(about, argparse.Namespace) else about
    words = {"ema": "the averaged weights (EMA)"}.get(taken, f"the weights under {taken!r}")
    beside = f"; {', '.join(others)[:80]} beside them {'is' if len(others) == 1 else 'are'} left out" if others else ""
    notes = [f"A training checkpoint: {words} are taken{beside}."]
    if taken != "ema":
        notes.append("It has no averaged weights (EMA), which usually draw better.")
    return content[taken], dict(about) if isinstance(about, Mapping) else {}, taken, notes


def _named(
    weights: Mapping, about: dict[str, Any], taken: str, notes: list[str], files: tuple[Path, ...]
) -> TensorFile:
    """Checks that ``weights`` are tensors of numbers under names, and takes prefixes of wrappers off the names."""
    alien = [str(key) for key, value in weights.items() if not isinstance(value, Tensor) or not isinstance(key, str)]
    if alien or not weights:
        what = f"{len(alien)} entries that aren't tensors ({', '.join(alien[:3])[:120]})" if alien else "no tensors"
        raise AssetError(f"{files[0]} holds {what}; expected the tensors of a model, as state_dict() gives them")
    odd = [key for key, value in weights.items() if not value.is_floating_point() or value.layout != torch.strided]
    if odd:
        raise AssetError(f"{files[0]}: {odd[0][:80]!r} is {weights[odd[0]].dtype}; expected floating-point numbers")
    state = dict(weights)
    for _ in range(2):  # either may be around the other
        for prefix in _PREFIXES:
            if all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                notes = [
                    *notes,
                    f"The names began with {prefix!r}, which a wrapper of training put there; it is left out.",
                ]
    plain = {str(key): value for key, value in about.items() if isinstance(value, str | int | float | bool)}
    return TensorFile(state=state, about=plain, taken=taken, notes=tuple(notes), files=files)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The format's own reader compares every offset in the header with the file's length before it reads."""
    with _readable(path), safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _read_shards(index: Path, size: int) -> TensorFile:
    with _readable(index):
        names = json.loads(index.read_bytes())["weight_map"] if size <= _LARGEST_INDEX else None
    if not isinstance(names, dict) or not names or not all(_plain_name(name) for name in names.values()):
        raise AssetError(f"{index} isn't an index of safetensors files; expected a weight_map of names beside it")
    shards = {name: _read_safetensors(index.parent / name)[0] for name in sorted(set(names.values()))}
    absent = [key for key, name in names.items() if key not in shards[name]]
    if absent:
        raise AssetError(f"{names[absent[0]]} lacks {absent[0][:80]!r}, which {index} promises; get the files again")
    state = {key: shards[name][key] for key, name in names.items()}
    return _named(state, {}, "bare", [], (index, *(index.parent / name for name in shards)))


def _plain_name(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*", name) is not None


def not_finite(state: Mapping[str, Tensor], *, piece: int = 2**22) -> Iterator[str]:
    """Names of tensors with a NaN or an infinity, looked at ``piece`` values at a time.

    A NaN is its tensor's smallest and largest value; asking for these takes a tenth of asking each value.
    """
    for name, tensor in state.items():
        parts = tensor.flatten().split(piece) if tensor.numel() else ()
        if not all(torch.stack(torch.aminmax(part)).isfinite().all() for part in parts):
            yield name
