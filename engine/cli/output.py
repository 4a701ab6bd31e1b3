"""What a command says: progress to standard error, its result to standard output and, if asked, to a file."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.runs.workspace import write_json


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
    """``text`` for a person, ``result`` for ``--json`` and ``--out``."""
    if args.out:
        write_json(Path(args.out), result)
    print(json.dumps(result) if args.json else text)
