"""The key of lecture mode: made or taken by the starter, known to the page by its fingerprint only. Standard library.

The page's process and the engine's get the fingerprint, never the key, so that neither a log nor a listing of their
environments gives it away.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping, MutableMapping

from engine.errors import InputError

SWITCH, KEY, FINGERPRINT = "ENTPRUNER_LECTURE", "ENTPRUNER_LECTURE_KEY", "ENTPRUNER_LECTURE_FINGERPRINT"
SHORTEST = 12  # characters of a key of one's own: it can be tried by anyone who reaches the page
_OFF = ("", "0", "no", "off", "false")


def new_key() -> str:
    """90 bits, easy to read out: no key can be found by trying."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that look alike
    return "-".join("".join(secrets.choice(letters) for _ in range(6)) for _ in range(3))


def fingerprint(key: str) -> str:
    return hashlib.sha256(f"entpruner lecture key {key}".encode()).hexdigest()


def fits(key: str, expected: str) -> bool:
    """Whether this is the key with that fingerprint, in the same time whatever is wrong. None fits an empty one."""
    return bool(expected) and hmac.compare_digest(fingerprint(key.strip()), expected)


def switched_on(environment: Mapping[str, str] = os.environ) -> bool:
    """``ENTPRUNER_LECTURE=1``, or a key of one's own, turns it on as ``--lecture`` does."""
    switch = environment.get(SWITCH, "").strip().lower() not in _OFF
    return switch or bool(environment.get(KEY) or environment.get(FINGERPRINT))


def expected_fingerprint(environment: Mapping[str, str] = os.environ) -> str:
    """Empty where no key was set at all: then nobody holds it."""
    own = environment.get(KEY, "").strip()
    return environment.get(FINGERPRINT, "") or (fingerprint(own) if own else "")


def take_key(environment: MutableMapping[str, str], *, lecture: bool) -> str | None:
    """The key of this start, None without lecture mode. ``environment`` is left with its fingerprint only.

    Raises InputError for a key of one's own that is too short.
    """
    lecture = lecture or switched_on(environment)
    own = environment.pop(KEY, "").strip()
    environment.pop(FINGERPRINT, None)
    environment.pop(SWITCH, None)
    if not lecture:
        return None
    if own and len(own) < SHORTEST:
        raise InputError(
            f"the key in {KEY} has {len(own)} characters, at least {SHORTEST} are needed; leave it out and one is made"
        )
    key = own or new_key()
    environment[SWITCH], environment[FINGERPRINT] = "1", fingerprint(key)
    return key
