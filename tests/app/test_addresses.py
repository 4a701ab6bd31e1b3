"""A copied address shows another person the same thing: on each page, for each choice that it has a place for."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app import jobs
from app.pruning import fields
from engine.runs.workspace import Workspace
from tests.app.conftest import Open
from tests.app.fixtures import add_arena, add_ced, add_prune

MODEL = {"model": "demo-sit", "data": "shapes"}


def importance(workspace: Workspace) -> dict[str, str]:
    run = add_ced(workspace, variable="prediction", samples=96, seed=5)
    return {**MODEL, "variable": "prediction", "look": "one", "run": run.id, "block": "3,7", "timestep": "2",
            "seed": "16", "class": "heart"}  # fmt: skip


def two_heatmaps(workspace: Workspace) -> dict[str, str]:
    run = add_ced(workspace, samples=96)
    add_ced(workspace, samples=96, variable="prediction")
    return {**MODEL, "variable": "target", "look": "two", "run": run.id, "data2": "the same", "variable2": "prediction"}


def form_by_hand(workspace: Workspace) -> dict[str, str]:
    return {**MODEL, "run": "new", "how": "hand", "block": "2,9"}


def form_adaptive(workspace: Workspace) -> dict[str, str]:
    return {**MODEL, "run": "new", "how": "adaptive", "keep": "6", "stages": "4", "most": "3", "orderby": "target",
            "within": "greedy", "ask": "True", "shares": "even", "ntk": "1.5", "adapt": "100", "steps": "77",
            "rate": "0.002", "schedule": "constant", "batch": "48", "distill": "2.5", "images": "64",
            "arithmetic": "bf16", "sampler": "heun", "sampling": "9", "guidance": "1.0", "timing": "4", "seed": "5",
            "features": "inception"}  # fmt: skip


def form_speedup(workspace: Workspace) -> dict[str, str]:
    return {**MODEL, "run": "new", "how": "adaptive", "goal": "a speed-up", "speedup": "2.5"}


def form_by_rank(workspace: Workspace) -> dict[str, str]:
    add_ced(workspace)
    return {**MODEL, "run": "new", "how": "rank", "drop": "7"}


def pruning(workspace: Workspace) -> dict[str, str]:
    return {"run": add_prune(workspace).id, "stage": "1"}


def compare(workspace: Workspace) -> dict[str, str]:
    run = add_prune(workspace)
    return {"compare": f"{run.id}@1,{run.id}@3", "class": "heart", "order": "pixels", "seed": "26", "amplify": "8",
            "follow": "17"}  # fmt: skip


def arena(workspace: Workspace) -> dict[str, str]:
    return {"arena": add_arena(workspace).id}


def lesson(workspace: Workspace) -> dict[str, str]:
    return {"lesson": "1", "screen": "2", "class": "5", "seed": "4"}


def runs(workspace: Workspace) -> dict[str, str]:
    return {"run": add_prune(workspace, state="failed", num_stages=1).id}


#: page, what its address holds, and where each of it is seen on the page
ADDRESSES: list[tuple[str, Callable[[Workspace], dict[str, str]], dict[str, object]]] = [
    ("importance", importance, {"importance_model": "demo-sit", "ced_samples": 96, "ced_seed": 5, "timestep": 2,
                                "strip_importance": [3, 7], "first_seed": 16, "effect_class": "heart"}),
    ("importance", two_heatmaps, {"importance_look": "two", "ced_samples": 96, "importance_variable2": "prediction"}),
    ("prune", form_by_hand, {"prune_how": "hand", "strip_prune": [2, 9]}),
    ("prune", form_adaptive, {"target_depth": 6, "num_stages": 4, "max_per_stage": 3, "stages_variable": "target",
                              "stages_order": "greedy", "step": True, "recovery_shares": "even",
                              "form_weight_ntk": 1.5, "adapt_demo-sit_shapes": 100, "num_steps": 77,
                              "learning_rate_0.004": 0.002, "schedule_0.004": "constant", "batch_size": 48,
                              "distill_weight": 2.5, "num_images": 64, "arithmetic": "bf16",
                              "judge_sampler_flow": "heun", "judge_steps": 9, "judge_cfg": 1.0, "judge_batch": 4,
                              "judge_seed": 5, "judge_features": "inception"}),
    ("prune", form_speedup, {"goal": "a speed-up", "target_speedup": 2.5}),
    ("prune", form_by_rank, {"num_drop": 7}),
    ("prune", pruning, {}),
    ("compare", compare, {"compare_class": "heart", "compare_order": "pixels", "compare_seed": "26",
                          "compare_amplify": 8, "way_class": "moon", "way_seed_moon": 17}),
    ("arena", arena, {}),
    ("learn", lesson, {"learn_digit": 5, "learn_seed": 4}),
    ("runs", runs, {}),
]  # fmt: skip


@pytest.mark.parametrize(("page", "made", "seen"), ADDRESSES, ids=[made.__name__ for _, made, _ in ADDRESSES])
def test_a_copied_address_shows_the_same(empty: Workspace, open_page: Open, page: str, made: Callable, seen: dict):
    address = made(empty)
    at = open_page(page, **address)
    assert {name: asked(at, name) for name in address} == address, "the page keeps what it was asked for"
    assert not at.warning, at.warning[0].value
    assert {key: at.session_state[key] for key in seen} == seen


def test_every_choice_goes_into_the_address(empty: Workspace, open_page: Open):
    """The other way round: clicked together on the page, copied, opened."""
    add_ced(empty)
    at = open_page("importance", **MODEL, block="4")
    at.selectbox(key="effect_class").set_value("moon").run()
    assert asked(at, "class") == "moon" and asked(at, "run") == jobs.summaries("ced")[0].id
    at.selectbox(key="effect_class").set_value("a mix of classes").run()
    assert asked(at, "class") is None

    at = open_page("prune", **MODEL, run="new", how="hand")
    next(group for group in at.button_group if group.label == "Blocks to drop").set_value([8, 1]).run()
    assert asked(at, "block") == "1,8"
    next(group for group in at.button_group if group.label == "How to choose").set_value("adaptive").run()
    assert asked(at, "block") is None and asked(at, "how") == "adaptive"

    run = add_prune(empty)
    at = open_page("compare", compare=f"{run.id}@0,{run.id}@3")
    at.selectbox(key="way_class").set_value("cross").run()
    at.selectbox(key="way_seed_cross").set_value(15).run()
    assert asked(at, "follow") == "15"

    at = open_page("learn", lesson="1", screen="1")
    at.selectbox(key="learn_digit").set_value(8).run()
    at.slider(key="learn_seed").set_value(2).run()
    assert (asked(at, "class"), asked(at, "seed")) == ("8", "2")


def test_what_is_changed_in_the_prune_form_is_there_again_after_a_reload(empty: Workspace, open_page: Open):
    at = open_page("prune", **MODEL, run="new", how="adaptive")
    usual = {name: asked(at, name) for name in fields.NAMES}
    assert set(usual.values()) == {None}, "what is usual makes no address longer"
    at.slider(key="target_depth").set_value(6).run()
    at.number_input(key="num_steps").set_value(77).run()
    at.slider(key="num_stages").set_value(5).run()
    at.number_input(key="adapt_demo-sit_shapes").set_value(100).run()
    assert (asked(at, "keep"), asked(at, "steps"), asked(at, "stages")) == ("6", "77", "5")
    again = open_page("prune", **{name: asked(at, name) for name in at.query_params})
    assert again.slider(key="target_depth").value == 6 and again.slider(key="num_stages").value == 5
    assert again.number_input(key="num_steps").value == 77
    assert again.number_input(key="adapt_demo-sit_shapes").value == 100
    again.selectbox(key="prune_model").set_value("demo-dit").run()
    assert asked(again, "adapt") is None, "another model starts from its own usual adaptation"
    assert again.number_input(key="adapt_demo-dit_shapes").value == 0
    next(group for group in again.button_group if group.label == "How to choose").set_value("hand").run()
    assert asked(again, "stages") is None and asked(again, "steps") == "77"


def test_what_was_chosen_in_one_way_of_pruning_is_there_when_one_comes_back_to_it(empty: Workspace, open_page: Open):
    def choose(way: str) -> None:
        next(group for group in at.button_group if group.label == "How to choose").set_value(way).run()

    at = open_page("prune", **MODEL, run="new", how="adaptive", keep="5", stages="2", ask="True", ntk="1.5")
    choose("hand")
    next(group for group in at.button_group if group.label == "Blocks to drop").set_value([8, 1]).run()
    assert not {"keep", "stages", "ask", "ntk"} & {*at.query_params}
    choose("adaptive")
    chosen = {name: asked(at, name) for name in ("keep", "stages", "ask", "ntk", "block")}
    assert chosen == {"keep": "5", "stages": "2", "ask": "True", "ntk": "1.5", "block": None}
    assert at.slider(key="target_depth").value == 5 and at.toggle(key="step").value
    choose("hand")
    assert asked(at, "block") == "1,8"
    at.selectbox(key="prune_model").set_value("demo-dit").run()
    choose("adaptive")
    assert asked(at, "keep") is None, "another model starts from what is usual for it"


@pytest.mark.parametrize("nonsense", ["-1", "0x5", "nan", "1e400", "9" * 5000, "none", "<b>", "6.5"])
def test_nonsense_in_the_address_of_the_prune_form_is_left_out(empty: Workspace, open_page: Open, nonsense: str):
    at = open_page("prune", **MODEL, run="new", how="adaptive", **dict.fromkeys(fields.NAMES, nonsense))
    taken = {name for name in fields.NAMES if asked(at, name)}
    assert taken <= ({"distill", "guidance"} if nonsense == "6.5" else set()), taken
    assert at.slider(key="target_depth").value == 8 and at.number_input(key="num_steps").value == 300
    assert not at.error and not button(at, "Start pruning").disabled


def button(at: AppTest, label: str):
    return next(button for button in at.button if button.label == label)


def test_settings_that_were_not_measured_have_no_run_in_the_address(empty: Workspace, open_page: Open):
    run = add_ced(empty)
    at = open_page("importance", run=run.id, **MODEL)
    assert asked(at, "run") == run.id
    at.number_input(key="ced_samples").set_value(64).run()
    assert asked(at, "run") not in (None, run.id), "another run is measured, and the address names it"


def asked(at: AppTest, name: str) -> str | None:
    """What the address says."""
    value = at.query_params.get(name)
    return value[0] if isinstance(value, list) else value
