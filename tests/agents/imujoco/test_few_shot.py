"""Few-shot imitation: its parts, and all of it on a tiny budget."""

import dataclasses
import json

import numpy as np
import pytest

from agents.bc import BCAgent, BCConfig
from agents.imujoco.few_shot import AIME, META, SCRATCH, TUNED, FewShot
from agents.imujoco.queue import PolicyResult
from agents.nets import MLPConfig
from agents.reptile import ReptileAgent, ReptileConfig
from agents.runs.recipes import BCRecipe
from aime_gym.datasets import collect, save_dataset
from aime_gym.datasets.dataset import Dataset
from aime_gym.files import write_json

HELD_OUT, SEEN = "hopper-massinc_100_torsogeom", ("hopper", "hopper-massdec_25_leggeom")
NET = MLPConfig(8)


@pytest.fixture(scope="module")
def data():
    return collect("random", "iMuJoCo/hopper", 4, seed=0, name="random")


@pytest.fixture
def policies(data, tmp_path):
    """A queue's folder whose experts act at random."""
    folder = tmp_path / "policies"
    for name in (HELD_OUT, *SEEN):
        card = dataclasses.replace(
            data.card, name=name, env_id=f"iMuJoCo/{name}", evaluation_returns=(10.0, 20.0)
        )
        save_dataset(Dataset(data, card), folder / "datasets" / f"iMuJoCo-{name}-expert")
        zero_shot = () if name == "hopper" else (5.0, 7.0)
        result = PolicyResult(name, (10.0, 20.0), zero_shot, 100)
        write_json(folder / name / "result.json", vars(result))
    return folder


def act(agent):
    return agent.predict(np.linspace(-1, 1, 22).reshape(2, 11), deterministic=True)[0]


def test_reptile_finds_a_start_from_which_cloning_goes_on(data, tmp_path):
    config = ReptileConfig(task_size=2, inner_updates=5, batch_size=8, policy=NET)
    agent = ReptileAgent("iMuJoCo/hopper", config, device="cpu")
    before = act(agent)
    agent.learn(data, 2)
    assert not np.array_equal(act(agent), before)
    agent.save(tmp_path / "start.zip")
    again = ReptileAgent.load(tmp_path / "start.zip", device="cpu")
    assert np.array_equal(act(again), act(agent))
    clone = BCAgent(f"iMuJoCo/{HELD_OUT}", BCConfig(policy=NET), seed=3, device="cpu")
    clone.start_from(agent.policy)
    assert np.array_equal(act(clone), act(agent))
    clone.learn(data, 3)
    assert not np.array_equal(act(clone), act(agent))


@pytest.mark.parametrize(
    "changes",
    [
        {"meta_rate": 0.9},
        {"inner_updates": 2},
        {"task_size": 4},
        {"learning_rate": 1e-2},
        {"batch_size": 3},
        {"stack": 2},
    ],
)
def test_every_setting_of_reptile_changes_the_start(data, changes):
    def learned(**options):
        settings = {"task_size": 1, "inner_updates": 3, "batch_size": 8, "policy": NET, **options}
        agent = ReptileAgent("iMuJoCo/hopper", ReptileConfig(**settings), device="cpu")
        return act(agent.learn(data, 2))

    assert np.array_equal(learned(), learned())
    assert not np.array_equal(learned(**changes), learned())


def test_reptile_moves_by_the_meta_rate(data):
    config = ReptileConfig(task_size=4, inner_updates=1, learning_rate=1e-3, policy=NET)
    moves = {}
    for rate in (0.25, 0.5):
        changed = dataclasses.replace(config, meta_rate=rate)
        agent = ReptileAgent("iMuJoCo/hopper", changed, device="cpu")
        before = [p.detach().clone() for p in agent.policy.parameters()]
        agent.learn(data, 1)
        after = agent.policy.parameters()
        moves[rate] = [(a.detach() - b).numpy() for a, b in zip(after, before, strict=True)]
    for half, whole in zip(moves[0.25], moves[0.5], strict=True):
        assert 2 * half == pytest.approx(whole, abs=1e-6)


