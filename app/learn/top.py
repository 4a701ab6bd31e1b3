"""A new screen begins at its top, wherever the one before was left: what Streamlit itself doesn't do."""

import streamlit as st

_JS = """
export default function ({ parentElement, data }) {
  const before = parentElement.entprunerPlace;
  parentElement.entprunerPlace = data.place;
  if (before !== undefined && before !== data.place) {
    document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  }
}
"""
_component = st.components.v2.component("entpruner.top_of_screen", js=_JS)


def go_there(place: str) -> None:
    """Scrolls up when ``place`` is another one than at the last drawing."""
    _component(key="learn_top", data={"place": place})
