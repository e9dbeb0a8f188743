"""A dataset that is written while its episodes are being made."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

from aime_gym.card import CARD, Card, read_card, write_card
from aime_gym.datasets.shards import write_shard
from aime_gym.datasets.storage import checksums, shards
from aime_gym.trajectory import IMAGE, Trajectory

OPTIONS = "seed|total-timesteps|record|snapshot-interval"  # Cards have a seed of their own.
MAY_CHANGE = re.compile(rf" --(?:{OPTIONS}) (?:'[^']*'|\S+)")


class EpisodeWriter:
    """Writes a dataset episode by episode while it is being made.

    Every episode is on disk, in a shard of its own, as soon as `append` returns.

    Args:
        folder: A new folder, or one that an `EpisodeWriter` wrote before and that is continued.
        card: What the dataset is.
        keep: In a folder that is continued, keep this many episodes and delete later ones; None
            for all.

    Raises:
        ValueError: The folder has another dataset, or not all of its episodes; nothing is changed.
    """

    def __init__(self, folder: str | os.PathLike[str], card: Card, keep: int | None = None) -> None:
        self.folder = Path(folder)
        present = shards(self.folder)
        if present or (self.folder / CARD).exists():
            _check_same(self.folder, card)
        kept = present[:keep]
        self.num_episodes = len(kept)
        if [path.stem for path in kept] != [f"{index:06d}" for index in range(len(kept))]:
            raise ValueError(f"{self.folder} has not one shard per episode, 000000, 000001, ...")
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in present[len(kept) :]:
            path.unlink()
        self._card = dataclasses.replace(card, sha256={})
        write_card(self.folder, self._card)

    def append(self, trajectory: Trajectory) -> None:
        """Writes one episode, without its images.

        Raises:
            ValueError: It has images alone.
        """
        if set(trajectory.sensors) == {IMAGE}:
            raise ValueError(
                "An EpisodeWriter writes no images, and this episode has images alone; "
                "save_dataset keeps images."
            )
        write_shard(self.folder / f"{self.num_episodes:06d}.npz", [trajectory])
        self.num_episodes += 1

    def finish(self) -> None:
        """Writes the checksums of all episodes into the card."""
        card = dataclasses.replace(self._card, sha256=checksums(self.folder))
        write_card(self.folder, card)


def _check_same(folder: Path, card: Card) -> None:
    """ValueError unless the folder's card is of the same dataset."""
    if not (folder / CARD).exists():
        raise ValueError(f"{folder} has episodes and no {CARD}; choose another folder.")
    before = read_card(folder)
    if _identity(before) != _identity(card) or _made_otherwise(before, card):
        raise ValueError(
            f"{folder} has another dataset, {before.name!r} of {before.command!r} with seed "
            f"{before.seed}; choose another folder."
        )


def _identity(card: Card) -> tuple[object, ...]:
    """What stays when a dataset is continued."""
    return card.name, card.env_id, card.seed


def _made_otherwise(before: Card, now: Card) -> bool:
    """Whether two commands differ: the run may become longer, and the folder may move."""
    commands = (before.command, now.command)
    return None not in commands and len({MAY_CHANGE.sub("", text or "") for text in commands}) > 1
