"""Fields of the prune form: what was chosen is in the address where it isn't the usual, and what can't be is said."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app import address, sliders
from app.number_boxes import NumberBoxes

#: how the address calls them
NAMES = (
    "drop", "goal", "keep", "speedup", "stages", "most", "orderby", "within", "ask", "shares", "cost", "ntk", "zico",
    "adapt", "steps", "rate", "schedule", "batch", "distill", "images", "arithmetic", "sampler", "sampling", "guidance",
    "timing", "features", "seed",
)  # fmt: skip
_ASIDE = "prune_aside"  # what was chosen in a way that isn't shown now
_OF_THE_MODEL = ("drop", "keep", "most", "adapt", "rate", "schedule", "batch")  # what is usual depends on it


def forget_usual() -> None:
    """Another model or other data was chosen: its own usual values are what the form starts from."""
    address.remember(**dict.fromkeys(_OF_THE_MODEL))
    st.session_state[_ASIDE] = {}


class Fields:
    def __init__(self) -> None:
        self.boxes = NumberBoxes()
        self._shown: set[str] = set()
        self._chosen: dict[str, object] = {}

    def remember(self) -> None:
        """Into the address, once the form is drawn. What this form doesn't ask for goes from it, and is set aside for
        when the way that asks for it is chosen again."""
        aside = st.session_state.get(_ASIDE, {})
        aside |= {name: address.asked(name) for name in NAMES if name not in self._shown and address.asked(name)}
        st.session_state[_ASIDE] = {name: text for name, text in aside.items() if name not in self._shown}
        address.remember(**{name: self._chosen.get(name) for name in NAMES})

    def choice(self, widget: Callable, label: str, options: Sequence, usual: Any, *, name: str, **more: Any) -> Any:
        """A selectbox, or a segmented control, of a column or of the page."""
        first = asked_option(name, options, usual)
        if widget.__name__ == "selectbox":
            value = widget(label, options, options.index(first), **more)
        else:
            value = widget(label, options, default=first, required=True, **more)
        return self.note(name, value, usual)

    def slider(self, place: Any, label: str, low: int, high: int, usual: int, *, name: str, **more: Any) -> int:
        usual = min(max(usual, low), high)
        value = sliders.whole_number(place, label, low, high, asked_number(name, low, high, usual), **more)
        return self.note(name, value, usual)

    def number(
        self, place: Any, label: str, low: float, high: float, usual: float | None, step: float, *, name: str,
        **more: Any,
    ) -> Any:  # fmt: skip
        first = asked_number(name, low, high, usual)
        value = self.boxes.draw(place, label, low, high, first, step, persist_state="session", **more)
        if label not in self.boxes.wrong:
            return self.note(name, value, usual)
        self._shown.add(name)
        return value

    def note(self, name: str, value: Any, usual: Any) -> Any:
        """``value``, which belongs into the address where it isn't the usual one."""
        assert name in NAMES
        self._shown.add(name)
        if value != usual:
            self._chosen[name] = value
        return value


def asked_option(name: str, options: Sequence, usual: Any) -> Any:
    """What the address asks for, where that is one of the options."""
    return next((option for option in options if str(option) == _asked(name)), usual)


def asked_number(name: str, low: float, high: float, usual: Any) -> Any:
    """What the address asks for, where that is a number between these; ``low`` says of which kind."""
    try:
        number = type(low)(_asked(name) or "")
    except ValueError:
        return usual
    return number if low <= number <= high else usual


def _asked(name: str) -> str | None:
    return address.asked(name) or st.session_state.get(_ASIDE, {}).get(name)
