import dataclasses
import importlib

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import SAC

from aime_gym.datasets import (
    collect,
    read_aime_npz,
    read_dataset,
    save_dataset,
    write_aime_npz,
)

module = importlib.import_module("aime_gym.datasets.collect")

ENV_ID = "AIME/cartpole-balance-mdp"


def test_random_is_repeatable(collected, same):
    again = collect(None, f"aime_gym:{ENV_ID}", 2, seed=3, name="cartpole-balance-random")
    assert again.card == collected.card
    assert all(same(a, b) for a, b in zip(collected, again, strict=True))
    other = collect("random", ENV_ID, 1, seed=4, name="x")
    assert not same(other[0], collected[0])


def test_what_it_holds(collected):
    assert [trajectory.num_steps for trajectory in collected] == [125, 125]
    assert all(t.truncated and not t.terminated for t in collected)
    card = collected.card
    assert (card.body, card.env_id, card.seed, card.action_repeat) == ("cartpole", ENV_ID, 3, 8)
    assert {"mujoco", "dm_control", "gymnasium", "numpy", "aime-gym"} <= set(card.versions)
    assert not np.allclose(collected[0].actions, collected[1].actions)


def test_stored_actions_lead_to_stored_sensors(collected, tmp_path):
    stored = read_dataset(save_dataset(collected, tmp_path / "new"))[1]
    env = gym.make(ENV_ID)
    _, info = env.reset(seed=3 + 1)
    for step in range(stored.num_steps):
        for name, values in info["sensors"].items():
            np.testing.assert_array_equal(values, stored.sensors[name][step])
        _, reward, _, truncated, info = env.step(stored.actions[step])
        assert reward == pytest.approx(stored.rewards[step], rel=1e-6)
    assert truncated
    np.testing.assert_array_equal(env.unwrapped.get_physics_state(), stored.physics_states[-1])


def test_stored_states_restore_stored_sensors(collected):
    env = gym.make(ENV_ID)
    env.reset(seed=0)
    for row in (0, 60, 125):
        env.unwrapped.set_physics_state(collected[0].physics_states[row])
        for name, values in env.unwrapped.read_sensors().items():
            np.testing.assert_allclose(values, collected[0].sensors[name][row], atol=1e-6)


def test_stable_baselines_model(same):
    model = SAC("MlpPolicy", ENV_ID, seed=0, policy_kwargs={"net_arch": [4]}, device="cpu")
    kwargs = {"seed": 5, "name": "cartpole-sac", "description": "An untrained SAC."}
    together = collect(model, ENV_ID, 2, num_envs=2, **kwargs)
    apart = collect(model, ENV_ID, 2, num_envs=1, **kwargs)
    for first, second in zip(together, apart, strict=True):
        np.testing.assert_allclose(first.actions, second.actions, atol=1e-4)
    assert together.card.description == "An untrained SAC."
    action, _ = model.predict(
        np.concatenate([rows[0] for rows in apart[0].sensors.values()]), deterministic=True
    )
    np.testing.assert_allclose(action, apart[0].actions[0], atol=1e-6)


# Other environments of Gymnasium


@pytest.mark.parametrize(
    ("env_id", "body", "actions"),
    [
        ("Pendulum-v1", "Pendulum", (np.float32, 1)),
        ("Hopper-v5", "Hopper", (np.float32, 3)),
        ("CartPole-v1", "CartPole", (np.int64, 1)),
    ],
)
def test_any_environment(env_id, body, actions, same, tmp_path):
    dataset = collect(None, env_id, 3, seed=0, name="random")
    card = dataset.card
    assert (card.body, card.env_id, card.action_repeat) == (body, env_id, 1)
    assert list(dataset.sensor_shapes) == ["observation"]
    for trajectory in dataset:
        assert (trajectory.actions.dtype, trajectory.actions.shape[1]) == actions
        assert trajectory.physics_states is not None
    again = collect(None, env_id, 3, seed=0, name="random")
    assert all(same(a, b) for a, b in zip(dataset, again, strict=True))
    stored = read_dataset(save_dataset(dataset, tmp_path / "new", sensor_dtype=None))
    assert all(same(a, b) for a, b in zip(dataset, stored, strict=True))
    assert stored.card == dataclasses.replace(dataset.card, sha256=stored.card.sha256)


def test_termination_is_kept(tmp_path):
    hopper = collect(None, "Hopper-v5", 3, seed=0, name="hopper-random")
    stored = read_dataset(save_dataset(hopper, tmp_path / "new"))
    assert [(t.terminated, t.truncated) for t in stored] == [(True, False)] * 3
    assert len({t.num_steps for t in stored}) > 1
    pendulum = collect(None, "Pendulum-v1", 1, seed=0, name="pendulum-random")
    assert (pendulum[0].terminated, pendulum[0].truncated) == (False, True)


def test_stored_actions_lead_to_stored_observations_in_hopper():
    trajectory = collect(None, "Hopper-v5", 2, seed=7, name="hopper-random")[1]
    env = gym.make("Hopper-v5")
    observation, _ = env.reset(seed=7 + 1)
    for step, action in enumerate(trajectory.actions):
        np.testing.assert_allclose(
            observation, trajectory.sensors["observation"][step], rtol=1e-6, atol=1e-6
        )
        observation, reward, terminated, truncated, _ = env.step(action)
        assert reward == pytest.approx(trajectory.rewards[step], rel=1e-5)
    assert terminated
    assert not truncated


@pytest.mark.parametrize("sensor_dtype", [None, np.float32, np.float16])
def test_integer_actions_stay_integers(same, tmp_path, sensor_dtype):
    dataset = collect(None, "CartPole-v1", 2, seed=0, name="cartpole-random")
    stored = read_dataset(save_dataset(dataset, tmp_path / "new", sensor_dtype=sensor_dtype))
    for before, after in zip(dataset, stored, strict=True):
        assert after.actions.dtype == np.int64
        np.testing.assert_array_equal(before.actions, after.actions)
    folder = write_aime_npz(stored, tmp_path / "aime")
    back = read_aime_npz(folder, dataset.card)
    assert all(same(a, b) for a, b in zip(stored, back, strict=True))


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Pendulum-v1"])
def test_images_of_other_environments_are_refused_before_any_work(env_id, monkeypatch):
    monkeypatch.setattr(module, "rollout", None)
    with pytest.raises(ValueError, match=f"is of {env_id}, and images are drawn only in"):
        collect(None, env_id, 1, seed=0, name="x", images=True)


def test_images_that_are_all_there_is_are_kept():
    class Pictures(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
        action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, False, {}

    gym.register("Pictures-v0", Pictures, max_episode_steps=3)
    try:
        for images in (False, True):
            dataset = collect(None, "Pictures-v0", 1, seed=0, name="x", images=images)
            assert dataset.sensor_shapes == {"image": (8, 8, 3)}
            assert dataset[0].physics_states is None
    finally:
        del gym.registry["Pictures-v0"]


def test_refuses():
    with pytest.raises(ValueError, match="no body 'nobody'"):
        collect(None, "AIME/nobody-run-mdp", 1, seed=0, name="x")
    with pytest.raises(ValueError, match=r"Observations are a Box.*got Discrete"):
        collect(None, "FrozenLake-v1", 1, seed=0, name="x")
    with pytest.raises(ValueError, match="at least 1"):
        collect(None, ENV_ID, 0, seed=0, name="x")
