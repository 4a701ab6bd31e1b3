"""The door: where sign-in is configured (``[auth]`` in .streamlit/secrets.toml), who isn't signed in sees nothing else.

Streamlit does the OpenID Connect part; this decides who of those that the provider knows may come in.
"""

import html
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from app.access import allow_list, announcement
from engine.errors import InputError

_FILES = "secrets.files"  # Streamlit's option
LONGEST_HOURS = 12  # after which a person signs in again; Streamlit's own cookie would do for 30 days


def is_on() -> bool:
    """Whether sign-in is configured."""
    return st.secrets.load_if_toml_exists() and "auth" in st.secrets


def _is_lost() -> bool:
    """Whether there is or was a configuration that can't be read: Streamlit then behaves as if there were none."""
    unreadable = not st.secrets.load_if_toml_exists() and any(Path(file).exists() for file in st.get_option(_FILES))
    return unreadable or (os.environ.get(announcement.CONFIGURED) == "1" and not is_on())


def is_open() -> bool:
    """Draws the door and says False where the person may not come in (yet)."""
    try:
        allowed = allow_list.from_environment()
    except InputError as error:
        return _closed(f"The list of those allowed can't be read: {error}")
    if _is_lost():
        return _closed("The file secrets.toml, which says how people sign in, can't be read.")
    if not is_on():
        if allowed:
            return _closed("There is a list of those allowed, but no sign-in: put [auth] into .streamlit/secrets.toml.")
        return True
    person = dict(st.user)
    if not person.get("is_logged_in"):
        _ask("Sign in to see this studio.")
        return False
    reason = why_not(person, allowed, now=time.time())
    if reason:
        _ask(reason, again=True)
    return not reason


def why_not(person: Mapping[str, Any], allowed: allow_list.AllowList, *, now: float) -> str:
    """One sentence for who may not come in, else nothing. An empty list leaves the choice to the provider."""
    signed_in = person.get("iat")
    if isinstance(signed_in, int | float) and now - signed_in > 3600 * LONGEST_HOURS:
        return f"You signed in more than {LONGEST_HOURS} hours ago. Please do so again."
    if not allowed:
        return ""
    email = person.get("email")
    if not email:
        return "Your sign-in gave no e-mail address, and this studio's list names addresses. Ask who runs it."
    if person.get("email_verified") in (False, "false"):
        return f"Your provider hasn't verified {email}, and this studio admits verified addresses only."
    return "" if allowed.admits(email) else f"{email} isn't on this studio's list. Ask who runs it to add you."


def draw_person() -> None:
    """At the foot of the page: as whom one is here, and the way out."""
    if not is_on():
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        who = str(st.user.get("email") or st.user.get("name") or "somebody without a name")
        st.html(f'<p class="ep-note">Signed in as {html.escape(who)}</p>', width="content")
        st.button(
            "Sign out", type="tertiary", on_click=st.logout, key="sign_out",
            help="Ends this visit in this browser. Runs that you started go on.",
        )  # fmt: skip


def _ask(words: str, *, again: bool = False) -> None:
    st.title("EntPruner Studio", anchor=False)
    st.html(f'<p class="ep-lead">{html.escape(words)}</p>')
    if again:
        st.button("Sign out", on_click=st.logout, help="Then you can sign in with another account.")
    elif st.button("Sign in", type="primary", help="Takes you to your organisation's sign-in page and back."):
        try:
            st.login()
        except StreamlitAPIException as error:  # Authlib missing, or [auth] incomplete
            st.error(f"Sign-in isn't set up properly: {str(error).strip().splitlines()[0]} Tell who runs this studio.")


def _closed(line: str) -> bool:
    st.title("EntPruner Studio", anchor=False)
    st.error(line + " Until then nobody is let in.")
    return False
