"""Connects to a Ray cluster, or starts one on this machine that ends with the work.

One of our own listens on 127.0.0.1 only and asks for a token that no other process has. Nothing is reported to anyone
(Ray's usage statistics are off). Of Ray only the parts that need no dashboard are used.
"""

import hashlib
import io
import os
import re
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from engine.cluster.executor import using
from engine.errors import ClusterError, InputError

if TYPE_CHECKING:
    from engine.cluster.ray_cluster import RayCluster

_REPOSITORY = Path(__file__).parents[2]
_CONNECT_SECONDS = 5.0
_NODE_SECONDS = 90.0  # for a node to start a process and load torch
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


@contextmanager
def cluster(
    address: str, *, device: str = "cpu", train_workers: int = 1, num_cpus: int | None = None
) -> Iterator["RayCluster"]:
    """Work that shards itself goes to the cluster within the ``with``. ``address``: host:port of its head node, or
    "auto": that of $RAY_ADDRESS, else a Ray of our own with all cores of this machine, or ``num_cpus`` of them.

    Raises InputError where Ray isn't installed or the address is none, ClusterError where there is no cluster at it or
    it isn't fit for the work.
    """
    if train_workers < 1:
        raise InputError(f"--train-workers is {train_workers}; expected 1 or more")
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "local"
    check_address(address)
    _prepare(address)
    check_installed()
    import ray

    from engine.cluster.ray_cluster import RayCluster

    _init(ray, address, num_cpus)
    try:
        found = RayCluster(gpus=device.startswith("cuda"), train_workers=train_workers)
        _check_fit(ray, found, train_workers=train_workers, ours=address == "local")
        with using(found), redirect_stdout(_Stdout(sys.stdout)):
            yield found
    finally:
        ray.shutdown()


def check_installed() -> None:
    """Raises InputError where there is no Ray."""
    if find_spec("ray") is None:
        raise InputError("Ray is not installed; pip install -r requirements-cluster.txt")


def check_address(address: str) -> None:
    """Raises InputError for one that can't be, ClusterError where nobody listens; without Ray, within seconds."""
    if address in ("auto", "local"):
        return
    found = _ADDRESS.fullmatch(address)
    if not found or not 0 < int(found[2]) < 65536:
        raise InputError(f"cluster {address!r} should be auto, or host:port of a Ray head node, as in 10.0.0.1:6379")
    from engine.cluster.reach import reachable

    if not reachable(address, seconds=_CONNECT_SECONDS):
        raise ClusterError(
            f"nothing answers at {address} within {_CONNECT_SECONDS:.0f} s; start a head node there with: ray start "
            f"--head --port={found[2]}"
        )


def about(found: "RayCluster") -> str:
    """What was connected to, in a line."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    slots = f"{found.num_slots} {'GPU' if found.gpus else 'CPU'}{'s' if found.num_slots > 1 else ''}"
    where = f"{len(nodes)} nodes" if len(nodes) > 1 else "one node"
    return f"cluster: Ray {ray.__version__} at {found.address}, {where}, {slots}"


def _prepare(address: str) -> None:
    """The environment that Ray reads when it is imported, and that its processes inherit."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # a port of something else: not ten minutes
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    host = address.rpartition(":")[0]
    if address == "local" or host in ("127.0.0.1", "localhost", "[::1]"):
        # Ray's word for "stay on loopback": without it, 127.0.0.1 is replaced by an address that others can reach
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if address == "local":
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once in a process's life


def _init(ray: Any, address: str, num_cpus: int | None) -> None:
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    settings["runtime_env"] = {"env_vars": {"PYTHONPATH": str(_REPOSITORY), "OMP_NUM_THREADS": "1"}}
    if address == "local":
        settings |= {"_node_ip_address": "127.0.0.1", "num_cpus": num_cpus}
    try:
        with _without_stderr():
            ray.init(address=address, **settings)
    except Exception as error:  # Ray raises plain ConnectionError, RuntimeError and its own
        ray.shutdown()
        raise ClusterError(_why_not(error, address)) from error


class _Stdout(io.TextIOBase):
    """``stdout`` without what Ray's own threads print into it (pages about a lost node, in the middle of a result)."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stdout.write(text)

    def flush(self) -> None:
        self._stdout.flush()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Ray's own programs write warnings there, which say less than the exception and would stand beside our line."""
    sys.stderr.flush()
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def _why_not(error: Exception, address: str) -> str:
    text = " ".join(str(error).split())
    if address == "local":
        return f"Ray couldn't be started on this machine: {text[:300]}"
    versions = re.search(r"Ray: (\S+) Python: (\S+) .*Ray: (\S+) Python: (\S+)", text)
    if "Version mismatch" in text and versions:
        return (
            f"the cluster at {address} has Ray {versions[1]} and Python {versions[2]}, here are Ray {versions[3]} and "
            f"Python {versions[4]}; use the same versions on every machine"
        )
    if isinstance(error, ConnectionError) or "token" in text.lower():
        return (
            f"what answers at {address} isn't Ray, or wants another token than RAY_AUTH_TOKEN or ~/.ray/auth_token says"
        )
    if "find a node" in text or "find node" in text.lower():
        return f"this machine isn't a node of the cluster at {address}; join it with: ray start --address={address}"
    return f"the cluster at {address} can't be used: {text[:300]}"


def _check_fit(ray: Any, found: "RayCluster", *, train_workers: int, ours: bool) -> None:
    """Raises ClusterError for a cluster that has nothing to work on, or a node that has another product."""
    kind = "GPU" if found.gpus else "CPU"
    resources = ray.cluster_resources()
    num = int(resources.get(kind, 0))
    if num < 1:
        raise ClusterError(f"the cluster at {found.address} has no {kind}; expected one or more: choose another device")
    if train_workers > num:
        raise ClusterError(
            f"--train-workers is {train_workers}, but the cluster at {found.address} has {num} {kind}"
            f"{'s' if num > 1 else ''}; take at most {num}"
        )
    if ours:
        return
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = about_product()
    look = ray.remote(about_product)
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        there = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        name = f"node {node['NodeManagerAddress']} ({node['NodeManagerHostname']})"
        try:
            about_node = found.result(
                look.options(num_cpus=0, scheduling_strategy=there).remote(), timeout=_NODE_SECONDS
            )
        except Exception as error:  # whatever its import raises there
            text = " ".join(str(error).split())[-200:]
            raise ClusterError(
                f"{name} can't do the work: {text}; expected this product and its requirements at {_REPOSITORY}, as on "
                "this machine"
            ) from error
        for what, value in here.items():
            if about_node[what] != value:
                raise ClusterError(
                    f"{name} has {what} {about_node[what]}, here it is {value}; use the same on every machine"
                )


def about_product() -> dict[str, str]:
    """What must be the same on every node, where this runs."""
    import torch

    digest = hashlib.sha256()
    for file in sorted((_REPOSITORY / "engine").rglob("*.py")):
        digest.update(str(file.relative_to(_REPOSITORY)).encode() + file.read_bytes())
    return {
        "Python": ".".join(map(str, sys.version_info[:3])),
        "torch": torch.__version__,
        "the engine's code": digest.hexdigest()[:12],
    }
