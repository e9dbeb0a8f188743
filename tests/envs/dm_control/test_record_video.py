"""Gymnasium's own films of these environments: the extra `video`."""

import gymnasium as gym
import imageio.v3
import pytest

import aime_gym  # noqa: F401


@pytest.mark.usefixtures("opengl")
def test_record_video_films_an_episode(tmp_path):
    env = gym.make(
        "AIME/cartpole-balance-mdp", render_mode="rgb_array", render_width=64, render_height=48
    )
    filming = gym.wrappers.RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: True)
    filming.reset(seed=0)
    for _ in range(5):
        filming.step(env.action_space.sample())
    filming.close()
    (film,) = tmp_path.glob("*.mp4")
    assert imageio.v3.imread(film).shape == (6, 48, 64, 3)
