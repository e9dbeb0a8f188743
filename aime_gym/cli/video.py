"""``aime-gym video``: an expert beside who imitates it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import tyro

from aime_gym.cli.console import is_watched
from aime_gym.cli.policies import Acting
from aime_gym.datasets import load_dataset
from aime_gym.evaluation.evaluate import EVAL_SEED, evaluate
from aime_gym.ids import check_env_id
from aime_gym.physics import get_physics_state
from aime_gym.rendering import VIDEO_SIZE, imitation_video, render_states


def video(
    acting: Annotated[Acting, tyro.conf.arg(name="")],
    *,
    demos: str,
    out: Path,
    demonstration: int = 0,
    seed: int = EVAL_SEED,
    size: int = VIDEO_SIZE,
    label: str | None = None,
) -> None:
    """Film a demonstration beside an episode of a policy.

    Args:
        acting: What acts, and where.
        demos: Demonstrations: a name of `aime-gym datasets list`, or a path.
        out: An .mp4 file.
        demonstration: Number of the demonstration, from 0.
        seed: The policy's episode starts from it.
        size: Width and height of each picture, pixels.
        label: Text above the policy's picture; by default the name of its run or archive.
    """
    if out.suffix != ".mp4" or size < 1:
        raise ValueError(
            f"A video is an .mp4 file with pictures of 1 pixel at least; got {out} and {size}."
        )
    dataset = load_dataset(demos, progress_bar=is_watched())
    if not 0 <= demonstration < len(dataset):
        raise ValueError(f"{demos} has demonstrations 0 to {len(dataset) - 1}: {demonstration}?")
    with gym.make(check_env_id(acting.env)) as env:
        _check_drawing(env, size)
        policy, best = acting.load(seed), not acting.sampled
        result = evaluate(policy, acting.env, 1, seed=seed, deterministic=best, record=True)
        imitators = {label or acting.name: result.trajectories[0]}
        imitation_video(out, env, dataset[demonstration], imitators, size)
    print(f"{out}: a return of {result.mean:.1f}.")


def _check_drawing(env: gym.Env[Any, Any], size: int) -> None:
    """Draws one picture, to find out before the work whether there can be a video.

    Raises:
        ValueError: The environment draws no pictures.
        RenderingUnavailable: There is no working OpenGL.
        ModuleNotFoundError: What the environment draws with is not installed.
    """
    env.reset(seed=0)
    state = get_physics_state(env)
    if state is not None:
        render_states(env, state[None], size, size)
