"""An arena as a run: every bout is written when it is done, so that an interrupted one goes on with the next."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from engine.arena.arena import Known, Scores, run_arena
from engine.arena.bout import Bout
from engine.arena.config import ArenaConfig
from engine.compute import USUAL, Compute
from engine.models.checkpoints import load_model, save_model
from engine.models.model import Model
from engine.models.references import WEIGHTS
from engine.runs.progress import Progress, config_from, settings
from engine.runs.run_compute import protocol_in
from engine.runs.run_model import opened_run_data
from engine.runs.store import Run
from engine.runs.workspace import Workspace, read_json, write_json
from engine.training.config import FinetuneConfig


def arena_config(values: dict[str, Any], *, compute: Compute | None = None) -> ArenaConfig:
    """From plain JSON, for pictures drawn as ``compute`` says. Raises InputError for what it can't be."""
    given = dict(settings("config", values))
    if "finetune" in given:
        given["finetune"] = config_from(FinetuneConfig, given["finetune"])
    usual = asdict(ArenaConfig().protocol)
    del usual["precision"]
    given["protocol"] = protocol_in(compute or USUAL, given.get("protocol", usual))
    if "entrants" in given:
        given["entrants"] = tuple(given["entrants"])
    return config_from(ArenaConfig, given)


def arena_job(run: Run, workspace: Workspace, model: Model) -> Iterator[Progress]:
    config = arena_config(run.params.get("config", {}), compute=model.compute)
    data = yield from opened_run_data(run, workspace)
    file, adapted = run.progress_folder / "arena.json", run.progress_folder / "start"
    known = _known(run, config, model, workspace)
    for step in run_arena(model, data, config, known=known, cache=workspace.cache):
        if step.phase == "adapting" and step.known.start is not None and config.adapt_steps:
            adapted.mkdir(exist_ok=True)
            save_model(step.known.start, adapted)
        if step.result is not None:
            bouts = [asdict(bout) for bout in step.known.bouts]
            write_json(file, {"scores": asdict(step.known.scores), "bouts": bouts, "result": step.result})
            run.append("bout", bout=bouts[-1], done=len(bouts), total=step.total)
        yield Progress(phase=step.phase, message=step.message, done=step.done, total=step.total)
    write_json(run.path / "arena.json", read_json(file))


def _known(run: Run, config: ArenaConfig, model: Model, workspace: Workspace) -> Known:
    file, adapted = run.progress_folder / "arena.json", run.progress_folder / "start"
    start = None
    if config.adapt_steps and (adapted / WEIGHTS).exists():
        start = load_model(adapted, device=model.device, compute=model.compute, workspace=workspace.root)
    if not file.exists():
        return Known(start=start)
    found = read_json(file)
    dropped = {name: tuple(blocks) for name, blocks in found["scores"]["dropped"].items()}
    bouts = tuple(Bout(**{**bout, "dropped": tuple(bout["dropped"])}) for bout in found["bouts"])
    return Known(start=start, scores=Scores(of=found["scores"]["of"], dropped=dropped), bouts=bouts)
