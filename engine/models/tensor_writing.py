"""Tensors into files, whole or not at all, and a disk that doesn't take them as the one line of a WorkspaceError."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from engine.runs.workspace import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """As safetensors, tensor by tensor: a second copy of a large model wouldn't fit. Raises WorkspaceError."""
    num_bytes = sum(value.nbytes for value in tensors.values())
    with replacing(path, num_bytes=num_bytes) as temporary, saving():
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)


@contextmanager
def saving() -> Iterator[None]:
    """safetensors and torch.save have errors of their own for a disk that doesn't take what they write."""
    try:
        yield
    except SafetensorError as error:
        full = "os error 28" in str(error) or "No space" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise OSError(errno.ENOSPC, "torch.save was cut short") from error
