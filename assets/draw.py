"""Draws the bundled datasets: every function returns uint8 images (N, 32, 32, 3), labels (N,) and class names.

Pictures are drawn four times too large and scaled down, which is all the anti-aliasing there is.
"""

import colorsys
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 32
SUPERSAMPLING = 4
Drawn = tuple[np.ndarray, np.ndarray, list[str]]


def shapes(num_per_class: int, seed: int) -> Drawn:
    """Ten filled shapes in varied colour, size, place and tilt on a plain background."""
    rng = np.random.default_rng(seed)
    names = list(OUTLINES)
    images = [_shape(OUTLINES[name], rng) for name in names for _ in range(num_per_class)]
    return _bundle(images, names, num_per_class)


def digits() -> Drawn:
    """scikit-learn's 1,797 handwritten digits (UCI), 8×8 scaled to 32×32."""
    from sklearn.datasets import load_digits

    source = load_digits()
    names = [str(name) for name in source.target_names]
    return np.stack([_digit(pixels) for pixels in source.images]), source.target.astype(np.int64), names


def glyphs(num_per_class: int, seed: int) -> Drawn:
    """Capital letters A–Z from the DejaVu and STIX fonts that ship with matplotlib, light on dark and dark on light."""
    import matplotlib

    rng = np.random.default_rng(seed)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = sorted(
        path
        for path in folder.glob("*.ttf")
        if path.stem.startswith(("DejaVuSans", "DejaVuSerif", "STIXGeneral")) and "Display" not in path.stem
    )
    names = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    images = [_glyph(name, files[rng.integers(len(files))], rng) for name in names for _ in range(num_per_class)]
    return _bundle(images, names, num_per_class)


def textures(num_per_class: int, seed: int) -> Drawn:
    """Eight two-coloured patterns in varied scale, direction and phase: nothing in them has an outline or a place."""
    rng = np.random.default_rng(seed)
    names = list(PATTERNS)
    images = [_texture(PATTERNS[name], rng) for name in names for _ in range(num_per_class)]
    return _bundle(images, names, num_per_class)


def _bundle(images: list[np.ndarray], names: list[str], num_per_class: int) -> Drawn:
    return np.stack(images), np.repeat(np.arange(len(names)), num_per_class), names


