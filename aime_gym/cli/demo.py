"""``aime-gym demo``: the whole of AIME's second phase in about ten minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import gymnasium as gym
from rich.console import Console

from agents import AIMEAgent, AIMEConfig, BCAgent
from agents.products import use_fast_products
from agents.runs.callbacks import ScoreCallback, StopTrainingOnTimeout
from agents.runs.figures import plot_curve, plot_inferred_actions
from agents.runs.logs import CURVE, make_logger
from aime_gym.catalogue import model_origin
from aime_gym.cli.console import is_watched, print_table, say
from aime_gym.cli.outputs import writes
from aime_gym.datasets import Dataset, load_dataset
from aime_gym.evaluation.evaluate import Evaluation, evaluate
from aime_gym.evaluation.origins import known_results
from aime_gym.evaluation.table import compare
from aime_gym.files import write_json
from aime_gym.opengl import RenderingUnavailable
from aime_gym.rendering import imitation_video
from aime_gym.rollout import Policy, RandomPolicy

MODEL = "walker-mix-mdp"
CONFIG = AIMEConfig()
UPDATES, MINUTES = 1_000, 5.0  # Those of the evidence, at most; the paper makes 50,000 updates.
START_EVALUATION_INTERVAL = 500  # Updates of the start between scores.
EVALUATION_INTERVAL = 250  # The same of the evidence; the paper: 1,000.
CLONING_UPDATES = 15_000  # At most; cloning ends by itself, about there.
VIDEO_SECONDS = 12
PICTURE_SIZE = 200  # Pixels.
SHOWN_DEMONSTRATIONS = 5  # Whose inferred actions are compared with the true ones.
LEARNING_CURVE, ACTIONS, CHART = "learning_curve.png", "inferred_actions.png", "scores.png"
SCORES, AGENT, VIDEO = "scores.json", "aime.zip", "imitation.mp4"
OUTPUTS = (CURVE, LEARNING_CURVE, ACTIONS, SCORES, CHART, AGENT, VIDEO)
RANDOM, BC = "random", "BC (sees actions)"
START, AIME = "AIME's start (inverse dynamics)", "AIME (observations alone)"


@writes(folder="folder")
def demo(
    *,
    task: Literal["run", "walk", "stand"] = "run",
    minutes: float = MINUTES,
    updates: int = UPDATES,
    episodes: int = 100,
    seed: int = 0,
    folder: Path | None = None,
) -> None:
    """Imitate a walker from observations alone, and compare with cloning and with chance.

    Args:
        task: What the expert does.
        minutes: Train AIME for at most so long.
        updates: Train AIME for at most so many gradient updates.
        episodes: Episodes of every final evaluation.
        seed: Seed of the agents.
        folder: Where figures, video and scores go; by default runs/demo-walker-<task>.
    """
    use_fast_products()
    run = Demo(
        env_id=f"AIME/walker-{task}-mdp",
        demos=load_dataset(f"walker-{task}-expert"),
        minutes=minutes,
        updates=updates,
        episodes=episodes,
        seed=seed,
        folder=folder or Path("runs") / f"demo-walker-{task}",
    )
    run.start()
    run.act_randomly()
    cloner = run.clone()
    run.score(BC, cloner)
    imitator = run.follow_inverse_dynamics()
    run.score(START, imitator)
    run.infer_actions(imitator)
    run.score(AIME, imitator)
    run.report()
    run.film()


@dataclass(frozen=True)
class Demo:
    """The steps of the demo, and what they share; `demo` has them in order."""

    env_id: str
    demos: Dataset
    minutes: float
    updates: int
    episodes: int
    seed: int
    folder: Path
    results: dict[str, Evaluation] = field(default_factory=dict)

    def start(self) -> None:
        """Says what will happen, and removes the files of an earlier demo.

        Raises:
            FileExistsError: The folder has something else.
        """
        found = self.folder.glob("[!.]*") if self.folder.is_dir() else ()
        others = sorted({path.name for path in found} - {*OUTPUTS})
        if others:
            raise FileExistsError(
                f"{self.folder} is not that of a demo, and not empty ({', '.join(others[:3])}): "
                "choose another one."
            )
        for name in OUTPUTS:
            (self.folder / name).unlink(missing_ok=True)
        Console().print(
            f"[bold]{self.env_id}[/]: an expert is watched in {len(self.demos)} demonstrations, "
            "observations alone, and a pretrained world model of the body infers what it did.\n"
            "  1. chance: random actions\n"
            "  2. BC: clones the expert's actions, which AIME does not see; at most "
            f"{CLONING_UPDATES:,} updates\n"
            f"  3. AIME's start: {CONFIG.start_updates:,} updates that bring the policy to the "
            "world model's inverse dynamics\n"
            f"  4. AIME: the evidence of the observations, at most {self.minutes:g} minutes or "
            f"{self.updates:,} updates of {CONFIG.batch_size} windows of "
            f"{CONFIG.sequence_length}\n"
            "     (the paper: 50,000 updates of 50 windows of 50, no start), a score now and "
            f"then\n  5. scores over {self.episodes} episodes, a learning curve, and a video\n"
            f"Everything goes to {self.folder}.",
            highlight=False,
            soft_wrap=True,
        )

    def score(self, label: str, policy: Policy) -> None:
        """Evaluates a policy, keeping what the video needs."""
        start = time.monotonic()
        self.results[label] = result = evaluate(
            policy, self.env_id, self.episodes, progress_bar=is_watched(), record=True
        )
        say(
            f"{_short(label)}: score {result.score:.1f} over {self.episodes} episodes "
            f"({time.monotonic() - start:.0f} s)"
        )

    def act_randomly(self) -> None:
        """Scores chance."""
        with gym.make(self.env_id) as env:
            self.score(RANDOM, RandomPolicy(env.action_space, self.seed))

    def clone(self) -> BCAgent:
        """Clones the expert's actions."""
        say(
            "BC: regression from observations to the expert's actions, at most "
            f"{CLONING_UPDATES:,} updates; it ends earlier once validation stops improving"
        )
        start = time.monotonic()
        agent = BCAgent(self.env_id, seed=self.seed)
        agent.learn(self.demos, CLONING_UPDATES, progress_bar=is_watched())
        say(f"BC: {agent.num_timesteps:,} updates in {time.monotonic() - start:.0f} s")
        return agent

    def follow_inverse_dynamics(self) -> AIMEAgent:
        """The first part of AIME: a policy that does what the model's inverse dynamics says."""
        agent = AIMEAgent(self.env_id, MODEL, CONFIG, seed=self.seed)
        agent.set_logger(make_logger(self.folder, verbose=0))
        start = time.monotonic()
        agent.learn(
            self.demos.observations_only(),
            CONFIG.start_updates,
            _scoring("AIME's start", START_EVALUATION_INTERVAL),
        )
        say(f"AIME's start: {agent.num_timesteps:,} updates in {time.monotonic() - start:.0f} s")
        return agent

    def infer_actions(self, agent: AIMEAgent) -> None:
        """The second part: the actions that maximise the evidence."""
        limit = StopTrainingOnTimeout(60 * self.minutes)
        agent.learn(
            self.demos.observations_only(),
            self.updates,
            [_scoring("AIME", EVALUATION_INTERVAL), limit],
            reset_num_timesteps=False,
        )
        agent.save(self.folder / AGENT)
        shown = self.demos[:SHOWN_DEMONSTRATIONS]
        scores = plot_inferred_actions(agent, shown, self.folder / ACTIONS)
        say(f"AIME: mean R2 of the inferred actions {scores.mean():.2f}")

    def report(self) -> None:
        """Compares all results with what is known, as a table, a chart and a file."""
        known, origins = known_results(self.env_id)
        origins[BC] = [self.demos.card.origin]
        origins[START] = origins[AIME] = [model_origin(MODEL), self.demos.card.origin]
        table = compare({**self.results, **known}, origins)
        print_table(table.to_rich())
        table.plot(self.folder / CHART)
        write_json(self.folder / SCORES, table.to_json())
        if plot_curve(self.folder / CURVE, self.folder / LEARNING_CURVE):
            say(f"Learning curve: {self.folder / LEARNING_CURVE}")

    def film(self) -> None:
        """Shows the expert beside its imitators, where pictures can be drawn."""
        with gym.make(self.env_id) as env:
            rows = round(VIDEO_SECONDS * env.unwrapped.metadata["render_fps"])
            imitators = {
                _short(label): self.results[label].trajectories[0].window(0, rows)
                for label in (BC, AIME)
            }
            shown = self.demos[0].window(0, rows)
            try:
                path = imitation_video(self.folder / VIDEO, env, shown, imitators, PICTURE_SIZE)
            except RenderingUnavailable as error:
                say(f"No video: {error}")
            else:
                say(f"Video of expert and imitators: {path}")


def _scoring(label: str, interval: int) -> ScoreCallback:
    """Scores the agent now and then while it learns, and says so."""
    start = time.monotonic()

    def report(updates: int, mean: float, score: float | None) -> None:
        minutes = (time.monotonic() - start) / 60
        say(f"{label}: {updates:,} updates, {minutes:.1f} min, score {score:.1f} over 10 episodes")

    return ScoreCallback(interval, report=report, at_start=True)


def _short(label: str) -> str:
    return label.partition(" (")[0]
