"""Time of an evaluation in many environments at once and in one, and of a prediction.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --env AIME/cheetah-run-mdp --model cheetah-mix-mdp

The agent is AIME's, whose policy filters what it sees with its world model; that it is not trained
changes no time. Episodes in one environment are fewer, and times are per episode.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from timing import in_turn, print_table, ratio, save, seconds_of, shown

from agents import AIMEAgent
from agents.products import use_fast_products
from aime_gym import evaluate

PREDICTIONS = 200


def evaluations(agent: AIMEAgent, env_id: str, episodes: int) -> dict[str, Callable[[], float]]:
    """Seconds per episode: as many environments as evaluations have, or one."""

    def seconds(num_envs: int | None, count: int) -> float:
        run = seconds_of(lambda: evaluate(agent, env_id, count, num_envs=num_envs))
        return run / count

    return {"together": lambda: seconds(None, episodes), "one by one": lambda: seconds(1, 1)}


def predictions(agent: AIMEAgent, env_id: str) -> dict[str, Callable[[], float]]:
    """Seconds of `predict`, and of the networks behind it alone."""
    env = gym.make(env_id)
    observation, _ = env.reset(seed=0)

    def predict() -> None:
        state, start = None, np.ones(1, dtype=bool)
        for _ in range(PREDICTIONS):
            _, state = agent.predict(observation, state, start, deterministic=True)
            start = np.zeros(1, dtype=bool)

    model, policy = agent.world_model, agent.policy
    sizes = agent.env_info.visible
    seen = {name: torch.zeros(1, size) for name, size in sizes.items()}
    action = torch.zeros(1, model.action_dim)

    @torch.no_grad()
    def networks() -> None:
        latent = model.cell.initial(1)
        noise = torch.zeros_like(latent.stoch)
        for _ in range(PREDICTIONS):
            embed = model.embed(seen)
            latent, _ = model.cell.observe(latent, action, embed, noise)
            policy(policy.inputs(latent.feature, embed))

    return {
        "predict": lambda: seconds_of(predict) / PREDICTIONS,
        "its networks": lambda: seconds_of(networks) / PREDICTIONS,
    }


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--env", default="AIME/walker-run-mdp")
    parser.add_argument("--model", default="walker-mix-mdp")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    use_fast_products()
    agent = AIMEAgent(options.env, options.model, device="cpu")
    episodes = in_turn(evaluations(agent, options.env, options.episodes), options.rounds)
    single = in_turn(predictions(agent, options.env), max(5, options.rounds))
    results: dict[str, Any] = {
        "seconds per episode": {name: float(np.median(v)) for name, v in episodes.items()},
        "times as fast": ratio(episodes, "one by one", "together"),
        "seconds of a prediction": {name: float(np.median(v)) for name, v in single.items()},
        "predict of its networks": ratio(single, "predict", "its networks"),
    }
    rows = [
        (f"an episode, {name}", f"{1_000 * seconds:.1f} ms")
        for name, seconds in results["seconds per episode"].items()
    ]
    rows += [(name, f"{1e6 * s:.0f} us") for name, s in results["seconds of a prediction"].items()]
    rows += [("times as fast together", shown(results["times as fast"]))]
    rows += [("predict of its networks", shown(results["predict of its networks"]))]
    print_table(("what", "measured"), rows)
    save("evaluation", vars(options), results, options.out)


if __name__ == "__main__":
    main()