def _colours(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A saturated foreground and a background that is clearly darker or clearly lighter."""
    hue = rng.uniform()
    foreground = colorsys.hsv_to_rgb(hue, rng.uniform(0.65, 1.0), rng.uniform(0.75, 1.0))
    light = rng.uniform() < 0.4
    background = colorsys.hsv_to_rgb(
        rng.uniform(), rng.uniform(0.0, 0.25), rng.uniform(0.92, 1.0) if light else rng.uniform(0.05, 0.25)
    )
    if light:
        foreground = tuple(channel * 0.75 for channel in foreground)
    return tuple(round(255 * c) for c in foreground), tuple(round(255 * c) for c in background)


# Outlines are polygons in a unit square centred at 0; a ring and a crescent are an outer shape less an inner one.
def _polygon(num_corners: int, *, turn: float = -math.pi / 2, inner: float = 1.0) -> np.ndarray:
    count = num_corners * (2 if inner < 1 else 1)
    angles = turn + np.arange(count) * 2 * math.pi / count
    radii = np.where(np.arange(count) % 2, inner, 1.0)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    s = np.linspace(0, 2 * math.pi, 60)
    x = 16 * np.sin(s) ** 3
    y = -(13 * np.cos(s) - 5 * np.cos(2 * s) - 2 * np.cos(3 * s) - np.cos(4 * s))
    return np.stack([x, y], axis=1) / 17


_CIRCLE = _polygon(64)
OUTLINES: dict[str, list[np.ndarray]] = {
    "circle": [_CIRCLE * 0.95],
    "ring": [_CIRCLE, _CIRCLE * 0.55],
    "square": [_polygon(4, turn=math.pi / 4) * 1.15],
    "triangle": [_polygon(3) * 1.1 + [0, 0.15]],
    "star": [_polygon(5, inner=0.42) * 1.1],
    "cross": [np.array([(-.32, -1), (.32, -1), (.32, -.32), (1, -.32), (1, .32), (.32, .32),
                        (.32, 1), (-.32, 1), (-.32, .32), (-1, .32), (-1, -.32), (-.32, -.32)])],
    "heart": [_heart()],
    "moon": [_CIRCLE, _CIRCLE * 0.82 + [0.5, -0.1]],
    "arrow": [np.array([(-1, -.28), (.1, -.28), (.1, -.8), (1, 0), (.1, .8), (.1, .28), (-1, .28)])],
    "hourglass": [np.array([(-.8, -1), (.8, -1), (.12, 0), (.8, 1), (-.8, 1), (-.12, 0)])],
}  # fmt: skip


def _shape(outline: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    foreground, background = _colours(rng)
    size = SIDE * SUPERSAMPLING
    radius = rng.uniform(0.27, 0.42) * size
    centre = size / 2 + rng.uniform(-1, 1, 2) * (size / 2 - radius) * 0.55
    tilt = rng.normal(0, 0.12)
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    image = Image.new("RGB", (size, size), background)
    draw = ImageDraw.Draw(image)
    for part, colour in zip(outline, (foreground, background), strict=False):
        draw.polygon([tuple(point) for point in part @ turn.T * radius + centre], fill=colour)
    return _small(image)


def _digit(pixels: np.ndarray) -> np.ndarray:
    """8×8 values 0…16, which touch the upper and lower edge, with a margin of three pixels of the final picture."""
    inner = Image.fromarray((pixels * (255 / 16)).astype(np.uint8)).resize((26, 26), Image.Resampling.BICUBIC)
    image = Image.new("L", (SIDE, SIDE))
    image.paste(inner, (3, 3))
    return np.asarray(image.convert("RGB"))


def _glyph(letter: str, font_file: Path, rng: np.random.Generator) -> np.ndarray:
    foreground, background = _colours(rng)
    size = SIDE * SUPERSAMPLING
    font = ImageFont.truetype(str(font_file), int(rng.uniform(0.62, 0.85) * size))
    layer = Image.new("L", (size, size), 0)
    place = size / 2 + rng.uniform(-0.06, 0.06, 2) * size
    ImageDraw.Draw(layer).text(tuple(place), letter, fill=255, font=font, anchor="mm")
    layer = layer.rotate(rng.normal(0, 6), Image.Resampling.BICUBIC)
    return _small(
        Image.composite(Image.new("RGB", layer.size, foreground), Image.new("RGB", layer.size, background), layer)
    )


# A pattern maps coordinates turned into its own direction (u along, v across; one unit = one period) to 0…1.
def _smooth_noise(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    waves = sum(
        np.sin(2 * math.pi * (u * np.cos(a) + v * np.sin(a)) * f + p)
        for a, f, p in zip(
            rng.uniform(0, 2 * math.pi, 6), rng.uniform(0.3, 0.9, 6), rng.uniform(0, 6.28, 6), strict=True
        )
    )
    return 0.5 + waves / 7


PATTERNS = {
    "stripes": lambda u, v, rng: (u % 1 < 0.5).astype(float),
    "checks": lambda u, v, rng: ((u % 1 < 0.5) ^ (v % 1 < 0.5)).astype(float),
    "dots": lambda u, v, rng: (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.32).astype(float),
    "grid": lambda u, v, rng: ((u % 1 < 0.25) | (v % 1 < 0.25)).astype(float),
    "waves": lambda u, v, rng: ((u + 0.25 * np.sin(2 * math.pi * v)) % 1 < 0.5).astype(float),
    "rings": lambda u, v, rng: (np.hypot(u - u.mean(), v - v.mean()) % 1 < 0.5).astype(float),
    "gradient": lambda u, v, rng: (u - u.min()) / np.ptp(u),
    "clouds": _smooth_noise,
}


def _texture(pattern, rng: np.random.Generator) -> np.ndarray:
    foreground, background = _colours(rng)
    size = SIDE * SUPERSAMPLING
    period, angle, phase = rng.uniform(0.25, 0.45), rng.uniform(0, math.pi), rng.uniform(0, 1, 2)
    y, x = np.mgrid[0:size, 0:size] / size
    u = (x * math.cos(angle) + y * math.sin(angle)) / period + phase[0]
    v = (-x * math.sin(angle) + y * math.cos(angle)) / period + phase[1]
    amount = np.clip(pattern(u, v, rng), 0, 1)[..., None]
    pixels = amount * np.array(foreground) + (1 - amount) * np.array(background)
    return _small(Image.fromarray(pixels.round().astype(np.uint8)))


def _small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
