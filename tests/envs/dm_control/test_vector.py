"""The batched environment against single ones, to the bit."""

import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.envs.dm_control import vector
from aime_gym.envs.dm_control.simulation import Simulation, load_suite
from aime_gym.envs.dm_control.tasks import BODIES
from aime_gym.envs.dm_control.vector import DMControlVectorEnv

BODY_TASKS = ["walker-run", "cheetah-flip", "reacher-easy"]
STEPS = 1_000_000  # In all, agent steps.
AT_ONCE = 100  # Environments, which are some 13 MB each.
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def make(name, num_envs=3, **kwargs):
    return gym.make_vec(f"AIME/{name}", num_envs=num_envs, **kwargs)


def make_sync(name, num_envs=3, mode=AutoresetMode.NEXT_STEP, **kwargs):
    """Single environments, one after the other."""
    vector_kwargs = {"autoreset_mode": mode}
    return make(name, num_envs, vectorization_mode="sync", vector_kwargs=vector_kwargs, **kwargs)


def assert_same(ours, theirs):
    """Equal to the bit, and in type, through nested infos."""
    assert type(ours) is type(theirs)
    if isinstance(ours, tuple | list):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif ours is not None and ours.dtype == object:
        assert_same(list(ours), list(theirs))
    elif ours is not None:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def drop_stale(info):
    """The info without the sensors of environments whose mask is False."""
    if "final_info" in info:
        info = info | {"final_info": drop_stale(info["final_info"])}
    sensors = dict(info["sensors"])
    for name in [name for name in sensors if name[0] != "_"]:
        sensors[name] = sensors[name][sensors[f"_{name}"]]
    return info | {"sensors": sensors}


def test_make_vec_gives_the_batched_environment():
    env = make("walker-run-mdp", 2)
    assert isinstance(env.unwrapped, DMControlVectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert env.metadata["render_fps"] == 20
    sync = make_sync("walker-run-mdp", 2)
    assert env.observation_space == sync.observation_space
    assert env.action_space == sync.action_space
    assert env.single_action_space == sync.single_action_space
    assert gym.make_vec(env.spec).num_envs == 2


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BODY_TASKS)
def test_equals_single_environments(short_episodes, name, mode, threads):
    ours = make(f"{name}-mdp", autoreset_mode=mode, num_threads=threads)
    theirs = make_sync(f"{name}-mdp", mode=mode)
    assert_same(ours.reset(seed=4), theirs.reset(seed=4))
    generator = np.random.default_rng(0)
    restarts = 0
    for _ in range(10):
        actions = generator.uniform(-1.5, 1.5, ours.action_space.shape).astype(np.float32)
        step, expected = ours.step(actions), theirs.step(actions)
        assert_same(step[:4], expected[:4])
        assert_same(drop_stale(step[4]), drop_stale(expected[4]))
        restarts += int(step[3].all())
    assert restarts >= 1
    ours.close()


@pytest.mark.parametrize("name", [f"walker-{task}" for task in BODIES["walker"].tasks])
def test_every_walker_reward_equals_the_single_ones(name):
    assert_equal_over(name, 12)


@pytest.mark.parametrize("name", [f"cheetah-{task}" for task in BODIES["cheetah"].tasks])
def test_every_cheetah_reward_equals_the_single_ones(name):
    assert_equal_over(name, 12)


@pytest.mark.parametrize("name", [f"{body.name}-{[*body.tasks][-1]}" for body in BODIES.values()])
def test_every_body_equals_the_single_ones(name):
    assert_equal_over(name, 5)


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
def test_a_hundred_thousand_steps_equal_the_suites(body):
    """Whole episodes, a million steps over all bodies, against dm_control's own ones."""
    task = [name for name, task in BODIES[body].tasks.items() if task.reward is None][-1]
    steps = make(f"{body}-{task}-mdp", 1).unwrapped.max_steps
    episodes = math.ceil(STEPS / len(BODIES) / steps)
    for first in range(0, episodes, AT_ONCE):
        assert_equal_to_the_suite(body, task, steps, 5 + first, min(AT_ONCE, episodes - first))


