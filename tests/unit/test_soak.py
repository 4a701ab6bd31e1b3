"""The short forms of tests/soak: a handful of kills, of power cuts and of full disks."""

from pathlib import Path

import pytest

from tests.soak.full_disk import fill_everywhere
from tests.soak.kills import soak, table
from tests.soak.power_cut import cut_everywhere
from tests.soak.world import World, make_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(tmp_path)
    monkeypatch.setenv("ENTPRUNER_WORKSPACE", str(world.workspace.root))
    return world


def test_killed_runs_and_workers_go_on_and_end_bit_identical(tmp_path: Path) -> None:
    score = soak(tmp_path, kills=3, seed=3, victims=("run", "worker"), kinds=("prune",))
    assert score.num_kills == 3 and sum(score.ended.values()) >= 1
    assert score.lines == [], table(score)


def test_after_a_power_cut_stages_are_whole_and_the_run_goes_on_bit_identical(world: World) -> None:
    params = {**world.params("prune"), "adapt_steps": 8, "drop": [1], "target_depth": None, "num_stages": 1}
    params["finetune"] = {**params["finetune"], "num_steps": 10}
    cuts = cut_everywhere(world, params, every=9, go_on=2)
    assert cuts.num_looked_at > 20 and cuts.num_gone_on >= 2
    assert cuts.lines == []


def test_a_full_disk_makes_the_run_rest_until_there_is_room(world: World) -> None:
    filled = fill_everywhere(world, every=41, go_on_every=2, start=20)
    assert filled.num_refused >= 4 and filled.num_rested >= 4 and filled.num_gone_on >= 2
    assert filled.lines == []
