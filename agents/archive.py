"""One zip archive an agent: configuration, weights, and what is needed to go on learning.

    config.json                what the agent is
    weights.safetensors        its networks
    training.json              counters (archives that can resume)
    training.safetensors       optimiser, random generators, running metrics

Nothing is pickled, so opening an archive runs no code.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from aime_gym.files import atomic_write

FORMAT = 1


@dataclass
class Archive:
    """What a saved agent holds.

    Attributes:
        kind: Class name of the agent.
        config: Plain values.
        weights: Tensors of the networks.
        counters: Plain values of the training; empty where it cannot resume.
        training: Tensors of the training.
    """

    kind: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    counters: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Tensor] = field(default_factory=dict)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes the archive; ``.zip`` is added where the name has no ending.

        An archive that was there stays whole if writing fails.
        """
        target = archive_path(path)
        header = {"format": FORMAT, "kind": self.kind, "config": self.config}
        with atomic_write(target) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("config.json", json.dumps(header, indent=1))
            archive.writestr("weights.safetensors", _to_bytes(self.weights))
            if self.counters:
                archive.writestr("training.json", json.dumps(self.counters))
                archive.writestr("training.safetensors", _to_bytes(self.training))
        return target

    @classmethod
    def read(cls, path: str | os.PathLike[str], kind: str) -> Archive:
        """Reads the archive of one kind of agent.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated, foreign, or of another kind of agent.
        """
        target = archive_path(path)
        if not target.exists():
            raise FileNotFoundError(f"There is no {target}.")
        try:
            with zipfile.ZipFile(target) as archive:
                header = json.loads(archive.read("config.json"))
                weights = load(archive.read("weights.safetensors"))
                found = cls(header["kind"], header["config"], weights)
                if "training.json" in archive.namelist():
                    found.counters = json.loads(archive.read("training.json"))
                    found.training = load(archive.read("training.safetensors"))
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{target} is truncated, or no archive of aime-gym: {error}."
            ) from error
        if header.get("format") != FORMAT:
            raise ValueError(
                f"{target} is in format {header.get('format')}; this version reads {FORMAT}."
            )
        if found.kind != kind:
            raise ValueError(f"{target} holds a {found.kind}, not a {kind}.")
        return found


def archive_path(path: str | os.PathLike[str]) -> Path:
    """The path with ``.zip``, where it has no ending."""
    path = Path(path)
    return path if path.suffix else path.with_suffix(".zip")


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name -> prefix.name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """prefix.name -> name, for the names that start so."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state: ``<parameter>.<key>`` -> tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, slot in state.items() for key, value in slot.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def load_weights(
    module: nn.Module, state: Mapping[str, Tensor], source: str, optional: tuple[str, ...] = ()
) -> None:
    """Loads weights, which must fit the module; those that start with `optional` may be too many.

    Raises:
        ValueError: Weights are missing, of another shape, or foreign.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    foreign = [name for name in state if name not in expected and not name.startswith(optional)]
    wrong = [
        f"{name} {list(state[name].shape)} instead of {list(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or foreign or wrong:
        raise ValueError(
            f"The weights of {source} do not fit: "
            f"missing {_some(missing)}; unknown {_some(foreign)}; of another shape {_some(wrong)}."
        )
    module.load_state_dict({name: state[name] for name in expected})


def _some(names: list[str]) -> str:
    return (
        ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
    )


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return bytes(save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}))
