"""Colours that can be told from their ground; charts are drawings, in which axe-core can't check them."""

import tomllib
from pathlib import Path

import pytest

from app.style import DARK, LIGHT, Palette

THEME = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text())["theme"]
TEXT, SIGN = 4.5, 3.0  # WCAG 2.2: 1.4.3 for words, 1.4.11 for marks


def luminance(colour: str) -> float:
    """WCAG's relative luminance of "#rrggbb"."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("palette", "theme"), [(LIGHT, THEME["light"]), (DARK, THEME["dark"])], ids=["light", "dark"])
def test_words_and_marks_stand_out_from_the_ground(palette: Palette, theme: dict[str, str]) -> None:
    for ground in (theme["backgroundColor"], theme["secondaryBackgroundColor"]):
        for colour in (palette.text, palette.muted, theme["textColor"], theme["linkColor"]):
            assert contrast(colour, ground) >= TEXT, f"{colour} on {ground}"
        for colour in (palette.intact, palette.pruned, palette.dropped, palette.reading):
            assert contrast(colour, ground) >= SIGN, f"{colour} on {ground}"
    for colour in (palette.intact, palette.pruned, palette.dropped):  # also written in: "better", a dropped block
        assert contrast(colour, theme["backgroundColor"]) >= TEXT, colour


@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        ("#ffffff", LIGHT.intact), ("#ffffff", LIGHT.pruned), ("#ffffff", THEME["light"]["primaryColor"]),
        ("#10151c", DARK.intact), ("#10151c", DARK.pruned), ("#10151c", THEME["dark"]["primaryColor"]),
    ],
)  # fmt: skip
def test_numbers_on_blocks_and_words_on_buttons_can_be_read(ink: str, ground: str) -> None:
    assert contrast(ink, ground) >= TEXT, f"{contrast(ink, ground):.2f}"
