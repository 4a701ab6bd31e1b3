"""The files that ship with the product, checked against ``assets/manifest.json`` when read. Free of torch."""

import hashlib
import json
from pathlib import Path

from engine.errors import AssetError

ASSETS = Path(__file__).parents[1] / "assets"
_MANIFEST = ASSETS / "manifest.json"  # path below assets/ -> SHA-256; written by assets/build.py


def read_asset(path: Path) -> bytes:
    """The content of a file below ``assets/``. Raises AssetError where it is missing or not the one that shipped."""
    name = path.relative_to(ASSETS).as_posix()
    try:
        content = path.read_bytes()
        expected = json.loads(_MANIFEST.read_text()).get(name)
    except (OSError, ValueError) as error:
        raise AssetError(f"the bundled file assets/{name} can't be read ({error}); get it again") from error
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise AssetError(
            f"the bundled file assets/{name} is damaged ({len(content)} bytes, not the content that shipped); get it "
            "again, for example with: git checkout -- assets"
        )
    return content


def write_manifest() -> None:
    patterns = ("*.npz", "*.safetensors", "arena/*.json", "replays/*.json")
    files = sorted(path for pattern in patterns for path in ASSETS.rglob(pattern))
    hashes = {path.relative_to(ASSETS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    _MANIFEST.write_text(json.dumps(hashes, indent=1) + "\n")
