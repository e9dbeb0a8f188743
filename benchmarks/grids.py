"""Speed of grid worlds: MiniGrid, the engine, and the whole loop of AMIGo in each, in one run.

    python benchmarks/grids.py --env MiniGrid-KeyCorridorS3R3-v0
    python benchmarks/grids.py --env MiniGrid-DoorKey-8x8-v0 --out doorkey.json

Every path is measured in turn, again and again, and its median counts: other work on the machine
then slows them all. Rates are per second of the clock, and per second of a processor, which other
work changes less.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from timing import commit

import aime_gym  # noqa: F401 - registers the ids
from agents import AMIGoAgent, AMIGoConfig
from aime_gym.ids import check_env_id

Stretch = Callable[[], int]
"""Takes a number of steps, and returns how many."""

PACKAGES = ("aime-gym", "gymnasium", "minigrid", "numpy", "torch")


def stretch_of_minigrid(env_id: str, steps: int) -> Stretch:
    """MiniGrid as it is, with its own wrapper for the whole grid."""
    from minigrid.wrappers import FullyObsWrapper

    env = FullyObsWrapper(gym.make(env_id, disable_env_checker=True))
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 7, steps)

    def run() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return steps

    return run


def stretch_of_vector(env_id: str, num_envs: int, steps: int) -> Stretch:
    """Our vector of environments."""
    envs = gym.make_vec(env_id, num_envs, autoreset_mode="SameStep")
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 7, (steps, num_envs))

    def run() -> int:
        for row in actions:
            envs.step(row)
        return steps * num_envs

    return run


def register_separate(env_id: str, partial_view: bool) -> str:
    """The same environment in a class with a step of its own, which the engine leaves alone.

    Args:
        env_id: MiniGrid's id.
        partial_view: Whether every step makes the agent's partial view, too, as in MiniGrid.
    """
    kind: Any = type(gym.make(env_id, disable_env_checker=True).unwrapped)
    spec = gym.spec(env_id)

    def step(self: Any, action: int) -> Any:
        if partial_view:
            kind.gen_obs(self)
        return kind.step(self, action)

    separate = type("Separate", (kind,), {"step": step})
    name = "Whole-v0" if partial_view else "Separate-v0"
    gym.register(name, entry_point=lambda **options: separate(**spec.kwargs | options))
    return check_env_id(f"FullGrid/{name}")


class Split(BaseCallback):
    """Seconds of the clock and of a processor, in unrolls and in updates."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = {"unrolls": [0.0, 0.0], "updates": [0.0, 0.0]}

    def _add(self, name: str | None) -> None:
        now = time.perf_counter(), time.process_time()
        if name is not None:
            for index in range(2):
                self.seconds[name][index] += now[index] - self._since[index]
        self._since = now

    def _on_rollout_start(self) -> None:
        self._add("updates" if hasattr(self, "_since") else None)

    def _on_rollout_end(self) -> None:
        self._add("unrolls")

    def _on_training_end(self) -> None:
        self._add("updates")

    def _on_step(self) -> bool:
        return True


def rate(stretch: Stretch) -> tuple[float, float]:
    """Steps per second of the clock, and of a processor."""
    clock, processor = time.perf_counter(), time.process_time()
    steps = stretch()
    return steps / (time.perf_counter() - clock), steps / (time.process_time() - processor)


def measure(stretches: dict[str, Stretch], repeats: int) -> dict[str, list[float]]:
    """The median rates of several paths, which take turns."""
    for stretch in stretches.values():
        stretch()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in stretches}
    for _ in range(repeats):
        for name, stretch in stretches.items():
            rates[name].append(rate(stretch))
    return {n: [statistics.median(c) for c in zip(*r, strict=True)] for n, r in rates.items()}


def measure_loops(
    env_ids: dict[str, str], config: AMIGoConfig, frames: int, repeats: int
) -> dict[str, dict[str, list[float]]]:
    """Of the whole loop in each environment: frames per second, seconds per million frames."""
    agents = {name: AMIGoAgent(env_id, config=config) for name, env_id in env_ids.items()}
    for agent in agents.values():
        agent.learn(config.num_envs * config.unroll_length)
    found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in agents}
    for _ in range(repeats):
        for name, agent in agents.items():
            split, before = Split(), agent.num_timesteps
            agent.learn(frames, split, reset_num_timesteps=False)
            done = agent.num_timesteps - before
            seconds = {n: [s * 1e6 / done for s in both] for n, both in split.seconds.items()}
            rates = [1e6 / sum(both) for both in zip(*seconds.values(), strict=True)]
            found[name].append({"rate": rates, **seconds})
    return {
        name: {
            key: [statistics.median(row[key][index] for row in rows) for index in range(2)]
            for key in rows[0]
        }
        for name, rows in found.items()
    }


def main() -> None:
    """Measures, prints two tables, and writes a file where asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--env", default="MiniGrid-KeyCorridorS3R3-v0")
    parser.add_argument("--num-envs", type=int, default=256, help="of the engine alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import minigrid  # noqa: F401 - registers its ids

    config, grid = AMIGoConfig(), f"FullGrid/{options.env}"
    environments = {
        "engine": grid,
        "whole grid alone": register_separate(options.env, partial_view=False),
        "as MiniGrid": register_separate(options.env, partial_view=True),
    }
    steps = measure(
        {
            "minigrid": stretch_of_minigrid(options.env, 1_000),
            **{
                name: stretch_of_vector(env_id, config.num_envs, 100)
                for name, env_id in environments.items()
            },
            f"engine, {options.num_envs}": stretch_of_vector(grid, options.num_envs, 100),
        },
        options.repeats,
    )
    loops = measure_loops(
        environments,
        config,
        4 * config.num_envs * config.unroll_length,
        options.repeats,
    )
    environment = {name: [1e6 / value for value in steps[name]] for name in environments}
    print(f"{options.env}: steps per second of the clock and of a processor, and the ratio")
    for name, (clock, processor) in steps.items():
        print(f"  {name:20} {clock:10,.0f} {processor:10,.0f} {clock / steps['minigrid'][0]:7.1f}")
    print("AMIGo's loop: frames per second of both, the engine's ratio, seconds per million frames")
    for name, loop in loops.items():
        acting = loop["unrolls"][0] - environment[name][0]
        ratio = loops["engine"]["rate"][0] / loop["rate"][0]
        print(
            f"  {name:20} {loop['rate'][0]:10,.0f} {loop['rate'][1]:10,.0f} {ratio:7.1f}: "
            f"environments {environment[name][0]:.0f}, acting {acting:.0f}, "
            f"learning {loop['updates'][0]:.0f}"
        )
    if options.out is not None:
        report = {
            "commit": commit(),
            "env": options.env,
            "num_envs": {"engine": options.num_envs, "loop": config.num_envs},
            "threads": options.threads,
            "steps": steps,
            "loops": loops,
            "environment": environment,
            "units": "per second of the clock, and of a processor; seconds per million frames",
            "python": platform.python_version(),
            "machine": platform.machine(),
            "packages": {name: version(name) for name in PACKAGES},
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
