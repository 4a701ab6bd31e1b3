"""Two pictures of one seed on top of each other: a line that is dragged, or moved by the arrow keys, shows more of one
and less of the other. It moves in the browser, without asking the server."""

import streamlit as st

_HTML = """
<div class="frame">
  <img class="under" alt=""><img class="over" alt="">
  <div class="line"><span></span></div>
  <b class="left"></b><b class="right"></b>
  <input type="range" min="0" max="100" step="1" aria-label="How much of the first picture is shown">
</div>
"""
_CSS = """
.frame { position: relative; width: 100%; max-width: 400px; aspect-ratio: 1; border-radius: 10px; overflow: hidden;
  --at: 50%; touch-action: pan-y; }
img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
.frame.smooth img { image-rendering: auto; }
.over { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.line { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 0 1px rgb(0 0 0 / .45); pointer-events: none; }
.line span { position: absolute; top: 50%; left: 50%; width: 30px; height: 30px; margin: -15px; border-radius: 50%;
  background: #fff; box-shadow: 0 0 0 1px rgb(0 0 0 / .45); display: grid; place-items: center; }
.line span::after { content: "\\2194"; color: #1d2430; font-size: 17px; line-height: 1; }
b { position: absolute; bottom: 8px; padding: 2px 8px; border-radius: 6px; color: #fff;
  font: 600 13px/1.4 var(--st-font, sans-serif); background: rgb(0 0 0 / .62); pointer-events: none; max-width: 44%; }
.left { left: 8px; } .right { right: 8px; }
input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
  appearance: none; }
input::-webkit-slider-thumb { appearance: none; width: 2px; height: 100%; }
input::-moz-range-thumb { width: 2px; height: 100%; border: 0; }
.frame:has(input:focus-visible) { outline: 3px solid var(--st-primary-color, #2f66a9); outline-offset: 2px; }
"""
_JS = """
export default function ({ parentElement, data }) {
  const find = (name) => parentElement.querySelector(name);
  const frame = find(".frame"), slider = find("input"), over = find(".over"), under = find(".under");
  frame.classList.toggle("smooth", data.smooth);
  over.src = data.first; under.src = data.second;
  over.alt = data.names[0] + ", " + data.caption; under.alt = data.names[1] + ", " + data.caption;
  find(".left").textContent = data.names[0]; find(".right").textContent = data.names[1];
  const move = () => {
    frame.style.setProperty("--at", slider.value + "%");
    find(".left").style.opacity = slider.value < 12 ? 0 : 1;
    find(".right").style.opacity = slider.value > 88 ? 0 : 1;
    slider.setAttribute("aria-valuetext", slider.value + " % " + data.names[0] + ", the rest " + data.names[1]);
  };
  slider.setAttribute("aria-label", "How much of " + data.names[0] + " is shown over " + data.names[1]);
  slider.addEventListener("input", move);
  move();
  return () => slider.removeEventListener("input", move);
}
"""
_component = st.components.v2.component("entpruner.swipe", html=_HTML, css=_CSS, js=_JS)


def draw(first: str, second: str, *, names: tuple[str, str], caption: str, smooth: bool) -> None:
    """``first`` and ``second`` are data URIs of pictures; the first lies on the left of the line."""
    about = {"first": first, "second": second, "names": list(names), "caption": caption, "smooth": smooth}
    _component(key="swipe", data=about)
