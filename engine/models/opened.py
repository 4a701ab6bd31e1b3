"""A model's files, read but not copied yet: what they are, and their tensors under official names."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.assets import ASSETS, read_asset
from engine.errors import AssetError
from engine.models.autoencoder import default_autoencoder
from engine.models.bundled import ModelInfo, read_model_info
from engine.models.class_names import names_of_classes
from engine.models.dit import DiTConfig
from engine.models.hints import Hints, hints_beside, hints_of, hints_of_diffusers
from engine.models.layouts import config_of, cut_label_table, detect_layout, official_shapes, to_official
from engine.models.references import Place
from engine.models.tensor_files import TensorFile, read_tensors

_LABEL_TABLE = "y_embedder.embedding_table.weight"
_Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Opened:
    info: ModelInfo
    config: DiTConfig
    file: TensorFile
    process_reason: str = ""

    def official_state(self) -> dict[str, Tensor]:
        """Still in the file, where the layout allows it; without ``pos_embed`` where the file has none."""
        state = to_official(self.file.state, layout=detect_layout(_shapes(self.file.state)))
        if len(state[_LABEL_TABLE]) > self.config.num_classes + 1:
            state = cut_label_table(state, num_classes=self.config.num_classes)
        return state


def open_files(ref: str, place: Place) -> Opened:
    """Raises AssetError for files that can't be read, aren't a DiT's, or contradict their description."""
    return _open_ours(ref, place.path) if place.kind == "ours" else _open_foreign(ref, place)


def _open_ours(ref: str, folder: Path) -> Opened:
    info = read_model_info(folder, name=ref)
    assert info.source is not None
    if info.source.is_relative_to(ASSETS):
        read_asset(info.source)  # says so when it isn't the file that shipped
    file = read_tensors(info.source)
    shapes = _shapes(file.state)
    if detect_layout(shapes) != "official":
        raise AssetError(f"{info.source} has the tensor names of diffusers; expected the official ones, as saved here")
    hints = hints_of(info.network, source=f"{folder / 'config.json'}")
    config, _ = config_of(shapes, hints={**hints.network, "drop_sigma": bool(info.network.get("drop_sigma"))})
    _check_description(info, config)
    return Opened(info=info, config=config, file=file)


def _check_description(info: ModelInfo, config: DiTConfig) -> None:
    found = asdict(config)
    wrong = [key for key, value in info.network.items() if key not in found or not _alike(found[key], value)]
    if wrong:
        raise AssetError(
            f"the weights of {info.name} don't fit its description: config.json says {wrong[0][:40]} "
            f"{str(info.network[wrong[0]])[:40]}, the tensors {found.get(wrong[0], 'know no such thing')}"
        )


def _alike(found: Any, said: Any) -> bool:
    numbers = isinstance(found, int | float) and isinstance(said, int | float)
    return abs(found - said) < 1e-6 if numbers else found == said


def _open_foreign(ref: str, place: Place) -> Opened:
    weights = place.weights
    diffusers = place.kind == "diffusers"
    beside = hints_of_diffusers(place.path, place.transformer / "config.json") if diffusers else hints_beside(weights)
    file = read_tensors(weights)
    hints = beside.over(hints_of(file.about, source=weights.name))
    layout = detect_layout(_shapes(file.state))
    shapes = _without_padding(official_shapes(_shapes(file.state), layout=layout), hints)
    # the position table tells the size, where there is one, better than an image size in training arguments
    said = {key: value for key, value in hints.network.items() if key != "input_size" or "pos_embed" not in shapes}
    # converted to official names, weights were trained for the official embedding, whatever config lies beside them;
    # only a description of ours says otherwise
    config, guesses = config_of(shapes, hints={"time_embedding": layout, **said})
    names, about_names = names_of_classes(hints.class_names, config.num_classes)
    # else the description is of another file
    noted = len(hints.kept_blocks) == config.depth <= (hints.depth_of_parent or config.depth)
    info = ModelInfo(
        name=ref,
        folder=weights.parent,
        process=hints.process,
        network=asdict(config),
        class_names=names,
        trained_on=hints.trained_on or "data of its own",
        parent=None,
        kept_blocks=hints.kept_blocks if noted else tuple(range(config.depth)),
        depth_of_parent=hints.depth_of_parent if noted else None,
        labels_trained=True,
        layout=layout,
        autoencoder=hints.autoencoder or default_autoencoder(config.in_channels),
        notes=tuple(note[:1].upper() + note[1:] for note in (*file.notes, *hints.notes, *guesses, *about_names)),
        source=weights,
        licence=hints.licence,
    )
    return Opened(info=info, config=config, file=file, process_reason=hints.process_reason)


def _without_padding(shapes: _Shapes, hints: Hints) -> _Shapes:
    """An export for diffusers may have more rows in its label table than the model has classes; its manifest says."""
    num_classes, rows = hints.network.get("num_classes"), shapes[_LABEL_TABLE][:1]
    if hints.padded and num_classes and rows and rows[0] > num_classes + 1:
        return {**shapes, _LABEL_TABLE: (num_classes + 1, *shapes[_LABEL_TABLE][1:])}
    return shapes


def _shapes(state: dict[str, Tensor]) -> _Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
