"""What turns a clean latent into a training target, and noise into a sample: DDPM or flow, with the same verbs."""

from engine.errors import InputError
from engine.process.diffusion import Diffusion
from engine.process.flow import Flow

Process = Diffusion | Flow
PROCESSES: dict[str, type[Diffusion] | type[Flow]] = {Diffusion.name: Diffusion, Flow.name: Flow}


def make_process(name: str, *, learn_sigma: bool = True) -> Process:
    if name not in PROCESSES:
        raise InputError(f"process {name!r} is unknown; choose one of {', '.join(PROCESSES)}")
    return PROCESSES[name](learn_sigma=learn_sigma)
