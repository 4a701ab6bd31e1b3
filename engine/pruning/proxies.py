"""Two zero-shot scores of a candidate, computed without training it.

NTK condition number (TE-NAS, arXiv 2102.11535): κ = λmax/λmin of Θ = J·Jᵀ, J the gradient of each sample's summed
output with respect to the weight matrices; smaller is better.
ZiCo (arXiv 2301.11300, eq. 7): Σ_layers log Σ_params mean|g| / std g over batches of loss gradients; larger is better.
Both count the weight matrices of linear layers and the patch projection, not biases and not the label table (our
reading). They work on frozen networks and inside ``torch.no_grad()`` alike.

Shapes: B samples, T tokens, D hidden_size, N blocks.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from engine.models.dit import DiT
from engine.process import Process

# per-sample gradients that exist at a time: on a CPU what its cache holds, elsewhere what keeps the device busy
_SCRATCH_ELEMENTS = {"cpu": 2**18}
_SCRATCH_ELEMENTS_OF_OTHERS = 2**26
_FEWEST_ROWS = 32  # of a weight matrix at a time, however wide: thinner products waste the machine
_SHARED_BYTES = 2**30  # autograd graphs that wait for the next candidate may take this much


@dataclass(frozen=True, kw_only=True)
class NoisedBatch:
    """Latents x0 (B, C, H, W) with their timesteps t (B,), noise eps and classes y (B,)."""

    x0: Tensor
    t: Tensor
    eps: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Not finite where they couldn't be worked out."""

    ntk: float
    zico: float


def ntk_condition_number(network: DiT, process: Process, batch: NoisedBatch) -> float:
    """κ of the B×B kernel from one backward pass.

    Samples don't mix in the network, so the gradient of the whole batch's summed output holds every sample's own
    gradient at each layer's output. A layer's share of Θ follows from these and its inputs as soon as the backward
    pass comes by, so neither a sample's gradient of all weights nor all layers' output gradients ever exist at once.
    """
    run, tape = _Run(network, process, batch), _GramTape(batch.x0)
    with tape.recording(network):
        output = run.output(list(range(len(network.blocks))))
    return condition_number(tape.kernel_of(output, keep_graph=False), rounding=_rounding(batch))


def condition_number(kernel: Tensor, *, rounding: float | None = None) -> float:
    """λmax/λmin of a symmetric matrix; infinite where it can't be worked out: the matrix isn't finite, or it is
    singular to rounding, so that its λmin is made of rounding errors.

    ``rounding``: relative, of what the entries were computed from (default: that of the matrix's own type). As for a
    matrix's rank, λmin counts from B times so much of λmax on.
    """
    if not kernel.isfinite().all():
        return math.inf
    rounding = torch.finfo(kernel.dtype).eps if rounding is None else rounding
    eigenvalues = torch.linalg.eigvalsh(kernel.double())
    smallest, largest = eigenvalues[0].item(), eigenvalues[-1].item()
    return largest / smallest if smallest > len(kernel) * rounding * largest else math.inf


def zico(network: DiT, process: Process, batches: Iterable[NoisedBatch]) -> float:
    """Needs at least two batches. Memory holds three numbers a weight, however many; NaN where a gradient is NaN."""
    weights = [layer.weight for layer in weight_layers(network)]
    kept = list(range(len(network.blocks)))
    with _requiring_grad(weights):
        return _zico_of(weights, (_Run(network, process, batch).loss_gradients(kept, weights) for batch in batches))


def score_candidates(
    network: DiT, process: Process, batches: list[NoisedBatch], candidates: Iterable[list[int]]
) -> Iterator[Scores]:
    """NTK (on the first batch) and ZiCo (on all) of ``network`` with only the blocks of each candidate.

    The numbers are those of the functions above, with less work: the first batch goes forward once for both scores,
    and a candidate goes forward only from the first block that it doesn't share with the one before. What it shares
    is kept with its autograd graph, for as many batches as fit in 1 GiB. MACs of the backward pass can't be shared:
    other blocks behind mean other gradients before.
    """
    runs = [_Run(network, process, batch) for batch in batches]
    num_kept = int(_SHARED_BYTES // _graph_bytes(network, len(batches[0].x0)))
    tape = _GramTape(batches[0].x0)
    with _requiring_grad([layer.weight for layer in weight_layers(network)]):
        for kept in candidates:
            weights = [layer.weight for layer in weight_layers(network.with_blocks(kept))]
            with tape.recording(network):
                output = runs[0].output(kept)
            ntk = condition_number(tape.kernel_of(output, keep_graph=True), rounding=_rounding(batches[0]))
            del output
            score = _zico_of(weights, _gradients_of_runs(runs, kept, weights, num_kept))
            if not num_kept:
                tape.sources.clear()
            yield Scores(ntk=ntk, zico=score)


def _rounding(batch: NoisedBatch) -> float:
    return torch.finfo(batch.x0.dtype).eps


def weight_layers(network: DiT) -> Iterator[nn.Linear | nn.Conv2d]:
    return (module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d))


