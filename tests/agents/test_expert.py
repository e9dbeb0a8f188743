"""Experts: every episode is recorded, and a killed run goes on from its checkpoint."""

import dataclasses
import json
import sys

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import aime_gym
from agents import Expert, ExpertConfig, train_expert
from agents.expert import _claim, _Keeper
from agents.logs import STEP, read_curve
from aime_gym.datasets import read_dataset
from aime_gym.envs import dm_control

ROWS = 11  # Of an episode: 80 control steps, 8 for each of the agent's.
CONFIG = ExpertConfig(
    "AIME/cartpole-balance-mdp",
    total_timesteps=60,
    algorithm="sac",
    batch_size=8,
    checkpoint_interval=20,
    evaluation_interval=20,
)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(dm_control, "CONTROL_STEPS", 80)
    monkeypatch.setattr("agents.expert.EVALUATION_EPISODES", 1)


class KilledError(Exception):
    pass


def die_at(step, patch):
    on_step = _Keeper._on_step

    def dying(self):
        if self.num_timesteps == step:
            raise KilledError
        return on_step(self)

    patch.setattr(_Keeper, "_on_step", dying)


def evaluated(folder):
    """The steps of the evaluations."""
    return [row[STEP] for row in read_curve(folder / "progress.csv") if "eval/mean_reward" in row]


def starts(dataset):
    return [trajectory.first_step for trajectory in dataset]


def test_a_run(tmp_path):
    expert = train_expert(CONFIG, tmp_path / "run", tmp_path / "episodes")
    assert evaluated(tmp_path / "run") == [20, 40, 60]
    assert (tmp_path / "run" / "figures" / "learning_curve.png").exists()
    dataset = read_dataset(tmp_path / "episodes")
    assert starts(dataset) == [0, 10, 20, 30, 40, 50]
    assert {len(trajectory) for trajectory in dataset} == {ROWS}
    assert all(trajectory.physics_states is not None for trajectory in dataset)
    assert dataset.card.env_id == CONFIG.env_id
    assert dataset.card.command == (
        "aime-gym train expert --env AIME/cartpole-balance-mdp --algorithm sac --seed 0 "
        f"--total-timesteps 60 --record {tmp_path / 'episodes'}"
    )
    assert len(dataset.card.sha256) == 6

    loaded = Expert.load(tmp_path / "run")
    observation = np.ones((3, 5), np.float32)
    for deterministic in (True, False):
        action, state = loaded.predict(observation, state=None, deterministic=deterministic)
        assert action.shape == (3, 1)
        assert state is None
        assert all(loaded.action_space.contains(a) for a in action)
    first, _ = expert.predict(observation, deterministic=True)
    second, _ = loaded.predict(observation, deterministic=True)
    np.testing.assert_array_equal(first, second)
    single, _ = loaded.predict(observation[0], deterministic=True)
    np.testing.assert_allclose(single, second[0], rtol=1e-5)
    evaluate_policy(loaded, Monitor(gym.make(CONFIG.env_id)), 1)
    assert aime_gym.evaluate(loaded, CONFIG.env_id, episodes=1).returns.shape == (1,)


@pytest.mark.parametrize("at", [5, 20, 37, 59])
def test_a_killed_run_keeps_its_recordings_consistent(tmp_path, monkeypatch, at):
    run, episodes = tmp_path / "run", tmp_path / "episodes"
    with monkeypatch.context() as patch:
        die_at(at, patch)
        with pytest.raises(KilledError):
            train_expert(CONFIG, run, episodes)
    train_expert(CONFIG, run, episodes)
    dataset = read_dataset(episodes)
    assert starts(dataset) == [0, 10, 20, 30, 40, 50]
    checksums = {trajectory.actions.tobytes() for trajectory in dataset}
    assert len(checksums) == 6
    assert evaluated(run) == [20, 40, 60]


def test_a_kill_while_the_best_model_is_saved_leaves_the_one_before(tmp_path, monkeypatch):
    train_expert(dataclasses.replace(CONFIG, total_timesteps=20), tmp_path / "run")
    before = Expert.load(tmp_path / "run").predict(np.ones(5, np.float32), deterministic=True)[0]

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("stable_baselines3.common.vec_env.VecNormalize.save", full)
        with pytest.raises(OSError, match="No space"):
            train_expert(CONFIG, tmp_path / "run")
    after = Expert.load(tmp_path / "run").predict(np.ones(5, np.float32), deterministic=True)[0]
    np.testing.assert_array_equal(before, after)


def test_a_run_that_ends_within_an_episode_has_a_model(tmp_path):
    config = dataclasses.replace(CONFIG, total_timesteps=25, evaluation_interval=1_000)
    train_expert(config, tmp_path / "run")
    assert Expert.load(tmp_path / "run").action_space.shape == (1,)


def test_a_run_may_be_prolonged_and_not_changed(tmp_path):
    train_expert(dataclasses.replace(CONFIG, total_timesteps=20), tmp_path, tmp_path / "episodes")
    train_expert(dataclasses.replace(CONFIG, total_timesteps=30), tmp_path, tmp_path / "episodes")
    assert starts(read_dataset(tmp_path / "episodes")) == [0, 10, 20]
    with pytest.raises(ValueError, match=r"another run.*seed=0.*choose another folder"):
        train_expert(dataclasses.replace(CONFIG, seed=1), tmp_path)


def test_a_mistake_claims_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no body 'cartpol'"):
        train_expert(dataclasses.replace(CONFIG, env_id="AIME/cartpol-balance-mdp"), tmp_path)
    assert not any(tmp_path.iterdir())
    _claim(tmp_path, dataclasses.replace(CONFIG, seed=1))
    _claim(tmp_path, CONFIG)
    (tmp_path / "checkpoint.json").touch()
    values = {**dataclasses.asdict(CONFIG), "added": None}
    (tmp_path / "config.json").write_text(json.dumps(values))
    _claim(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="another run"):
        _claim(tmp_path, dataclasses.replace(CONFIG, seed=1))


def test_it_learns_from_the_first_updates(tmp_path):
    """After 1,000 random steps the networks change."""
    config = dataclasses.replace(CONFIG, total_timesteps=1_010, evaluation_interval=500)
    train_expert(config, tmp_path)
    curve = read_curve(tmp_path / "progress.csv")
    assert any("train/actor_loss" in row for row in curve)


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run of `aime-gym train expert`"):
        Expert.load(tmp_path)


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sbx", None)
    config = dataclasses.replace(CONFIG, algorithm="simba")
    with pytest.raises(ModuleNotFoundError, match=r"aime-gym\[expert\].*--algorithm sac"):
        train_expert(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
