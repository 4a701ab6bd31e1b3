"""Ships an arena with the product: ``python assets/record_arena.py RUN_FOLDER``.

Takes what an arena's run has measured so far, finished or not, and writes ``arena/<model>-on-<data>.json`` with the
command that makes it. An unfinished one says how many bouts are planned; going on with the run and recording it again
adds to it.
"""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent
sys.path.insert(0, str(ASSETS.parent))

from engine.arena.config import ArenaConfig  # noqa: E402
from engine.arena.entrants import ENTRANTS  # noqa: E402
from engine.arena.result import arena_result  # noqa: E402
from engine.assets import write_manifest  # noqa: E402
from engine.runs.arena_job import arena_config  # noqa: E402

#: setting -> its option on the command line
_OPTIONS = {"num_dropped": "--num-dropped", "num_seeds": "--seeds", "num_random": "--num-random",
            "adapt_steps": "--adapt-steps"}  # fmt: skip
_OF_RECOVERY = {"num_steps": "--steps", "batch_size": "--batch-size", "learning_rate": "--learning-rate",
                "schedule": "--schedule", "distill_weight": "--distill-weight"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of an arena's run")
    parser.add_argument("--suffix", default="", help="of the file's name, where there is one for the same pair already")
    args = parser.parse_args()
    run = args.run
    params = json.loads((run / "config.json").read_text())["params"]
    finished = run / "arena.json"
    found = json.loads((finished if finished.exists() else run / "progress" / "arena.json").read_text())
    config = arena_config(params["config"])
    content = {
        "model": params["model"],
        "data": params["data"],
        "command": command(params["model"], params["data"], config),
        "planned": num_planned(config, found["scores"]["dropped"]),
        "config": params["config"],
        "scores": found["scores"],
        "bouts": found["bouts"],
        "result": arena_result(config, found["scores"], found["bouts"]),
    }
    suffix = f"-{args.suffix}" if args.suffix else ""
    file = ASSETS / "arena" / f"{params['model']}-on-{params['data']}{suffix}.json"
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_manifest()
    print(f"{file}: {len(content['bouts'])} of {content['planned']} bouts\n{content['command']}")


def num_planned(config: ArenaConfig, dropped: dict[str, list[int]]) -> int:
    sets = {tuple(blocks) for blocks in dropped.values()} | {()}
    strategies = [name for name in config.entrants if ENTRANTS[name].progressive]
    return (len(sets) + len(strategies)) * config.num_seeds


def command(model: str, data: str, config: ArenaConfig) -> str:
    usual = ArenaConfig()
    words = ["python -m engine arena", model, data, *_changed(config, usual, _OPTIONS)]
    words += _changed(config.finetune, usual.finetune, _OF_RECOVERY)
    if config.protocol.num_images != usual.protocol.num_images:
        words.append(f"--num {config.protocol.num_images}")
    if config.entrants != usual.entrants:
        words.append(f"--entrants {','.join(config.entrants)}")
    return " ".join(words)


def _changed(config: Any, usual: Any, options: dict[str, str]) -> list[str]:
    return [
        f"{options[field.name]} {getattr(config, field.name)}"
        for field in fields(config)
        if field.name in options and getattr(config, field.name) != getattr(usual, field.name)
    ]


if __name__ == "__main__":
    main()
