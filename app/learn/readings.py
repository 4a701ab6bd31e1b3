"""Lesson 4: one number, several readings. They disagree on a block; a recorded arena says what can be settled."""

from typing import Any

import numpy as np
import streamlit as st

from app import rank_charts
from app.arena import arena_reading, arena_runs
from app.importance.criteria import short
from app.learn import chart, learn_charts
from app.learn.lesson import Formula, Lesson, Link, Question, Screen, Still
from app.learn.verdict import Verdict, verdict
from app.style import palette
from engine.errors import AssetError
from engine.evaluation.protocol import Protocol

_PREFERRED = ("demo-sit-digits-on-digits", "demo-dit-digits-on-digits")
#: those that look at what a block does; the others go by its place alone
_LOOKING = ("ced-target", "ced-samples", "ced-prediction", "bi", "output-mse", "loss", "magnitude", "taylor")
_AGREED = 2  # ranks apart, up to which readings are of one mind


def _arenas() -> dict[str, dict[str, Any]]:
    """Raises AssetError where none ships or all are damaged."""
    found = {arena.name: arena.content for arena in arena_runs.recorded()}
    if not found:
        raise AssetError("no recorded arena is there in assets/arena; get it again")
    return {name: found[name] for name in sorted(found, key=lambda name: (name not in _PREFERRED, name))}


def _choose() -> dict[str, Any]:
    arenas = _arenas()
    names = [name for name in _PREFERRED if name in arenas] or list(arenas)
    names.sort(key=lambda name: "sit" not in name)
    name = st.segmented_control(
        "Recorded on", names, default=names[0], required=True, key="learn_arena", persist_state="session",
        format_func=lambda name: arenas[name]["model"], help="Which model’s arena; both were carried out beforehand.",
    )  # fmt: skip
    return arenas[name]


def _ranks(content: dict[str, Any]) -> dict[str, list[int]]:
    of = content["scores"]["of"]
    return {name: (np.argsort(np.argsort(of[name], kind="stable")) + 1).tolist() for name in _LOOKING if name in of}


def most_disputed(content: dict[str, Any]) -> int:
    """The block on whose rank the readings lie furthest apart."""
    ranks = np.array(list(_ranks(content).values()))
    return int(np.ptp(ranks, axis=0).argmax())


def _disagree() -> None:
    content = _choose()
    ranks = _ranks(content)
    depth = len(next(iter(ranks.values())))
    key = f"learn_block_{content['model']}"
    block = st.select_slider(
        "Block", range(depth), value=most_disputed(content), key=key, persist_state="session",
        help="It starts at the block on which the readings lie furthest apart.",
    )  # fmt: skip
    chart.draw(st, _dots(ranks, block), key="learn_ranks", alt=f"Rank of block {block} by each reading")
    st.html(
        f'<p class="ep-say">{_apart(ranks, block)}</p><p class="ep-note">Each scored every block of '
        f"{content['model']} once, on {content['config'].get('samples', 256)} pictures of {content['data']}, one block "
        "left out at a time. The ranks’ own intervals are on the importance page.</p>"
    )


def _dots(ranks: dict[str, list[int]], block: int):
    names = sorted(ranks, key=lambda name: ranks[name][block])
    return learn_charts.ranks_of_block(
        [short(name) for name in names], [ranks[name][block] for name in names], len(ranks[names[0]]), palette=palette()
    )


def _apart(ranks: dict[str, list[int]], block: int) -> str:
    of = {name: values[block] for name, values in ranks.items()}
    low, high = min(of, key=of.get), max(of, key=of.get)
    if of[high] - of[low] <= _AGREED:
        return f"On block {block} the readings are of one mind: ranks {of[low]} … {of[high]}."
    return (
        f"<b>{short(low)}</b> would take out block {block} as number <b>{of[low]}</b>, <b>{short(high)}</b> only as "
        f"number <b>{of[high]}</b>. They can’t both be right."
    )


