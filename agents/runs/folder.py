"""Run folders: what a run is, how far it came, and what came of it.

    runs/aime-walker-run-mdp-seed0/
        config.json         what the run is
        progress.csv        learning curve
        checkpoint.zip      the learner at the last checkpoint
        final.zip           the learner at the end
        evaluation.json     scores of the final agent
        figures/            learning curve, ...

A folder belongs to one configuration from its first checkpoint on, and to one process at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from stable_baselines3.common.callbacks import BaseCallback

from agents.base import Learner
from agents.codec import encode
from agents.runs.callbacks import CheckpointCallback
from agents.runs.logs import make_logger
from aime_gym.catalogue import CHECKPOINT, CONFIG, FINAL, is_old_expert
from aime_gym.files import atomic_write

LOCK = ".lock"
KIND = "kind"  # In the configuration of every recipe.
L = TypeVar("L", bound=Learner)
Learn = Callable[[Any, int, list[BaseCallback]], object]
"""(learner, timesteps, callbacks): learns on, without resetting the timesteps."""


def train_in_folder(
    folder: Path,
    config: Mapping[str, Any],
    make: Callable[[], L],
    learn: Learn,
    total_timesteps: int,
    callbacks: Sequence[BaseCallback] = (),
    checkpoint_interval: int = 1_000,
) -> L:
    """Trains in a run folder, or goes on from the folder's checkpoint.

    A run that was killed at any moment ends with the same weights as one that was not; a
    `SACAgent` alone goes on with other random numbers. The folder is the run's once learner and
    data are found to be right.

    Args:
        folder: The run folder.
        config: What the run is, as plain values; a folder with a run of another configuration is
            refused.
        make: Makes a new learner; one from a checkpoint gets its environment and device.
        learn: Lets a learner learn.
        total_timesteps: Timesteps in all.
        callbacks: Further callbacks.
        checkpoint_interval: Timesteps between checkpoints.

    Raises:
        ValueError: The folder has another run, or one of version 0.1; or another process is
            training in it.
    """
    check_folder(folder, config)
    learner = make()
    checkpoint = folder / CHECKPOINT
    with lock_folder(folder):
        if checkpoint.exists():
            learner = learner.loaded(checkpoint)
        learner.set_logger(make_logger(folder, learner.num_timesteps, tensorboard=True, verbose=0))
        remaining = total_timesteps - learner.num_timesteps
        if remaining > 0:
            saving = CheckpointCallback(checkpoint, checkpoint_interval)
            learn(learner, remaining, [_Claim(folder, config), *callbacks, saving])
        claim(folder, config)
        learner.save(folder / FINAL)
    return learner


class _Claim(BaseCallback):
    """Claims the folder when training starts: the data are checked by then.

    What a run that goes on had come to is no longer its end, and is in its checkpoint.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._folder, self._config = folder, config

    def _on_training_start(self) -> None:
        claim(self._folder, self._config)
        if (self._folder / CHECKPOINT).exists():
            (self._folder / FINAL).unlink(missing_ok=True)

    def _on_step(self) -> bool:
        return True


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in the folder.

    Raises:
        ValueError: Another process is training in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise ValueError(f"Another process is training in {folder}; choose another.") from error


def claim(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes the run's configuration, or checks that it is the folder's.

    Raises:
        ValueError: The folder has a run of another configuration.
    """
    check_folder(folder, config)
    if not _is_claimed(folder):
        with atomic_write(folder / CONFIG, "w") as file:
            file.write(f"{json.dumps(encode(config), indent=1)}\n")


def check_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Checks that a folder has no run of another configuration; options of None do not count.

    Raises:
        ValueError: It has one, and the message says what differs; or its run is one of version 0.1.
    """
    recorded, old_expert = read_config(folder), is_old_expert(folder)
    if not _is_claimed(folder) and not old_expert:
        return
    if old_expert or (KIND in config and KIND not in recorded):
        raise ValueError(
            f"{folder} has a run of version 0.1, which cannot go on in this version; choose "
            "another folder. Its archives of world models and imitators still load."
        )
    if changes := differences(recorded, encode(config)):
        raise ValueError(
            f"{folder} has a run of another configuration ({changes}); choose another folder."
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two configurations, in words; options of None do not count."""
    old, new = _chosen(before), _chosen(now)
    differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return "; ".join(f"{key} {old.get(key)}, not {new.get(key)}" for key in differing)


def read_config(folder: Path) -> dict[str, Any]:
    """What the run of a folder is; empty where there is none."""
    path = folder / CONFIG
    values: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return values


def _is_claimed(folder: Path) -> bool:
    """Whether a run has come as far as its first checkpoint."""
    saved = any((folder / name).exists() for name in (CHECKPOINT, FINAL))
    return saved and (folder / CONFIG).exists()


def _chosen(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by dotted name, without those of None, which a later version may have added."""
    chosen: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            chosen |= _chosen(value, f"{prefix}{key}.")
        elif value is not None:
            chosen[prefix + key] = value
    return chosen
