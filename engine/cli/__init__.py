"""``python -m engine …``: the work without a browser. Exit code 0 done, 2 the input is wrong (one line), 1 our defect.

Torch is imported by the command that needs it, so that ``--help`` and mistakes answer at once.
"""

import sys

from engine.cli.parser import make_parser
from engine.errors import Cancelled, EngineError, Paused


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    try:
        args.command(args)
    except Paused as stop:
        print(stop, file=sys.stderr)
    except Cancelled as stop:
        print(stop, file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
