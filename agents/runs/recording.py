"""Training episodes as a dataset, which stays whole where a run is killed and goes on.

A mark, the same in the run folder and in the recording's, says whose episodes these are: two runs
may have the same task and seed.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents.base import OnlineLearner
from aime_gym.card import CARD, Card
from aime_gym.catalogue import CHECKPOINT
from aime_gym.datasets import EpisodeWriter, Trajectory
from aime_gym.datasets.storage import shards
from aime_gym.files import atomic_write
from aime_gym.rollout import RecordEpisodes

MARK = ".recording"


class RecordCallback(BaseCallback):
    """Writes every training episode as soon as it ends.

    Episodes after the checkpoint that a run goes on from are deleted; they are played again. A run
    has a checkpoint before its first episode, so that nothing else is ever deleted.

    Args:
        folder: The dataset's folder: a new one, or that of the run so far.
        card: The dataset's card.
        run_folder: The run's folder.

    Raises:
        ValueError: The folder has another dataset, or not all episodes of the run so far.
    """

    def __init__(self, folder: Path, card: Card, run_folder: Path) -> None:
        super().__init__()
        self._folder, self._card, self._run_folder = folder, card, run_folder
        self._recording = False

    def _on_training_start(self) -> None:
        agent: Any = self.model
        assert isinstance(agent, OnlineLearner)
        env = agent.env_info.make()
        self._writer = open_recording(self._folder, self._card, agent)
        set_mark(self._folder, self._run_folder)
        if not (self._run_folder / CHECKPOINT).exists():
            agent.save(self._run_folder / CHECKPOINT)
        agent.set_env(RecordEpisodes(env, self._append, agent.num_timesteps))
        self._recording = True

    def _append(self, trajectory: Trajectory) -> None:
        if self._recording:
            self._writer.append(trajectory)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._recording = False


def check_mark(folder: Path, run_folder: Path) -> None:
    """Checks that a folder has no episodes that are marked as another run's.

    Raises:
        ValueError: It has.
    """
    found = _mark(folder)
    if shards(folder) and found not in (None, _mark(run_folder)):
        raise ValueError(
            f"{folder} has the episodes of another run than that in {run_folder}: record into "
            "another folder, or go on with the folder that the run had."
        )


def check_empty_or_dataset(folder: Path) -> None:
    """Refuses a folder with something else than a dataset.

    Raises:
        FileExistsError: It has something else.
    """
    if (folder / CARD).exists() or not folder.exists():
        return
    if folder.is_file() or any(path.name[0] != "." for path in folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty, and no dataset: record into a new folder.")


def set_mark(folder: Path, run_folder: Path) -> None:
    """Marks a recording as the run's."""
    mark = _mark(run_folder) or uuid.uuid4().hex
    for place in (run_folder, folder):
        if _mark(place) != mark:
            with atomic_write(place / MARK, "w") as file:
                file.write(mark)


def _mark(folder: Path) -> str | None:
    """A folder's mark; None where it has none, as those of earlier versions."""
    path = folder / MARK
    return path.read_text(encoding="utf-8") if path.is_file() else None


def open_recording(folder: Path, card: Card, agent: OnlineLearner) -> EpisodeWriter:
    """Goes on with the recording of an agent that has had some episodes.

    Raises:
        ValueError: The folder has another dataset, or fewer episodes.
    """
    present, episodes = len(shards(folder)), agent.num_episodes
    if present < episodes:
        raise ValueError(
            f"{folder} has {present} of the {episodes} episodes that the run has had: record into "
            "the folder that has them all, or start a run in another folder."
        )
    held = agent.env_info.action_repeat
    return EpisodeWriter(folder, replace(card, action_repeat=held), keep=episodes)