class _Run:
    """One batch on its way through a network; the way that two candidates share is gone once."""

    def __init__(self, network: DiT, process: Process, batch: NoisedBatch) -> None:
        self.network, self.process, self.batch = network, process, batch
        self._start: tuple[Tensor, Tensor] | None = None  # tokens (B, T, D) and conditioning (B, D)
        self._trail: list[tuple[int, Tensor]] = []  # blocks passed, and the tokens after each

    def output(self, kept: list[int]) -> Tensor:
        """(B, C_out, H, W) after these blocks."""
        batch = self.batch
        with torch.enable_grad():
            if self._start is None:
                x_t = self.process.noise(batch.x0, batch.t, batch.eps)
                self._start = self.network.embed(x_t, batch.t, batch.y)
            h, c = self._start
            shared = 0
            while shared < min(len(self._trail), len(kept)) and self._trail[shared][0] == kept[shared]:
                h = self._trail[shared][1]
                shared += 1
            del self._trail[shared:]
            for index in kept[shared:]:
                h = self.network.blocks[index](h, c)
                self._trail.append((index, h))
            return self.network.head(h, c)

    def loss_gradients(self, kept: list[int], weights: list[Tensor], *, keep_graph: bool = False) -> tuple[Tensor, ...]:
        """Of the mean loss with respect to ``weights``."""
        batch = self.batch
        with torch.enable_grad():
            loss = self.process.loss(self.output(kept), batch.x0, batch.t, batch.eps).mean()
        return torch.autograd.grad(loss, weights, retain_graph=keep_graph)

    def forget(self) -> None:
        self._start, self._trail = None, []


def _gradients_of_runs(
    runs: list[_Run], kept: list[int], weights: list[Tensor], num_kept: int
) -> Iterator[tuple[Tensor, ...]]:
    for number, run in enumerate(runs):
        keep = number < num_kept
        yield run.loss_gradients(kept, weights, keep_graph=keep)
        if not keep:
            run.forget()


def _graph_bytes(network: DiT, num_samples: int) -> int:
    """Roughly what one forward leaves for its backward: some 20 numbers a token, channel and block."""
    config = network.config
    size = network.pos_embed.element_size()
    return 20 * num_samples * config.num_tokens * config.hidden_size * config.depth * size


