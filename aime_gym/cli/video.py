"""``aime-gym video``: an expert beside who imitates it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aime_gym.cli.policies import Algorithm, Sampled, load_policy, policy_name
from aime_gym.cli.words import is_watched
from aime_gym.evaluation.evaluate import EVAL_SEED
from aime_gym.rendering import VIDEO_SIZE


def video(
    *,
    env: str,
    policy: str,
    demos: str,
    out: Path,
    demonstration: int = 0,
    seed: int = EVAL_SEED,
    sampled: Sampled = False,
    size: int = VIDEO_SIZE,
    label: str | None = None,
    sb3: Algorithm | None = None,
    device: str = "auto",
) -> None:
    """Film a demonstration beside an episode of a policy.

    Args:
        env: The environment, such as AIME/walker-run-mdp.
        policy: random, a run folder of `aime-gym train`, or an agent's archive (.zip).
        demos: Demonstrations: a name of `aime-gym datasets list`, or a path.
        out: An .mp4 file.
        demonstration: Number of the demonstration, from 0.
        seed: The policy's episode starts from it.
        sampled: Sample the policy's actions, instead of its best.
        size: Width and height of each picture, pixels.
        label: Above the policy's picture; by default the name of its run or archive.
        sb3: The algorithm, where the policy is a model of Stable-Baselines3.
        device: auto, cpu, cuda, ...
    """
    import gymnasium as gym

    from aime_gym.datasets import load_dataset
    from aime_gym.envs.setups import parse_env_id
    from aime_gym.evaluation.evaluate import evaluate
    from aime_gym.rendering import imitation_video

    parse_env_id(env)
    _check(out, size)
    dataset = load_dataset(demos, progress_bar=is_watched())
    if not 0 <= demonstration < len(dataset):
        raise ValueError(f"{demos} has demonstrations 0 to {len(dataset) - 1}: {demonstration}?")
    acting = load_policy(policy, env, sb3, seed, device)
    result = evaluate(acting, env, 1, seed=seed, deterministic=not sampled, record=True)
    imitators = {label or policy_name(policy): result.trajectories[0]}
    shown: gym.Env[Any, Any] = gym.make(env)
    imitation_video(out, shown, dataset[demonstration], imitators, size)
    shown.close()
    print(f"{out}: a return of {result.mean:.1f}.")


def _check(out: Path, size: int) -> None:
    """Finds out before the work whether there can be a video.

    Raises:
        ValueError: The file's ending or the size is wrong.
        RenderingUnavailable: There is no working OpenGL.
    """
    from aime_gym.envs.renderer import make_gl_context

    if out.suffix != ".mp4" or size < 1:
        raise ValueError(
            f"A video is an .mp4 file with pictures of 1 pixel at least; got {out} and {size}."
        )
    context, _ = make_gl_context(8, 8)
    context.free()
