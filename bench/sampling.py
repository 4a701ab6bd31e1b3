"""How fast pictures are drawn, end to end: noise in, pictures out, decoding included. All but the last by default:

half        a model of half the depth against the whole one. The bound is the ratio of depths; beside it that of the
            multiply-adds of one forward, and what a picture takes outside the blocks, which no pruning makes faster.
diffusers   this product against diffusers' DiTPipeline: the same weights (exported and opened there), noise, steps,
            guidance and precision.
ways        other ways of drawing against the usual one: all in one batch instead of groups of a fixed size, bfloat16,
            compiled blocks, the conditioning worked out once for each (timestep, class).
xl          as half, for 12 of the 28 blocks of a DiT-XL/2 with random weights, one picture of two steps at a time: some
            minutes and 6 GiB, so only where it is asked for.

What is compared takes turns (A, B, A, B, …), so that a busy machine slows both alike; the ratio of each turn is taken,
and their median is the speed-up, with the middle half of the turns, by the clock and by the processor's time, which
other programs disturb less. Beside it: the largest difference of the pictures in grey levels (of 255).

    python bench/sampling.py [--part ways] [--model demo-sit-digits] [--images 24] [--num-steps 20] [--turns 9]
"""

import argparse
import contextlib
import copy
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers.utils import logging
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.xl import CHECKPOINT, make_inputs
from engine import Protocol, export, keep_blocks, load_model
from engine.evaluation.class_order import class_labels
from engine.evaluation.efficiency import count_macs
from engine.evaluation.sampling import draw, draw_together, images_at_a_time
from engine.models.dit import DiT
from engine.models.model import Model

PARTS = ("half", "diffusers", "ways")
XL_KEPT = [round(27 * k / 11) for k in range(12)]  # evenly spread
Images = np.ndarray  # uint8 (N, H, W, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=(*PARTS, "xl"))
    parser.add_argument("--model", action="append", help="default: demo-sit-digits and demo-dit-digits")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--num-steps", type=int, default=20)
    parser.add_argument("--cfg-scale", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=9)
    args = parser.parse_args()
    parts = args.part or PARTS
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    protocol = Protocol(num_images=args.images, num_steps=args.num_steps, cfg_scale=args.cfg_scale)
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    for name in args.model or ["demo-sit-digits", "demo-dit-digits"]:
        if "half" in parts:
            intact = load_model(name)
            fewer_blocks(intact, list(range(0, intact.config.depth, 2)), protocol, args.turns)
    if "xl" in parts:
        few = replace(protocol, num_images=1, num_steps=2)
        with tempfile.TemporaryDirectory() as folder:
            fewer_blocks(random_xl(Path(folder)), XL_KEPT, few, args.turns)
    if "diffusers" in parts:
        against_diffusers(load_model("demo-dit"), protocol, args.turns)
    if "ways" in parts:
        other_ways(load_model((args.model or ["demo-dit-digits"])[0]), protocol, args.turns)


def fewer_blocks(intact: Model, kept: list[int], protocol: Protocol, turns: int) -> None:
    pruned, depth = keep_blocks(intact, kept), intact.config.depth
    bound, macs = depth / len(kept), count_macs(intact.network) / count_macs(pruned.network)
    labels, seeds = labels_and_seeds(intact, protocol)

    def drawing(model: Model) -> Callable[[], object]:
        return lambda: draw(model, labels=labels, seeds=seeds, protocol=protocol)

    pairs = in_turns(drawing(intact), drawing(pruned), turns)
    (whole, part), ratios = np.median(pairs[:, :, 0], axis=0), pairs[:, 0] / pairs[:, 1]
    clock, processor = (
        f"{spread(ratios[:, k])}: {100 * np.median(ratios[:, k]) / bound:.0f} % of the bound" for k in range(2)
    )
    print(
        f"{intact.ref}: {depth} -> {len(kept)} blocks, {protocol.label()}, {turns} turns\n"
        f"  bound {bound:.2f}x by depth; {macs:.2f}x by MACs\n"
        f"  {len(seeds) / whole:.3g} -> {len(seeds) / part:.3g} images/s, faster end to end by the clock {clock}; "
        f"by the processor's time {processor}\n"
        f"  outside the blocks: {100 * outside_the_blocks(whole, part, bound):.0f} % of the intact model's time, "
        "which no pruning makes faster"
    )


def random_xl(folder: Path) -> Model:
    """A DiT-XL/2 with random weights and a small autoencoder of the published one's shape."""
    make_inputs(folder)
    found = load_model(str(folder / CHECKPOINT), process="diffusion", autoencoder=str(folder / "vae"))
    return replace(found, ref="DiT-XL/2, random weights")


def outside_the_blocks(whole: float, pruned: float, bound: float) -> float:
    """Share of a picture's time: whole = blocks + rest, pruned = blocks / bound + rest."""
    return 1 - (whole - pruned) / (1 - 1 / bound) / whole


