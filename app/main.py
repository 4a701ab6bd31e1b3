"""The app: ``streamlit run app/main.py``. Page list, style, and the line that says how the engine is."""

import sys
from pathlib import Path

import streamlit as st

sys.path[:0] = [] if str(Path(__file__).parents[1]) in sys.path else [str(Path(__file__).parents[1])]

from app import address, footer, garbage, jobs, phone_menu, style  # noqa: E402
from app.access import rights, sign_in  # noqa: E402
from app.errors import shown_as_one_line  # noqa: E402

st.set_page_config(page_title="EntPruner Studio", layout="wide", initial_sidebar_state="collapsed")
st.html(style.CSS)
address.one_entry_a_page()
phone_menu.closes_by_itself()
rights.take_key_from_address()
if not sign_in.is_open():
    st.stop()
page = st.navigation(
    [
        st.Page("views/start.py", title="Start", default=True),
        st.Page("views/model_data.py", title="Model & data", url_path="model-data"),
        st.Page("views/importance.py", title="Importance", url_path="importance"),
        st.Page("views/prune.py", title="Prune", url_path="prune"),
        st.Page("views/compare.py", title="Compare", url_path="compare"),
        st.Page("views/arena.py", title="Arena", url_path="arena"),
        st.Page("views/runs.py", title="Runs", url_path="runs"),
        st.Page("views/learn.py", title="Learn", url_path="learn"),
        st.Page("views/about.py", title="About", url_path="about"),
        st.Page("views/open_model.py", title="Open a model", url_path="open-model", visibility="hidden"),
        st.Page("views/open_data.py", title="Open data", url_path="open-data", visibility="hidden"),
    ],
    position="top",
)
with shown_as_one_line():
    jobs.start_engine_once()
    with shown_as_one_line():
        page.run()
    footer.draw()
garbage.pass_over_modules()
