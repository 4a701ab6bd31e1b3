"""Which small picture was clicked, or chosen with Enter: what the pictures themselves, plain HTML, can't tell.

The pictures are there and enlarged under the pointer without it."""

from collections.abc import Callable

import streamlit as st

_JS = """
export default function ({ setTriggerValue }) {
  const pick = (event) => {
    const chosen = event.target.closest?.(".ep-cell[data-seed]");
    if (!chosen || (event.type === "keydown" && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    setTriggerValue("seed", chosen.dataset.seed);
    if (event.type === "click") chosen.blur();  // or it would stay enlarged over what was asked for
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.querySelector(".st-key-compare_closely")?.scrollIntoView({
      block: "nearest", behavior: calm ? "instant" : "smooth" });
  };
  document.addEventListener("click", pick);
  document.addEventListener("keydown", pick);
  return () => {
    document.removeEventListener("click", pick);
    document.removeEventListener("keydown", pick);
  };
}
"""
_component = st.components.v2.component("entpruner.picture_clicks", js=_JS)
_KEY = "compare_clicks"


def listen(on_seed: Callable[[str], None]) -> None:
    """Calls ``on_seed`` with the seed of the picture."""
    _component(key=_KEY, on_seed_change=lambda: on_seed(st.session_state[_KEY].seed))
