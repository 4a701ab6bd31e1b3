"""``--cluster``: where a command's work is done."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from engine.cli.arguments import device_of
from engine.cli.output import tell
from engine.errors import InputError

_CLUSTER, _TRAIN_WORKERS = "ENTPRUNER_CLUSTER", "ENTPRUNER_TRAIN_WORKERS"  # what a worker tells its runs' processes


@contextmanager
def on_cluster(args: argparse.Namespace) -> Iterator[None]:
    """What shards itself within the ``with`` goes to the cluster that was asked for, if one was. A worker only looks
    whether it is there and passes it on: the processes of its runs connect, previews are answered here."""
    if not hasattr(args, "cluster"):
        yield
        return
    address = args.cluster or os.environ.get(_CLUSTER)
    train_workers = getattr(args, "train_workers", None) or int(os.environ.get(_TRAIN_WORKERS, 1))
    if not address:
        if train_workers != 1:
            raise InputError(f"--train-workers {train_workers} needs a cluster; add --cluster auto or host:port")
        yield
        return
    from engine.cluster.connect import about, check_address, check_installed, cluster

    check_installed()
    if not args.connects:
        check_address(address)
        os.environ[_CLUSTER], os.environ[_TRAIN_WORKERS] = address, str(train_workers)
        yield
        return
    with cluster(address, device=device_of(args), train_workers=train_workers) as found:
        tell(about(found))
        yield
