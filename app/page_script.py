"""Scripts that run once in the page itself, for what Streamlit's front end leaves undone."""

from collections.abc import Callable

import streamlit as st

_CSS = """
[data-testid="stLayoutWrapper"]:has(> .st-key-NAME) {
  position: absolute;
}
"""


def page_script(name: str, js: str) -> Callable[[], None]:
    """What draws it, in no room; ``js`` exports a function, and sees to it that it does its work once."""
    css = _CSS.replace("NAME", name)
    script = st.components.v2.component(f"entpruner.{name}", js=js, css=css, isolate_styles=False)

    def draw() -> None:
        with st.container(key=name):
            script(key=f"{name}_script")

    return draw
