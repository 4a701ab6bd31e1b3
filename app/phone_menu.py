"""On a narrow screen the menu lies over the page, and Streamlit leaves it there when another page was chosen."""

from app.page_script import page_script

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
#: choosing a page from the menu of a narrow screen closes it
closes_by_itself = page_script("phone_menu", _JS)
