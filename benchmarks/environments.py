"""Speed of the environments, all in one run: dm_control, one of ours, and ours in batches.

    python benchmarks/environments.py --body walker --task run
    python benchmarks/environments.py --body cheetah --out benchmarks/results/cheetah.json

Every path is measured in turn, again and again, and its median counts: other work on the machine
then slows them all. Control steps per second are comparable between paths; the ratio is to
dm_control.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import aime_gym  # noqa: F401 - registers the ids

Stretch = Callable[[], int]
"""Runs a stretch of one way to step or draw; returns how many steps or images it was."""

PACKAGES = ("aime-gym", "dm_control", "gymnasium", "mujoco", "numpy")


def stretch_of_suite(body: str, task: str, steps: int) -> Stretch:
    """dm_control's own `env.step`, with the suite's own task."""
    from aime_gym.envs.dm_control.setups import get_body, get_task
    from aime_gym.envs.dm_control.simulation import load_suite

    env = load_suite(body, get_task(get_body(body), task).suite_task)
    spec = env.action_spec()
    actions = np.random.default_rng(0).uniform(spec.minimum, spec.maximum, (steps, *spec.shape))
    env.reset()

    def run() -> int:
        for action in actions:
            env.step(action)
        return steps

    return run


def stretch_of_single(body: str, task: str, steps: int) -> Stretch:
    """Our environment from `gymnasium.make`, unwrapped."""
    env: Any = gym.make(f"AIME/{body}-{task}-mdp").unwrapped
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps // env.action_repeat)]
    env.reset(seed=0)

    def run() -> int:
        for action in actions:
            if env.step(action)[3]:
                env.reset()
        return len(actions) * int(env.action_repeat)

    return run


def stretch_of_vector(body: str, task: str, steps: int, num_envs: int, threads: int) -> Stretch:
    """Our batched environment."""
    env: Any = gym.make_vec(
        f"AIME/{body}-{task}-mdp", num_envs=num_envs, num_threads=threads
    ).unwrapped
    repeat: int = env.envs[0].action_repeat
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(max(1, steps // repeat // num_envs))]
    env.reset(seed=0)

    def run() -> int:
        for action in actions:
            env.step(action)
        return len(actions) * repeat * num_envs

    return run


def stretch_of_images(body: str, task: str, images: int) -> Stretch:
    """64x64 pictures, without stepping between them."""
    env: Any = gym.make(f"AIME/{body}-{task}-mdp").unwrapped
    env.reset(seed=0)
    env.render_image()

    def run() -> int:
        for _ in range(images):
            env.render_image()
        return images

    return run


def rates(paths: dict[str, Stretch], rounds: int) -> dict[str, float]:
    """Steps or images a second of each path: the median over the rounds."""
    seen: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, run in paths.items():
            start = time.perf_counter()
            count = run()
            seen[name].append(count / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in seen.items()}


def commit() -> str:
    """The commit of this checkout, with ``-dirty`` where files differ from it."""
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"


def main() -> None:
    """Measures, prints a table, and writes a file where asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--body", default="walker")
    parser.add_argument("--task", default="run")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1_600, help="control steps a round and path")
    parser.add_argument("--images", type=int, default=20, help="pictures a round; 0 for none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    args = parser.parse_args()

    paths = {
        "dm_control": stretch_of_suite(args.body, args.task, args.steps),
        "single": stretch_of_single(args.body, args.task, args.steps),
        **{
            f"vector, {threads} thread{'s' if threads > 1 else ''}": stretch_of_vector(
                args.body, args.task, args.steps, args.num_envs, threads
            )
            for threads in (1, 2)
        },
    }
    rate = rates(paths, args.rounds)
    print(f"{args.body}-{args.task}, {args.num_envs} environments in a vector")
    print(f"{'path':<20}{'control steps/s':>16}{'ratio':>8}")
    for name, value in rate.items():
        print(f"{name:<20}{value:>16.0f}{value / rate['dm_control']:>8.2f}")
    result: dict[str, Any] = {
        "commit": commit(),
        "options": {key: value for key, value in vars(args).items() if key != "out"},
        "machine": {"processor": platform.machine(), "system": platform.platform()},
        "versions": {package: version(package) for package in PACKAGES},
        "control_steps_per_second": rate,
        "ratio_to_dm_control": {name: value / rate["dm_control"] for name, value in rate.items()},
    }
    if args.images:
        images = rates({"images": stretch_of_images(args.body, args.task, args.images)}, 3)
        result["images_per_second"] = images["images"]
        print(f"{'64x64 images/s':<20}{images['images']:>16.1f}")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
