"""Training episodes as a dataset, which stays whole where a run is killed and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents.base import OnlineLearner
from aime_gym.card import Card
from aime_gym.datasets import EpisodeWriter, Trajectory
from aime_gym.datasets.storage import shards
from aime_gym.rollout import RecordEpisodes


class RecordCallback(BaseCallback):
    """Writes every training episode as soon as it ends.

    Episodes after the checkpoint that a run goes on from are deleted; they are played again.

    Args:
        folder: The dataset's folder: a new one, or that of the run so far.
        card: The dataset's card.

    Raises:
        ValueError: The folder has another dataset, or not all episodes of the run so far.
    """

    def __init__(self, folder: Path, card: Card) -> None:
        super().__init__()
        self._folder, self._card = folder, card
        self._recording = False

    def _on_training_start(self) -> None:
        agent: Any = self.model
        assert isinstance(agent, OnlineLearner)
        env = agent.env_info.make()
        self._writer = open_recording(self._folder, self._card, agent.num_episodes)
        agent.set_env(RecordEpisodes(env, self._append, agent.num_timesteps))
        self._recording = True

    def _append(self, trajectory: Trajectory) -> None:
        if self._recording:
            self._writer.append(trajectory)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._recording = False


def open_recording(folder: Path, card: Card, episodes: int) -> EpisodeWriter:
    """Goes on with the recording of a run that has had some episodes.

    Raises:
        ValueError: The folder has another dataset, or fewer episodes.
    """
    present = len(shards(folder))
    if present < episodes:
        raise ValueError(
            f"{folder} has {present} of the {episodes} episodes that the run has had: record into "
            "the folder that has them all, or start a run in another folder."
        )
    return EpisodeWriter(folder, card, keep=episodes)
