"""One visual language: what is intact, what is pruned and what is dropped look the same on every page.

Colours come in pairs (light, dark). Dropped blocks are hatched as well, so that colour is never the only sign.
"""

from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Palette:
    intact: str
    pruned: str
    dropped: str
    text: str
    muted: str
    grid: str
    missing: str


LIGHT = Palette("#2F66A9", "#0B857A", "#B5601A", "#1D2430", "#5D6572", "#E4E0D8", "#EFECE6")
DARK = Palette("#79AEEF", "#3FC5B5", "#F0A04F", "#E7EAEE", "#9AA3B0", "#2C333E", "#222933")


def palette() -> Palette:
    """Of the theme that the browser shows; light where it hasn't said yet."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def _both(name: str) -> str:
    return f"light-dark({getattr(LIGHT, name)}, {getattr(DARK, name)})"


CSS = f"""
<style>
:root {{
  --intact: {_both("intact")};
  --pruned: {_both("pruned")};
  --dropped: {_both("dropped")};
  --muted: {_both("muted")};
  --line: {_both("grid")};
  --soft: {_both("missing")};
  --hatch: repeating-linear-gradient(135deg, transparent 0 5px,
           color-mix(in srgb, var(--dropped) 20%, transparent) 5px 7px);
}}
[data-testid="stMainBlockContainer"] {{ max-width: 1440px; padding-top: 4.5rem; padding-bottom: 3rem; }}
h1 {{ letter-spacing: -0.015em; }}
.ep-lead {{ font-size: 1.15rem; line-height: 1.55; color: var(--muted); max-width: 46rem; margin: 0 0 .5rem; }}
.ep-note {{ color: var(--muted); font-size: .92rem; line-height: 1.5; margin: 0; max-width: 60rem; }}
.ep-say {{ font-size: 1.08rem; line-height: 1.55; margin: .1rem 0 .3rem; max-width: 60rem; }}
.ep-say b {{ font-weight: 650; }}
.ep-eyebrow {{ font-size: .78rem; letter-spacing: .06em; text-transform: uppercase; color: var(--muted); margin: 0; }}
.ep-empty {{ border: 1.5px dashed var(--line); border-radius: 14px; padding: 2.2rem 1.5rem; text-align: center;
  color: var(--muted); line-height: 1.6; }}
.ep-empty b {{ display: block; color: inherit; font-size: 1.12rem; margin-bottom: .3rem; }}

.ep-strip {{ display: flex; flex-wrap: wrap; gap: 5px; margin: .1rem 0 .3rem; padding: 0; list-style: none; }}
.ep-strip span {{ flex: 0 0 auto; min-width: 34px; height: 44px; border-radius: 8px; display: flex; align-items: center;
  justify-content: center; font-size: .88rem; font-variant-numeric: tabular-nums; box-sizing: border-box; }}
