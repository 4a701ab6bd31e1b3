"""An executor whose pieces of work are tasks of a Ray cluster.

What all pieces share (the model's weights among it) is put into Ray's object store once, and each node fetches it once.
A piece whose process or node dies is done again elsewhere; it gives the same steps, so those that were told already
aren't told twice. Imported only where there is Ray.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from engine.cluster.executor import Work
from engine.cluster.reach import reachable
from engine.errors import ClusterError, EngineError

if TYPE_CHECKING:
    from engine.training.finetune import Trainer, TrainStep

RETRIES = 3  # of a piece whose process or node died
LOST_SECONDS = 10.0  # without an answer from the head node; Ray itself waits a minute and then ends the process
_LOOK_SECONDS = 1.0
_AHEAD = 4  # pieces for each slot that may be ready before their turn


class RayCluster:
    """Of the cluster that this process is connected to. ``gpus``: pieces take a GPU each, else a CPU each."""

    def __init__(self, *, gpus: bool, train_workers: int = 1) -> None:
        self.gpus, self.train_workers = gpus, train_workers
        self.address = ray.get_runtime_context().gcs_address

    @property
    def num_slots(self) -> int:
        return max(1, int(ray.cluster_resources().get("GPU" if self.gpus else "CPU", 0)))

    def run(self, work: Work, items: Sequence[Any], *, shared: Any) -> Generator[tuple[int, Any], None, None]:
        task = ray.remote(_piece).options(
            num_cpus=1,
            num_gpus=1 if self.gpus else 0,
            num_returns="streaming",
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )
        kept, num_slots = ray.put(shared), self.num_slots
        under_way: dict[ray.ObjectRefGenerator, int] = {}
        begun = 0
        try:
            while under_way or begun < len(items):
                oldest = min(under_way.values(), default=begun)
                while begun < len(items) and len(under_way) < 2 * num_slots and begun - oldest < _AHEAD * num_slots:
                    under_way[task.remote(work, kept, items[begun])] = begun
                    begun += 1
                for piece in self.ready(list(under_way)):
                    try:
                        step = next(piece)
                    except StopIteration:
                        del under_way[piece]
                        continue
                    yield under_way[piece], self.result(step)
        finally:
            for piece in under_way:
                ray.cancel(piece, force=True)

    def train(self, trainer: "Trainer") -> Generator["TrainStep", None, None]:
        from engine.cluster.training import train_together

        if self.train_workers == 1:
            while trainer.step < trainer.config.num_steps:
                yield trainer.train_step()
        else:
            yield from train_together(self, trainer)

    def result(self, reference: ray.ObjectRef, *, timeout: float | None = None) -> Any:
        """Of a task or an actor. Raises the EngineError that it raised, ClusterError where the cluster failed it."""
        limit = None if timeout is None else time.monotonic() + timeout
        try:
            while not self.ready([reference]):
                if limit is not None and time.monotonic() > limit:
                    raise ClusterError(f"the cluster at {self.address} didn't answer within {timeout:.0f} s")
            return ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, EngineError):
                raise error.cause from None
            raise
        except RayError as error:
            raise ClusterError(f"the cluster at {self.address} failed: {one_line(error)}") from error

    def ready(self, waited_for: list) -> list:
        """Those that have something, after a second at most; raises ClusterError where the cluster is gone."""
        ready, _ = ray.wait(waited_for, num_returns=1, timeout=_LOOK_SECONDS)
        if not ready and not reachable(self.address, seconds=LOST_SECONDS):
            raise ClusterError(
                f"the cluster at {self.address} is gone; what was finished is kept: go on with another, or without one"
            )
        return ready


def _piece(work: Work, shared: Any, item: Any) -> Iterator[Any]:
    yield from work(shared, item)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
