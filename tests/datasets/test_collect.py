import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import SAC

from aime_gym.datasets import collect, read_dataset, save_dataset

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
    assert (card.body, card.env_id, card.seed) == ("cartpole", ENV_ID, 3)
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


def test_refuses():
    with pytest.raises(ValueError, match="no environment 'AIME/nobody-run-mdp'"):
        collect(None, "AIME/nobody-run-mdp", 1, seed=0, name="x")
    with pytest.raises(ValueError, match="at least 1"):
        collect(None, ENV_ID, 0, seed=0, name="x")
