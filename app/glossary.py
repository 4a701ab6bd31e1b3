"""The words of this field in plain ones, in one place: lessons mark them where they stand, pages use them in help."""

import html
import re

TERMS = {
    "ablation": "Leaving a part out to see what it was good for.",
    "arena": "An experiment in which every way of choosing blocks is carried out, trained again with the same budget "
    "and measured, with several seeds.",
    "autoencoder": "A network that packs pictures into small arrays of numbers (latents) and unpacks them again.",
    "block": "One of the equal storeys of a transformer. Each reads the stream of tokens and adds its part to it.",
    "bootstrap": "Drawing the same samples again with repeats, many times, to see how far a number depends on which "
    "samples there happened to be.",
    "CED": "Conditional entropy deviation: how far the entropy moves, up or down, when a block is left out. Small "
    "means that little changed.",
    "class": "What the picture should show; the model is told it.",
    "collapse": "The pictures become alike: less spread than there should be, so entropy falls.",
    "demo-cnn": "A small network that ships with the studio and tells digits, shapes, glyphs and textures apart. Its "
    "features stand in for Inception's, so its FID can't be compared with that of papers.",
    "depth": "The number of blocks.",
    "diffusion": "Learning to remove noise; pictures are made by removing a little of it, again and again (DiT does "
    "it).",
    "DiT": "Diffusion transformer: a transformer that predicts the noise in a noisy picture.",
    "distillation": "Learning to answer as another model does, here as the intact one.",
    "entropy": "How spread out values are, in nats. Wide spread is high, all alike is low; here that of a Gaussian "
    "with the same variance.",
    "EMA": "The running average of the weights during training (exponential moving average); it draws better than the "
    "weights of the last step.",
    "FID": "Fréchet inception distance: how far the cloud of drawn pictures lies from the cloud of real ones, by mean "
    "and spread of features. 0 is the same; smaller is better.",
    "fine-tuning": "Training a finished model a little further.",
    "flow matching": "Learning the direction that leads from noise to a picture along a straight line (SiT does it).",
    "guidance": "Pushing every step towards the class and away from no class (classifier-free guidance, cfg); sharper "
    "and less varied pictures. A scale of 1 is without.",
    "interval": "A range that holds the true value in 90 of 100 such experiments. Where two overlap, the difference "
    "may be chance.",
    "KID": "Kernel inception distance: as FID, without taking the clouds for Gaussians. 0 is the same; smaller is "
    "better. Where every class is drawn equally often it reads a little low at few pictures and can be negative; the "
    "noise floor reads low by about the same, so compare with that.",
    "latent": "A picture packed by the autoencoder: the model works on these, not on pixels.",
    "logit lens": "Reading the stream between the blocks with the model's own final layer, as if the rest weren't "
    "there.",
    "MACs": "Multiply-accumulate operations: how much there is to compute, whatever the machine.",
    "nats": "The unit of entropy with the natural logarithm; 0.69 nats are one bit.",
    "noise": "Random numbers without a picture in them. Towards noise: more spread than there should be.",
    "noise level": "How much of what the network sees is noise.",
    "noise floor": "What real pictures score against other real pictures: no model can be told to be better than that.",
    "NTK": "Neural tangent kernel: how the model's answers to different inputs move together in a training step; a "
    "small condition number promises easy learning.",
    "protocol": "How a number was measured: how many images, which sampler and features, which seed. Other protocol, "
    "other number.",
    "pruning": "Taking parts out of a network for good.",
    "recovery": "Training after blocks went, so that the rest takes over their work.",
    "sampler": "The rule for the steps from noise to a picture.",
    "seed": "The number that starting noise is made from: same seed, same noise.",
    "SiT": "Scalable interpolant transformer: DiT's network, trained with flow matching.",
    "timestep": "How far a picture is on its way between noise and clean; each has its own noise level.",
    "token": "A small patch of the picture as a list of numbers. The transformer works on all of them at once.",
    "transformer": "A network of equal blocks in which every token may look at every other.",
    "variance": "The mean squared distance from the mean.",
    "vote": "Candidates are ranked by cost, NTK and ZiCo, the ranks are added with weights, and the lowest sum wins.",
    "ΔH": "Signed change of entropy, in nats per dimension: without the block minus with it. Above zero: towards "
    "noise; below: towards collapse.",
    "ZiCo": "How much the gradients agree from batch to batch; more promises that training moves forward.",
}
_MARK = re.compile(r"\[\[([^]|]+)(?:\|([^]]+))?\]\]")
_BY_LOWER = {term.lower(): term for term in TERMS}


def term(name: str) -> str:
    """Its explanation. Raises KeyError for one that isn't here: a typing mistake."""
    return TERMS[_BY_LOWER[name.lower()]]


def explain(*names: str) -> str:
    """ "CED: Conditional entropy …", one after another: for the help of a control, beside what it says of itself."""
    return " ".join(f"{name[:1].upper()}{name[1:]}: {term(name)}" for name in names)


def marked(words: str) -> str:
    """HTML in which every ``[[term]]``, or ``[[term|as it is written]]``, explains itself under the pointer and with
    the keyboard's focus."""

    def explain(match: re.Match) -> str:
        shown, about = match[2] or match[1], html.escape(term(match[1]), quote=True)
        return (
            f'<span class="ep-term" tabindex="0" aria-label="{html.escape(shown)}: {about}" data-say="{about}">'
            f"{shown}</span>"
        )

    return _MARK.sub(explain, words)


def terms_in(words: str) -> list[str]:
    """Those that ``words`` marks, once each."""
    return list(dict.fromkeys(_BY_LOWER[match[1].lower()] for match in _MARK.finditer(words)))