class _GramTape:
    """Listens at each weight layer, and adds its share of the kernel when the backward pass comes by."""

    def __init__(self, like: Tensor) -> None:
        self.sources: list[Tensor] = []  # outputs of the layers before which nothing asks for a gradient
        self._num_predicted = like.shape[1]  # channels of an output; more of them are the variance
        self._kernel = torch.zeros(len(like), len(like), dtype=torch.float64, device=like.device)
        self._listening = False
        self._scratch = like.new_empty(0)

    @contextmanager
    def recording(self, network: DiT) -> Iterator[None]:
        handles = [layer.register_forward_hook(self._record) for layer in weight_layers(network)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def kernel_of(self, output: Tensor, *, keep_graph: bool) -> Tensor:
        """Θ (B, B) in float64, of samples' summed predictions in ``output`` (B, C_out, H, W)."""
        self._kernel.zero_()
        with torch.enable_grad():
            predicted = output[:, : self._num_predicted].sum()
        self._listening = True
        try:
            torch.autograd.grad(predicted, self.sources, retain_graph=keep_graph)
        finally:
            self._listening = False
        return self._kernel

    def _record(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if not args[0].requires_grad:
            output.requires_grad_()
            self.sources.append(output)
        output.register_hook(partial(self._add, _as_vectors(layer, args[0].detach())))

    def _add(self, a: Tensor, gradient: Tensor) -> None:
        """One layer: its inputs a (B, T, in) and the gradient at its output."""
        if not self._listening:
            return
        g = _channels_last(gradient)
        B, T, num_in = a.shape
        num_out = g.shape[2]
        if B * T * T * (num_in + num_out) < num_in * num_out * (T + B):
            self._kernel += _gram_of_tokens(a, g)
        else:
            self._kernel += self._gram_of_gradients(a, g)

    def _gram_of_gradients(self, a: Tensor, g: Tensor) -> Tensor:
        """(B, B) products of the samples' gradients gᵀa (out, in), some rows at a time."""
        (B, _, num_in), num_out = a.shape, g.shape[2]
        most = _SCRATCH_ELEMENTS.get(a.device.type, _SCRATCH_ELEMENTS_OF_OTHERS)
        rows = min(num_out, max(_FEWEST_ROWS, most // (B * num_in)))
        if self._scratch.numel() < B * rows * num_in:
            self._scratch = a.new_empty(B * rows * num_in)
        g = g.transpose(1, 2)  # (B, out, T)
        gram = a.new_zeros(B, B)
        for first in range(0, num_out, rows):
            some = g[:, first : first + rows]
            gradients = self._scratch[: B * some.shape[1] * num_in].view(B, some.shape[1], num_in)
            _add_products(gram, torch.bmm(some, a, out=gradients).view(B, -1))
        return gram


def _add_products(gram: Tensor, flat: Tensor) -> None:
    """gram += flat·flatᵀ, the upper of the two equal off-diagonal quarters copied: a third quicker on a CPU."""
    half = len(flat) // 2
    low, high = flat[:half], flat[half:]
    gram[:half, :half].addmm_(low, low.T)
    gram[half:, half:].addmm_(high, high.T)
    gram[half:, :half].addmm_(high, low.T)
    gram[:half, half:] = gram[half:, :half].T


def _gram_of_tokens(a: Tensor, g: Tensor) -> Tensor:
    """The same (B, B) products as Σ over pairs of tokens of (a·aᵀ)∘(g·gᵀ); cheap where there are few tokens."""
    B, T, _ = a.shape
    a, g = a.reshape(B * T, -1), g.reshape(B * T, -1)
    return (a @ a.T).mul_(g @ g.T).view(B, T, B, T).sum((1, 3))


def _as_vectors(layer: nn.Module, a: Tensor) -> Tensor:
    """A layer's input as (B, T, in): patches for the patch projection, one vector for what conditions a sample."""
    if isinstance(layer, nn.Conv2d):
        return nn.functional.unfold(a, layer.kernel_size, stride=layer.stride).transpose(1, 2)
    return a if a.ndim == 3 else a.unsqueeze(1)


def _channels_last(g: Tensor) -> Tensor:
    """A gradient as (B, T, out)."""
    if g.ndim == 4:
        return g.flatten(2).transpose(1, 2)
    return g if g.ndim == 3 else g.unsqueeze(1)


def _zico_of(weights: list[Tensor], gradients_of_batches: Iterable[tuple[Tensor, ...]]) -> float:
    """Mean and squared deviations go along with the batches (Welford): differences of large sums would lose digits."""
    means = [torch.zeros_like(w) for w in weights]
    absolute = [torch.zeros_like(w) for w in weights]
    deviations = [torch.zeros_like(w) for w in weights]
    count = 0
    for gradients in gradients_of_batches:
        count += 1
        for gradient, mean, magnitude, deviation in zip(gradients, means, absolute, deviations, strict=True):
            difference = gradient - mean
            mean.add_(difference, alpha=1 / count)
            deviation.addcmul_(difference, gradient - mean)
            magnitude += gradient.abs()
    assert count >= 2, "ZiCo needs the spread over at least two batches"
    score = 0.0
    for magnitude, deviation in zip(absolute, deviations, strict=True):
        usable = deviation != 0  # as in the published code: weights whose gradient never varies are left out
        spread = (deviation[usable].double() / count).sqrt()
        layer = (magnitude[usable].double() / count / spread).sum().item()
        if layer != 0:
            score += math.log(layer)
    return score


@contextmanager
def _requiring_grad(weights: list[Tensor]) -> Iterator[None]:
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, flag in zip(weights, before, strict=True):
            weight.requires_grad_(flag)
