"""``python -m engine …``: the work without a browser. Exit code 0 done, 2 the input is wrong (one line), 75 the disk
is full, 1 our defect.

Torch is imported by the command that needs it, so that ``--help`` and mistakes answer at once.
"""

import sys

from engine.cli.cluster import on_cluster
from engine.cli.output import check_out, warnings_told
from engine.cli.parser import make_parser
from engine.errors import Cancelled, DiskFull, EngineError, Paused


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    try:
        check_out(args)
        with warnings_told(), on_cluster(args):
            args.command(args)
    except Paused as stop:
        print(stop, file=sys.stderr)
    except Cancelled as stop:
        print(stop, file=sys.stderr)
        return 2
    except DiskFull as error:
        print(f"error: {error}", file=sys.stderr)
        return error.EXIT_CODE
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
