"""Lesson 5: when and how much. A recorded run, or one of one's own, shown again: an hour in a minute."""

import base64
import hashlib
import html
from pathlib import Path
from typing import Any

import streamlit as st

from app import blocks, charts, jobs, pictures
from app.learn import chart, replay_upload
from app.learn.lesson import Formula, Lesson, Link, Question, Screen, Still
from app.pruning import vote_table
from app.style import palette
from engine.assets import ASSETS, read_asset
from engine.errors import AssetError, EngineError
from engine.evaluation.comparing import UNTRAINED_LABELS, labels_untrained, speedup
from engine.evaluation.protocol import Protocol
from engine.learn.replay import encode, read_replay, replay_of
from engine.pruning import vote

_FOLDER = ASSETS / "replays"
_MOST_OWN = 20
_UPLOADED = "a file"  # no run and no recording has such a name


@st.cache_data(max_entries=8, show_spinner=False)
def _recorded(file: Path, changed: int) -> dict[str, Any]:
    return read_replay(read_asset(file), name=f"the recorded run assets/replays/{file.name}")


@st.cache_data(max_entries=8, show_spinner=False)
def _own(root: str, run_id: str, num_stages: int) -> dict[str, Any]:
    return replay_of(jobs.open_run(jobs.workspace(), run_id))


def _choose() -> dict[str, Any]:
    """Raises AssetError where there is nothing to replay."""
    recorded = {file.stem: file for file in sorted(_FOLDER.glob("*.json"))}
    own = {
        found.id: found
        for found in jobs.summaries("prune")
        if found.state == "done" and (found.num_stages or 0) > 1
    }  # fmt: skip
    uploaded = replay_upload.uploaded()
    names = [*recorded, *list(own)[:_MOST_OWN], *([_UPLOADED] if uploaded else [])]
    if not names:
        raise AssetError(
            "no recorded run is there in assets/replays; get it again, or finish a pruning run of your own"
        )
    name = names[0]
    if len(names) > 1:
        name = st.selectbox(
            "Run", names, key="learn_run", persist_state="session",
            format_func=lambda name: f"Recorded: {name}" if name in recorded
            else f"From a file: {uploaded['title']}" if name == _UPLOADED else f"Yours: {own[name].title}",
            help="The recorded one ships with the studio. Every finished pruning run of this workspace is here as "
            "well, and a replay that you open as a file below.",
        )  # fmt: skip
    if name == _UPLOADED:
        return uploaded
    if name in recorded:
        return _recorded(recorded[name], recorded[name].stat().st_mtime_ns)
    return _own(str(jobs.workspace().root), name, own[name].num_stages)


def _watch() -> None:
    replay = _choose()
    st.fragment(_scrub)(replay)
    st.download_button(
        "Download this replay", encode(replay), "replay.json", "application/json", on_click="ignore",
        help="One small file that shows the run again; python -m engine replay RUN --out FILE makes it too.",
    )  # fmt: skip
    replay_upload.draw(lambda: st.session_state.update(learn_run=_UPLOADED))


def _scrub(replay: dict[str, Any]) -> None:
    train = replay["train"]
    at = st.select_slider(
        "Time", range(len(train)), value=len(train) - 1, key=f"learn_time_{replay['created']:.0f}",
        format_func=lambda at: f"stage {train[at]['stage']}, step {train[at]['step']}",
        help=f"From the first to the last training step that was noted; in truth {_minutes(replay['seconds'])}.",
    )  # fmt: skip
    now = train[at]
    st.html(_where(replay, now))
    left, right = st.columns(2, gap="large")
    chart.draw(
        left,
        _loss(replay, at),
        key="learn_loss",
        alt="Training loss up to the chosen moment, with the intact model's band",
    )
    with right:
        st.html(f'<p class="ep-question">What does it draw by now?</p>{_samples(replay, now)}')
    st.html(_origin(replay))


def _loss(replay: dict[str, Any], at: int):
    bands = {int(stage): band for stage, band in replay["bands"].items()}
    figure = charts.loss_curve(replay["train"][: at + 1], bands=bands, palette=palette())
    losses = [event["loss"] for event in replay["train"]]
    figure.update_yaxes(range=[0.9 * min(losses), 1.02 * max(losses)])
    return figure


def _where(replay: dict[str, Any], now: dict[str, Any]) -> str:
    stages = {stage["number"]: stage for stage in replay["stages"]}
    whole, stage = replay["stages"][0]["kept_blocks"], stages[now["stage"]]
    gone = set(whole) - set(stage["kept_blocks"]) - set(stage["dropped_blocks"])
    states = ["dropped" if b in stage["dropped_blocks"] else "gone" if b in gone else "pruned" for b in whole]
    shown = blocks.strip(states, names=list(whole), small=True)
    head = f"<b>Stage {now['stage']}</b>: {stage['depth']} of {len(whole)} blocks left, "
    return (
        f'<p class="ep-say">{head}step {now["step"]} of {now["num_steps"]}, loss {now["loss"]:.3f}</p>'
        f"{shown}{blocks.legend(shown)}"
    )


