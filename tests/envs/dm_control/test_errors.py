"""Mistakes get an answer which says what would be right."""

import logging
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.envs.dm_control.environment import DMControlEnv
from aime_gym.envs.dm_control.simulation import deprecations_silenced


def test_gymnasium_suggests_the_nearest_id():
    with pytest.raises(gym.error.NameNotFound, match="walker-flip-mdp"):
        gym.make("AIME/walker-fly-mdp")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("worker", "run", "mdp"), "walker"),
        (("walker", "hop", "mdp"), "stand"),
        (("walker", "run", "pixels"), "visual"),
    ],
)
def test_wrong_parts_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        DMControlEnv(*arguments)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"action_repeat": 0}, "action_repeat"),
        ({"action_repeat": 3}, "divide"),
        ({"camera_id": 2}, "cameras 0 to 1"),
        ({"camera_id": -2}, "cameras 0 to 1"),
        ({"render_width": 0}, "at least 1 pixel"),
        ({"render_mode": "depth"}, "rgb_array"),
        ({"drawing": "quick"}, "no drawing 'quick'.*exact, fast"),
    ],
)
def test_wrong_options_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        DMControlEnv("walker", "run", "mdp", **kwargs)


def test_wrong_actions_are_refused():
    env = gym.make("AIME/walker-run-mdp").unwrapped
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(6, np.float32))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(6,\), not \(5,\)"):
        env.step(np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.full(6, np.nan, np.float32))


def test_a_finished_episode_needs_a_reset(short_episodes):
    env = gym.make("AIME/pendulum-swingup-mdp").unwrapped
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[3] for _ in range(short_episodes // 2)]
    assert ends == [False] * (len(ends) - 1) + [True]
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(1, np.float32))


WITHOUT_OPENGL = """
import warnings
warnings.simplefilter("error")
import gymnasium as gym, numpy as np, aime_gym
env = gym.make("AIME/quadruped-escape-mdp")
env.reset(seed=0)
env.step(env.action_space.sample())
vector = gym.make_vec("AIME/walker-run-lpomdp", num_envs=2)
vector.reset(seed=0)
vector.step(np.zeros((2, 6), np.float32))
vector.close()
from aime_gym.opengl import RenderingUnavailable
try:
    gym.make("AIME/walker-run-visual").reset(seed=0)
except RenderingUnavailable as error:
    print(error)
"""


def test_without_opengl_vectors_work_and_pictures_explain():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENGL],
        env={**os.environ, "MUJOCO_GL": "disabled"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "MUJOCO_GL is 'disabled'" in result.stdout
    assert "egl" in result.stdout


def test_outdated_settings_in_the_suites_files_are_not_the_users_to_mend(monkeypatch):
    said = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: said.append(record.getMessage()))
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    try:
        gym.make("AIME/cheetah-run-mdp").close()
        with deprecations_silenced():
            logger.warning("something else")
        logger.warning("this is deprecated")
    finally:
        logger.removeHandler(handler)
    assert said == ["something else", "this is deprecated"]
