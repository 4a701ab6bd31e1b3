"""What a command says: progress to standard error, its result to standard output and, if asked, to a file."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from engine.errors import InputError
from engine.runs.workspace import write_json, writing


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def warnings_told() -> Iterator[None]:
    """The engine's own warnings as notes, such as that blocks can't be compiled here."""
    logger, handler = logging.getLogger("engine"), _Notes(level=logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(f"note: {record.getMessage()}")


def give(args: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """``text`` for a person, ``result`` for ``--json`` and ``--out``; printed first, so that it isn't lost where the
    file can't be written."""
    print(json.dumps(result) if args.json else text, flush=True)
    if args.out:
        write_json(Path(args.out), result)


def check_out(args: argparse.Namespace) -> None:
    """Of a command that writes one file in the end: refuses now what couldn't be written after all the work."""
    if not getattr(args, "out", None) or not args.out_is_file:
        return
    out = Path(args.out)
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file in it")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it, or name a file elsewhere")
    with writing(out), NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}."):
        pass
