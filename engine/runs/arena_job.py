"""An arena as a run: every bout is written when it is done, so that an interrupted one goes on with the next."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from engine.arena.arena import Bout, Scores, run_arena, score_entrants
from engine.arena.config import ArenaConfig
from engine.evaluation.protocol import Protocol
from engine.models.model import Model
from engine.runs.progress import Progress, config_from
from engine.runs.run_model import opened_run_data
from engine.runs.store import Run
from engine.runs.workspace import Workspace, read_json, write_json
from engine.training.config import FinetuneConfig


def arena_config(values: dict[str, Any]) -> ArenaConfig:
    """From plain JSON. Raises InputError for what it can't be."""
    nested = {"finetune": FinetuneConfig, "protocol": Protocol}
    given = {key: config_from(nested[key], value) if key in nested else value for key, value in values.items()}
    if "entrants" in given:
        given["entrants"] = tuple(given["entrants"])
    return config_from(ArenaConfig, given)


def arena_job(run: Run, workspace: Workspace, model: Model) -> Iterator[Progress]:
    config = arena_config(run.params.get("config", {}))
    data = yield from opened_run_data(run, workspace)
    file = run.progress_folder / "arena.json"
    known = read_json(file) if file.exists() else None
    if known:
        scores = Scores(of=known["scores"]["of"], dropped={k: tuple(v) for k, v in known["scores"]["dropped"].items()})
        done = [Bout(**{**bout, "dropped": tuple(bout["dropped"])}) for bout in known["bouts"]]
    else:
        yield Progress(phase="scoring", message="scoring the blocks by every criterion", done=0, total=1)
        scores, done = score_entrants(model, data, config), []
    for step in run_arena(model, data, config, scores=scores, done=done, cache=workspace.cache):
        if step.result is not None:
            bouts = [asdict(bout) for bout in step.bouts]
            write_json(file, {"scores": asdict(scores), "bouts": bouts, "result": step.result})
            run.append("bout", bout=bouts[-1], done=len(bouts), total=step.total)
        yield Progress(phase="recovering", message=step.message, done=step.done, total=step.total)
    write_json(run.path / "arena.json", read_json(file))
