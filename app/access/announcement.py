"""What the starter says about who can reach the studio, and whether they must sign in. Standard library."""

import importlib.util
import ipaddress
import tomllib
from pathlib import Path
from typing import Any

from app.access.allow_list import AllowList
from engine.errors import InputError

CONFIGURED = "ENTPRUNER_SIGN_IN"  # "1" for the page where sign-in was configured at the start
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE = ("0.0.0.0", "::", "")
_NEEDED = ("redirect_uri", "cookie_secret")


def is_local(address: str | None) -> bool:
    """Whether only programs of this machine can connect. None and "" mean every address."""
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return address == "localhost"


def hosts(address: str) -> tuple[str, ...]:
    """Names by which pages may call the server; none where others come in, by names that nobody knows beforehand."""
    return tuple(dict.fromkeys((*LOCAL_HOSTS, address))) if is_local(address) else ()


def lines(address: str, port: int, *, key: str | None, sign_in: str) -> list[str]:
    """After the address: nothing on a machine of one's own, else who gets in and what they may do."""
    said = [] if is_local(address) else _warning(address, port, lecture=key is not None, sign_in=sign_in)
    if is_local(address) and sign_in:
        said.append(f"Sign-in is on: {sign_in}.")
    if key is not None:
        said += [
            "Lecture mode: everybody may look, only who holds the key starts, stops and changes work.",
            f"  key        {key}",
            f"  with link  http://{'localhost' if is_local(address) else '<this machine>'}:{port}/?key={key}",
        ]
    return said


def _warning(address: str, port: int, *, lecture: bool, sign_in: str) -> list[str]:
    where = "every address of this machine" if address in _EVERYWHERE else address
    may = "look at everything" if lecture else "start and delete work, and open files of this machine by their path"
    return [
        "=" * 78,
        f"OPEN TO OTHERS: it listens on {where}, port {port}. Whoever reaches that port can",
        f"  connect. Sign-in is {'on: ' + sign_in if sign_in else 'OFF: nobody is asked who they are'}.",
        f"  Those who get in may {may}.",
        "  The connection is not encrypted: put a proxy with TLS before it (docs/security.md).",
        "=" * 78,
    ]


def reach_in_words(address: str | None, *, sign_in: bool) -> str:
    """For the foot of the page; empty on a machine of one's own."""
    if is_local(address):
        return ""
    where = "every address of this machine" if (address or "") in _EVERYWHERE else str(address)
    return f"open to others on {where}, sign-in {'on' if sign_in else 'off'}"


def sign_in_words(root: Path, allowed: AllowList) -> str:
    """Who gets in by signing in; empty where sign-in isn't configured."""
    if _auth(root) is None:
        return ""
    return f"admits {allowed.words()}" if allowed else "admits EVERYBODY whom the provider knows (--allow narrows that)"


def check_sign_in(root: Path, allowed: AllowList) -> None:
    """Raises InputError where sign-in is asked for and can't work: nobody would be kept out, or nobody let in."""
    auth = _auth(root)
    if auth is None:
        if allowed:
            raise InputError(
                "a list of those allowed is given, but sign-in isn't configured; put [auth] into "
                f"{root / '.streamlit' / 'secrets.toml'}, as docs/security.md shows"
            )
        return
    missing = [name for name in _NEEDED if not auth.get(name)]
    if missing:
        raise InputError(f"[auth] in secrets.toml lacks {' and '.join(missing)}; docs/security.md shows a whole one")
    if importlib.util.find_spec("authlib") is None:
        raise InputError(
            "sign-in is configured ([auth] in secrets.toml) but Authlib isn't installed; "
            "install it with: pip install -r requirements-auth.txt"
        )


def _auth(root: Path) -> dict[str, Any] | None:
    """None where there is none. Looks where Streamlit does: the project's file overrides the user's. Raises InputError
    for one that isn't TOML."""
    found = None
    for file in (Path.home() / ".streamlit" / "secrets.toml", root / ".streamlit" / "secrets.toml"):
        try:
            found = tomllib.loads(file.read_text()).get("auth", found)
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{file} can't be read ({error}); see docs/security.md for what belongs in it") from error
    return found if isinstance(found, dict | None) else {}
