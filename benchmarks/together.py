"""Time of AIME agents that learn in one batch, beside the same agents one after another.

    python benchmarks/together.py
    python benchmarks/together.py --agents 1 4 --threads 1
    python benchmarks/together.py --device cuda

The agents differ in their seeds; world model and demonstrations are those of the package. An update
of the evidence has its share of the filterings of all demonstrations, of which there is one every
so many updates.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from timing import in_turn, print_table, ratio, save, shown

import aime_gym
from agents import AIMEAgent, AIMEConfig, WorldModel, learn_together
from aime_gym.datasets import Dataset


class Stopwatch(BaseCallback):
    """Keeps the seconds of every update."""

    def _on_training_start(self) -> None:
        self.seconds: list[float] = []
        self._last = self._now()

    def _now(self) -> float:
        """The time when all is done that a GPU was told to do."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def _on_step(self) -> bool:
        now = self._now()
        self.seconds.append(now - self._last)
        self._last = now
        return True


class Group:
    """Agents with seeds of their own that make updates of one kind, together or in turn.

    Args:
        model: The world model.
        env: The environment's id.
        data: The demonstrations.
        kind: Settings, with updates of the start where they have any, and updates in a round.
        size: Number of agents.
        device: Where they learn.
    """

    def __init__(
        self,
        model: WorldModel,
        env: str,
        data: Dataset,
        kind: tuple[AIMEConfig, int],
        size: int,
        device: str,
    ) -> None:
        self._config, self._updates = kind
        self._agents = [
            AIMEAgent(env, model, self._config, seed=n, device=device) for n in range(size)
        ]
        self._data = data

    def together(self) -> float:
        """Seconds of an update of all in one batch."""
        watches = [Stopwatch() for _ in self._agents]
        learn_together(self._agents, self._data, self._updates, watches)
        return self._per_update(watches[-1])

    def one_by_one(self) -> float:
        """Seconds of an update of each."""
        total = 0.0
        for agent in self._agents:
            watch = Stopwatch()
            agent.learn(self._data, self._updates, watch)
            total += self._per_update(watch)
        return total

    def _per_update(self, watch: Stopwatch) -> float:
        """Seconds; the first update prepares, and one in so many filters all demonstrations."""
        usual = float(np.median(watch.seconds[1:]))
        interval = self._config.refresh_interval
        if self._config.start_updates or interval is None:
            return usual
        filtering = watch.seconds[(self._updates - 1) // interval * interval] - usual
        return usual + max(filtering, 0.0) / interval


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--env", default="AIME/walker-run-mdp")
    parser.add_argument("--model", default="walker-mix-mdp")
    parser.add_argument("--demonstrations", default="walker-run-expert")
    parser.add_argument("--agents", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--kinds", nargs="+", default=["start", "evidence", "evidence, published"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = aime_gym.load_dataset(options.demonstrations)
    model = WorldModel.load(options.model, device="cpu")
    on_gpu = options.device != "cpu"  # Replays are measured: of the filtering, from the fifth on.
    kinds = {
        "start": (AIMEConfig(), 300 if on_gpu else 30),
        "evidence": (AIMEConfig(start_updates=0), 110 if on_gpu else 4),
        "evidence, published": (AIMEConfig.paper(), 40 if on_gpu else 3),
    }
    results: dict[str, Any] = {}
    rows = []
    kinds = {name: kind for name, kind in kinds.items() if name in options.kinds}
    for name, kind in kinds.items():
        for size in options.agents:
            group = Group(model, options.env, data, kind, size, options.device)
            seconds = in_turn(
                {"together": group.together, "one by one": group.one_by_one}, options.rounds
            )
            found = ratio(seconds, "together", "one by one")
            medians = {path: float(np.median(values)) for path, values in seconds.items()}
            results[f"{name}, {size}"] = {"seconds": medians, "of one by one": found}
            times = (f"{1_000 * value:.1f}" for value in medians.values())
            print(f"{name}, {size}: {shown(found)}", flush=True)
            rows.append((name, str(size), *times, shown(found)))
    print_table(("update", "agents", "ms together", "ms one by one", "ratio"), rows)
    save("together", vars(options), results, options.out)


if __name__ == "__main__":
    main()
