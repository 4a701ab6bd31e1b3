"""One picture file: whether it is one, what its header says, its pixels as RGB. Free of torch."""

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
PICTURE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".heic",
    ".avif",
    ".ppm",
)
MAX_PIXELS = 89_478_485  # Pillow's own limit, beyond which it suspects a decompression bomb
MAX_FILE_BYTES = 512 * 2**20
MAX_ASPECT = 50  # long side / short side: enlarging a longer strip to a model's size would fill the memory

#: What Pillow's decoders raise for damaged files; SyntaxError is its way of saying "broken PNG".
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Seen:
    """A file looked at. ``reason`` says why it can't be used; None for a good picture."""

    width: int = 0
    height: int = 0
    mode: str = ""
    animated: bool = False
    digest: str = ""  # of the file's bytes; "" where only its header was read
    reason: str | None = None

    @classmethod
    def from_plain(cls, values: list) -> "Seen":
        """Back from JSON. Raises TypeError where that holds something else."""
        seen = cls(*values)
        fine = (
            type(seen.width) is type(seen.height) is int
            and type(seen.mode) is type(seen.digest) is str
            and type(seen.animated) is bool
            and isinstance(seen.reason, str | None)
            and (seen.reason is not None or (0 < seen.width <= MAX_PIXELS and 0 < seen.height <= MAX_PIXELS))
        )
        if not fine:
            raise TypeError(f"{values} aren't what is seen of a picture")
        return seen


def is_picture(head: bytes) -> bool:
    """Whether a file that starts with these 16 bytes (or more) claims to be a picture that can be read."""
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
    )


def see_content(content: bytes, *, decode: bool = True) -> Seen:
    """Header and, with ``decode``, pixels of a picture in memory; never raises for damaged bytes."""
    if not content:
        return Seen(reason="is empty")
    if not is_picture(content[:16]):
        return Seen(reason="is not a PNG, JPEG, WebP, GIF or BMP inside")
    digest = hashlib.blake2b(content, digest_size=8).hexdigest() if decode else ""
    return _see(io.BytesIO(content), digest=digest, decode=decode)


def see_file(path: Path | str, *, decode: bool) -> Seen:
    """The same for a file, by its header alone unless ``decode``."""
    try:
        with open(path, "rb") as file:
            if decode:
                content = file.read(MAX_FILE_BYTES + 1)
                return see_content(content) if len(content) <= MAX_FILE_BYTES else Seen(reason=_TOO_LARGE)
            if not is_picture(file.read(16)):
                return Seen(reason="is not a PNG, JPEG, WebP, GIF or BMP inside")
            file.seek(0)
            return _see(file, digest="", decode=False)
    except OSError as error:
        return Seen(reason=f"can't be read ({error.strerror or error})")


_TOO_LARGE = f"is larger than {MAX_FILE_BYTES // 2**20} MiB"
_TOO_MANY_PIXELS = f"claims more than {MAX_PIXELS // 10**6} million pixels"


def _see(file: io.BufferedIOBase, *, digest: str, decode: bool) -> Seen:
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            reason = _misfit(width, height)
            if reason is None and decode:
                picture.load()
            animated = reason is None and bool(getattr(picture, "is_animated", False))
            return Seen(width, height, picture.mode, animated, digest, reason)
    except Image.DecompressionBombError:
        return Seen(reason=_TOO_MANY_PIXELS)
    except DECODE_ERRORS as error:
        return Seen(reason=f"is damaged ({_one_line(error)})")


def _misfit(width: int, height: int) -> str | None:
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        return _TOO_MANY_PIXELS
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"is {width} × {height}, more than {MAX_ASPECT} times as long as wide"
    return None


def _one_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__


def read_rgb(source: Path | str | bytes) -> Image.Image:
    """The pixels as RGB. Raises one of DECODE_ERRORS.

    As the official training code reads them (``Image.open().convert("RGB")``: first frame, EXIF orientation ignored),
    except that transparent pictures are laid on white and 16-bit ones are scaled where Pillow would clip them.
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
        reason = _misfit(*picture.size)
        if reason:
            raise ValueError(reason)
        if picture.mode == "I" or picture.mode.startswith("I;16"):
            values = np.asarray(picture).astype(np.float64) / 257
            return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, layer).convert("RGB")
        return picture.convert("RGB")
