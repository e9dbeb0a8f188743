"""Our pictures against dm_control's own, which are drawn in a process of their own."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import aime_gym  # noqa: F401 - registers the ids

pytestmark = pytest.mark.usefixtures("opengl")
STEPS = 3
THEIRS = """
import sys
import numpy as np
from dm_control import suite
body, task, camera, repeat, steps, path = sys.argv[1:]
env = suite.load(body, task, task_kwargs={"random": 5})
spec = env.action_spec()
generator = np.random.default_rng(0)
pictures = []
for episode in range(2):
    env.reset()
    for _ in range(int(steps)):
        action = generator.uniform(spec.minimum, spec.maximum).astype(np.float32)
        for _ in range(int(repeat)):
            env.step(action)
    pictures.append(env.physics.render(64, 64, camera_id=int(camera)))
np.save(path, pictures)
"""


def their_pictures(path, body, task, camera, repeat):
    subprocess.run(
        [sys.executable, "-c", THEIRS, body, task, *map(str, (camera, repeat, STEPS, path))],
        env={"MUJOCO_GL": "egl", "PATH": ""},
        check=True,
        timeout=120,
        capture_output=True,
    )
    return np.load(path)


@pytest.mark.parametrize(
    ("body", "task", "camera"),
    [("walker", "walk", 0), ("quadruped", "run", 2), ("quadruped", "escape", 2)],
)
def test_pictures_equal_dm_controls(tmp_path, monkeypatch, body, task, camera):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = gym.make(f"AIME/{body}-{task}-visual").unwrapped
    generator = np.random.default_rng(0)
    pictures = []
    for seed in (5, None):  # The second episode has another terrain in escape.
        env.reset(seed=seed)
        for _ in range(STEPS):
            action = generator.uniform(env.action_space.low, env.action_space.high)
            observation = env.step(action.astype(np.float32))[0]
        pictures.append(observation)
    expected = their_pictures(tmp_path / "theirs.npy", body, task, camera, env.action_repeat)
    np.testing.assert_array_equal(pictures, expected)
    assert len(np.unique(pictures)) > 10
    env.close()


@pytest.mark.parametrize("body", ["walker-run", "quadruped-run", "reacher-hard"])
def test_fast_pictures_differ_little_in_one_environment_and_in_many(body):
    """By edges alone; physics and settings of the model are those of exact ones."""
    single = {
        drawing: gym.make(f"AIME/{body}-visual", drawing=drawing) for drawing in ("exact", "fast")
    }
    many = gym.make_vec(f"AIME/{body}-visual", num_envs=2, drawing="fast")
    exact, fast = (env.reset(seed=3)[0].astype(int) for env in single.values())
    difference = np.abs(exact - fast)
    assert 0.1 < difference.mean() < 2
    assert (difference > 8).mean() < 0.1
    np.testing.assert_array_equal(many.reset(seed=3)[0][0], fast)
    first, second = (env.unwrapped.simulation.physics.model.ptr.vis for env in single.values())
    for part in ("quality", "global_"):
        assert str(getattr(first, part)) == str(getattr(second, part))
    for env in (*single.values(), many):
        env.close()


def test_render_size_and_camera():
    env = gym.make(
        "AIME/walker-run-mdp",
        render_mode="rgb_array",
        render_width=700,
        render_height=500,
        camera_id=1,
    )
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (500, 700, 3)
    assert picture.dtype == np.uint8
    base = gym.make("AIME/walker-run-mdp", render_mode="rgb_array").unwrapped
    base.reset(seed=0)
    assert base.render().shape == (480, 480, 3)
    np.testing.assert_array_equal(base.render_image(), env.unwrapped.render_image())
    for one in (env, base):
        one.close()
        one.close()


def test_human_mode_comes_from_gymnasium():
    with pytest.warns(UserWarning, match="HumanRendering"):
        env = gym.make("AIME/walker-run-mdp", render_mode="human")
    assert isinstance(env, gym.wrappers.HumanRendering)
    assert env.render_mode == "human"
    assert env.metadata["render_fps"] == env.unwrapped.metadata["render_fps"] == 20


def test_pictures_can_be_drawn_again_after_close():
    env = gym.make("AIME/pendulum-swingup-visual").unwrapped
    before = env.reset(seed=0)[0]
    env.close()
    np.testing.assert_array_equal(env.render_image(), before)
    env.close()
