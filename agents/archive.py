"""One zip archive per learner: its configuration, its weights, and what it needs to go on.

    config.json                what the learner is: environment, seed, constructor arguments
    weights.safetensors        its networks
    counters.json              plain values of its training
    training.safetensors       tensors of its training; absent from compact archives

Nothing is pickled, so opening an archive runs no code.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from agents.codec import decode_numbers, encode
from agents.parts import check_finite
from aime_gym.files import atomic_write
from aime_gym.foreign import MAX_JSON, blame, check_zip, parse_json

FORMAT = 2
SLACK = 2**20  # Values of a tensor, and operations, that no archive has to account for.
MEMBERS = {
    "config.json", "weights.safetensors", "counters.json", "training.safetensors", "training.json"
}  # fmt: skip


@dataclass
class Archive:
    """What a saved learner holds.

    Attributes:
        kind: The learner's class name.
        env: What the learner knows of its environment, as plain values.
        seed: The learner's seed.
        arguments: The constructor's other arguments, as plain values.
        weights: Tensors of the networks.
        counters: Plain values of the training.
        training: Tensors of the training.
    """

    kind: str
    env: dict[str, Any]
    seed: int
    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    counters: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Tensor] = field(default_factory=dict)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes the archive; ``.zip`` is added where the name has no ending.

        An archive that was there stays whole if writing fails.
        """
        target = archive_path(path)
        header = {
            "format": FORMAT,
            "kind": self.kind,
            "env": self.env,
            "seed": self.seed,
            "arguments": self.arguments,
        }
        with atomic_write(target) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("config.json", json.dumps(encode(header), indent=1, allow_nan=False))
            archive.writestr("weights.safetensors", _to_bytes(self.weights))
            archive.writestr("counters.json", json.dumps(encode(self.counters), allow_nan=False))
            if self.training:
                archive.writestr("training.safetensors", _to_bytes(self.training))
        return target

    @classmethod
    def read(cls, path: str | os.PathLike[str], kind: str | None = None) -> Archive:
        """Reads the archive of one kind of learner, or of any.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated, no archive, or of another kind of learner.
        """
        target = archive_path(path)
        with _opened(target) as file:
            found = _read(file)
        if found is None:
            raise ValueError(f"{target} is in a newer format; this version reads {FORMAT}.")
        if kind not in (None, found.kind):
            raise ValueError(f"{target} is the archive of another agent: {found.kind}, not {kind}.")
        return found

    @staticmethod
    def read_kind(path: str | os.PathLike[str]) -> str:
        """The class name of the learner in an archive, without reading its tensors.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated, or no archive.
        """
        with _opened(archive_path(path)) as file:
            return str(_read_json(file, "config.json")["kind"])


@contextmanager
def _opened(target: Path) -> Iterator[zipfile.ZipFile]:
    """A file to read an archive from; what goes wrong there is an error that says so."""
    if not target.exists():
        raise FileNotFoundError(f"There is no {target}.")
    with blame(target, "truncated, or no archive of aime-gym"):
        try:
            with zipfile.ZipFile(target) as file:
                check_zip(file)
                yield file
        except SafetensorError as error:
            raise ValueError(str(error)) from error


def _read(file: zipfile.ZipFile) -> Archive | None:
    """The archive in a file; None if its format is newer than this version."""
    header = _read_json(file, "config.json")
    names = file.namelist()
    if unknown := sorted(set(names) - MEMBERS):
        raise ValueError(f"it has more than an archive has: {', '.join(unknown)!r}")
    if header["format"] not in (1, FORMAT):
        return None
    weights = _read_tensors(file, "weights.safetensors")
    has_training = "training.safetensors" in names
    training = _read_tensors(file, "training.safetensors") if has_training else {}
    if header["format"] == 1:
        counters = _read_json(file, "training.json") if "training.json" in names else {}
        return _upgrade(header, weights, counters, training)
    counters = decode_numbers(_read_json(file, "counters.json"))
    if "device_type" in counters and not training:
        raise ValueError("training.safetensors is missing")
    identity = {key: header[key] for key in ("kind", "env", "seed", "arguments")}
    return Archive(**identity, weights=weights, counters=counters, training=training)


