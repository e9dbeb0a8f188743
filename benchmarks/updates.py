"""Time of one gradient update of phase 1 and phase 2, at the paper's sizes.

    python benchmarks/updates.py
    python benchmarks/updates.py --cell rssmo --setup visual --device cuda --out results.json

Data are random and on the device; an update is loss, backward, clipping and Adam. The median over
the repetitions counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents import AIMEAgent, AIMEConfig, TrainingConfig, WorldModel, WorldModelConfig
from aime_gym.datasets import Card, Dataset, Trajectory

ROWS, ACTIONS = 501, 6
SENSORS = {"orientations": 14, "height": 1, "velocity": 9}


def random_data(images: bool, episodes: int = 4) -> Dataset:
    """Noise in the shape of walker episodes."""
    generator = np.random.default_rng(0)

    def trajectory() -> Trajectory:
        sensors = {
            name: generator.normal(size=(ROWS, size)).astype(np.float32)
            for name, size in SENSORS.items()
        }
        if images:
            sensors["image"] = generator.integers(0, 256, (ROWS, 64, 64, 3), dtype=np.uint8)
        actions = generator.uniform(-1, 1, (ROWS - 1, ACTIONS)).astype(np.float32)
        return Trajectory(sensors, actions, np.zeros(ROWS - 1, np.float32))

    return Dataset([trajectory() for _ in range(episodes)], Card("noise", "walker"))


class Stopwatch(BaseCallback):
    """Notes when each update is finished."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self.times: list[float] = []

    def _on_step(self) -> bool:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.times.append(time.perf_counter())
        return True


def seconds_per_update(
    learner: WorldModel | AIMEAgent, data: Dataset, device: torch.device, repetitions: int
) -> float:
    """Median seconds of one update, the first left out."""
    watch = Stopwatch(device)
    learner.learn(data, repetitions + 2, callback=watch)
    return float(np.median(np.diff(watch.times)[1:]))


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Phase name -> seconds per update."""
    env_id = f"AIME/walker-walk-{options.setup}"
    kinds = {"rssm": WorldModelConfig(), "rssmo": WorldModelConfig.rssmo()}
    size = {"batch_size": options.batch_size, "sequence_length": options.sequence_length}
    data = random_data(options.setup == "visual")
    device = torch.device(options.device)
    model = WorldModel(env_id, kinds[options.cell], TrainingConfig(**size), device=options.device)
    results = {}
    results["phase 1"] = seconds_per_update(model, data, device, options.repetitions)
    for objective in ("elbo", "kl_only"):
        config = AIMEConfig(objective=objective, **size)
        agent = AIMEAgent(env_id, model, config, device=options.device)
        results[f"phase 2, {objective}"] = seconds_per_update(
            agent, data, device, options.repetitions
        )
    return results


def main() -> None:
    """Measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=("rssm", "rssmo"), default="rssm")
    parser.add_argument("--setup", choices=("mdp", "lpomdp", "visual"), default="mdp")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--sequence-length", type=int, default=50)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = measure(options)
    for phase, seconds in results.items():
        print(f"{options.cell} {options.setup}, {phase}: {1_000 * seconds:.0f} ms an update")
    if options.out is not None:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        report = {
            "seconds_per_update": results,
            "options": {k: v for k, v in vars(options).items() if k != "out"},
            "torch": torch.__version__,
            "machine": platform.machine(),
            "commit": commit.stdout.strip(),
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
