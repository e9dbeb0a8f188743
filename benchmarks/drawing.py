"""Time of the pictures of visual environments, drawn exactly and fast, and how these differ.

    python benchmarks/drawing.py
    python benchmarks/drawing.py --tasks walker-run --pictures 20

Both draw the same states, those of random actions. Differences are of the pictures' values, from 0
to 255: their mean over all, their 99th percentile, and the largest.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from timing import in_turn, print_table, ratio, save, seconds_of, shown

import aime_gym  # noqa: F401

TASKS = ("walker-run", "cheetah-run", "humanoid-run", "quadruped-run", "reacher-hard")


class Pair:
    """Two environments in the same state, one that draws exactly and one that draws fast."""

    def __init__(self, task: str) -> None:
        self._envs = {
            drawing: gym.make(f"AIME/{task}-visual", drawing=drawing).unwrapped
            for drawing in ("exact", "fast")
        }
        self.differences: list[Any] = []
        for env in self._envs.values():
            env.reset(seed=0)
            env.action_space.seed(0)

    def draw(self, drawing: str) -> float:
        """Seconds of a picture, after a step."""
        env: Any = self._envs[drawing]
        env.simulation.step(env.clip(env.action_space.sample()))
        seconds = seconds_of(env.render_image)
        if drawing == "fast":
            exact, fast = (each.render_image().astype(int) for each in self._envs.values())
            self.differences.append(np.abs(exact - fast))
        return seconds

    def close(self) -> None:
        """Frees the graphics memory."""
        for env in self._envs.values():
            env.close()


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=[*TASKS])
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    rows = []
    for task in options.tasks:
        pair = Pair(task)
        seconds = in_turn(
            {name: partial(pair.draw, name) for name in ("exact", "fast")},
            options.pictures,
        )
        differences = np.stack(pair.differences)
        found = {
            "seconds": {name: float(np.median(values)) for name, values in seconds.items()},
            "times as fast": ratio(seconds, "exact", "fast"),
            "difference": {
                "mean": float(differences.mean()),
                "99%": float(np.quantile(differences, 0.99)),
                "largest": int(differences.max()),
            },
        }
        pair.close()
        results[task] = found
        times = [f"{1_000 * value:.1f}" for value in found["seconds"].values()]
        differ = [f"{value:.2f}" for value in found["difference"].values()]
        rows.append((task, *times, shown(found["times as fast"]), *differ))
    print_table(
        ("task", "ms exact", "ms fast", "times as fast", "mean", "99%", "largest difference"), rows
    )
    save("drawing", vars(options), results, options.out)


if __name__ == "__main__":
    main()
