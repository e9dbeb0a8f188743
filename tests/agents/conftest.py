import functools
import itertools
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.callbacks import BaseCallback

import aime_gym  # noqa: F401
from agents import AIMEAgent, AIMEConfig, BCAgent, BCConfig, TrainingConfig, WorldModel
from agents import WorldModelConfig as Config
from agents.nets import MLPConfig
from agents.parts import weights_of
from agents.spaces import EnvInfo, to_vec_env
from aime_gym.datasets import Card, Dataset, Trajectory

IMAGES = Box(0, 255, (64, 64, 3), np.uint8)
WINDOWS = {"sequence_length": 5, "batch_size": 4}


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Neither the user's caches nor the user's datasets and models."""
    for name in ("CACHE", "DATA", "MODELS"):
        monkeypatch.setenv(f"AIME_GYM_{name}", str(tmp_path / name.lower()))
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture(scope="session")
def pendulum_data():
    """A function that makes swings of a toy pendulum: its action adds to its speed."""

    def make(count=3, rows=12, seed=0, body="pendulum", **changes):
        generator = np.random.default_rng(seed)

        def swing():
            actions = generator.uniform(-1, 1, (rows - 1, 1)).astype(np.float32)
            velocity = np.concatenate([[[0.0]], np.cumsum(actions, axis=0)])
            angle = np.cumsum(0.3 * velocity, axis=0) + generator.uniform(0, 6)
            sensors = {
                "orientation": np.concatenate([np.cos(angle), np.sin(angle)], axis=1),
                "velocity": velocity,
            }
            sensors = {name: values.astype(np.float32) for name, values in sensors.items()}
            rewards = np.cos(angle[1:, 0]).astype(np.float32)
            return Trajectory(
                **{"sensors": sensors, "actions": actions, "rewards": rewards} | changes
            )

        return Dataset([swing() for _ in range(count)], Card("pendulum-toy", body))

    return make


@pytest.fixture(scope="session")
def pendulum(pendulum_data):
    return pendulum_data()


@functools.cache
def env_info(setup):
    """The environment, made once for all learners."""
    return EnvInfo.of(to_vec_env(f"AIME/pendulum-swingup-{setup}"))


@pytest.fixture(scope="session")
def make_info():
    """A function that makes what a learner knows of an environment, from sizes alone."""

    def make(visible, hidden=None, actions=2, body="walker", setup="mdp", low=-1.0, high=1.0):
        stops = np.cumsum([0, *visible.values()]).tolist()
        observation = Box(-np.inf, np.inf, (stops[-1],))
        return EnvInfo(
            env_id=None,
            body=body,
            setup=setup,
            observation_space=Box(0, 255, (64, 64, 3), np.uint8)
            if setup == "visual"
            else observation,
            action_space=Box(np.float32(low), np.float32(high), (actions,)),
            slices=dict(zip(visible, itertools.pairwise(stops), strict=True)),
            hidden=hidden or {},
        )

    return make


@pytest.fixture(scope="session")
def make_model():
    """A function that makes a small world model of the pendulum."""

    def make(setup="mdp", cell="rssm", training=None, seed=0, **options):
        config = Config(**{**vars(Config.of_cell(cell).narrow(8)), **options})
        training = training or TrainingConfig(**WINDOWS)
        return WorldModel(env_info(setup), config, training, seed=seed, device="cpu")

    return make


@pytest.fixture(scope="session")
def make_aime(make_model):
    """A function that makes a small AIME agent of the pendulum."""

    def make(setup="mdp", model=None, seed=0, **options):
        config = AIMEConfig.paper(**{**WINDOWS, "policy": MLPConfig(8), **options})
        model = model or make_model(setup)
        return AIMEAgent(env_info(setup), model, config, seed=seed, device="cpu")

    return make


@pytest.fixture(scope="session")
def make_bc():
    """A function that makes a small BC agent of the pendulum."""

    def make(setup="mdp", seed=0, **options):
        small = {"batch_size": 4, "policy": MLPConfig(8), "image_width": 4}
        config = BCConfig.paper(**{**small, **options})
        return BCAgent(env_info(setup), config, seed=seed, device="cpu")

    return make


@pytest.fixture(scope="session")
def weights():
    """A function that copies all weights of a learner."""

    def copy(learner):
        return {name: w.clone() for name, w in weights_of(learner._parts).items()}

    return copy


@pytest.fixture(scope="session")
def same():
    """A function that tells whether weights are equal to the bit."""

    def check(first, second):
        return first.keys() == second.keys() and all(
            torch.equal(first[name], second[name]) for name in first
        )

    return check


class KilledError(Exception):
    """What a killed run raises."""


class Kill(BaseCallback):
    """Stops everything after so many timesteps."""

    Error = KilledError

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_step(self):
        if self.num_timesteps == self.at:
            raise KilledError
        return True


@pytest.fixture(scope="session")
def kill():
    """The callback that kills a run; `kill.Error` is what it raises."""
    return Kill
