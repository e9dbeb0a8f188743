"""Our environments against dm_control's suite and Shimmy, to the bit."""

import gymnasium as gym
import numpy as np
import pytest
from shimmy.dm_control_compatibility import DmControlCompatibilityV0

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.envs.dm_control.setups import get_body, get_task
from aime_gym.envs.dm_control.simulation import load_suite
from aime_gym.envs.dm_control.tasks import BODIES

SUITE_TASKS = [
    (body.name, name)
    for body in BODIES.values()
    for name, task in body.tasks.items()
    if task.reward is None
]
WHOLE = {("walker", "run"), ("cheetah", "run")}
REPEAT = 2
# Added task -> its reward, from the suite's summed stand reward, qvel by joint name, and height.
FORMULAE = {
    ("cheetah", "runbackward"): lambda stand, v, z: np.clip(-v["rootx"] / 10, 0, 1),
    ("cheetah", "flip"): lambda stand, v, z: np.clip(v["rooty"] / 5, 0, 1),
    ("cheetah", "flipbackward"): lambda stand, v, z: np.clip(-v["rooty"] / 5, 0, 1),
    ("walker", "flip"): lambda stand, v, z: np.clip(v["rooty"] / 5, 0, 1),
    ("walker", "flipbackward"): lambda stand, v, z: np.clip(-v["rooty"] / 5, 0, 1),
    ("walker", "jump"): lambda stand, v, z: np.clip(z / 5, 0, 1),
    ("walker", "walkbackward"): lambda stand, v, z: (
        stand * (5 * np.clip(-v["rootx"] / 1, 0, 1) + 1) / 6
    ),
    ("walker", "runbackward"): lambda stand, v, z: (
        stand * (5 * np.clip(-v["rootx"] / 8, 0, 1) + 1) / 6
    ),
}


def make_pair(body, task, seed):
    """Our mdp environment and the suite's, seeded alike."""
    env = gym.make(f"AIME/{body}-{task}-mdp").unwrapped
    suite = load_suite(body, get_task(get_body(body), task).suite_task)
    suite.task._random = np.random.RandomState(seed)
    suite.physics._make_rendering_contexts = lambda: None  # Escape asks for them at a reset.
    return env, suite


def flatten(observation, names):
    return np.concatenate([np.ravel(observation[name]) for name in names]).astype(np.float32)


@pytest.mark.parametrize(("body", "task"), SUITE_TASKS)
def test_suite_tasks_equal_dm_control(body, task):
    env, suite = make_pair(body, task, seed=7)
    generator = np.random.default_rng(1)
    for episode in range(2):  # The second one starts from the same, ongoing random stream.
        observation, info = env.reset(seed=7 if episode == 0 else None)
        expected = suite.reset().observation
        assert list(info["sensors"]) == list(expected)
        names, steps = list(expected), env.max_steps if (body, task) in WHOLE else 6
        for step in range(steps):
            np.testing.assert_array_equal(observation, flatten(expected, names))
            for name in names:
                np.testing.assert_array_equal(
                    info["sensors"][name], np.ravel(expected[name]).astype(np.float32)
                )
            action = generator.uniform(env.action_space.low, env.action_space.high)
            action = action.astype(np.float32)
            observation, reward, terminated, truncated, info = env.step(action)
            time_steps = [suite.step(action) for _ in range(env.action_repeat)]
            expected = time_steps[-1].observation
            assert reward == sum(time_step.reward for time_step in time_steps)
            assert not terminated
            assert truncated == time_steps[-1].last() == (step + 1 == env.max_steps)


@pytest.mark.parametrize(("body", "task"), sorted(FORMULAE))
def test_added_tasks_have_the_papers_rewards(body, task):
    env, suite = make_pair(body, task, seed=3)
    env.reset(seed=3)
    suite.reset()
    generator = np.random.default_rng(2)
    rewards = []
    for _ in range(60):
        action = generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        reward = env.step(action)[1]
        summed = sum(suite.step(action).reward for _ in range(REPEAT))
        height = suite.physics.named.data.xpos["torso", "z"]
        expected = FORMULAE[body, task](summed, suite.physics.named.data.qvel, height)
        assert reward == pytest.approx(expected, rel=1e-12, abs=0)
        rewards.append(reward)
    assert max(rewards) > 0
    assert 0 <= min(rewards) < max(rewards) <= (REPEAT if "run" in task or "walk" in task else 1)


def test_every_added_task_has_a_formula():
    added = {
        (body.name, name)
        for body in BODIES.values()
        for name, task in body.tasks.items()
        if task.reward is not None
    }
    assert added == set(FORMULAE)


@pytest.mark.parametrize("task", ["walkbackward", "runbackward"])
def test_walker_backward_follows_the_horizontal_speed(task):
    env = gym.make(f"AIME/walker-{task}-mdp").unwrapped
    rewards = {}
    for joint in ("rootx", "rootz"):
        env.reset(seed=0)
        physics = env.simulation.physics
        with physics.reset_context():  # Upright, at full speed along one axis.
            physics.named.data.qvel[joint] = -9.0
        rewards[joint] = env.step(np.zeros(6, np.float32))[1]
    assert rewards["rootx"] > 1.5 * rewards["rootz"] > 0


def test_shimmy_gives_the_same():
    theirs = DmControlCompatibilityV0(load_suite("hopper", "hop"))
    ours = gym.make("AIME/hopper-hop-mdp", action_repeat=1)
    expected, _ = theirs.reset(seed=11)
    observation, _ = ours.reset(seed=11)
    ours.action_space.seed(0)
    for _ in range(20):
        np.testing.assert_array_equal(observation, flatten(expected, list(expected)))
        action = ours.action_space.sample()
        observation, reward, *_ = ours.step(action)
        expected, their_reward, *_ = theirs.step(action)
        assert reward == their_reward


@pytest.mark.parametrize("body", ["walker", "quadruped"])
def test_lpomdp_hides_velocities_alone(body):
    task = next(iter(BODIES[body].tasks))
    full = gym.make(f"AIME/{body}-{task}-mdp").unwrapped
    partial = gym.make(f"AIME/{body}-{task}-lpomdp").unwrapped
    observation, info = partial.reset(seed=0)
    first = [s.name for s in BODIES[body].sensors if s.order == "first"]
    np.testing.assert_array_equal(observation, flatten(info["sensors"], first))
    everything, full_info = full.reset(seed=0)
    for name, place in full.sensors.items():
        np.testing.assert_array_equal(everything[place.slice], full_info["sensors"][name])
        hidden = partial.sensors[name].slice is None
        assert hidden == (place.order == "second")


def test_actions_beyond_the_limits_are_clipped():
    env = gym.make("AIME/walker-walk-mdp").unwrapped
    outcomes = []
    for size in (1.0, 50.0):
        env.reset(seed=0)
        outcomes.append(env.step(np.full(6, size, np.float32))[0])
    np.testing.assert_array_equal(*outcomes)
