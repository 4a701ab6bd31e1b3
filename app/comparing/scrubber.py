"""Frames of several stages under one slider: it moves in the browser, without asking the server, by pointer or keys."""

from collections.abc import Sequence
from dataclasses import asdict

import streamlit as st

from app.comparing.ways import Way

_HTML = """
<div class="bar">
  <button type="button" class="play" aria-label="Play">▶</button>
  <input type="range" min="0" step="1" value="0" aria-label="From noise to the finished picture">
</div>
<p class="now" aria-live="polite"></p>
<div class="grid"></div>
"""
_CSS = """
:host, div { box-sizing: border-box; }
.bar { display: flex; align-items: center; gap: 12px; max-width: 760px; }
input { flex: 1; min-width: 0; height: 28px; accent-color: var(--st-primary-color, #2f66a9); cursor: pointer; }
.play { flex: none; width: 40px; height: 34px; border-radius: 9px; border: 1px solid var(--line, #ccc); cursor: pointer;
  background: transparent; color: inherit; font-size: 14px; line-height: 1; }
.play:hover { border-color: var(--st-primary-color, #2f66a9); }
button:focus-visible, input:focus-visible { outline: 3px solid var(--st-primary-color, #2f66a9); outline-offset: 2px; }
.now { margin: 6px 0 12px; font: 400 .98rem/1.5 var(--st-font, sans-serif); font-variant-numeric: tabular-nums;
  min-height: 1.5em; }
.grid { display: grid; gap: 10px 14px; grid-template-columns: repeat(var(--stages), minmax(0, 190px)); }
.what { grid-column: 1 / -1; margin: 2px 0 -4px; color: var(--muted, #666);
  font: 400 .86rem/1.4 var(--st-font, sans-serif); }
.head { font: 600 .92rem/1.35 var(--st-font, sans-serif); overflow-wrap: anywhere; }
.head small { display: block; font-weight: 400; color: var(--muted, #666); font-size: .8rem;
  font-variant-numeric: tabular-nums; min-height: 2.7em; }
canvas { display: block; width: 100%; aspect-ratio: 1; border-radius: 8px; image-rendering: pixelated;
  border-bottom: 4px solid var(--look, #2f66a9); background: var(--soft, #eee); }
canvas.smooth { image-rendering: auto; }
"""
_JS = """
export default function ({ parentElement, data }) {
  const find = (name) => parentElement.querySelector(name);
  const slider = find("input"), play = find(".play"), now = find(".now"), grid = find(".grid");
  grid.style.setProperty("--stages", data.ways.length);
  grid.replaceChildren();
  const add = (tag, name, text) => {
    const made = document.createElement(tag);
    made.className = name; made.textContent = text ?? "";
    return grid.appendChild(made);
  };
  const heads = data.ways.map((way) => {
    const head = add("div", "head", way.label);
    return head.appendChild(document.createElement("small"));
  });
  const rows = [["state", data.words.state], ["estimate", data.words.estimate]].map(([key, what]) => {
    add("p", "what", what);
    return data.ways.map((way) => {
      const canvas = add("canvas", way.side >= data.smooth_from ? "smooth" : "");
      canvas.width = canvas.height = way.side;
      canvas.style.setProperty("--look", way.colour);
      canvas.setAttribute("role", "img");
      const strip = new Image();
      strip.onload = () => show();
      strip.src = way[key];
      return { canvas, strip, label: way.label + ", " + what };
    });
  });
  slider.max = data.frames.length - 1;
  const kept = Number(window.sessionStorage.getItem("entpruner-way") ?? Math.round(slider.max / 2));
  slider.value = Math.min(kept, slider.max);
  function show() {
    const at = Number(slider.value);
    now.textContent = data.frames[at];
    slider.setAttribute("aria-valuetext", data.frames[at]);
    data.ways.forEach((way, k) => {
      heads[k].textContent = way.notes[at];
      rows.forEach((row) => {
        const { canvas, strip, label } = row[k];
        canvas.setAttribute("aria-label", label + ", " + data.frames[at]);
        if (!strip.complete || !strip.naturalWidth) return;
        const side = way.side;
        canvas.getContext("2d").drawImage(strip, way.places[at] * side, 0, side, side, 0, 0, side, side);
      });
    });
  }
  let timer = null;
  const says = (sign, words) => { play.textContent = sign; play.setAttribute("aria-label", words); };
  const stop = () => { clearInterval(timer); timer = null; says("▶", "Play"); };
  const moved = () => { window.sessionStorage.setItem("entpruner-way", slider.value); show(); };
  const dragged = () => { stop(); moved(); };
  const pressed = () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    says("❚❚", "Pause");
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      moved();
      if (slider.value === slider.max) stop();
    }, Math.max(60, Math.min(250, 5000 / data.frames.length)));
  };
  slider.addEventListener("input", dragged);
  play.addEventListener("click", pressed);
  show();
  return () => { stop(); slider.removeEventListener("input", dragged); play.removeEventListener("click", pressed); };
}
"""
_component = st.components.v2.component("entpruner.scrubber", html=_HTML, css=_CSS, js=_JS)
_WORDS = {
    "state": "What the sampler holds at this step (x_t)",
    "estimate": "What the model takes the finished picture to be (its estimate of x_0)",
}


def draw(ways: Sequence[Way], frames: Sequence[str], *, smooth_from: int) -> None:
    """``frames``: each place of the slider in words; every way has a frame for each."""
    _component(
        key="scrubber",
        data={"ways": [asdict(way) for way in ways], "frames": list(frames), "words": _WORDS,
              "smooth_from": smooth_from},
    )  # fmt: skip
