"""Driving a pruning run: what it rests at, and asking the engine to pause, to go on, to decide otherwise, to branch."""

from dataclasses import replace
from typing import Any

from app import jobs
from engine.pruning.config import DEFAULT_WEIGHTS, PruneConfig
from engine.pruning.vote import blocks_going
from engine.runs import queue
from engine.runs.drive import Drive, pause_requested, pending_decision, read_drive
from engine.runs.store import RESTING_STATES, Run, Stage
from engine.training.config import FinetuneConfig

#: how the recovery steps are shared out between the stages, after their number
_SHARES = {
    "even": " each",
    "last-heavy": " each on average, more for later ones",
    "final": " each on average, most of them for the last",
}


def at_rest(run: Run) -> bool:
    return run.status().state in RESTING_STATES


def pending(run: Run) -> dict[str, Any] | None:
    """The decision that waits for a person: {"parent", "number", "drop" (places in the parent), "record", "ced"}."""
    return pending_decision(run)


def pausing(run: Run) -> bool:
    return pause_requested(run)


def stepping(run: Run) -> bool:
    """Does it stop at each decision?"""
    return read_drive(run).step


def params_now(run: Run) -> dict[str, Any]:
    """What was asked, with what a person changed since."""
    return {**run.params, **read_drive(run).changes}


def weights_now(run: Run) -> dict[str, float]:
    return params_now(run).get("weights") or dict(DEFAULT_WEIGHTS)


def steps_of(number: int, kind: str = "") -> str:
    """ "1 step", "1,000 recovery steps"."""
    return f"{number:,} {kind} step".replace("  ", " ") + ("" if number == 1 else "s")


def plan_in_words(run: Run) -> str:
    """What the run goes for, as it was asked and changed since."""
    now = params_now(run)
    steps = now.get("finetune", {}).get("num_steps", FinetuneConfig().num_steps)
    adapting = f"The intact model adapts for {steps_of(now['adapt_steps'])} first. " if now.get("adapt_steps") else ""
    if now.get("drop"):
        which = ", ".join(map(str, now["drop"]))
        which = f"Block {which} of the model goes" if len(now["drop"]) == 1 else f"Blocks {which} of the model go"
        return f"{adapting}{which} in one stage, then {steps_of(steps, 'recovery')}."
    goal = (
        f"{now['target_speedup']:g}× fewer MACs" if now.get("target_speedup") else f"{now.get('target_depth')} blocks"
    )
    stages = now.get("num_stages", PruneConfig.num_stages)
    share = _SHARES.get(now.get("recovery_shares", PruneConfig.recovery_shares), "") if stages > 1 else ""
    asks = "stops at each decision" if stepping(run) else "decides by itself"
    rounds = "1 stage" if stages == 1 else f"{stages} stages"
    return f"{adapting}To {goal} in {rounds}, {steps_of(steps, 'recovery')}{share}; {asks}."


def decides_by_itself(run: Run) -> bool:
    """False for blocks that were chosen beforehand: then there is nothing to stop at."""
    return not params_now(run).get("drop")


def pause(run_id: str) -> None:
    queue.pause_run(jobs.writable(), run_id)


def go_on(run: Run, *, step: bool | None = None) -> None:
    """From where it rests, what was decided by hand included. ``step``: stop at each decision from now on, or don't."""
    drive = read_drive(run)
    if step is None or step == drive.step:
        queue.resume_run(jobs.writable(), run.id)
    else:
        queue.drive_run(jobs.writable(), run.id, replace(drive, step=step))
    jobs.start_engine()


def go_on_cooler(run: Run) -> None:
    """From the last good state of a run that diverged, with a quarter of its learning rate from now on."""
    now = params_now(run).get("finetune", {})
    rate = now.get("learning_rate", FinetuneConfig.learning_rate) / 4
    _drive(run, replace(read_drive(run), changes={"finetune": {**now, "learning_rate": rate}}))


def carry_out(run: Run, choice: dict[str, Any], *, head: int, step: bool, num_steps: int | None = None) -> None:
    """Goes on from stage ``head`` with a choice made by a person: {"drop": [blocks of the loaded model], "record"}.

    Weights that differ from the run's hold for its later votes too, as do ``num_steps`` of recovery.
    """
    weights = choice["record"].get("weights")
    changes = {"weights": weights} if weights and weights != weights_now(run) else {}
    _drive(run, Drive(head=head, decision=choice, step=step, changes=changes | _recovery(run, num_steps)))


def choose_anew(
    run: Run, *, head: int, level: int, depth: int, rounds: int, step: bool, num_steps: int | None = None
) -> None:
    """Goes on from stage ``head``, ``level`` stages from the intact model: scored and voted afresh in so many
    ``rounds``, down to ``depth`` blocks."""
    target = {"target_depth": depth, "target_speedup": None, "drop": [], "num_stages": level + rounds}
    _drive(run, Drive(head=head, step=step, changes=target | _recovery(run, num_steps)))


def choice_of(record: dict[str, Any]) -> dict[str, Any]:
    """What a vote, or one that was overridden, takes out."""
    return {"drop": blocks_going(record) or [], "record": record}


def by_hand(blocks: list[int]) -> dict[str, Any]:
    """A choice of blocks where no vote was held."""
    going = "1 block goes" if len(blocks) == 1 else f"{len(blocks)} blocks go"
    reason = f"{going} ({', '.join(map(str, blocks))}), chosen by hand."
    nothing = {"order": [], "scores": {}, "candidates": [], "weights": {}, "chosen": None}
    return {"drop": blocks, "record": {"mode": "chosen", **nothing, "reason": reason}}


def record_after(stages: list[Stage], head: int) -> dict[str, Any] | None:
    """A vote that was held on what grows from stage ``head``; its candidates are the same on every branch."""
    for stage in stages:
        record = stage.info.get("decision")
        if stage.info.get("parent") == head and record and record["candidates"]:
            return record
    return None


def coming(run: Run, stages: list[Stage], events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The stage that isn't written yet: {"number", "parent", "drop" (blocks of the loaded model, as far as they are
    known)}; None where nothing is known of it."""
    drive, number = read_drive(run), stages[-1].number + 1
    head = stages[-1].number if drive.head is None else drive.head
    if drive.decision is not None:
        return {"number": number, "parent": head, "drop": drive.decision["drop"]}
    for event in reversed(events):
        if event["event"] == "decision" and (event["stage"], event.get("parent", head)) == (number, head):
            drop = choice_of(event["decision"])["drop"] or _beforehand(run, stages)
            return {"number": number, "parent": head, "drop": drop}
    return {"number": number, "parent": head, "drop": []} if drive.head is not None else None


def _beforehand(run: Run, stages: list[Stage]) -> list[int]:
    return [stages[0].kept_blocks[place] for place in run.params.get("drop", [])] if len(stages) == 1 else []


def _recovery(run: Run, num_steps: int | None) -> dict[str, Any]:
    now = params_now(run).get("finetune", {})
    return (
        {} if num_steps is None or num_steps == now.get("num_steps") else {"finetune": {**now, "num_steps": num_steps}}
    )


def _drive(run: Run, drive: Drive) -> None:
    queue.drive_run(jobs.writable(), run.id, replace(drive, changes={**read_drive(run).changes, **drive.changes}))
    jobs.start_engine()
