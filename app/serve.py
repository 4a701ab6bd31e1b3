"""The app with what stands at its door: ``streamlit run app/serve.py``, which is what ``python -m app`` starts."""

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

sys.path[:0] = [] if str(Path(__file__).parents[1]) in sys.path else [str(Path(__file__).parents[1])]

from app.access.headers import SecurityHeaders  # noqa: E402
from app.access.upload_gate import UploadGate  # noqa: E402
from app.compressed import CompressedFrontEnd  # noqa: E402

app = st.App(
    Path(__file__).with_name("main.py"),
    middleware=[Middleware(SecurityHeaders), Middleware(UploadGate), Middleware(CompressedFrontEnd)],
)