def _samples(replay: dict[str, Any], now: dict[str, Any]) -> str:
    """The newest pictures drawn by then."""
    then = (now["stage"], now["step"])
    drawn = [picture for picture in replay["pictures"] if (picture["stage"], picture["step"]) <= then]
    if not drawn:
        return '<p class="ep-note">Nothing was drawn yet at this moment.</p>'
    last = drawn[-1]
    caption = f"stage {last['stage']}, step {last['step']}; the same seeds each time"
    return pictures.tiles(str(_unpacked(last["png"])), caption)


def _unpacked(png: str) -> Path:
    """The strip as a file, under the name of its content."""
    content = base64.b64decode(png)
    file = jobs.workspace().cache / f"replay-{hashlib.sha256(content).hexdigest()[:24]}.png"
    if not file.exists():
        from engine.runs.workspace import write_bytes_atomically

        write_bytes_atomically(file, content)
    return file


def _origin(replay: dict[str, Any]) -> str:
    return (
        f'<p class="ep-note">What the run wrote, nothing worked out anew. It took {_minutes(replay["seconds"])}. '
        f"Command: <code>{html.escape(replay['command'])}</code></p>"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _vote() -> None:
    replay = _choose()
    voted = [stage for stage in replay["stages"] if (stage.get("decision") or {}).get("candidates")]
    if not voted:
        st.html('<div class="ep-empty"><b>No vote here</b>The blocks of this run were chosen by hand.</div>')
        return
    number = st.segmented_control(
        "At the start of stage", [stage["number"] for stage in voted], default=voted[0]["number"], required=True,
        key="learn_vote_stage", help="Each stage begins with a vote on how many blocks go.",
    )  # fmt: skip
    stage = next(stage for stage in voted if stage["number"] == number)
    st.fragment(_recount)(
        stage["decision"], f"learn_vote_{hashlib.sha256(replay['command'].encode()).hexdigest()[:8]}_{number}"
    )


def _recount(record: dict[str, Any], key: str) -> None:
    weights = vote_table.weight_sliders(record["weights"], key=key)
    try:
        again = record if weights == record["weights"] else vote.recount(record, weights)
    except EngineError as error:  # all weights at 0
        st.error(str(error))
        return
    st.html(vote_table.sentence(again, lead="" if again is record else "With these weights: "))
    st.html(
        vote_table.table(
            again, word="went" if again is record else "would go", before=record if again is not record else None
        )
        + vote_table.note(again)
    )


def _cost() -> None:
    replay = _choose()
    figure, note = _stages(replay)
    if figure is None:
        st.html('<div class="ep-empty"><b>Not measured</b>The stages of this run were not evaluated.</div>')
        return
    chart.draw(st, figure, key="learn_stages", alt="FID of each stage over the blocks kept")
    st.html(note)


def _stages(replay: dict[str, Any]) -> tuple[Any, str]:
    measured = [stage for stage in replay["stages"] if (stage["metrics"] or {}).get("fidelity")]
    names = [name for name in (measured[0]["metrics"]["fidelity"] if measured else {}) if name.startswith("FID")]
    if not names:
        return None, ""
    name = names[0]
    points = [(s["depth"], *(s["metrics"]["fidelity"][name][k] for k in ("value", "low", "high"))) for s in measured]
    figure = charts.stages_curve(points, metric=name, palette=palette())
    first, last = measured[0], measured[-1]
    floor = first["metrics"].get("noise_floor", {}).get(name)
    if floor:
        figure.add_hline(y=floor["value"], line=dict(color=palette().muted, dash="dot", width=1.2),
                         annotation_text="noise floor: real pictures against real ones")  # fmt: skip
    return figure, f'<p class="ep-say">{_bought(first, last, name)}</p><p class="ep-note">{_measured(last)}</p>'


def _bought(first: dict[str, Any], last: dict[str, Any], name: str) -> str:
    before, after = (stage["metrics"]["fidelity"][name] for stage in (first, last))
    if any(labels_untrained(stage["metrics"]) for stage in (first, last)):
        return html.escape(UNTRAINED_LABELS)
    apart = after["low"] > before["high"] or before["low"] > after["high"]
    words = "the intervals lie apart" if apart else "the intervals overlap: no clear difference"
    said = f"{name}: {before['value']:.3g} ({before['low']:.3g} … {before['high']:.3g}) with {first['depth']} blocks, "
    said += f"{after['value']:.3g} ({after['low']:.3g} … {after['high']:.3g}) with {last['depth']}; <b>{words}</b>."
    if faster := speedup(last["metrics"]):
        said += f" One forward is <b>{faster['value']:.2f}× as fast</b>, timed in turns on one machine."
    return said


def _measured(stage: dict[str, Any]) -> str:
    lines = [Protocol(**stage["metrics"]["protocol"]).label() + ". Ranges are 90 % intervals."]
    return "<br>".join(html.escape(line) for line in [*lines, *stage["metrics"].get("warnings", [])])


def _default() -> dict[str, Any]:
    file = next(iter(sorted(_FOLDER.glob("*.json"))), None)
    if file is None:
        raise AssetError("no recorded run is there in assets/replays; get it again")
    return _recorded(file, file.stat().st_mtime_ns)


def _without_cost() -> str:
    """Of the recorded run, recounted."""
    told = []
    for stage in _default()["stages"]:
        record = stage.get("decision") or {}
        if len(record.get("candidates") or []) > 1:
            again = vote.recount(record, {**record["weights"], "cost": 0.0})
            went, would = (r["candidates"][r["chosen"]]["num_dropped"] for r in (record, again))
            told.append(f"in stage {stage['number']} {would} would go instead of {went}")
    return (
        "Nobody wants fewer multiplications any more; only the two estimates of how well the rest will learn decide. "
        f"In the recorded run: {'; '.join(told)}. Where none goes, the vote has said “not now”: that is how it "
        "decides when."
    )


def _still_watch() -> Still:
    replay = _default()
    still: Still = [_loss(replay, len(replay["train"]) - 1)]
    for stage in replay["stages"][1:]:
        moments = [event for event in replay["train"] if event["stage"] == stage["number"]]
        still.append(_where(replay, moments[-1]) + _samples(replay, moments[-1]))
    return [*still, _origin(replay)]


def _still_vote() -> Still:
    return [
        f"<h4>Stage {stage['number']}</h4>{vote_table.sentence(stage['decision'])}{vote_table.table(stage['decision'])}"
        for stage in _default()["stages"]
        if (stage.get("decision") or {}).get("candidates")
    ]


def _still_cost() -> Still:
    figure, note = _stages(_default())
    return [] if figure is None else [figure, note]


_TRY = Link(
    view="prune", label="Prune a model this way →", query={"model": "demo-sit-digits", "data": "digits", "run": "new"},
    help="The prune page; choose to stop at each decision and you are the one who votes.",
)  # fmt: skip
LESSON = Lesson(
    title="When and how much",
    short="When, how much",
    screens=(
        Screen(
            title="A real run, minutes in a few seconds",
            words="[[Pruning]] in stages: some [[block]]s go, the loss jumps, training brings it back, then more go. "
            "Drag the time and watch the loss return to the band in which the intact model runs, and the digits with "
            "it.",
            draw=_watch,
            still=_still_watch,
            question=Question(
                text="Right after blocks went the loss is high, and falls within few steps. What happened?",
                options=("The lost blocks grew again", "The others took over their work"),
                right=1,
                answer="Nothing grows again: the depth stays. The blocks that are left change a little each, which is "
                "cheap compared with training from nothing. That is what [[recovery]] means.",
            ),
            formula=Formula(
                latex=r"\mathcal L_{\text{flow}}=\mathbb E\,\lVert v_\theta(x_t,t,c)-(x_0-\varepsilon)\rVert^2",
                words="Recovery trains with the loss the model was made with; x₀ from the user’s data, a tenth of the "
                "classes hidden.",
                source="SiT, arXiv 2401.08740; number of steps and their share between stages are our reading",
            ),
            link=_TRY,
        ),
        Screen(
            title="How many go now? A vote decides",
            words="At each stage the candidates are: drop none, the least needed one, the two least needed … Three "
            "voters rank them without training: cost, trainability ([[NTK]]) and gradient signal ([[ZiCo]]). Change "
            "what counts.",
            draw=_vote,
            still=_still_vote,
            question=Question(
                text="Set cost to 0. What does the vote tend to do, and why?",
                answer=_without_cost,
            ),
            formula=Formula(
                latex=r"k^*=\arg\min_k\; 1\cdot r_{\text{MACs}}(k)+\tfrac12\, r_{\kappa}(k)+\tfrac12\, "
                r"r_{\text{ZiCo}}(k)",
                words="r the rank of candidate k, 1 is best; κ the condition number of the [[NTK]].",
                source="our reading, after AutoProg-Zero, arXiv 2410.00350; ZiCo: arXiv 2301.11300; NTK: TE-NAS, "
                "arXiv 2102.11535",
            ),
            link=_TRY,
        ),
        Screen(
            title="And what did it cost?",
            words="The same measurement after every stage: [[FID]] with its [[interval]], against the [[noise floor]] "
            "that real pictures reach. Read both numbers together: how much faster, and how much worse, if at all.",
            draw=_cost,
            still=_still_cost,
            question=Question(
                text="Is this proof that half of the blocks of any model can go?",
                options=("Yes", "No"),
                right=1,
                answer="One small model, one easy dataset, one seed, and features of a small network. It shows how to "
                "find out for yours; the arena shows how much one seed can mislead.",
            ),
            link=Link(
                view="compare", label="Compare any two stages, seed by seed →", help="The compare page, for your own "
                "runs."
            ),
        ),
    ),
)  # fmt: skip
