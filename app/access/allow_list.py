"""Who may come in after signing in: addresses and whole domains. Standard library."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputError

ALLOW = "ENTPRUNER_ALLOW"
_ADDRESS = re.compile(r"[^@\s,]+@[a-z0-9-]+(\.[a-z0-9-]+)+")
_DOMAIN = re.compile(r"@[a-z0-9-]+(\.[a-z0-9-]+)+")


@dataclass(frozen=True, kw_only=True)
class AllowList:
    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()  # with their @

    def __bool__(self) -> bool:
        return bool(self.addresses or self.domains)

    def admits(self, email: object) -> bool:
        """Letter case doesn't matter; a subdomain is another domain. An empty list admits nobody."""
        if not isinstance(email, str):
            return False
        email = email.strip().lower()
        return email in self.addresses or ("@" in email and "@" + email.rpartition("@")[2] in self.domains)

    def words(self) -> str:
        people = len(self.addresses)
        parts = [f"{people} {'address' if people == 1 else 'addresses'}"] if people else []
        return " and ".join(parts + [f"everybody {domain}" for domain in sorted(self.domains)])


def parse(text: str) -> AllowList:
    """``ann@x.org, @lab.edu``, or the path of a file with one on each line (# begins a comment).

    Raises InputError, naming what is neither an address nor a domain.
    """
    file = Path(text.strip()).expanduser() if text.strip() and "@" not in text else None
    if file is not None:
        text = _read(file)
    entries = [part.strip().lower() for part in re.split(r"[,\s]+", re.sub(r"#.*", "", text)) if part.strip()]
    wrong = next((entry for entry in entries if not (_ADDRESS.fullmatch(entry) or _DOMAIN.fullmatch(entry))), None)
    if wrong:
        raise InputError(f"{wrong!r} is neither an address nor a domain; write ann@lab.edu, or @lab.edu for all of it")
    if file is not None and not entries:
        raise InputError(f"{file} names nobody; write an address or a domain on each line, for example @lab.edu")
    domains = frozenset(entry for entry in entries if entry.startswith("@"))
    return AllowList(addresses=frozenset(entries) - domains, domains=domains)


def absolute(text: str) -> str:
    """The same list for a process that works in another folder."""
    return text if "@" in text or not text.strip() else str(Path(text.strip()).expanduser().absolute())


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} is neither an address, nor a domain such as @lab.edu, nor a text file that can be read"
        ) from error


def from_environment(environment: Mapping[str, str] = os.environ) -> AllowList:
    """Raises InputError."""
    return parse(environment.get(ALLOW, ""))
