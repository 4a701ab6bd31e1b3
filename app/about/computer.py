"""The machine and the device that work runs on, in words; without torch, which the app doesn't load."""

import os
import platform
import subprocess
from pathlib import Path

import streamlit as st

from engine.byte_size import byte_size
from engine.compute import PRECISIONS, USUAL

_CPU_NAME = "model name"
_ASK_GPU = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


def facts(device: str) -> dict[str, str]:
    """Of where work runs now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"device": device, "processor": _processor(), "memory": byte_size(_memory()), "threads": f"{cores}"}
    if not device.startswith("cpu"):
        name, memory = _gpu(int(device.partition(":")[2] or 0))
        found |= {"GPU": name, "GPU memory": memory}
    return {**found, "precision": USUAL.precision}


def about_precision() -> str:
    usual = f"{USUAL.precision}: {PRECISIONS[USUAL.precision]}."
    return f"{usual} Where another was asked for, the run and its numbers say so."


@st.cache_resource(show_spinner=False)
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(_CPU_NAME))
    return next(names, "") or platform.processor() or platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@st.cache_resource(show_spinner=False)
def _gpu(index: int) -> tuple[str, str]:
    """Name and memory of a GPU, as its driver says."""
    unknown = ("unknown: nvidia-smi doesn't answer", "unknown")
    try:
        said = subprocess.run(_ASK_GPU, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
        name, memory = (part.strip() for part in said[index].split(","))
        return name, byte_size(float(memory) * 2**20)
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return unknown
