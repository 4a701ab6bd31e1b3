"""The datasets that ship with the product. Free of torch."""

import hashlib
import json
from functools import lru_cache
from io import BytesIO
from zipfile import BadZipFile

import numpy as np

from engine.assets import ASSETS, read_asset
from engine.data.dataset import Data
from engine.errors import AssetError, InputError

_FOLDER = ASSETS / "data"


def bundled_data_names() -> list[str]:
    return sorted((path.stem for path in _FOLDER.glob("*.npz")), key=lambda name: (name != "shapes", name))


@lru_cache(maxsize=8)
def bundled_data(name: str) -> Data:
    """Raises InputError for an unknown name, AssetError for a damaged file."""
    if name not in bundled_data_names():
        raise InputError(f"no dataset named {name!r}; bundled are {', '.join(bundled_data_names())}")
    content = read_asset(_FOLDER / f"{name}.npz")
    try:
        about = json.loads((_FOLDER / f"{name}.json").read_text())
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            images, labels = arrays["arr_0"], arrays["labels"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise AssetError(
            f"the bundled dataset {name!r} is damaged ({error}); get assets/data/{name}.* again"
        ) from error
    return Data(
        name, images, labels, tuple(about["class_names"]), hashlib.sha256(content).hexdigest()[:16], about["about"]
    )
