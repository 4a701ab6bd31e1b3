"""Which version this is. Free of torch."""

from pathlib import Path

VERSION = "0.8.0"
YEAR = 2026
_GIT = Path(__file__).parents[1] / ".git"


def commit() -> str:
    """The first seven digits of the commit that is checked out; empty where this is no checkout."""
    try:
        head = (_GIT / "HEAD").read_text().strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head[:7]
        if (_GIT / name).exists():
            return (_GIT / name).read_text()[:7]
        packed = (_GIT / "packed-refs").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line[:7] for line in packed if line.endswith(f" {name}")), "")
