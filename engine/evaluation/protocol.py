"""The conditions under which a number was measured. Stamped on every number; unlike protocols are never compared."""

from dataclasses import asdict, dataclass, fields

from engine.errors import InputError

MIN_IMAGES = 8  # that a metric can rest on
ADAPTIVE = ("dopri5",)  # samplers that choose their steps themselves
#: process -> its samplers, the usual one first
SAMPLERS = {
    "diffusion": ("ddim", "ddpm", "dpm++"),
    "flow": (
        "euler", "heun", "dopri5", "sde", "sde-constant", "sde-sbdm", "sde-decreasing", "sde-increasing-decreasing",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Protocol:
    num_images: int = 500  # generated images that the metrics rest on
    sampler: str = ""  # "" takes the process's default: ddim or euler
    num_steps: int = 20  # sampling steps; an adaptive sampler chooses its own
    cfg_scale: float = 2.0  # classifier-free guidance; 1 is without
    guided_channels: int | None = 3  # of the latent, as the official DiT and SiT do it; None guides all of them
    features: str = "demo-cnn"
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise InputError(f"{self.num_images} images: at least 1 is needed (500 is usual here, 50,000 in papers)")
        if not 1 <= self.num_steps <= 1000:
            raise InputError(f"{self.num_steps} sampling steps: choose 1 … 1000")
        if not 0 <= self.cfg_scale <= 30:
            raise InputError(f"cfg_scale {self.cfg_scale} is out of range 0 … 30; 1 is without guidance")
        if not 0 <= self.seed < 2**63 - self.num_images:  # every image has its own, counted from here
            raise InputError(f"seed {self.seed} is out of range; take a whole number from 0, of at most 18 digits")
        if self.guided_channels is not None and self.guided_channels < 1:
            raise InputError(f"guided_channels {self.guided_channels}: at least 1, or none for all of them")

    def differences(self, other: "Protocol") -> list[str]:
        """Names of the fields in which two protocols differ; empty where numbers may be compared."""
        mine, theirs = asdict(self), asdict(other)
        return [field.name for field in fields(self) if mine[field.name] != theirs[field.name]]

    def label(self) -> str:
        channels = "all" if self.guided_channels is None else f"{self.guided_channels}"
        guidance = "no guidance" if self.cfg_scale == 1 else f"cfg {self.cfg_scale:g} on {channels} channels"
        steps = "adaptive steps" if self.sampler in ADAPTIVE else f"{self.num_steps} steps"
        return (
            f"{self.num_images} images · {self.sampler or 'default sampler'} {steps} · {guidance} · "
            f"seed {self.seed} · {self.features} · {self.device} {self.precision}"
        )
