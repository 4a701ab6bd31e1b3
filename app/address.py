"""What the address bar says: the choices on screen, so that a link or a reload shows the same thing again."""

from collections.abc import Callable, Hashable, Iterable

import streamlit as st

from app import chosen, jobs, known
from app.page_script import page_script
from engine.errors import EngineError, InputError
from engine.models.bundled import ModelInfo, damaged_models, read_model_info
from engine.runs.store import open_run

# Streamlit makes an entry of each choice that is written, so that Back seems dead. Here only another page makes one;
# what that page writes before the address names it doesn't stay on the entry of the page before
_HISTORY_JS = """
export default function () {
  if (history.entpruner) return;
  history.entpruner = true;
  let clicked = location, wanted = location.href;
  document.addEventListener("click", () => { clicked = new URL(location); }, true);
  const push = history.pushState;
  history.pushState = function (state, title, url) {
    const to = new URL(url, location);
    if (to.pathname === location.pathname) {
      wanted = to.href;
      return this.replaceState(state, title, url);
    }
    if (clicked.pathname === location.pathname) this.replaceState(state, title, clicked.href);
    return push.call(this, state, title, url);
  };
  // back over the entries that the first page made before this was here; the page itself needn't know
  const entries = window.navigation?.entries() ?? [];
  const here = window.navigation?.currentEntry?.index ?? 0;
  let first = here;
  const same = (entry) => entry?.sameDocument && new URL(entry.url).pathname === location.pathname;
  while (same(entries[first - 1])) first--;
  if (first === here) return;
  const arrive = (event) => {
    event.stopImmediatePropagation();
    history.replaceState({}, "", wanted);
  };
  addEventListener("popstate", arrive, { capture: true, once: true });
  history.go(first - here);
}
"""
#: one press of Back goes to the page before, however many choices were made on this one
one_entry_a_page = page_script("history", _HISTORY_JS)


def remember(**choices: object) -> None:
    """Writes choices to the address bar; None takes one away."""
    for name, value in choices.items():
        if value is None or value == "":
            if name in st.query_params:
                del st.query_params[name]
        elif st.query_params.get(name) != str(value):
            st.query_params[name] = str(value)


def asked(name: str) -> str | None:
    return st.query_params.get(name)


def asked_number(name: str, known_numbers: Iterable[int]) -> int | None:
    """A number from the address; says so when it isn't one of those that exist."""
    text = asked(name)
    if text is None:
        return None
    numbers = list(known_numbers)
    if text.lstrip("-").isdigit() and int(text) in numbers:
        return int(text)
    st.warning(f"The address asks for {name} {text!r}; this one has {_spell(numbers)}. It is left out.")
    remember(**{name: None})
    return None


def asked_blocks(depth: int) -> list[int]:
    """``?block=3,7``"""
    text = asked("block")
    if not text:
        return []
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not (part.isdigit() and int(part) < depth)]
    if wrong:
        st.warning(f"The address asks for block {wrong[0]!r}; this model has blocks 0 … {depth - 1}. It is left out.")
    return sorted({int(part) for part in parts if part not in wrong})


def choose(
    label: str,
    options: list,
    *,
    param: str,
    page: str,
    help: str,
    format_func: Callable = str,
    widget: Callable = st.selectbox,
    on_change: Callable | None = None,
    **more,
) -> Hashable:
    """A widget whose value is in the address and goes along to the next page. An unknown value costs one line."""
    key, remembered = f"{page}_{param}", f"last_{param}"
    if st.session_state.get(key) not in options:
        wanted = asked(param)
        if wanted is not None and wanted not in options:
            st.warning(f"There is no {param} named {wanted!r}. Choose one of: {_spell(options)}.")
            wanted = None
        wanted = wanted or st.session_state.get(remembered)
        st.session_state[key] = wanted if wanted in options else options[0]
    value = chosen.drawn(
        widget, label, options, key=key, format_func=format_func, help=help, on_change=on_change, **more
    )
    value = options[0] if value is None else value
    st.session_state[remembered] = value
    remember(**{param: value})
    return value


def choose_model(page: str, *, on_change: Callable | None = None) -> ModelInfo:
    """Raises AssetError where no model is there."""
    models = known.models()
    for line in damaged_models() + known.damaged():
        st.error(line)
    pruned = jobs.stages_by_ref()
    if not models:
        raise InputError("no bundled models found in assets/models; build them with: python assets/build.py")
    wanted = asked("model")
    if wanted and "@" in wanted and wanted not in pruned and _stage_exists(wanted):
        pruned = {wanted: wanted, **pruned}
    titles = known.model_titles() | pruned
    name = choose(
        "Model",
        list(titles),
        param="model",
        page=page,
        format_func=titles.get,
        on_change=on_change,
        help="A model that ships with the studio, one of yours that you opened, or one you pruned here before.",
    )
    _note_use("models", name)
    return models.get(name) or model_info(name)


def choose_data(page: str, info: ModelInfo, *, on_change: Callable | None = None) -> str:
    names = known.data_names()
    if f"{page}_data" not in st.session_state and not asked("data") and "last_data" not in st.session_state:
        st.session_state["last_data"] = info.trained_on
    name = choose(
        "Data",
        names,
        param="data",
        page=page,
        on_change=on_change,
        help="The images that importance is measured on and that recovery trains with: bundled, or opened by you.",
    )
    _note_use("data", name)
    return name


def _note_use(kind: str, name: str) -> None:
    """Once for each choice, not with every redraw of the page."""
    if st.session_state.get(f"used_{kind}") != name:
        st.session_state[f"used_{kind}"] = name
        jobs.touch(kind, name)


def model_info(ref: str) -> ModelInfo:
    """Of a bundled model, of one that was opened, or of ``<run>@<stage>``. Raises InputError or AssetError."""
    if "@" not in ref:
        models = known.models()
        if ref not in models:
            raise InputError(f"no model named {ref!r}; there are {', '.join(models)}")
        return models[ref]
    run_id, _, number = ref.partition("@")
    if not number.isdigit():
        raise InputError(f"{ref!r} doesn't name a stage; write <run>@<number>")
    return read_model_info(open_run(jobs.workspace(), run_id).stage(int(number)).path, name=ref)


def _stage_exists(ref: str) -> bool:
    try:
        model_info(ref)
    except EngineError:
        return False
    return True


def _spell(options: Iterable) -> str:
    options = [str(option) for option in options]
    return ", ".join(options[:8]) + (f" … {options[-1]}" if len(options) > 8 else "")
