"""Films of grid worlds, with the goal that the student is told to reach."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agents.amigo import AMIGoAgent
from aime_gym.grid_ids import inner_id
from aime_gym.ids import check_env_id
from aime_gym.rendering import FPS, Frames, write_video
from aime_gym.rollout import Policy, State

GOAL_COLOUR = (255, 0, 255)
SMALLEST_TILE = 8  # Pixels of a cell.


def check_video_path(path: Path) -> None:
    """Checks that a video can be written, before there is one.

    Raises:
        OSError: Its folder cannot be made or written to, or the path is a folder.
        ValueError: It is no .mp4 file.
    """
    if path.suffix != ".mp4":
        raise ValueError(f"Videos are .mp4 files; got {path.name!r}.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; a video is an .mp4 file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def film_grid(
    path: Path,
    policy: Policy,
    env_id: str,
    seed: int,
    size: int,
    deterministic: bool = False,
    goals: bool | None = None,
) -> float:
    """Films an episode of a policy in a grid world.

    Args:
        path: An ``.mp4`` file.
        policy: What acts.
        env_id: The grid world.
        seed: The episode starts from it.
        size: Width or height of the picture, whichever is larger, pixels; about.
        deterministic: Take the best actions and goals, not sampled ones.
        goals: Draw the goals; None where there are any.

    Returns:
        The episode's return.

    Raises:
        OSError: The video cannot be written.
        ValueError: Goals are asked for, and the policy has none; or it is no grid world.
    """
    check_video_path(path)
    has_goals = isinstance(policy, AMIGoAgent) and policy.teacher is not None
    if goals and not has_goals:
        if isinstance(policy, AMIGoAgent):
            policy.check_teacher()
        raise ValueError("Only an AMIGoAgent has goals that could be drawn.")
    name = check_env_id(env_id)
    if inner_id(name) is None:
        raise ValueError(f"{env_id} is no grid world.")
    with gym.make(name) as plain:
        tile = max(size // max(plain.unwrapped.grid_shape), SMALLEST_TILE)  # type: ignore[attr-defined]
    with gym.make(name, render_mode="rgb_array", tile_size=tile, highlight=False) as env:
        episode = _play(env, policy, seed, deterministic)
        rewards: list[float] = []
        drawn = has_goals if goals is None else goals
        fps = env.unwrapped.metadata.get("render_fps", FPS)
        write_video(path, _pictures(episode, tile, env, drawn, rewards), fps)
    return sum(rewards)


def _play(
    env: gym.Env[Any, Any], policy: Policy, seed: int, deterministic: bool
) -> Iterator[tuple[Frames, State | None, float]]:
    """Pictures, states of the policy, and rewards of the steps that led there."""
    observation, _ = env.reset(seed=seed)
    state: State | None = None
    reward, start, over = 0.0, np.ones(1, dtype=bool), False
    while not over:
        action, state = policy.predict(observation[None], state, start, deterministic)
        yield _picture(env), state, reward
        observation, paid, terminated, truncated, _ = env.step(action[0])
        reward, over, start = float(paid), terminated or truncated, np.zeros(1, dtype=bool)
    yield _picture(env), state, reward


def _picture(env: gym.Env[Any, Any]) -> Frames:
    picture: Any = env.render()
    return np.asarray(picture, dtype=np.uint8)


def _pictures(
    episode: Iterator[tuple[Frames, State | None, float]],
    tile: int,
    env: gym.Env[Any, Any],
    drawn: bool,
    rewards: list[float],
) -> Iterator[Frames]:
    height = env.unwrapped.grid_shape[1]  # type: ignore[attr-defined]
    for picture, state, reward in episode:
        rewards.append(reward)
        if drawn and state is not None:
            picture = draw_goal(picture, divmod(int(state[0][0]), height), tile)
        yield picture


def draw_goal(picture: Frames, cell: tuple[int, int], tile: int) -> NDArray[np.uint8]:
    """The picture with a frame around a cell (x, y) of so many pixels."""
    drawn, width = picture.copy(), max(1, tile // 8)
    left, top = cell[0] * tile, cell[1] * tile
    inside = drawn[top + width : top + tile - width, left + width : left + tile - width].copy()
    drawn[top : top + tile, left : left + tile] = GOAL_COLOUR
    drawn[top + width : top + tile - width, left + width : left + tile - width] = inside
    return drawn
