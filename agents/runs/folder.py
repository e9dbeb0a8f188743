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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from stable_baselines3.common.callbacks import BaseCallback

from agents.base import Learner
from agents.codec import encode
from agents.runs.callbacks import CheckpointCallback
from agents.runs.logs import make_logger
from agents.runs.stopping import StoppedError, describe_stop, stop_request
from aime_gym.catalogue import CHECKPOINT, CONFIG, FINAL, is_old_expert
from aime_gym.files import write_json
from aime_gym.foreign import read_json
from aime_gym.places import is_marked

KIND = "kind"  # In the configuration of every recipe.
ABOUT = "about"  # In a configuration file: what may change from one process to the next.
TIMESTEPS, DATA = "total_timesteps", "data_sha256"  # There.
BEFORE_RUNS = ("log.txt", "clock.json", "error.txt")  # Files of a grid's cell that has not begun.
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
    about: Mapping[str, Any] | None = None,
) -> L:
    """Trains in a run folder, or goes on from the folder's checkpoint.

    A run that was killed at any moment ends with the same weights as one that was not; a
    `SACAgent` alone goes on with other random numbers. The folder is the run's once learner and
    data are found to be right. SIGINT and SIGTERM stop the run with a checkpoint. Other processes
    are kept away by `aime_gym.places.occupied`, which is up to the caller.

    Args:
        folder: The run folder.
        config: What the run is, as plain values; a folder with a run of another configuration is
            refused.
        make: Makes a new learner; one from a checkpoint gets its environment and device.
        learn: Lets a learner learn.
        total_timesteps: Timesteps in all.
        callbacks: Further callbacks.
        checkpoint_interval: Timesteps between checkpoints.
        about: What else the configuration file says of the run.

    Raises:
        StoppedError: The run was stopped by a signal, and saved.
        ValueError: The folder has another run, or one of version 0.1; the run has come further; or
            training diverged.
    """
    check_folder(folder, config)
    learner = make()
    checkpoint = folder / CHECKPOINT
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        learner = learner.loaded(checkpoint)
        _check_length(folder, learner.num_timesteps, total_timesteps)
    about = {**(about or {}), TIMESTEPS: total_timesteps}
    remaining = total_timesteps - learner.num_timesteps
    if remaining > 0:
        with stop_request() as request, _logging(learner, folder):
            saving = CheckpointCallback(checkpoint, checkpoint_interval, request)
            learn(learner, remaining, [_Claim(folder, config, about), *callbacks, saving])
        if request.is_made:
            raise StoppedError(describe_stop(folder, learner.num_timesteps))
    claim(folder, config, about)
    if remaining > 0 or not (folder / FINAL).exists():
        learner.save(folder / FINAL)
    return learner


@contextmanager
def _logging(learner: Learner, folder: Path) -> Iterator[None]:
    """Lets a learner log into its run folder in the block."""
    logger = make_logger(folder, learner.num_timesteps, tensorboard=True, verbose=0)
    learner.set_logger(logger)
    try:
        yield
    finally:
        learner.set_logger(None)
        logger.close()


def _check_length(folder: Path, done: int, wanted: int) -> None:
    """Refuses to make a run shorter than it is; one that ends with a whole round may be longer."""
    asked = read_about(folder).get(TIMESTEPS, done)
    if wanted < min(asked, done):
        raise ValueError(
            f"The run in {folder} has come to {done} timesteps, and is not cut to {wanted}: ask "
            f"for at least {min(asked, done)}, or choose another folder."
        )


class _Claim(BaseCallback):
    """Claims the folder when training starts: the data are checked by then.

    What a run that goes on had come to is no longer its end, and is in its checkpoint.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        super().__init__()
        self._folder, self._config, self._about = folder, config, about

    def _on_training_start(self) -> None:
        claim(self._folder, self._config, self._about)
        if (self._folder / CHECKPOINT).exists():
            (self._folder / FINAL).unlink(missing_ok=True)

    def _on_step(self) -> bool:
        return True


def claim(folder: Path, config: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    """Writes the run's configuration, or checks that it is the folder's.

    Raises:
        ValueError: The folder has a run of another configuration.
    """
    check_folder(folder, config)
    identity = read_config(folder) if _is_claimed(folder) else encode(config)
    values = {**identity, ABOUT: {**read_about(folder), **(about or {})}}
    if values != _read(folder):
        write_json(folder / CONFIG, values)


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


def check_data(folder: Path, checksum: str, name: str) -> None:
    """Checks that data are those that the run in a folder began with.

    Args:
        folder: The run folder.
        checksum: Of the data.
        name: What to call them.

    Raises:
        ValueError: They are not.
    """
    before = read_about(folder).get(DATA, checksum)
    if _is_claimed(folder) and before != checksum:
        raise ValueError(
            f"{name} is not what the run in {folder} has learned from so far: its checksum is "
            f"{checksum[:12]}, and was {before[:12]}. Put the data back, or choose another folder."
        )


def read_config(folder: Path) -> dict[str, Any]:
    """What the run of a folder is; empty where there is none."""
    return {key: value for key, value in _read(folder).items() if key != ABOUT}


def read_about(folder: Path) -> dict[str, Any]:
    """What the configuration file of a folder says of its run besides what it is."""
    about: dict[str, Any] = _read(folder).get(ABOUT, {})
    return about


def _read(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds {type(values).__name__}, not an object.")
    return values


def check_ours(folder: Path) -> None:
    """Refuses a folder that is neither new, nor a run folder, nor a grid's cell.

    Raises:
        FileExistsError: It has something else.
    """
    known = KIND in read_config(folder) or is_marked(folder) or is_old_expert(folder)
    if known or not folder.exists():
        return
    others = [] if folder.is_file() else [p.name for p in folder.iterdir() if p.name[0] != "."]
    if folder.is_file() or {*others} - {*BEFORE_RUNS}:
        raise FileExistsError(
            f"{folder} is no run folder and not empty ({', '.join(sorted(others)[:3])}): choose "
            "another one."
        )


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
