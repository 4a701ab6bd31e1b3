"""Boxes for numbers: what is out of range is said at its box, and nothing is started with it."""

from typing import Any

import streamlit as st

from app.errors import show


class NumberBoxes:
    """Those of one form."""

    def __init__(self) -> None:
        self.wrong: dict[str, str] = {}  # label of a box that holds a number which can't be -> why, in one line

    def draw(
        self, place: Any, label: str, low: float, high: float, value: float | None, step: float = 1, **more: Any
    ) -> Any:
        """Between ``low`` and ``high``, both included and of one kind with ``step``; None where the box is empty.

        Streamlit isn't told of the ends: the number that it keeps where another stands in the box would be taken.
        """
        number = place.number_input(label, value=value, step=step, **more)
        if number is None or low <= number <= high:
            return number
        self.wrong[label] = f"{label}: {number:,} is out of range. Choose {low:,} … {high:,}."
        with place:
            show(self.wrong[label])
        return min(max(number, low), high)

    def say(self, *, then: str = "then you can start", boxes_seen: bool = True) -> bool:
        """Whether anything is wrong; says so where the button is, and in full where the boxes may be out of sight."""
        if self.wrong:
            said = f"Out of range: {', '.join(self.wrong)}." if boxes_seen else " ".join(self.wrong.values())
            st.html(f'<p class="ep-note">{said} Put that right; {then}.</p>')
        return bool(self.wrong)
