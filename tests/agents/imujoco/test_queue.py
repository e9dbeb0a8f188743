"""The queue of policies: what it trains, in which order, and how workers share it."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from filelock import FileLock

from agents.imujoco import PolicyQueue, queue, read_results, select_bodies
from agents.sac import SACAgent, SACConfig
from aime_gym.cli import main
from aime_gym.datasets import load_dataset, read_imujoco_npz
from aime_gym.datasets.imujoco_npz import collect_blocks
from aime_gym.evaluation.evaluate import evaluate
from aime_gym.imujoco_ids import catalogue, find_body
from aime_gym.places import reserved_folder
from aime_gym.rollout import RandomPolicy

VARIANT = "hopper-massdec_25_leggeom"
TINY = SACConfig(batch_size=4, learning_starts=20, hidden_dim=8)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A queue of a few steps per policy."""
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    return PolicyQueue(
        folder=tmp_path / "queue",
        total_timesteps=40,
        warm_timesteps=10,
        trajectories=1,
        episodes=2,
        config=TINY,
    )


def names(entries):
    return [entry.name for entry in entries]


def test_selection():
    assert len(select_bodies(["all"])) == 157
    assert names(select_bodies(["base"])) == ["hopper", "halfcheetah", "walker2d"]
    assert names(select_bodies(["walker2d", "hopper"])) == ["hopper", "walker2d"]
    mass = names(select_bodies(["hopper-mass*", VARIANT]))
    assert len(mass) == 16
    assert VARIANT in mass
    assert names(select_bodies(["hopper-massdec_33_leggeom"])) == ["hopper-massdec_33_leggeom"]
    with pytest.raises(ValueError, match="did you mean 'hopper'"):
        select_bodies(["hoper"])


def test_a_queue_from_the_base_to_the_result(tiny):
    said = []
    assert tiny.run(select_bodies([VARIANT]), say=said.append) == {}
    assert [line.split(":")[0] for line in said] == ["hopper", "hopper", VARIANT, VARIANT]
    results = read_results(tiny.folder)
    assert set(results) == {"hopper", VARIANT}
    variant = results[VARIANT]
    assert (len(variant.returns), len(variant.zero_shot), variant.timesteps) == (2, 2, 10)
    assert results["hopper"].zero_shot_mean is None
    base = SACAgent.load(tiny.folder / "hopper" / queue.BEST, f"iMuJoCo/{VARIANT}")
    assert variant.zero_shot_mean == evaluate(base, f"iMuJoCo/{VARIANT}", 2).mean
    start = tiny.recipe(find_body(VARIANT)).make()
    row = np.linspace(-1, 1, 11)
    assert start.predict(row, deterministic=True)[0] == pytest.approx(
        base.predict(row, deterministic=True)[0], abs=0.01
    )
    data = load_dataset(tiny.folder / "datasets" / f"iMuJoCo-{VARIANT}-expert")
    assert data.card.evaluation_returns == variant.returns
    assert data.num_steps >= 1_000
    assert data[0].physics_states is None
    published = read_imujoco_npz(tiny.folder / "dataset" / f"sac-{VARIANT}.npz")
    assert np.array_equal(published[0].actions, data[0].actions[:-1])
    # Again: nothing is left to do.
    before = (tiny.folder / VARIANT / "result.json").stat().st_mtime_ns
    said.clear()
    tiny.run(select_bodies([VARIANT]), say=said.append)
    assert said == []
    assert (tiny.folder / VARIANT / "result.json").stat().st_mtime_ns == before


def test_what_others_have_is_left_alone(tiny):
    tiny = replace(tiny, warm_start=False)
    tiny.folder.mkdir()
    said = []
    with FileLock(tiny.folder / f".{VARIANT}.queue.lock"):
        tiny.run(select_bodies([VARIANT]), say=said.append)
    assert said == [f"{VARIANT}: another worker has it"]
    assert read_results(tiny.folder) == {}


@pytest.mark.parametrize("name", ["config.json", "grid.json", "card.json"])
def test_folders_of_something_else_are_refused(tiny, name):
    tiny.folder.mkdir()
    (tiny.folder / name).touch()
    with pytest.raises(FileExistsError, match=f"no folder of policies of bodies .{name} is in it"):
        tiny.run([])
    assert [path.name for path in tiny.folder.iterdir()] == [name]


def test_a_place_that_another_process_keeps_stays_as_it_is(tiny):
    with reserved_folder(tiny.folder):
        with pytest.raises(ValueError, match="Another process is working in"):
            tiny.run([])
        assert not tiny.folder.exists()


def test_one_failure_stops_nothing(tiny, monkeypatch):
    tiny = replace(tiny, warm_start=False)
    train = queue.train

    def fail(recipe, **options):
        if recipe.env.endswith("iMuJoCo/hopper"):
            raise RuntimeError("no")
        return train(recipe, **options)

    monkeypatch.setattr(queue, "train", fail)
    failed = tiny.run(select_bodies(["hopper", VARIANT]))
    assert failed == {"hopper": "RuntimeError: no"}
    assert set(read_results(tiny.folder)) == {VARIANT}
    monkeypatch.undo()


def test_recipes(tiny):
    base, variant = tiny.recipe(find_body("hopper")), tiny.recipe(find_body(VARIANT))
    assert (base.total_timesteps, variant.total_timesteps) == (40, 10)
    assert base.pretrained is None
    assert variant.pretrained == str(tiny.folder / "hopper" / "best-full.zip")
    assert (base.config.learning_starts, variant.config.learning_starts) == (20, 10)
    assert (base.config.first_actions, variant.config.first_actions) == (None, "policy")
    longer = replace(tiny, warm_timesteps=9_000, warm_learning_starts=70)
    assert longer.recipe(find_body(VARIANT)).config.learning_starts == 70
    alone = replace(tiny, warm_start=False).recipe(find_body(VARIANT))
    assert (alone.pretrained, alone.total_timesteps) == (None, 40)
    assert alone.env == f"iMuJoCo/{VARIANT}"


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="warm_timesteps"):
        PolicyQueue(warm_timesteps=0)


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = "--total-timesteps 130 --trajectories 1 --episodes 1 --algorithm sac --folder q"
    assert main(f"imujoco train --variants halfcheetah {options}".split()) == 0
    assert "halfcheetah" in capsys.readouterr().out
    assert json.loads((tmp_path / "q" / "halfcheetah" / "result.json").read_bytes())["timesteps"]
    assert main(["imujoco", "results", "--folder", "q"]) == 0
    assert "130" in capsys.readouterr().out
    assert main(["imujoco", "train", "--variants", "halfcheeta", "--folder", "q"]) == 2
    assert "did you mean 'halfcheetah'" in capsys.readouterr().err


def test_random_policies_fill_blocks():
    env = catalogue()["hopper"].env_id
    policy = RandomPolicy(gym.make(env).action_space, 0)
    data = collect_blocks(policy, env, 2, seed=5, name="random")
    lengths = np.cumsum([t.num_steps for t in data])
    assert lengths[-1] >= 2_000 > lengths[-2]