.ep-strip.small span {{ min-width: 22px; height: 24px; font-size: .72rem; border-radius: 5px; }}
.ep-strip .intact {{ background: var(--intact); color: light-dark(#fff, #10151c); }}
.ep-strip .pruned {{ background: var(--pruned); color: light-dark(#fff, #10151c); }}
.ep-strip .dropped {{ font-weight: 700; background: var(--hatch); color: var(--dropped); border: 1.5px dashed var(--dropped); }}
.ep-strip .gone {{ background: transparent; color: var(--muted); border: 1.5px dotted var(--line); }}
.ep-legend {{ display: flex; flex-wrap: wrap; gap: 1.1rem; font-size: .84rem; color: var(--muted); margin: 0; }}
.ep-legend i {{ display: inline-block; width: 14px; height: 14px; border-radius: 4px; margin-right: .4rem;
  vertical-align: -2px; box-sizing: border-box; }}
.ep-legend .intact {{ background: var(--intact); }} .ep-legend .pruned {{ background: var(--pruned); }}
.ep-legend .dropped {{ background: var(--hatch); border: 1.5px dashed var(--dropped); }}
.ep-legend .gone {{ border: 1.5px dotted var(--muted); }}

.ep-pairs {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 16px 14px; }}
.ep-pairs.eight {{ grid-template-columns: repeat(4, 1fr); }}
.ep-pairs figure {{ margin: 0; }}
.ep-pairs img, .ep-thumbs img {{ width: 100%; aspect-ratio: 1; image-rendering: pixelated; display: block;
  border-radius: 8px; background: var(--soft); }}
.ep-pairs img {{ border-bottom: 4px solid var(--intact); }} .ep-pairs img + img {{ margin-top: 6px; }}
.ep-pairs img.pruned {{ border-bottom-color: var(--pruned); }}
.ep-pairs.old {{ opacity: .45; }}
.ep-pairs figcaption {{ font-size: .77rem; line-height: 1.3; color: var(--muted); margin-top: .3rem; text-align: center; }}
.ep-thumbs {{ display: grid; grid-template-columns: repeat(8, 1fr); gap: 6px; }}
.ep-tiles {{ display: grid; grid-template-columns: repeat(8, 1fr); gap: 6px; }}
.ep-tiles img {{ width: 100%; aspect-ratio: 1; image-rendering: pixelated; border-radius: 6px; display: block; }}
.ep-film img {{ width: 100%; image-rendering: pixelated; border-radius: 10px; display: block; }}
.ep-film figcaption {{ font-size: .84rem; color: var(--muted); margin-top: .4rem; }} .ep-film figure {{ margin: 0; }}

.ep-table {{ width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }}
.ep-table th {{ text-align: left; font-weight: 600; font-size: .86rem; color: var(--muted); padding: .45rem .7rem; }}
.ep-table td {{ padding: .55rem .7rem; border-top: 1px solid var(--line); vertical-align: top; }}
.ep-table small {{ color: var(--muted); display: block; font-size: .8rem; }}
.ep-table .best {{ font-weight: 650; }} .ep-table .best::after {{ content: " better"; color: var(--pruned);
  font-size: .76rem; font-weight: 600; }}
.ep-scroll {{ overflow-x: auto; }}
.ep-table tr.chosen td {{ background: color-mix(in srgb, var(--pruned) 12%, transparent); }}
.ep-facts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(108px, 1fr)); gap: .8rem 1rem; margin: .4rem 0 !important; padding: 0 !important; }}
.ep-facts div {{ margin: 0; }}
.ep-facts dt {{ margin: 0 !important; font-weight: 400 !important; font-size: .8rem; color: var(--muted); }} .ep-facts dd {{ margin: 0 !important; font-size: 1.05rem; }}
.ep-foot {{ border-top: 1px solid var(--line); padding-top: .7rem; font-size: .84rem; color: var(--muted); margin: 0; }}
.ep-dot {{ display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: .45rem; }}

.ep-scale {{ display: flex; align-items: center; gap: .5rem; font-size: .84rem; color: var(--muted);
  font-variant-numeric: tabular-nums; flex-wrap: wrap; }}
.ep-scale i {{ width: 130px; height: 10px; border-radius: 5px; display: inline-block; }}
.ep-question {{ font-weight: 600; font-size: 1rem; margin: .2rem 0 .1rem; }}

[class*="st-key-strip"] button[data-variant="pills"] {{ min-width: 42px; height: 46px; padding: 0 .5rem;
  border-radius: 8px; background: var(--intact); color: light-dark(#fff, #10151c); border: 1.5px solid transparent; }}
[class*="st-key-strip"] button[data-variant="pills"]:hover {{ filter: brightness(1.12); }}
[class*="st-key-strip"] button[data-variant="pills"][aria-pressed="true"] {{ background: var(--hatch);
  color: var(--dropped); border: 1.5px dashed var(--dropped); }}
[class*="st-key-strip"] button[data-variant="pills"][aria-pressed="true"] p {{ font-weight: 700; }}
@media (max-width: 640px) {{ .ep-pairs.eight {{ grid-template-columns: repeat(4, 1fr); gap: 10px 8px; }} }}
</style>
"""
