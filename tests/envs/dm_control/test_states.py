"""A stored physics state brings back every sensor and every pixel."""

import gymnasium as gym
import numpy as np
import pytest

import aime_gym  # noqa: F401 - registers the ids

NAMES = [
    "walker-run",
    "hopper-hop",
    "reacher-easy",
    "finger-turn_easy",
    "quadruped-walk",
    "quadruped-escape",
    "quadruped-fetch",
]


@pytest.fixture(params=NAMES)
def env(request):
    env = gym.make(f"AIME/{request.param}-mdp").unwrapped
    env.action_space.seed(0)
    yield env
    env.close()


def play(env, steps):
    for _ in range(steps):
        env.step(env.action_space.sample())


@pytest.mark.usefixtures("opengl")
def test_a_state_restores_sensors_and_images(env):
    env.reset(seed=1)
    play(env, 5)
    state, sensors, image = env.get_physics_state(), env.read_sensors(), env.render_image()
    env.reset(seed=2)
    play(env, 5)
    assert not np.array_equal(env.render_image(), image)
    env.set_physics_state(state)
    np.testing.assert_array_equal(env.get_physics_state(), state)
    for name, values in env.read_sensors().items():
        np.testing.assert_array_equal(values, sensors[name], err_msg=name)
    np.testing.assert_array_equal(env.render_image(), image)


def test_the_first_state_of_an_episode_counts_too(env):
    env.reset(seed=3)
    state, sensors = env.get_physics_state(), env.read_sensors()
    play(env, 2)
    env.set_physics_state(state)
    for name, values in env.read_sensors().items():
        np.testing.assert_array_equal(values, sensors[name], err_msg=name)


def test_bad_states_are_refused():
    env = gym.make("AIME/walker-run-mdp").unwrapped
    with pytest.raises(RuntimeError, match="reset"):
        env.set_physics_state(np.zeros(18))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(18,\)"):
        env.set_physics_state(np.zeros(17))
    with pytest.raises(ValueError, match="not finite"):
        env.set_physics_state(np.full(18, np.nan))


POSED = [
    "walker-run",
    "cheetah-run",
    "hopper-hop",
    "pendulum-swingup",
    "cartpole-swingup",
    "reacher-easy",
    "ball_in_cup-catch",
]


@pytest.mark.parametrize("name", POSED)
def test_sensors_tell_how_the_body_stands(name):
    with gym.make(f"AIME/{name}-lpomdp") as made:
        env = made.unwrapped
        env.action_space.seed(0)
        env.reset(seed=1)
        start, states, rows = env.get_physics_state(), [], []
        for _ in range(20):
            play(env, 2)
            states.append(env.get_physics_state())
            rows.append(env.read_sensors())
        sensors = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        posed = env.pose_states(sensors, np.tile(start, (20, 1)))
        places = list(env.simulation.body.pose.places)
        assert np.abs(np.array(states) - start)[:, places].max() > 0.05
        away = np.array(states)[:, places] - posed[:, places]
        whole_turns = 2 * np.pi * np.round(away / (2 * np.pi))  # Of what turned over.
        np.testing.assert_allclose(away, whole_turns, atol=1e-5)
        env.set_physics_state(posed[-1])
        for key in (s.name for s in env.simulation.sensors if s.order == "first"):
            if key != "touch":
                np.testing.assert_allclose(env.read_sensors()[key], sensors[key][-1], atol=1e-5)
        others = np.delete(posed, places, axis=1)
        np.testing.assert_array_equal(others, np.delete(np.tile(start, (20, 1)), places, axis=1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("finger-spin", r"of finger do not determine .* those of walker, cheetah, hopper, .* do"),
        ("walker-run", "read from orientations, height; height is missing"),
    ],
)
def test_sensors_that_do_not_tell_how_the_body_stands(name, message):
    with (
        gym.make(f"AIME/{name}-mdp") as env,
        pytest.raises(ValueError, match=message),
    ):
        env.unwrapped.pose_states({"orientations": np.zeros((1, 14))}, np.zeros((1, 18)))
