"""What a folder of a dataset or of a model has in it, whoever published it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from aime_gym.card import CARD, Kind
from aime_gym.catalogue import ARCHIVE, PUBLISHED_CONFIG, PUBLISHED_WEIGHTS

MARKS: dict[Kind, tuple[set[str], ...]] = {  # All files of one set.
    "dataset": ({CARD}, {"0.npz"}),
    "model": ({ARCHIVE}, {PUBLISHED_CONFIG, PUBLISHED_WEIGHTS}),
}


def is_marked(kind: Kind, names: Collection[str]) -> bool:
    """Whether files of these names make a dataset, or a model."""
    return any(mark <= set(names) for mark in MARKS[kind])


def has(kind: Kind, folder: Path) -> bool:
    """Whether a folder has a dataset, or a model, at its top level."""
    return folder.is_dir() and is_marked(kind, [path.name for path in folder.iterdir()])
