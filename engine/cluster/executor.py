"""Where pieces of work that don't need each other are done: here, one after the other, or wherever an executor sends
them.

What shards itself (columns of CED, candidates, bouts, images) says so once, by ``executor().run``; the code is the same
here and on a cluster. A piece of work is a generator function ``work(shared, item)``: ``shared`` is what all pieces
need (the model), sent once; ``item`` says which piece. Free of torch.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from engine.training.finetune import Trainer, TrainStep

Work = Callable[[Any, Any], Iterator[Any]]


class Executor(Protocol):
    @property
    def num_slots(self) -> int:
        """Pieces that may be done at the same time."""

    def run(self, work: Work, items: Sequence[Any], *, shared: Any) -> Generator[tuple[int, Any], None, None]:
        """(number of the item, what its work yielded), those of one item in order, in any order between items. Closed
        before its end, nothing of it goes on."""

    def train(self, trainer: "Trainer") -> Generator["TrainStep", None, None]:
        """The steps that are left, after each of which ``trainer`` stands where the step ended."""


class Here:
    """This process; an item begins when somebody asks for it."""

    num_slots = 1

    def run(self, work: Work, items: Sequence[Any], *, shared: Any) -> Generator[tuple[int, Any], None, None]:
        for number, item in enumerate(items):
            for step in work(shared, item):
                yield number, step

    def train(self, trainer: "Trainer") -> Generator["TrainStep", None, None]:
        while trainer.step < trainer.config.num_steps:
            yield trainer.train_step()


_current: Executor = Here()


def executor() -> Executor:
    return _current


@contextmanager
def using(other: Executor) -> Iterator[None]:
    """What shards itself in this process goes to ``other`` within the ``with``."""
    global _current
    before, _current = _current, other
    try:
        yield
    finally:
        _current = before


def in_order(work: Work, items: Sequence[Any], *, shared: Any) -> Generator[Any, None, None]:
    """What the items' work yields, of an earlier item first, whichever was ready first."""
    steps = executor().run(_with_end, items, shared=(work, shared))
    early: dict[int, list[tuple[bool, Any]]] = {}
    turn = 0
    try:
        for number, told in steps:
            early.setdefault(number, []).append(told)
            while early.get(turn):
                is_step, step = early[turn].pop(0)
                if is_step:
                    yield step
                else:
                    del early[turn]
                    turn += 1
    finally:
        steps.close()


def _with_end(shared: tuple[Work, Any], item: Any) -> Iterator[tuple[bool, Any]]:
    work, own = shared
    for step in work(own, item):
        yield True, step
    yield False, None