def _settle() -> None:
    content = _choose()
    depth = len(next(iter(content["scores"]["of"].values())))
    key = f"learn_settle_{content['model']}"
    block = st.select_slider(
        "Block", range(depth), value=most_disputed(content), key=key, persist_state="session",
        help="Sets of blocks that dropped it are set against sets that kept it.",
    )  # fmt: skip
    found = {b: verdict(content, b) for b in range(depth)}
    st.html(f'<p class="ep-say">{_said(found[block], block)}</p>')
    chart.draw(
        st,
        _verdicts(found, block),
        key="learn_verdicts",
        alt="For each block: FID of sets that dropped it over sets that kept it, with intervals",
    )
    st.html(f'<p class="ep-note">{_how(content)}</p>')


def _verdicts(found: dict[int, Verdict | None], block: int):
    there = {b: one for b, one in found.items() if one is not None}
    figure = rank_charts.dots(
        [f"block {b}" for b in there], [one.ratio for one in there.values()], [one.low for one in there.values()],
        [one.high for one in there.values()], title="FID of sets without it ÷ sets with it (1 = no difference)",
        palette=palette(), line=1.0, marked=[b == block for b in there],
    )  # fmt: skip
    figure.update_xaxes(rangemode="normal")
    return learn_charts.finished(figure, "Was the block missed after recovery?", height=figure.layout.height)


def _said(found: Verdict | None, block: int) -> str:
    if found is None:
        return f"Too few sets dropped or kept block {block} to say anything."
    return (
        f"Sets without block {block} ended at <b>{found.ratio:.2f}×</b> the FID of sets with it "
        f"({found.low:.2f} … {found.high:.2f}): <b>{found.words}</b>."
    )


def _how(content: dict[str, Any]) -> str:
    result, finetune = content["result"], content["config"]["finetune"]
    protocol = Protocol(**content["config"]["protocol"]).label()
    return (
        f"{result['num_sets']} sets of {result['num_dropped']} blocks, dropped at once, {finetune['num_steps']} steps "
        f"of recovery, {result['num_seeds']} seeds each. A point is a ratio of geometric means of sets, its line "
        f"Welch’s {result['confidence']:.0%} interval over the sets, with no allowance for looking at twelve blocks. "
        f"The sets differ in their other blocks too, so this is evidence and no proof. {protocol}. Command: "
        f"<code>{content.get('command', '')}</code>"
    )


def _foretell() -> None:
    content = _choose()
    metric = f"FID ({content['config'].get('protocol', {}).get('features', Protocol.features)})"
    said = arena_reading.sentences(content, metric=metric)
    chart.draw(
        st,
        _foresight(content),
        key="learn_foresight",
        alt="Rank correlation of each criterion's scores with the outcome, with intervals",
    )
    st.html(f'<p class="ep-say">{said[-1]}</p>')
    st.html(
        f'<p class="ep-note">Spearman’s rank correlation over {content["result"]["num_sets"]} sets between a '
        "criterion’s summed scores of the dropped blocks and the FID after recovery; the line is a 90 % interval by "
        "resampling the sets. 1 would always know, 0 knows nothing.</p>"
    )


def _foresight(content: dict[str, Any]):
    known = {name: one["fid"] for name, one in content["result"]["foresight"].items() if one.get("fid")}
    names = sorted(known, key=lambda name: -known[name]["value"])
    figure = rank_charts.dots(
        [short(name) for name in names], [known[name]["value"] for name in names],
        [known[name]["low"] for name in names], [known[name]["high"] for name in names],
        title="rank correlation with the outcome", palette=palette(), zero=True,
    )  # fmt: skip
    return learn_charts.finished(figure, "Whose scores foretold the outcome?", height=figure.layout.height)


def _first() -> dict[str, Any]:
    arenas = _arenas()
    return arenas[min(arenas, key=lambda name: ("sit" not in name, name not in _PREFERRED))]


def _still_disagree() -> Still:
    content = _first()
    ranks, block = _ranks(content), most_disputed(content)
    return [f"<p>{_apart(ranks, block)}</p>", _dots(ranks, block)]


def _still_settle() -> Still:
    content = _first()
    found = {b: verdict(content, b) for b in range(len(next(iter(content["scores"]["of"].values()))))}
    block = most_disputed(content)
    return [f"<p>{_said(found[block], block)}</p>", _verdicts(found, block), f"<p class='note'>{_how(content)}</p>"]


def _still_foretell() -> Still:
    content = _first()
    return [_foresight(content), f"<p>{arena_reading.sentences(content, metric='FID')[-1]}</p>"]