def against_diffusers(model: Model, protocol: Protocol, turns: int) -> None:
    protocol = replace(protocol, guided_channels=None)  # as the pipeline does it
    labels, seeds = labels_and_seeds(model, protocol)
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / "pipeline", layout="diffusers")
        pipeline = pipeline_of(Path(folder) / "pipeline")

    def theirs() -> Images:
        pictures = pipeline(
            class_labels=labels.tolist(),
            guidance_scale=protocol.cfg_scale,
            num_inference_steps=protocol.num_steps,
            generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
            output_type="np",
        ).images
        return (pictures * 255).round().astype(np.uint8)

    print(f"{model.ref} in diffusers' DiTPipeline and here, {protocol.label()}")
    compare("here", theirs, lambda: draw(model, labels=labels, seeds=seeds, protocol=protocol).images, turns)


def pipeline_of(folder: Path):
    """Set right by the lines of the export's README.md, all but those that draw."""
    lines = re.search(r"```python\n(.*?)\nimages = ", (folder / "README.md").read_text(), re.DOTALL)[1]
    names: dict = {}
    with contextlib.chdir(folder):
        exec(lines, names)  # noqa: S102
    names["pipe"].set_progress_bar_config(disable=True)
    return names["pipe"]


def other_ways(model: Model, protocol: Protocol, turns: int) -> None:
    labels, seeds = labels_and_seeds(model, protocol)

    def drawn_by(model: Model) -> Images:
        return draw(model, labels=labels, seeds=seeds, protocol=protocol).images

    def in_bfloat16() -> Images:
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            return drawn_by(model)

    def usual() -> Images:
        return drawn_by(model)

    print(f"{model.ref}, {protocol.label()}; usual: groups of {images_at_a_time(model, protocol)}, fp32")
    compare(
        "one batch of all",
        usual,
        lambda: draw_together(model, labels=labels, seeds=seeds, protocol=protocol).images,
        turns,
    )
    compare("bfloat16 (autocast)", usual, in_bfloat16, turns)
    once = replace(model, network=ConditionedOnce(model.network))
    compare("conditioning once per (t, class)", usual, lambda: drawn_by(once), turns)
    try:
        compiled = replace(model, network=with_compiled_blocks(model.network))
        begun = time.perf_counter()
        drawn_by(compiled)
    except Exception as error:  # noqa: BLE001 - a compiler may be missing or fail in any way
        print(f"  compiled blocks: not here, so blocks run as they are ({reason_of(error)})")
    else:
        seconds = time.perf_counter() - begun
        compare(f"compiled blocks (once {seconds:.0f} s more)", usual, lambda: drawn_by(compiled), turns)


class ConditionedOnce(nn.Module):
    """The same network with timestep and class embedded, and the modulation of every block worked out, once for each
    different (timestep, class) of a batch."""

    def __init__(self, network: DiT) -> None:
        super().__init__()
        self.network, self.config, self.pos_embed = network, network.config, network.pos_embed

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        network = self.network
        pairs, place = torch.stack([t.double(), y.double()], dim=1).unique(dim=0, return_inverse=True)
        c = network.t_embedder(pairs[:, 0].to(t.dtype)) + network.y_embedder(pairs[:, 1].long())  # (distinct, D)
        h = network.x_embedder(x) + network.pos_embed
        for block in network.blocks:
            h = block.modulated(h, block.modulation(c)[place])
        return network.head(h, c[place])


def with_compiled_blocks(network: DiT) -> DiT:
    twin = copy.deepcopy(network)
    for block in twin.blocks:
        block.compile(dynamic=False)
    return twin


def reason_of(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:120] if lines else 'no words'}"


def labels_and_seeds(model: Model, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    index = np.arange(protocol.num_images)
    return class_labels(index, range(model.config.num_classes)), protocol.seed + index


def compare(name: str, usual: Callable[[], Images], other: Callable[[], Images], turns: int) -> None:
    before, after = usual(), other()  # warm, too
    difference = np.abs(before.astype(int) - after.astype(int))
    pairs = in_turns(usual, other, turns)
    clock, processor = (pairs[:, 0, k] / pairs[:, 1, k] for k in range(2))
    first, second = (len(before) / np.median(pairs[:, k, 0]) for k in range(2))
    print(
        f"  {name}: {first:.1f} -> {second:.1f} images/s, {spread(clock)} faster by the clock, {spread(processor)} by "
        f"the processor's time; pictures differ by at most {difference.max()} grey levels, "
        f"{100 * (difference > 0).mean():.2g} % of the values at all"
    )


def in_turns(usual: Callable[[], object], other: Callable[[], object], turns: int) -> np.ndarray:
    """(turns, 2, clock and processor) seconds, after one turn that warms up."""
    return np.array([(seconds_of(usual), seconds_of(other)) for _ in range(1 + turns)])[1:]


def spread(ratios: np.ndarray) -> str:
    """Median, and the middle half of the turns."""
    low, median, high = np.percentile(ratios, (25, 50, 75))
    return f"{median:.2f}x ({low:.2f} ... {high:.2f})"


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """By the clock and by the processor, all threads together."""
    begun, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - processor


if __name__ == "__main__":
    main()