def assert_equal_to_the_suite(body, task, steps, seed, episodes):
    """Episodes from a seed on, all at once, equal dm_control's."""
    ours = make(f"{body}-{task}-mdp", episodes)
    observations = [ours.reset(seed=seed)[0]]
    low, high = ours.single_action_space.low, ours.single_action_space.high
    actions = np.random.default_rng(seed).uniform(low, high, (steps, episodes, *low.shape))
    actions = actions.astype(np.float32)
    rewards = []
    for action in actions:
        observation, reward, *_ = ours.step(action)
        observations.append(observation)
        rewards.append(reward)
    repeat = ours.unwrapped.get_attr("action_repeat")[0]
    suite = load_suite(body, BODIES[body].tasks[task].suite_task)
    suite.physics._make_rendering_contexts = lambda: None
    for index in range(episodes):
        suite.task._random = np.random.RandomState(seed + index)
        shown = suite.reset().observation
        for step in range(steps):
            expected = np.concatenate([np.ravel(value) for value in shown.values()])
            assert np.array_equal(observations[step][index], expected.astype(np.float32))
            rows = [suite.step(actions[step, index]) for _ in range(repeat)]
            assert rewards[step][index] == sum(row.reward for row in rows)
            shown = rows[-1].observation


def assert_equal_over(name, steps):
    ours, theirs = make(f"{name}-mdp"), make_sync(f"{name}-mdp")
    ours.reset(seed=0)
    theirs.reset(seed=0)
    generator = np.random.default_rng(3)
    for _ in range(steps):
        actions = generator.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
        assert_same(ours.step(actions)[:4], theirs.step(actions)[:4])


def test_partial_reset_without_autoreset(short_episodes):
    disabled = AutoresetMode.DISABLED
    ours = make("walker-walk-mdp", autoreset_mode=disabled)
    theirs = make_sync("walker-walk-mdp", mode=disabled)
    actions = np.full(ours.action_space.shape, 0.3, np.float32)
    for env in (ours, theirs):
        env.reset(seed=0)
        for _ in range(3):
            env.step(actions)
    mask = np.array([True, False, True])
    results = [
        env.reset(seed=[7, None, 9], options={"reset_mask": mask.copy()}) for env in (ours, theirs)
    ]
    assert_same(results[0][0], results[1][0])
    assert_same(drop_stale(results[0][1]), drop_stale(results[1][1]))
    for _ in range(3):
        step = ours.step(actions)
        assert_same(step[:4], theirs.step(actions)[:4])
    np.testing.assert_array_equal(step[3], ~mask)  # Only the middle one is at its end.
    with pytest.raises(RuntimeError, match=r"environments \[1\]"):
        ours.step(actions)
    ours.reset(options={"reset_mask": ~mask})
    ours.step(actions)


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("mode", MODES)
def test_pictures_equal_those_of_single_environments(short_episodes, mode):
    kwargs = {"render_mode": "rgb_array", "render_width": 40, "render_height": 30}
    kwargs["action_repeat"] = 6  # Two steps an episode.
    ours = make("walker-run-visual", 2, autoreset_mode=mode, **kwargs)
    theirs = make_sync("walker-run-visual", 2, mode=mode, **kwargs)
    assert_same(ours.reset(seed=1), theirs.reset(seed=1))
    actions = np.full(ours.action_space.shape, 0.5, np.float32)
    for _ in range(3):
        step, expected = ours.step(actions), theirs.step(actions)
        assert_same(step[:4], expected[:4])
        assert_same(drop_stale(step[4]), drop_stale(expected[4]))
    assert_same(ours.render(), theirs.render())
    assert_same(ours.call("render_image"), theirs.call("render_image"))
    ours.close()
    ours.close()
    theirs.close()


