"""One picture on its way from noise: what the sampler holds after each step, and what the model takes the end to be.

x_t is the sampler's state, decoded; x̂_0 the clean latent that the network's own answer at that state speaks for, the
answer that the sampler went on with (DDPM: arXiv 2006.11239, eq. 15 solved for x_0; flow: straight on along the
velocity). Nothing is drawn anew: the way is the one on which ``sampling.draw`` draws this seed, so that on a CPU the
last frame has the bits of the sample.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import Start, chosen_classes, images_at_a_time, start_of
from engine.models.model import Model
from engine.process.guidance import Network

MOST_FRAMES = 50


@dataclass(frozen=True, kw_only=True)
class Frame:
    """state, estimate: uint8 (H, W, 3). In the last frame both are the sample."""

    step: int  # of the sampler; 0 is the noise
    time: float  # as the process tells it: 999 … 0 of diffusion, 0 … 1 of flow
    noise_left: float  # share of the way that lies ahead: 1 is pure noise
    state: np.ndarray
    estimate: np.ndarray


@dataclass(frozen=True)
class _Call:
    """What the network was asked about a batch's first image, and its answer: t (1,), x and output (1, C, H, W)."""

    t: Tensor
    x: Tensor
    output: Tensor


@dataclass(eq=False)
class _Watched:
    """A network that remembers its calls."""

    network: Network
    calls: list[_Call] = field(default_factory=list)

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        output = self.network(x, t, y)
        self.calls.append(_Call(*(part[:1].cpu().clone() for part in (t, x, output))))
        return output


@dataclass
class _State:
    """A step's end: the time that the sampler said, x (B, C, H, W), and how many calls had been made by then."""

    time: float
    x: Tensor
    num_calls: int


def following(
    model: Model, *, label: int, seed: int, protocol: Protocol, most_frames: int = MOST_FRAMES
) -> Generator[int, None, list[Frame]]:
    """Yields the number of steps done after each; returns at most ``most_frames`` frames, evenly chosen among the
    steps, the noise and the sample always among them.

    Raises InputError for a class that the model hasn't and for a sampler that doesn't fit it.
    """
    if most_frames < 2:
        raise InputError(f"{most_frames} frames: take at least 2, the noise and the sample")
    chosen_classes(model, [label])
    size = images_at_a_time(model, protocol) or 1  # the group that draw() fills up: the same bits
    start = start_of(model, labels=np.full(size, label), seeds=np.full(size, seed), protocol=protocol)
    watched = _Watched(start.network)
    states = [_State(model.process.noise_time, start.noise, 0)]
    for time, x in _sampling(model, start, watched, protocol):
        if time == states[-1].time:  # Heun's first guess, put right now; or dopri5 took its step back
            states.pop()
        elif len(states) > 1:
            states[-1].x = states[-1].x[:1].cpu()  # only the last is decoded with its group
        states.append(_State(time, x, len(watched.calls)))
        yield len(states) - 1
    return _frames(model, states, watched.calls, most_frames)


@torch.inference_mode()
def _sampling(
    model: Model, start: Start, network: Network, protocol: Protocol
) -> Generator[tuple[float, Tensor], None, None]:
    yield from model.process.sample(
        network, start.noise, start.y, num_steps=protocol.num_steps, sampler=start.sampler, generators=start.generators
    )


def _frames(model: Model, states: list[_State], calls: list[_Call], most_frames: int) -> list[Frame]:
    process, last = model.process, len(states) - 1
    steps = np.unique(np.linspace(0, last, min(most_frames, len(states))).round().astype(int)).tolist()
    asked = [_call_at(states, step, calls) for step in steps[:-1]]
    latents = [call.x for call in asked] + [process.estimate_x0(call.output, call.x, call.t) for call in asked]
    on_the_way = model.autoencoder.decode(torch.cat(latents))
    sample = model.autoencoder.decode(states[-1].x)[:1]
    times = [float(call.t) for call in asked] + [process.clean_time]
    pictures = [np.concatenate([half, sample]) for half in np.split(on_the_way, 2)]
    return [
        Frame(step=step, time=time, noise_left=1 - process.progress(time), state=state, estimate=estimate)
        for step, time, state, estimate in zip(steps, times, *pictures, strict=True)
    ]


def _call_at(states: list[_State], step: int, calls: list[_Call]) -> _Call:
    """The network was asked at every state but the last: in the step that leads on, or already in the one before."""
    begin = states[step - 1].num_calls if step else 0
    between = calls[begin : states[step + 1].num_calls]
    return next(call for call in between if torch.equal(call.x, states[step].x[:1].cpu()))
