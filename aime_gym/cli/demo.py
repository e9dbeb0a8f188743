"""``aime-gym demo``: the whole of AIME's second phase in about ten minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aime_gym.cli.words import is_watched, print_wide

if TYPE_CHECKING:
    from rich.console import Console

    from agents import AIMEAgent, BCAgent
    from aime_gym.datasets import Dataset
    from aime_gym.evaluation.evaluate import Evaluation

VIDEO_SECONDS = 12
PICTURE_SIZE = 200  # Pixels.
CLONING_UPDATES = 15_000  # At most; cloning ends by itself, about there.
CURVE, LEARNING_CURVE = "progress.csv", "learning_curve.png"
ACTIONS, SCORES, CHART = "inferred_actions.png", "scores.json", "scores.png"
AGENT, VIDEO = "aime.zip", "imitation.mp4"
OUTPUTS = (CURVE, LEARNING_CURVE, ACTIONS, SCORES, CHART, AGENT, VIDEO)
SHOWN_DEMONSTRATIONS = 5  # Whose inferred actions are compared with the true ones.


@dataclass(frozen=True)
class Budget:
    """What the demo spends on AIME.

    Attributes:
        updates: Gradient updates at most (the paper: 50,000).
        minutes: Minutes at most.
        batch_size: Windows of an update (the paper: 50).
        sequence_length: Observations of a window (the paper: 50).
        learning_rate: Of Adam (the paper: 3e-4).
        evaluation_interval: Updates between scores over ten episodes (the paper: 1,000).
    """

    updates: int = 1_500
    minutes: float = 6.0
    batch_size: int = 16
    sequence_length: int = 50
    learning_rate: float = 1e-3
    evaluation_interval: int = 250


def demo(
    *,
    task: Literal["run", "walk", "stand"] = "run",
    minutes: float = Budget.minutes,
    updates: int = Budget.updates,
    episodes: int = 100,
    seed: int = 0,
    folder: Path | None = None,
) -> None:
    """Imitate a walker from observations alone, and compare with cloning and with chance.

    Args:
        task: What the expert does.
        minutes: Train AIME for at most so long.
        updates: Train AIME for at most so many gradient updates.
        episodes: Of every final evaluation.
        seed: Of the agents.
        folder: Where figures, video and scores go; by default runs/demo-walker-<task>.
    """
    from rich.console import Console

    from aime_gym.datasets import load_dataset

    console = Console()
    budget = Budget(updates, minutes)
    folder = folder or Path("runs") / f"demo-walker-{task}"
    env_id = f"AIME/walker-{task}-mdp"
    demos = load_dataset(f"walker-{task}-expert")
    for name in OUTPUTS:  # Of an earlier demo.
        (folder / name).unlink(missing_ok=True)
    _announce(console, env_id, demos, budget, episodes, folder)
    results = {"random": _score_random(console, env_id, episodes, seed)}
    cloner = _clone(console, env_id, demos, seed)
    imitator = _imitate(console, env_id, demos, budget, folder, seed)
    results["BC (sees actions)"] = _score(console, "BC", cloner, env_id, episodes)
    results["AIME (observations alone)"] = _score(console, "AIME", imitator, env_id, episodes)
    _report(console, env_id, demos, results, folder)
    _film(console, env_id, demos, results, folder)


def _announce(
    console: Console, env_id: str, demos: Dataset, budget: Budget, episodes: int, folder: Path
) -> None:
    console.print(
        f"[bold]{env_id}[/]: an expert is watched in {len(demos)} demonstrations, observations "
        "alone, and a pretrained world model of the body infers what it did.\n"
        "  1. chance: random actions\n"
        "  2. BC: clones the expert's actions, which AIME does not see; at most "
        f"{CLONING_UPDATES:,} updates\n"
        f"  3. AIME: at most {budget.minutes:g} minutes or {budget.updates:,} updates of "
        f"{budget.batch_size} windows of {budget.sequence_length} observations, learning rate "
        f"{budget.learning_rate:g}\n"
        "     (the paper: 50,000 updates of 50 windows of 50, rate 3e-4), a score now and then\n"
        f"  4. scores over {episodes} episodes, a learning curve, and a video\n"
        f"Everything goes to {folder}.",
        highlight=False,
        soft_wrap=True,
    )


def _score_random(console: Console, env_id: str, episodes: int, seed: int) -> Evaluation:
    import gymnasium as gym

    from aime_gym.rollout import RandomPolicy

    env: gym.Env[Any, Any] = gym.make(env_id)
    space = env.action_space
    env.close()
    assert isinstance(space, gym.spaces.Box)
    return _score(console, "random", RandomPolicy(space, seed), env_id, episodes)


def _score(console: Console, name: str, policy: object, env_id: str, episodes: int) -> Evaluation:
    """Evaluates, keeping what the video needs."""
    from aime_gym.evaluation.evaluate import evaluate

    start = time.monotonic()
    result = evaluate(
        policy,  # type: ignore[arg-type]
        env_id,
        episodes,
        progress_bar=is_watched(),
        record=True,
    )
    console.print(
        f"{name}: score {result.score:.1f} over {episodes} episodes "
        f"({time.monotonic() - start:.0f} s)",
        highlight=False,
        soft_wrap=True,
    )
    return result


def _clone(console: Console, env_id: str, demos: Dataset, seed: int) -> BCAgent:
    from agents import BCAgent

    console.print(
        f"BC: regression from observations to the expert's actions, at most {CLONING_UPDATES:,} "
        "updates; it ends earlier once validation stops improving",
        highlight=False,
        soft_wrap=True,
    )
    start = time.monotonic()
    agent = BCAgent(env_id, seed=seed)
    agent.learn(demos, CLONING_UPDATES, progress_bar=is_watched())
    seconds = time.monotonic() - start
    console.print(
        f"BC: {agent.num_timesteps:,} updates in {seconds:.0f} s", highlight=False, soft_wrap=True
    )
    return agent


def _imitate(
    console: Console, env_id: str, demos: Dataset, budget: Budget, folder: Path, seed: int
) -> AIMEAgent:
    from agents import AIMEAgent, AIMEConfig, WorldModel
    from agents.figures import plot_inferred_actions
    from agents.logs import make_logger
    from agents.runs import ScoreCallback, TimeLimit

    config = AIMEConfig(
        batch_size=budget.batch_size,
        sequence_length=budget.sequence_length,
        learning_rate=budget.learning_rate,
    )
    agent = AIMEAgent(env_id, WorldModel.load("walker-mix-mdp"), config, seed=seed)
    agent.set_logger(make_logger(folder, verbose=0))
    start = time.monotonic()

    def report(updates: int, mean: float, score: float | None) -> None:
        minutes = (time.monotonic() - start) / 60
        console.print(
            f"AIME: {updates:,} updates, {minutes:.1f} min, score {score:.1f} over 10 episodes",
            highlight=False,
            soft_wrap=True,
        )

    scoring = ScoreCallback(budget.evaluation_interval, report=report)
    limit = TimeLimit(60 * budget.minutes)
    agent.learn(demos.observations_only(), budget.updates, [scoring, limit])
    agent.save(folder / AGENT)
    shown = demos[:SHOWN_DEMONSTRATIONS]
    scores = plot_inferred_actions(agent, shown, folder / ACTIONS)
    console.print(
        f"AIME: mean R2 of the inferred actions {scores.mean():.2f}",
        highlight=False,
        soft_wrap=True,
    )
    return agent


def _report(
    console: Console,
    env_id: str,
    demos: Dataset,
    results: dict[str, Evaluation],
    folder: Path,
) -> None:
    import json

    from agents.figures import plot_curve
    from agents.world_models.catalogue import model_origin
    from aime_gym.cli.evaluate import known_evaluations
    from aime_gym.evaluation.table import Origin, compare
    from aime_gym.files import atomic_write

    known, origins = known_evaluations(env_id)
    shown = Origin(demos.card.name, demos.card.source, demos.checksum)
    cloned, imitated = list(results)[1:]
    origins[cloned] = [shown]
    origins[imitated] = [Origin(*model_origin("walker-mix-mdp")), shown]
    table = compare({**results, **known}, origins)
    print_wide(console, table.to_rich())
    table.plot(folder / CHART)
    with atomic_write(folder / SCORES, "w") as file:
        json.dump(table.to_json(), file, indent=1)
    if plot_curve(folder / CURVE, folder / LEARNING_CURVE):
        console.print(f"Learning curve: {folder / LEARNING_CURVE}", highlight=False, soft_wrap=True)


def _film(
    console: Console,
    env_id: str,
    demos: Dataset,
    results: dict[str, Evaluation],
    folder: Path,
) -> None:
    import gymnasium as gym

    from aime_gym.envs.renderer import RenderingUnavailable
    from aime_gym.rendering import imitation_video

    env: gym.Env[Any, Any] = gym.make(env_id)
    rows = round(VIDEO_SECONDS * env.unwrapped.metadata["render_fps"])
    imitators = {
        label.split(" ")[0]: result.trajectories[0].window(0, rows)
        for label, result in list(results.items())[1:]
    }
    try:
        path = imitation_video(
            folder / VIDEO, env, demos[0].window(0, rows), imitators, PICTURE_SIZE
        )
    except RenderingUnavailable as error:
        console.print(f"No video: {error}", highlight=False, soft_wrap=True)
        return
    finally:
        env.close()
    console.print(f"Video of expert and imitators: {path}", highlight=False, soft_wrap=True)
