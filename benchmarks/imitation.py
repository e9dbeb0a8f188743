"""Scores of AIME over tasks, setups, variants and seeds: a grid that goes on where it stopped.

    python benchmarks/imitation.py --tasks walker-run walker-walk walker-stand --seeds 0 1 2
    python benchmarks/imitation.py --tasks walker-run --variants no-start no-prior --seeds 0 1 2
    python benchmarks/imitation.py --tasks cheetah-run --setups mdp lpomdp
    python benchmarks/imitation.py --tasks walker-run --every 250 --held-out 6 --folder runs/curves

A folder with cells that were scored several times can be drawn: --figure evidence.png.

Every cell is a JSON file in the folder; those that exist are not computed again. Processes with
other tasks or seeds may share the folder. The table of all cells is printed at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from agents import AIMEAgent, AIMEConfig
from agents.products import use_fast_products
from agents.runs.figures import determination
from aime_gym import evaluate, load_dataset
from aime_gym.datasets import Dataset
from aime_gym.files import atomic_write

JUDGED = 10  # Demonstrations whose inferred actions are compared with the true ones.
VARIANTS = {
    "default": AIMEConfig(),
    "no-start": AIMEConfig(start_updates=0),
    "no-prior": AIMEConfig(action_prior=0.0),
    "raw-features": AIMEConfig(standardize=False),
    "sampled-states": AIMEConfig(sample_states=True),
    "zero-starts": AIMEConfig(refresh_interval=None),
    "state-alone": AIMEConfig(see_observation=False),
    "paper": AIMEConfig.paper(),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of AIME."""

    task: str
    setup: str
    variant: str
    demonstrations: int
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return "-".join(map(str, dataclasses.astuple(self)))


def run(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Scores and R2 of the inferred actions at the start, and after updates of the evidence."""
    began = time.monotonic()
    body = cell.task.partition("-")[0]
    env_id = f"AIME/{cell.task}-{cell.setup}"
    demos = load_dataset(f"{cell.task}-expert")[: cell.demonstrations]
    config = VARIANTS[cell.variant]
    model = options.world_model or f"{body}-mix-{cell.setup}"
    agent = AIMEAgent(env_id, model, config, seed=cell.seed, device="cpu")
    found: dict[str, Any] = dataclasses.asdict(cell) | {"world_model": model, "scores": []}
    last = len(demos) - options.held_out
    shown, judged = demos[:last], demos[last:] if options.held_out else demos[:JUDGED]
    every = options.every or options.updates
    stages = [config.start_updates] if config.start_updates else []
    later = range(every, options.updates + 1, every)
    for total in [*stages, *(config.start_updates + updates for updates in later)]:
        done = agent.num_timesteps
        agent.learn(shown.observations_only(), total - done, reset_num_timesteps=not done)
        result = evaluate(agent, env_id, episodes=options.episodes)
        found["scores"].append(
            {
                "evidence_updates": total - config.start_updates,
                "score": result.score,
                "interval": result.score_interval,
                "r2": r2(agent, judged),
                "evidence_loss": agent.evidence_loss(judged),
            }
        )
    return found | {"seconds": round(time.monotonic() - began)}


def r2(agent: AIMEAgent, demos: Dataset) -> float:
    """Of the inferred actions, the mean over joints."""
    true = np.concatenate([t.actions for t in demos if t.actions is not None]).astype(float)
    inferred = np.concatenate(agent.infer_actions(demos)).astype(float)
    return float(determination(true, inferred).mean())


def main() -> None:
    """Computes the cells that are missing, and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--setups", nargs="+", default=["mdp"])
    parser.add_argument("--variants", nargs="+", default=["default"], choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--updates", type=int, default=1_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--every", type=int, help="updates of the evidence between two scores")
    parser.add_argument("--held-out", type=int, default=0, help="demonstrations that judge")
    parser.add_argument("--figure", type=Path, help="where to draw curves over the updates")
    parser.add_argument("--world-model")
    parser.add_argument("--folder", type=Path, default=Path("runs/imitation"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    use_fast_products()
    options.folder.mkdir(parents=True, exist_ok=True)
    for task, setup, variant, seed in itertools.product(
        options.tasks, options.setups, options.variants, options.seeds
    ):
        cell = Cell(task, setup, variant, options.demonstrations, seed)
        path = options.folder / f"{cell.name}.json"
        if not path.exists():
            found = run(cell, options)
            with atomic_write(path, "w") as file:
                json.dump(found, file, indent=1)
        print(line(json.loads(path.read_text())), flush=True)
    print("\n| cell | start: score, R2 | AIME: score, R2 |\n| --- | --- | --- |")
    cells = [json.loads(path.read_text()) for path in sorted(options.folder.glob("*.json"))]
    for found in cells:
        print(line(found))
    if options.figure:
        draw(cells, options.figure)


def line(found: dict[str, Any]) -> str:
    """A row of the table."""
    cell = Cell(**{field.name: found[field.name] for field in dataclasses.fields(Cell)})
    scores = [
        "{:.0f} ({:.0f} to {:.0f}), {:.2f}".format(s["score"], *s["interval"], s["r2"])
        for s in found["scores"]
    ]
    start = scores[0] if len(scores) > 1 else ""
    return f"| {cell.name} | {start} | {scores[-1]} |"


def draw(cells: list[dict[str, Any]], path: Path) -> None:
    """Score, R2 and loss over updates of the evidence, a line per cell."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    panels = {
        "score": "score (percent of the expert)",
        "r2": "R2 of the inferred actions",
        "evidence_loss": "loss from the start's (nats per row)",
    }
    for axes, (key, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for found in cells:
            updates = [s["evidence_updates"] for s in found["scores"]]
            values = np.array([s[key] for s in found["scores"]])
            if key == "evidence_loss":
                values = values - values[0]
            axes.plot(updates, values, marker="o", label=found["task"])
            if key == "score":
                low, high = np.transpose([s["interval"] for s in found["scores"]])
                axes.fill_between(updates, low, high, alpha=0.2)
        axes.set(xlabel="updates of the evidence", ylabel=label)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