def _read_json(file: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        ValueError: It is damaged, or something else.
    """
    if file.getinfo(name).file_size > MAX_JSON:
        raise ValueError(f"{name} is too large")
    values = parse_json(file.read(name), name)
    if not isinstance(values, dict):
        raise ValueError(f"{name} holds {type(values).__name__}, not an object")
    return values


def _read_tensors(file: zipfile.ZipFile, name: str) -> dict[str, Tensor]:
    """Tensors, which are finite.

    Raises:
        ValueError: One is not.
    """
    tensors: dict[str, Tensor] = load(file.read(name))
    check_finite(tensors, name)
    return tensors


# Archives of format 1, which version 0.1 wrote: prefixes of names there -> prefixes of names here.

_RENAMED_WEIGHTS = {
    "WorldModel": {"": "net."},
    "AIMEAgent": {},
    "BCAgent": {
        "policy.encoder.": "supervised.network.encoder.image_net.",
        "policy.": "supervised.network.",
        "best_policy.encoder.": "supervised.best.encoder.image_net.",
        "best_policy.": "supervised.best.",
    },
}
_RENAMED_STATE = {
    "generator": "generator.state",
    "acting_generator": "acting_generator.state",
    "running_count": "running.count",
    "running.": "running.sums.",
}
_RENAMED_EPOCHS = {
    "optimizer.": "supervised.optimizer.",
    "epochs": "supervised.epochs.count",
    **{
        name: f"supervised.epochs.{name}"
        for name in (
            "order", "held_out", "position", "count", "stale", "validation_loss", "best_loss"
        )
    },
}  # fmt: skip


def _upgrade(
    header: dict[str, Any],
    weights: dict[str, Tensor],
    counters: dict[str, Any],
    training: dict[str, Tensor],
) -> Archive:
    """An archive of format 1 under the names of this version."""
    kind, arguments = header["kind"], dict(header["config"])
    env, seed = arguments.pop("env"), arguments.pop("seed")
    arguments.pop("layout", None)
    if "epochs" in arguments:
        counters = {"epochs": arguments.pop("epochs"), **counters}
    for name in ("config", "world_model"):
        if "encoder" in arguments.get(name, {}):
            encoder = arguments[name]["encoder"] or {"hidden_layers": 0}
            arguments[name] |= {"encoder": encoder, "standardize": False}
    if "training" in arguments:
        arguments["training"]["held_out_share"] = 0.0
    if kind == "AIMEAgent":
        arguments["config"] |= {
            "start_updates": 0,
            "action_prior": 0.0,
            "initial_std": None,
            "refresh_interval": None,
            "sample_states": True,
            "see_observation": False,
            "standardize": False,
        }
        size = weights["policy.mean_net.net.0.weight"].shape[1]
        weights = {**weights, **_unfitted("policy.standardizer.", size)}
    state = _RENAMED_STATE | (_RENAMED_EPOCHS if kind == "BCAgent" else {})
    renamed = _renamed(weights, _RENAMED_WEIGHTS[kind])
    if kind == "BCAgent":
        arguments["config"] |= {"standardize": False}
        if not any("image_net" in name for name in renamed):
            size = sum(stop - start for start, stop in env["places"].values())
            for network in ("network", "best"):
                renamed |= _unfitted(f"supervised.{network}.encoder.standardizer.", size)
    finite = {k: None if v == float("inf") else v for k, v in counters.items()}
    return Archive(
        kind,
        env,
        seed,
        arguments,
        renamed,
        _renamed(finite, state),
        _renamed(training, state),
    )


def _unfitted(prefix: str, size: int) -> dict[str, Tensor]:
    """The weights of a `Standardizer` that leaves values as they are."""
    return {
        f"{prefix}mean": torch.zeros(size),
        f"{prefix}std": torch.ones(size),
        f"{prefix}fitted": torch.zeros(()),
    }


def _renamed(values: Mapping[str, Any], prefixes: Mapping[str, str]) -> dict[str, Any]:
    """The same values, with the first prefix that a name has replaced."""

    def rename(name: str) -> str:
        for old, new in prefixes.items():
            if name == old or (name.startswith(old) and (not old or old.endswith("."))):
                return new + name.removeprefix(old)
        return name

    return {rename(name): value for name, value in values.items()}


class _Bounded(TorchDispatchMode):
    """Refuses to make tensors that are too many, or too large."""

    def __init__(self, values: int, calls: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._values, self._calls = values, calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        self._calls -= 1
        size = args[0] if args and isinstance(args[0], list | tuple) else ()
        numbers = [number for number in size if isinstance(number, int)]
        if self._calls < 0 or (numbers and math.prod(numbers) > self._values):
            raise ValueError("its configuration is of far more than its weights are")
        return func(*args, **(kwargs or {}))


def no_more_than(archive: Archive) -> AbstractContextManager[object]:
    """Within the block, tensors may be made as an archive's weights need them, and not far more.

    Its configuration might ask for any size, before it is compared with the weights.
    """
    largest = max((t.numel() for t in {**archive.weights, **archive.training}.values()), default=0)
    count = len(archive.weights) + len(archive.training)
    return _Bounded(2 * largest + SLACK, 1_000 * count + SLACK)


def archive_path(path: str | os.PathLike[str]) -> Path:
    """The path with ``.zip``, where it has no ending."""
    path = Path(path)
    return path if path.suffix else path.with_suffix(".zip")


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return bytes(
        save(
            {
                name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, t in tensors.items()
            }
        )
    )
