"""On a narrow screen the menu lies over the page, and Streamlit leaves it there when another page was chosen."""

import streamlit as st

_JS = """
export default function () {
  if (document.entprunerMenu) return;
  document.entprunerMenu = true;
  const open = '[data-testid="stSidebar"][data-collapsed="false"] [data-testid="stSidebarCollapseButton"] button';
  document.addEventListener("click", (event) => {
    if (innerWidth >= 768 || !event.target.closest('[data-testid="stSidebarNavLink"]')) return;
    setTimeout(() => document.querySelector(open)?.click(), 150);
  });
}
"""
# of several lines: Streamlit takes one line for the name of a file
_CSS = """
[data-testid="stLayoutWrapper"]:has(> .st-key-phone_menu) {
  position: absolute;
}
"""
_closing = st.components.v2.component("entpruner.phone_menu", js=_JS, css=_CSS, isolate_styles=False)


def closes_by_itself() -> None:
    """Choosing a page from the menu of a narrow screen closes it."""
    with st.container(key="phone_menu"):
        _closing(key="phone_menu_closes")
