"""``aime-gym train``: experts, world models and agents."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.extras import SubcommandApp

app = SubcommandApp()


@app.command
def expert(
    *,
    env: str,
    total_timesteps: int = 100_000,
    algorithm: Literal["simba", "sac"] = "simba",
    seed: int = 0,
    folder: Path | None = None,
    record: Path | None = None,
) -> None:
    """Train an expert by reinforcement learning, recording every episode on the way.

    A run that was stopped goes on from its last checkpoint.

    Args:
        env: The environment, such as AIME/walker-run-mdp.
        total_timesteps: Agent steps.
        algorithm: simba (SBX; pip install aime-gym[expert]) or sac (Stable-Baselines3).
        seed: Of networks, environment and exploration.
        folder: The run folder; by default runs/expert-<body>-<task>-seed<seed>.
        record: Write every training episode here, as a dataset.
    """
    from agents.expert import ExpertConfig, train_expert

    name = env.split("/")[-1].rsplit("-", 1)[0]
    folder = folder or Path("runs") / f"expert-{name}-seed{seed}"
    config = ExpertConfig(env, total_timesteps, algorithm, seed)
    train_expert(config, folder, record)
    print(f"The best model is in {folder / 'best'}.")
