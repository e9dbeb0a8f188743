"""What a world model learns in equal time: by rows of data, or by cell, loss and learning rate.

    python benchmarks/phase1.py rows --out benchmarks/results/phase1-rows.json --figure one-step.png
    python benchmarks/phase1.py losses --out benchmarks/results/phase1-losses.json

The measure is the one-step error (see `agents.world_models.one_step`) on trajectories that no model
has learned from, and on whole demonstrations. Seconds are those of the processor, so other work on
the machine hardly matters; take one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents import TrainingConfig, WorldModel, WorldModelConfig
from agents.products import use_fast_products
from agents.world_models.one_step import one_step_errors
from aime_gym import load_dataset
from aime_gym.datasets import Dataset

ENV_ID = "AIME/walker-run-mdp"
TESTED = 400  # Trajectories of the embodiment data that no model learns from.
DEMONSTRATIONS = 10
MEASURED_UPDATES = 20  # For the seconds of one update.


@dataclass
class Case:
    """One model to train: what it learns from, and how; None for all rows."""

    rows: int | None = None
    config: WorldModelConfig = field(default_factory=WorldModelConfig.residual)
    learning_rate: float = TrainingConfig.learning_rate


def cases(study: str) -> dict[str, Case]:
    """The models of a study, by name."""
    if study == "rows":
        return {f"{rows:,}": Case(rows) for rows in (30_000, 100_000, 300_000, 1_000_000)}
    rssm, residual = WorldModelConfig.of_cell("rssm"), WorldModelConfig.residual()
    predicting = replace(rssm, prediction_scale=residual.prediction_scale)
    return {
        "RSSM": Case(config=rssm, learning_rate=1e-3),
        "RSSM, 4e-3": Case(config=rssm),
        "RSSM, predictions, 4e-3": Case(config=predicting),
        "residual": Case(config=replace(residual, prediction_scale=0.0), learning_rate=1e-3),
        "residual, predictions": Case(learning_rate=1e-3),
        "residual, predictions, 4e-3": Case(),
    }


class Stopwatch(BaseCallback):
    """Keeps the processor's time after every update."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def _on_step(self) -> bool:
        self.times.append(time.process_time())
        return True


def train(case: Case, data: Dataset, seconds: float) -> WorldModel:
    """A model that learns for so many seconds, at a rate that falls to a hundredth in that time."""
    if case.rows is not None:
        data = data[: max(1, round(case.rows / np.mean([len(t) for t in data])))]
    watch = Stopwatch()
    WorldModel(ENV_ID, case.config, device="cpu").learn(data, MEASURED_UPDATES, watch)
    updates = round(seconds / float(np.median(np.diff(watch.times))))
    training = TrainingConfig(
        learning_rate=case.learning_rate, decay_timesteps=updates, held_out_share=0.0
    )
    return WorldModel(ENV_ID, case.config, training, device="cpu").learn(data, updates)


def one_step_error(model: WorldModel, data: Dataset, scales: dict[str, torch.Tensor]) -> float:
    """The mean over all trajectories, rows and dimensions, in squared deviations."""
    errors = []
    for trajectory in data:
        found = one_step_errors(model.net, *model.tensors(trajectory), scales)
        errors.append(torch.cat([*found.values()], dim=-1).flatten())
    return float(torch.cat(errors).mean())


def main() -> None:
    """Trains, prints, and writes JSON and a figure where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("rows", "losses"))
    parser.add_argument("--dataset", default="walker-mix")
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    use_fast_products()
    whole = load_dataset(options.dataset)
    order = np.random.default_rng(0).permutation(len(whole))
    shuffled = Dataset([whole[i] for i in order], whole.card)
    learned, tested = shuffled[TESTED:], {"held out": shuffled[:TESTED]}
    for task in ("run", "walk", "stand"):
        tested[task] = load_dataset(f"walker-{task}-expert")[:DEMONSTRATIONS]
    scales = {
        name: torch.tensor(np.concatenate([t.sensors[name] for t in tested["held out"]]).std(0))
        for name in whole.sensor_shapes
    }
    results: dict[str, dict[str, float]] = {}
    for name, case in cases(options.study).items():
        model = train(case, learned, options.seconds)
        results[name] = {"updates": model.num_timesteps} | {
            part: one_step_error(model, data, scales) for part, data in tested.items()
        }
        print(name, {part: round(value, 4) for part, value in results[name].items()}, flush=True)
        if options.out is not None:
            options.out.write_text(
                json.dumps({"seconds": options.seconds, "errors": results}, indent=1) + "\n"
            )
    if options.figure is not None:
        draw(results, options.figure)


def draw(results: dict[str, dict[str, float]], figure: Path) -> None:
    """One line per kind of data, over the cases."""
    fig, axes = plt.subplots(figsize=(6, 3.5))
    for part in next(iter(results.values())):
        if part != "updates":
            axes.plot([*results], [errors[part] for errors in results.values()], "o-", label=part)
    axes.set(yscale="log", xlabel="rows of embodiment data", ylabel="one-step error")
    axes.legend()
    fig.savefig(figure, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