@settings(max_examples=8, deadline=None)
@given(
    num_envs=st.integers(1, 5),
    num_threads=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_results_depend_neither_on_threads_nor_on_neighbours(num_envs, num_threads, seed):
    env = make("cheetah-run-lpomdp", num_envs, num_threads=num_threads)
    env.reset(seed=seed)
    single = gym.make("AIME/cheetah-run-lpomdp")
    single.reset(seed=seed + num_envs - 1)
    generator = np.random.default_rng(seed)
    actions = generator.uniform(-1, 1, (2, num_envs, 6)).astype(np.float32)
    for action in actions:
        observation, reward, *_ = env.step(action)
        expected, expected_reward, *_ = single.step(action[-1])
        np.testing.assert_array_equal(observation[-1], expected)
        assert reward[-1] == expected_reward
    env.close()


def test_seeds_as_a_list_as_a_number_and_none():
    env = make("reacher-hard-mdp", 2)
    listed = env.reset(seed=[3, 4])[0]
    np.testing.assert_array_equal(env.reset(seed=3)[0], listed)
    unseeded = env.reset()[0]
    assert not np.array_equal(unseeded, listed)
    assert not np.array_equal(unseeded[0], unseeded[1])
    with pytest.raises(ValueError, match="3 seeds"):
        env.reset(seed=[1, 2, 3])


def test_call_reaches_every_environment():
    env, sync = make("finger-turn_easy-mdp", 2), make_sync("finger-turn_easy-mdp", 2)
    env.reset(seed=0)
    sync.reset(seed=0)
    assert_same(env.call("get_physics_state"), sync.call("get_physics_state"))
    assert env.call("sensors") == sync.call("sensors")
    state = env.call("get_physics_state")[1]
    assert env.call("set_physics_state", state) == (None, None)
    assert_same(env.call("get_physics_state"), (state, state))
    assert env.get_attr("max_steps") == (500, 500)


def test_returned_arrays_are_the_callers():
    env = make("hopper-stand-mdp", 2)
    observation, info = env.reset(seed=0)
    kept = observation.copy(), {name: value.copy() for name, value in info["sensors"].items()}
    env.step(np.ones((2, 4), np.float32))
    np.testing.assert_array_equal(observation, kept[0])
    for name, values in info["sensors"].items():
        np.testing.assert_array_equal(values, kept[1][name])


def test_what_is_changed_in_single_environments_counts():
    env, sync = make("walker-run-mdp", 2), make_sync("walker-run-mdp", 2)
    actions = np.full((2, 6), 0.4, np.float32)
    for gravity in (-1.6, -9.81):  # One environment on the moon, then both on the earth.
        for each in (env, sync):
            each.unwrapped.envs[1].unwrapped.simulation.physics.model.opt.gravity[2] = gravity
            each.reset(seed=0)
        for _ in range(3):
            assert_same(env.step(actions)[:4], sync.step(actions)[:4])
        states = env.call("get_physics_state")
        assert_same(states, sync.call("get_physics_state"))
        for each in (env, sync):
            each.unwrapped.envs[0].unwrapped.set_physics_state(states[1])
        assert_same(env.step(actions)[:4], sync.step(actions)[:4])


def test_a_diverging_physics_is_an_error_in_any_thread():
    env = make("walker-run-mdp", 3, num_threads=2)
    env.reset(seed=0)
    for one in env.unwrapped.envs:
        one.simulation.physics.data.qvel[0] = 1e12
    with pytest.raises(RuntimeError, match="walker diverged"):
        env.step(np.zeros((3, 6), np.float32))
    env.reset(seed=0)
    env.step(np.zeros((3, 6), np.float32))


def test_the_integrator_decides_the_substep_order():
    assert Simulation("cartpole", "swingup", 1)._advance.__name__ == "runge_kutta"
    assert Simulation("walker", "run", 1)._advance.__name__ == "euler"


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_threads": 0}, "num_threads"),
        ({"autoreset_mode": "never"}, "never"),
        ({"render_mode": "human"}, "human"),
        ({"camera_id": 9}, "cameras"),
        ({"drawing": "Fast"}, "did you mean|there are exact, fast"),
    ],
)
def test_wrong_options_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        DMControlVectorEnv("walker", "run", "mdp", **kwargs)


def test_more_environments_than_memory_are_refused(monkeypatch):
    monkeypatch.setattr(vector, "_available_memory", lambda: 50_000_000)
    with pytest.raises(ValueError, match=r"1,000 environments need about 12.* GB .* for 3\."):
        make("walker-run-mdp", 1_000)
    assert make("walker-run-mdp", 2).num_envs == 2
    monkeypatch.setattr(vector, "_available_memory", lambda: None)  # Not told.
    assert make("walker-run-mdp", 5).num_envs == 5
    monkeypatch.undo()
    assert vector._available_memory() > 1_000_000


def test_wrong_calls_are_refused():
    env = make("walker-run-mdp", 2)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros((2, 6), np.float32))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(2, 6\)"):
        env.step(np.zeros((3, 6), np.float32))
    actions = np.full((2, 6), 1e38, np.float32)
    env.step(actions)  # Far beyond the limits, but a number.
    actions[1, 4] = np.nan
    with pytest.raises(ValueError, match="value 4 of environment 1 is nan"):
        env.step(actions)
    actions[0, 2] = -np.inf
    with pytest.raises(ValueError, match="value 2 of environment 0 is -inf, and 1 more"):
        env.step(actions)
    for mask in (np.ones(3, bool), np.zeros(2, bool), [True, False], np.ones(2)):
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})
