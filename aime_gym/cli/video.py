"""``aime-gym video``: an expert beside who imitates it, or an episode in a grid world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import gymnasium as gym
import tyro

from agents.runs.goal_video import check_video_path, film_grid
from aime_gym.cli.console import is_watched
from aime_gym.cli.outputs import writes
from aime_gym.cli.policies import Acting
from aime_gym.datasets import load_dataset
from aime_gym.evaluation.evaluate import EVAL_SEED, evaluate
from aime_gym.grid_ids import inner_id
from aime_gym.ids import check_env_id
from aime_gym.rendering import VIDEO_SIZE, check_drawing, imitation_video


@writes(out="file")
def video(
    acting: Annotated[Acting, tyro.conf.arg(name="")],
    *,
    out: Path,
    demos: str | None = None,
    demonstration: int = 0,
    seed: int = EVAL_SEED,
    size: int = VIDEO_SIZE,
    label: str | None = None,
    goals: bool | None = None,
) -> None:
    """Film a demonstration beside an episode of a policy; in a grid world, the episode alone.

    Args:
        acting: What acts, and where.
        out: An .mp4 file.
        demos: Demonstrations: a name of `aime-gym datasets list`, or a path; none in a grid world.
        demonstration: Number of the demonstration, from 0.
        seed: The policy's episode starts from it.
        size: Width and height of each picture, pixels.
        label: Text above the policy's picture; by default the name of its run or archive.
        goals: In a grid world: draw the policy's goals; by default where it has any.
    """
    if out.suffix != ".mp4" or size < 1:
        raise ValueError(
            f"A video is an .mp4 file with pictures of 1 pixel at least; got {out} and {size}."
        )
    if demos is None:
        if inner_id(check_env_id(acting.env)) is None:
            raise ValueError("A video needs --demos, which are shown beside the policy.")
        if label is not None:
            raise ValueError("A video of a grid world has no --label.")
        check_video_path(out)
        policy, best = acting.load(seed), not acting.sampled
        total = film_grid(out, policy, acting.env, seed, size, best, goals)
        print(f"{out}: a return of {total:.3f}.")
        return
    if goals is not None:
        raise ValueError("Goals are drawn in grid worlds, without --demos.")
    dataset = load_dataset(demos, progress_bar=is_watched())
    if not 0 <= demonstration < len(dataset):
        raise ValueError(
            f"There is no demonstration {demonstration}: {demos} has 0 to {len(dataset) - 1}."
        )
    with gym.make(check_env_id(acting.env)) as env:
        check_drawing(env, size)
        policy, best = acting.load(seed), not acting.sampled
        result = evaluate(
            policy,
            acting.env,
            1,
            seed=seed,
            deterministic=best,
            progress_bar=is_watched(),
            record=True,
        )
        imitators = {label or acting.name: result.trajectories[0]}
        shown = dataset[demonstration]
        imitation_video(out, env, shown, imitators, size, progress_bar=is_watched())
    print(f"{out}: a return of {result.mean:.1f}.")
