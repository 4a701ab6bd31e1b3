"""What a command says: progress to standard error, its result to standard output and, if asked, to a file."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from engine.runs.workspace import write_json


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def give(args: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """``text`` for a person, ``result`` for ``--json`` and ``--out``."""
    if args.out:
        write_json(Path(args.out), result)
    print(json.dumps(result) if args.json else text)
