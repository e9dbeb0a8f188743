"""Grids as values: their cells, the recipes of these, and what is refused before any work."""

import dataclasses
from pathlib import Path

import pytest

from agents import AIMEConfig
from agents.codec import decode, encode
from agents.runs.grid import AGENTS, Cell, Grid, Method, check_same

AIME, BC = Method("AIME", kind="aime"), Method("BC", kind="bc")
BCO = Method("BCO(0)", kind="bco", options={"body_model_timesteps": 7})
SMALL = {"dataset": "{body}-{embodiment}", "embodiments": ("mix-small",)}


def grid(methods=(AIME, BC), tasks=("walker-run",), **options):
    return Grid(methods=methods, tasks=tasks, **options)


def test_cells_are_all_combinations_each_once():
    found = grid(
        tasks=("walker-run", "cheetah-run"),
        setups=("mdp", "lpomdp"),
        embodiments=("mix", "p2e"),
        seeds=(0, 1),
    ).cells
    assert len(found) == len(set(found)) == 8 * (2 + 1)  # BC reads no embodiment data.
    assert {cell.embodiment for cell in found if cell.method == "BC"} == {None}
    assert found[0] == Cell("AIME", "walker-run", "mdp", "mix", 0)
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)
    assert str(found[0]) == "AIME walker-run-mdp mix seed 0"


def test_names_and_options_make_recipes(tmp_path):
    whole = grid((AIME, BCO), setups=("lpomdp",), seeds=(3,), episodes=5)
    aime, bco = (whole.recipe(cell, tmp_path) for cell in whole.cells)
    assert (aime.kind, aime.env, aime.seed, aime.episodes) == (
        "aime", "AIME/walker-run-lpomdp", 3, 5
    )  # fmt: skip
    assert (aime.world_model, aime.demos) == ("walker-mix-lpomdp", "walker-run-expert")
    assert aime.run_folder == tmp_path / "cells" / "aime-walker-run-lpomdp-mix-seed3"
    assert (bco.dataset, bco.body_model_timesteps) == ("walker-mix", 7)
    assert bco.body_model.run_folder == (
        tmp_path / "first-stages" / "bco-0" / "walker" / "walker-mix-lpomdp-seed3"
    )


def test_cells_of_a_body_share_a_first_stage(tmp_path):
    tasks = ("walker-run", "walker-walk", "cheetah-run")
    whole = grid((BCO,), tasks=tasks)
    run, walk, cheetah = (whole.recipe(c, tmp_path).body_model_folder for c in whole.cells)
    assert run == walk != cheetah
    other = grid((dataclasses.replace(BCO, name="other"),))
    assert other.recipe(other.cells[0], tmp_path).body_model_folder != run


def test_a_method_may_name_its_own_data():
    method = Method("pushed", kind="bco", options={"dataset": "{body}-mix-pushed"})
    whole = grid((method, BCO), embodiments=("mix", "p2e"))
    assert [cell.embodiment for cell in whole.cells] == [None, "mix", "p2e"]
    assert whole.recipe(whole.cells[0]).dataset == "walker-mix-pushed"


def test_a_method_may_start_from_a_pretrained_model():
    place = "{body}-{embodiment}-{setup}"
    method, new = Method("on", "dreamer", {"pretrained": place}), Method("new", "dreamer")
    whole = grid((method, new), embodiments=("mix", "mox"))
    assert [cell.embodiment for cell in whole.cells] == ["mix", None, "mox"]
    found = [whole.recipe(cell).pretrained for cell in whole.cells]
    assert found == ["walker-mix-mdp", None, "walker-mox-mdp"]
    with pytest.raises(FileNotFoundError, match="no model 'walker-mox-mdp' here"):
        whole.check()


def test_one_may_come_without_its_tuple():
    one = Grid(methods=BC, tasks="walker-run", setups="mdp", embodiments="mix")
    assert one == grid((BC,))


def test_gpus_choose_the_device():
    assert grid().recipe(grid().cells[0]).device == "cpu"
    assert grid(gpus=0.5).recipe(grid().cells[0]).device == "cuda"