def test_what_cloning_cannot_start_from(data, tmp_path):
    agent = ReptileAgent("iMuJoCo/hopper", ReptileConfig(policy=NET), device="cpu")
    with pytest.raises(ValueError, match="another network"):
        BCAgent("iMuJoCo/hopper", device="cpu").start_from(agent.policy)
    agent.save(tmp_path / "start.zip")
    recipe = BCRecipe(env="iMuJoCo/walker2d", demos="", pretrained=str(tmp_path / "start.zip"))
    with pytest.raises(ValueError, match="does not fit"):
        recipe.make()


def tiny(policies, folder, **options):
    return FewShot(
        folder=folder,
        policies=policies,
        held_out=(HELD_OUT,),
        shots=(1, 2),
        seeds=(0,),
        task_size=2,
        start_timesteps=2,
        meta_timesteps=2,
        total_timesteps=2,
        episodes=2,
        **options,
    )


def test_the_grid(policies, tmp_path):
    experiment = tiny(policies, tmp_path / "few")
    grid = experiment.grid
    assert len(grid.cells) == 8
    for cell in grid.cells:
        recipe = grid.recipe(cell, experiment.folder)
        assert recipe.env == f"iMuJoCo/{HELD_OUT}"
        assert recipe.demos.endswith(f"iMuJoCo-{HELD_OUT}-expert")
        assert recipe.config.num_demonstrations == (2 if "2 shots" in cell.method else 1)
        if cell.method.startswith(AIME):
            assert recipe.total_timesteps > recipe.config.start_updates  # It sees the evidence.
            assert recipe.world_model.endswith(f"world-model-{HELD_OUT}")
        else:
            start = {SCRATCH: None, TUNED: "bc", META: "reptile"}[cell.method.split(",")[0]]
            assert (recipe.pretrained or "None").endswith(str(start))
    stages = experiment.first_stages()
    assert len(stages) == 4
    own = stages[f"world model of {HELD_OUT}"]
    assert own.pretrained.endswith("world-model")
    assert own.dataset.endswith(f"random-{HELD_OUT}")


def test_the_experiment_on_a_tiny_budget(policies, tmp_path):
    methods = (SCRATCH, TUNED, META)
    experiment = tiny(policies, tmp_path / "few", methods=methods)
    said = []
    outcome = experiment.run(say=said.append, processes=1)
    assert not outcome.failed
    rows = {row.scores.method: row for row in outcome.table.rows}
    assert len(rows) == 6
    assert all(row.scores.is_scored for row in rows.values())
    references = json.loads((tmp_path / "few" / "references.json").read_bytes())
    assert references == {HELD_OUT: pytest.approx(40.0)}
    assert (tmp_path / "few" / "few-shot.png").stat().st_size > 5_000
    assert any("6 cells, 0 of them finished" in line for line in said)
    said.clear()
    experiment.run(say=said.append, processes=1)
    assert any("6 cells, 6 of them finished" in line for line in said)


def test_bodies_without_policies(policies, tmp_path):
    other = FewShot(
        folder=tmp_path / "few", policies=policies, held_out=("hopper-massdec_50_leggeom",)
    )
    with pytest.raises(FileNotFoundError, match="imujoco train --variants hopper-massdec_50"):
        other.run()
    assert not (tmp_path / "few").exists()


def test_more_shots_than_trajectories(policies, tmp_path):
    experiment = dataclasses.replace(tiny(policies, tmp_path / "few"), shots=(1, 5))
    with pytest.raises(ValueError, match=r"has 4 trajectories .* 5 are to be imitated"):
        experiment.run(say=pytest.fail)
    assert {path.name for path in tmp_path.iterdir()} == {"policies"}


def test_a_folder_of_something_else_is_refused_before_any_work(policies, tmp_path):
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="has no grid, and is not empty"):
        tiny(policies, tmp_path / "few").run(say=pytest.fail)
    assert {path.name for path in tmp_path.iterdir()} == {"few", "policies"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": ()}, "at least one held out"),
        ({"held_out": ("hopper", "walker2d")}, "all of one robot; got hopper, walker2d"),
        ({"held_out": ("hopper",), "training": ("hopper",)}, "both: hopper"),
        ({"held_out": ("hopper",), "shots": (0,)}, "shots"),
        ({"held_out": ("hopper",), "methods": ("BC",)}, "no method 'BC'"),
        ({"held_out": ("hopper-massdec_25_leg",)}, "did you mean 'leggeom'"),
    ],
)
def test_wrong_settings(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        FewShot(folder=tmp_path, **options)
