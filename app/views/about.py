"""About: which version this is, where it runs, what takes the space, and whom to thank."""

import html
import shutil

import streamlit as st

from app import jobs
from app.about import citing, computer, libraries, room
from app.access import rights
from app.errors import one_line_errors, shown_as_one_line
from app.opening import opening
from app.wide import wide
from engine.byte_size import byte_size
from engine.models.bundled import bundled_models
from engine.runs import queue
from engine.runs.waiting import line_of_runs
from engine.version import VERSION, commit


def page() -> None:
    st.title("About", anchor=False)
    where = f", commit {commit()}" if commit() else ""
    st.html(
        f'<p class="ep-lead">EntPruner Studio {VERSION}{where}. It finds the blocks of a diffusion transformer that '
        "your data doesn't need, takes them out, lets the rest recover, and measures what came of it.</p>"
    )
    st.header("The engine", anchor=False)
    with shown_as_one_line():
        st.fragment(_engine, run_every=10)()
    st.header("The workspace", anchor=False)
    with shown_as_one_line():
        _workspace()
    st.header("Models that ship with it", anchor=False)
    _models()
    st.header("Licences", anchor=False)
    _licences()
    st.header("How to cite", anchor=False)
    _citing()


@one_line_errors
def _engine() -> None:
    state, live = jobs.engine_state(), queue.live_workers(jobs.workspace())
    num_questions, _ = queue.num_waiting(jobs.workspace())
    waiting, _ = line_of_runs(jobs.workspace())
    titles = {"preview": "a question of a page"} | {found.id: found.title for found in jobs.summaries()}
    now = [titles.get(worker.doing, worker.doing) for worker in live if worker.doing]
    st.html(
        opening.facts(
            {
                "state": state.words.partition(":")[0], "processes": f"{len(live)}",
                "runs that wait": f"{len(waiting)}", "questions that wait": f"{num_questions}",
            }
        )
        + f'<p class="ep-note">Now: {html.escape(", ".join(now)) or "nothing"}.</p>'
        + opening.facts(computer.facts(jobs.device()))
    )  # fmt: skip
    st.html(
        f'<p class="ep-note">{html.escape(computer.about_precision())} Threads are those that the processor offers.</p>'
    )


def _workspace() -> None:
    root = jobs.workspace().root
    free = byte_size(shutil.disk_usage(root).free)
    where = f"In <code>{html.escape(str(root))}</code>" if rights.may_work() else "On the machine that runs the studio"
    found = room.parts(str(root))
    total = byte_size(sum(part.num_bytes for part in found))
    st.html(f'<p class="ep-say">{where}: <b>{total}</b> in use, {free} free on its disk.</p>')
    if not found:
        st.html('<div class="ep-empty"><b>Nothing is in it yet</b>Whatever you ask for is kept here.</div>')
        return
    rows = [(part.name, byte_size(part.num_bytes), part.about) for part in found]
    st.html(_table(("what", "size", "about"), rows, label="What takes the workspace's space"))


def _models() -> None:
    models = bundled_models()
    if not models:
        st.html('<p class="ep-note">None are here. Build them with <code>python assets/build.py</code>.</p>')
        return
    st.html(
        '<p class="ep-note">Small models for trying things out, trained from nothing by <code>assets/build.py</code> '
        "on pictures that were drawn or come with scikit-learn. They show how blocks behave; their numbers say "
        "nothing about models of papers.</p>"
    )
    rows = [
        (info.name, info.title, f"{info.depth} blocks", f"{(info.num_parameters or 0) / 1e6:.2f} M parameters",
         f"from {info.parent}" if info.parent else "from nothing")
        for info in models
    ]  # fmt: skip
    st.html(_table(("name", "what", "depth", "size", "trained"), rows, label="Bundled models"))


def _licences() -> None:
    st.html(
        '<p class="ep-note">No licence comes with EntPruner Studio itself so far: ask who gave it to you before you '
        "pass it on. It rests on these libraries, which name their licences as follows. A checkpoint that you open has "
        "a licence of its own, which counts for what is pruned from it.</p>"
    )
    rows = [(one.name, one.purpose, one.version, one.licence) for one in libraries.installed()]
    st.html(_table(("library", "for", "version", "licence"), rows, label="Libraries and their licences"))


def _citing() -> None:
    st.html('<p class="ep-note">The method, whose authors have no part in this program:</p>')
    st.code(citing.PAPER, language=None, wrap_lines=True)
    st.html('<p class="ep-note">This program; add the run\'s report, which names the settings of every number:</p>')
    st.code(citing.product(), language=None, wrap_lines=True)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], *, label: str) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return wide(f'<table class="ep-table"><tr>{head}</tr>{body}</table>', label=label)


page()
