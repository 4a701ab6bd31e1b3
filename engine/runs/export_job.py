"""An export as a run: the model in another layout, packed as one archive to take away.

A large one stays a folder: nobody wants to fetch gigabytes through a browser, or to have them twice on the disk.
"""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from engine.models.export import export_model
from engine.models.model import Model
from engine.runs.progress import Progress
from engine.runs.stage_record import record_of
from engine.runs.store import Run
from engine.runs.workspace import Workspace, replacing, write_json

LARGE_BYTES = 2**30


def export_job(run: Run, workspace: Workspace, model: Model) -> Iterator[Progress]:
    layout = run.params.get("layout", "")
    folder, archive = run.path / "export", run.path / "export.zip"
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was interrupted
    yield Progress(phase="exporting", message=f"writing the {layout} layout", done=0, total=2)
    record = record_of(run.params["model"], workspace)
    summary = export_model(
        model,
        folder,
        layout=layout,
        results=record.results,
        depth_of_parent=record.depth_of_parent,
        stages=record.stages,
    )
    packed = summary.num_bytes < LARGE_BYTES
    if packed:
        yield Progress(phase="packing", message="packing it as one archive", done=1, total=2)
        with replacing(archive) as temporary:
            _pack(folder, temporary)
        shutil.rmtree(folder)
    about = {
        "layout": layout,
        "files": summary.files,
        "num_bytes": summary.num_bytes,
        "notes": list(summary.notes),
        "path": archive.name if packed else folder.name,
    }
    write_json(run.path / "export.json", about)


def _pack(folder: Path, archive: Path) -> None:
    """Weights don't compress, so they are only stored."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            packed.write(file, file.relative_to(folder))