def test_settings_may_be_a_configuration_or_a_dictionary():
    plain = Method("AIME", kind="aime", options={"config": {"start_updates": 3}})
    assert plain.options["config"] == AIMEConfig(start_updates=3)
    assert plain == Method("AIME", kind="aime", options={"config": AIMEConfig(start_updates=3)})


def test_a_grid_is_plain_values_and_back():
    whole = grid((Method("A", "aime", {"config": AIMEConfig(start_updates=3)}, 2.5, "AIME"), BC))
    assert decode(Grid, encode(whole)) == whole


def test_every_agent_can_be_a_method():
    assert {"aime", "bc", "bco", "iidm", "dreamer", "plan2explore", "expert"} <= AGENTS.keys()
    assert "world-model" not in AGENTS
    for kind in AGENTS:
        whole = grid((Method(kind, kind),))
        assert whole.recipe(whole.cells[0]).kind == kind


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Method("x", kind="aimee"), "no agent 'aimee': did you mean 'aime'"),
        (lambda: Method("x", kind="world-model"), "no agent 'world-model'.*there are aime, bc"),
        (lambda: Method("x", "bc", {"steps": 3}), "no option 'steps'.*total_timesteps"),
        (lambda: Method("x", "bc", {"folder": "f"}), "no option 'folder'"),
        (lambda: Method("x", "bc", {"config": {"stak": 3}}), "BCConfig has no stak"),
        (lambda: Method("x", "bc", minutes=-1), "minutes is at least 0"),
        (lambda: Method("+", "bc"), "letters or digits"),
        (lambda: Method("x", "bc", paper="BC"), r"no scores of 'BC'.*BCO\(0\)"),
        (lambda: grid(seeds=(0, -1)), "seeds is at least 0; got -1"),
        (lambda: grid(()), "at least one of methods"),
        (lambda: grid(seeds=(1, 1)), "seeds, and none twice"),
        (lambda: grid((BC, Method("bc", "bc"))), "methods, and none twice"),
        (lambda: grid(episodes=0), "episodes is at least 1"),
        (lambda: grid(cpus=0), "cpus is at least 1"),
        (lambda: grid(demos="{who}").recipe(grid().cells[0]), r"places are \{body\}, \{task\}"),
        (lambda: grid((Method("x", "bc", {"total_timesteps": 0}),)).check(), "at least 1"),
        (lambda: grid(tasks=("walker-rnu",)).check(), "no task 'rnu': did you mean 'run'"),
        (lambda: grid(tasks=("run",)).check(), "no environment id|no body"),
        (lambda: grid(setups=("pomdp",)).check(), "no setup 'pomdp'"),
    ],
)
def test_what_does_not_exist_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (grid(demos="{task}-expert"), "no dataset 'run-expert' here: did you mean"),
        (
            grid((BCO,), **SMALL | {"embodiments": ("mix-tiny",)}),
            "no dataset 'walker-mix-tiny' here",
        ),
        (grid((AIME,), embodiments=("mox",)), "no model 'walker-mox-mdp' here.*walker-mix-mdp"),
    ],
)
def test_missing_data_and_models_are_errors(whole, message):
    with pytest.raises(FileNotFoundError, match=message):
        whole.check()


def test_a_grid_of_what_there_is_passes():
    grid((AIME, BC)).check()
    grid((BCO,), **SMALL).check()


def test_a_folder_may_get_more_cells_and_other_resources():
    before = grid()
    more = grid((AIME, BC, BCO), tasks=("walker-run", "walker-walk"), seeds=(0, 1), cpus=2)
    check_same(before, more, Path("f"))
    check_same(more, before, Path("f"))
    check_same(before, grid((dataclasses.replace(AIME, minutes=3), BC)), Path("f"))


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (grid(tasks=("cheetah-run",)), "f has another grid, of AIME walker-run-mdp mix seed 0"),
        (grid(episodes=7), "AIME walker-run-mdp mix seed 0 has episodes 100, not 7"),
        (grid((Method("BC", "bc", {"total_timesteps": 3}),)), "total_timesteps None, not 3"),
        (grid((Method("AIME", "bc"),), demos="{body}-{embodiment}"), "kind aime, not bc"),
    ],
)
def test_a_folder_of_another_grid_is_refused(now, message):
    with pytest.raises(ValueError, match=message):
        check_same(grid(), now, Path("f"))