def _answer() -> str:
    found = {block: verdict(_first(), block) for block in range(12)}
    sure = [str(block) for block, one in found.items() if one and (one.low > 1 or one.high < 1)]
    if not sure:
        return "For none of the twelve blocks: every interval holds 1. Three seeds and so few sets aren’t enough."
    return (
        f"For {'block ' if len(sure) == 1 else 'blocks '}{', '.join(sure)} of the SiT; for the others the [[interval]] "
        "holds 1. And of twelve 90 % intervals one leaves out 1 by chance alone, on average."
    )


_TRY = Link(
    view="arena", label="All of this arena, or one of your own →", query={"arena": "demo-sit-digits-on-digits"},
    help="The arena page: every way of pruning, with intervals, and a form to hold another.",
)  # fmt: skip
LESSON = Lesson(
    title="One number, several readings",
    short="Readings",
    screens=(
        Screen(
            title="Ask eight ways, get eight answers",
            words="How much a block matters can be read from the [[entropy]] of what the model draws, from that of "
            "its raw answers, from its error, from how far it turns the stream, from its weights. Each reading ranks "
            "all blocks. They don’t agree.",
            draw=_disagree,
            still=_still_disagree,
            question=Question(
                text="Three of the readings are called CED. Why do they differ, if it is one formula?",
                answer="The formula compares two entropies of X, and X may be the finished pictures (“samples”), the "
                "network’s raw output (“prediction”) or what it should have predicted given what it says (“target”). "
                "The paper’s summary doesn’t say which, so the studio offers all three and names the one in use.",
            ),
            formula=Formula(
                latex=r"\text{samples: }X=\hat x\sim p_\theta\quad \text{prediction: }X=f_\theta(x_t,t,c)\quad "
                r"\text{target: }\Delta H=\tfrac12\log\frac{\mathrm{MSE}^{-i}}{\mathrm{MSE}}",
                words="The last is the Gaussian entropy of the training target given the prediction.",
                source="samples and prediction: our readings of EntPruner, arXiv 2511.21122; target: ours",
            ),
            link=Link(
                view="importance", label="Ask all of them on your own model →",
                query={"model": "demo-sit-digits", "data": "digits"}, help="The importance page; open the other "
                "criteria.",
            ),
        ),
        Screen(
            title="Which was right? Try it, and count",
            words="In an [[arena]] every choice of blocks was carried out, trained again and measured. So one can "
            "look: did sets that dropped the disputed block come out worse than sets that kept it?",
            draw=_settle,
            still=_still_settle,
            question=Question(text="For how many blocks can this experiment tell?", answer=_answer),
            formula=Formula(
                latex=r"\log\text{ratio}=\overline{\log "
                r"\mathrm{FID}}_{\text{dropped}}-\overline{\log\mathrm{FID}}_{\text{kept}}"
                r"\;\pm\;t_{\nu}\sqrt{s_d^2/n_d+s_k^2/n_k}",
                words="Means over sets, each over its [[seed]]s; n the numbers of sets, s² their variances.",
                source="Welch’s interval, textbook; its use here is ours",
            ),
            link=_TRY,
        ),
        Screen(
            title="Whose scores foretold the outcome?",
            words="Over all sets: do low scores of the dropped blocks go with a low [[FID]] after [[recovery]]? A "
            "reading whose [[interval]] reaches 0 hasn’t shown that it knows more than chance.",
            draw=_foretell,
            still=_still_foretell,
            question=Question(
                text="One reading has the highest dot, but its line overlaps the next one’s. May one call it the best?",
                options=("Yes, the dot decides", "No, that is within noise"),
                right=1,
                answer="Where the lines overlap, another three seeds could turn the order round. Look at the other "
                "model: the order there is not the same.",
            ),
            formula=Formula(
                latex=r"\rho=\operatorname{corr}\bigl(\operatorname{rank}\textstyle\sum_{i\in S}s_i,\ "
                r"\operatorname{rank}\mathrm{FID}_S\bigr)",
                words="S a set of dropped blocks, s the scores of one criterion.",
                source="Spearman’s rank correlation; the test itself is ours",
            ),
            link=_TRY,
        ),
    ),
)  # fmt: skip
