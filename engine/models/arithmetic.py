"""How a network is made to work as a Compute says: autocast to bf16, TF32, compiled blocks.

Autocast gives matrix products and attention bf16; what runs along the blocks stays in fp32, because a sum of fp32 and
bf16 is fp32.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from engine.compute import USUAL, Compute
from engine.errors import InputError
from engine.models.compiled import compiled_blocks

_AMPERE = (8, 0)  # the first GPUs with TF32 and bf16


@contextmanager
def working_in(compute: Compute, device: torch.device) -> Iterator[None]:
    """Not to be held over a ``yield`` of a generator: the caller would work in it, too."""
    with ExitStack() as stack:
        if compute.compile:
            stack.enter_context(compiled_blocks())
        stack.enter_context(products_in(compute, device))
        if compute.precision == "bf16":
            stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
        yield


def called_in(network: Callable[..., Tensor], compute: Compute, device: torch.device) -> Callable[..., Tensor]:
    """``network``, each call in these numbers; what it gives is fp32 (or fp64, where it gives that)."""
    if compute == USUAL and device.type != "cuda":
        return network

    def call(*args, **options) -> Tensor:
        with working_in(compute, device):
            output = network(*args, **options)
        return output.to(torch.promote_types(output.dtype, torch.float32))

    return call


def plain_fp32() -> None:
    """From now on fp32 is fp32 in this process, wherever nobody asked for TF32: torch's own default rounds what goes
    into a convolution on a GPU, such as those of the features that FID rests on."""
    # by the older of torch's two ways to say it: its compiler asks by that one, and an answer set by the other raises
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@contextmanager
def products_in(compute: Compute, device: torch.device) -> Iterator[None]:
    """TF32 where it was asked for, and only there. A backward pass needs this around it, too: its products are rounded
    as is said when it runs, while autocast's are as they were going forward."""
    if device.type != "cuda":
        yield
        return
    tf32 = compute.precision == "tf32"
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def check_device(compute: Compute, device: torch.device) -> None:
    """Raises InputError where the device hasn't these numbers. A CPU without bf16 works it out in fp32, rounding."""
    if compute.precision == "tf32" and device.type != "cuda":
        raise InputError(f"tf32 is for NVIDIA GPUs from Ampere on, not for {device}; choose fp32 or bf16")
    if compute.precision != "fp32" and device.type == "cuda" and torch.cuda.get_device_capability(device) < _AMPERE:
        raise InputError(f"{torch.cuda.get_device_name(device)} has no {compute.precision} arithmetic; choose fp32")
