"""A run as one HTML file that needs nothing else: interactive, offline, light and dark, printable. Free of torch."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from engine.errors import AssetError
from engine.report.arena import arena_header, arena_section
from engine.report.blocks import ced_figures, decisions_section, importance_section, strips_section
from engine.report.classes import classes_section
from engine.report.gallery import gallery_section
from engine.report.measured import measured_section
from engine.report.origin import reading_section, reproduce_section, setting_section
from engine.report.page import Page, section
from engine.report.recovery import recovery_section
from engine.report.result import Found, found_of
from engine.report.summary import evaluate_header, header, prune_header
from engine.runs.stage import Stage
from engine.runs.store import Run
from engine.runs.workspace import write_bytes_atomically


def write_report(run_folder: Path, out: Path) -> None:
    """Raises InputError for a run that has nothing to report, AssetError for a damaged one, WorkspaceError where
    ``out`` can't be written."""
    run = Run(run_folder)
    write_bytes_atomically(out, render_report(run).encode())


def render_report(run: Run, stages: Sequence[Stage] | None = None) -> str:
    """Of these ``stages`` of the run, or of all it has. Raises as ``write_report`` does."""
    found = found_of(run) if stages is None else Found(stages=tuple(stages))
    page = Page()
    try:
        return page.html(title=run.title, sections=_SECTIONS[run.kind](page, run, found))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"holds something unexpected ({error})"
        raise AssetError(f"run {run.id} {what}: another version wrote it, or a file was changed") from error


def _prune(page: Page, run: Run, found: Found) -> Sequence[str]:
    stages = found.stages
    return (
        prune_header(run, stages),
        setting_section(run, stages),
        strips_section(stages),
        importance_section(page, stages),
        decisions_section(stages),
        recovery_section(page, run),
        gallery_section(stages),
        measured_section(page, stages),
        classes_section(page, stages),
        reproduce_section(run, stages),
        reading_section(stages),
    )


def _evaluate(page: Page, run: Run, found: Found) -> Sequence[str]:
    stages = found.stages
    return (
        evaluate_header(run, stages[0]),
        setting_section(run, stages),
        gallery_section(stages),
        measured_section(page, stages),
        classes_section(page, stages),
        reproduce_section(run, stages),
        reading_section(stages),
    )


def _ced(page: Page, run: Run, found: Found) -> Sequence[str]:
    assert found.ced is not None
    names = found.ced.get("labels") or [str(block) for block in found.ced["blocks"]]
    least = [names[row] for row in found.ced["order"][:3]]
    lead = (
        f"{escape(str(run.params['model']))} on {escape(str(run.params['data']))}: by this measure blocks "
        f"{escape(', '.join(least))} matter least. Blocks whose intervals overlap may change places."
    )
    return (
        header(run, lead),
        section(
            "How important each block is",
            ced_figures(page, found.ced, names=names, dropped=[False] * len(names)),
        ),
        reproduce_section(run, ()),
        reading_section(()),
    )


def _arena(page: Page, run: Run, found: Found) -> Sequence[str]:
    assert found.arena is not None
    return (
        arena_header(run, found.arena),
        arena_section(page, run, found.arena),
        reproduce_section(run, ()),
        reading_section(()),
    )


_SECTIONS: dict[str, Callable[[Page, Run, Found], Sequence[str]]] = {
    "prune": _prune,
    "evaluate": _evaluate,
    "ced": _ced,
    "arena": _arena,
}
