"""The card of a dataset or of a model: what it is, who made it, and how to make it again.

A card is ``card.json`` in the folder of what it describes. Fields that are empty are left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import types
import typing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aime_gym.files import sha256, write_json
from aime_gym.foreign import check_name, printable, read_json
from aime_gym.ids import body_of, check_env_id

CARD = "card.json"
NO_LICENSE = "NOASSERTION"  # SPDX's word for an unknown license.
SHORT = 8  # Characters of a checksum, where people read it.
VERSIONED = ("aime-gym", "mujoco", "dm_control", "gymnasium", "numpy")
OLD_FIELDS = {"licence", "dataset", "dataset_checksum"}
UNLISTED = {CARD, "README.md", "LICENSE"}  # Files that a card need not name.

Kind = Literal["dataset", "model"]
Source = Literal["aime-gym", "aime", "user"]


@dataclass(frozen=True)
class Origin:
    """A model or a dataset that a result depends on.

    Attributes:
        name: Its name, such as ``"walker-mix-mdp"``.
        source: Who made it: ``"aime-gym"``, ``"aime"`` or ``"user"``.
        sha256: Its checksum, hexadecimal; None where unknown.
    """

    name: str
    source: str = "user"
    sha256: str | None = None

    def __str__(self) -> str:
        checksum = f", {self.sha256[:SHORT]}" if self.sha256 else ""
        return f"{self.name} ({self.source}{checksum})"


@dataclass(frozen=True)
class Card:
    """What a dataset or a model is, and how to make it again.

    Attributes:
        name: Its name for `load_dataset` or `load`.
        body: The body that moved, such as ``"walker"``.
        kind: ``"dataset"`` or ``"model"``.
        env_id: The environment; None for a dataset of several.
        description: One sentence.
        source: Who made it: ``"aime-gym"``, ``"aime"`` (published with the paper) or ``"user"``.
        license: SPDX identifier of its license.
        command: The shell command that makes it.
        seed: That command's seed.
        versions: Package -> version when it was made.
        sha256: File name -> checksum.
        parts: Names of the datasets that a dataset was mixed from.
        evaluation_returns: Returns of 100 further episodes of the policy behind a dataset, for an
            expert.
        gl_vendor: The OpenGL driver that drew a dataset's images.
        action_repeat: Steps of the environment's own clock for which each action of a dataset was
            held; None where unknown.
        learned_from: The datasets and models that a model learned from.
        updates: Gradient updates of a model.
        metrics: Metric -> mean over the last logged interval of a model's training.

    Raises:
        ValueError: A field has a value of another type, or a number that is not finite; the message
            says which is right. Or it is no name (see `check_name`), or has signs that terminals
            obey.
    """

    name: str
    body: str
    kind: Kind = "dataset"
    env_id: str | None = None
    description: str = ""
    source: Source = "user"
    license: str = "MIT"
    command: str | None = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    evaluation_returns: tuple[float, ...] = ()
    gl_vendor: str | None = None
    action_repeat: int | None = None
    learned_from: tuple[Origin, ...] = ()
    updates: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, expected in typing.get_type_hints(Card).items():
            value = getattr(self, name)
            if not _fits(value, expected):
                text = str(expected).replace("typing.", "").replace("<class 'str'>", "str")
                raise ValueError(f"The {name} of a card is {text}, not {value!r:.200}.")
        for text in _texts(dataclasses.asdict(self)):
            if printable(text) != text:
                raise ValueError(f"A card has no control characters; got {text!r:.200}.")
        check_name(self.name, f"a {self.kind}")
        for file in self.sha256:
            check_name(file, f"a file of {self.name!r}")

    @property
    def checksum(self) -> str | None:
        """One SHA-256: a model's own, or that of all of a dataset's; None where there are none."""
        if not self.sha256:
            return None
        if self.kind == "model" and len(self.sha256) == 1:
            return next(iter(self.sha256.values()))
        return hashlib.sha256(json.dumps(self.sha256, sort_keys=True).encode()).hexdigest()

    @property
    def origin(self) -> Origin:
        """Name, source and checksum, for score tables and for the cards of models."""
        return Origin(self.name, self.source, self.checksum)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``card.json``, without the empty ones."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value not in (None, "", (), {})}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Card:
        """The inverse of `to_json`.

        Raises:
            ValueError: A field is missing, is unknown, or has a value of another type.
        """
        known = {each.name for each in dataclasses.fields(cls)}
        if not {"name", "body"} <= set(values) <= known:
            raise ValueError(
                f"A card has name and body, and may have {', '.join(sorted(known))}; this one has "
                f"{', '.join(sorted(values)) or 'nothing'}."
            )
        fields = dict(values)
        for key in {"evaluation_returns", "parts"} & set(values):
            fields[key] = tuple(values[key])
        fields["learned_from"] = tuple(
            Origin(**origin) for origin in values.get("learned_from", ())
        )
        return cls(**fields)


def read_card(folder: str | os.PathLike[str]) -> Card:
    """Reads ``card.json``. One of the old form is read with a warning.

    Raises:
        FileNotFoundError: The folder has no card.
        ValueError: The card is damaged, or has fields that a card does not have.
    """
    values = _read_values(Path(folder))
    if _is_old(values):
        warnings.warn(
            f"The card of {folder} is of an old form. To renew it: aime-gym renew {folder}",
            UserWarning,
            stacklevel=2,
        )
    return _to_card(Path(folder), values)


def write_card(folder: str | os.PathLike[str], card: Card) -> None:
    """Writes ``card.json``, whole or not at all."""
    write_json(Path(folder) / CARD, card.to_json())


def renew_card(folder: str | os.PathLike[str]) -> Card:
    """Rewrites a card of the old form in the present one; what it says stays.

    Raises:
        FileNotFoundError: The folder has no card.
        ValueError: The card is damaged.
    """
    card = _to_card(Path(folder), _read_values(Path(folder)))
    write_card(folder, card)
    return card


def check_files(folder: str | os.PathLike[str], card: Card, *, alone: bool = True) -> None:
    """Compares the files of a dataset or a model with the checksums of its card.

    Args:
        folder: Has the files.
        card: Its card.
        alone: Refuse files that the card does not name.

    Raises:
        FileNotFoundError: A file that the card names is missing.
        ValueError: A file has another checksum; or there is one that the card does not name.
    """
    if alone and card.sha256:
        _check_unlisted(Path(folder), card)
    for name, expected in card.sha256.items():
        path = Path(folder) / name
        if not path.exists():
            raise FileNotFoundError(
                f"{card.kind.capitalize()} {card.name!r} is not whole: {path} is missing."
            )
        if sha256(path) != expected:
            raise ValueError(f"{path} is damaged: its checksum is not the card's.")


def installed_versions() -> dict[str, str]:
    """The versions of the packages that shape data and models, for cards."""
    return {name: importlib.metadata.version(name) for name in VERSIONED}


def card_of_env(env_id: str, name: str, **fields: Any) -> Card:
    """A card for what is made in one environment, with the versions that make it.

    Args:
        env_id: Any id that is registered with Gymnasium.
        name: The card's name.
        **fields: Further fields of the card.

    Raises:
        ValueError: There is no such environment.
    """
    env_id = check_env_id(env_id)
    defaults = {"source": "aime-gym", "versions": installed_versions()}
    return Card(name=name, body=body_of(env_id), env_id=env_id, **(defaults | fields))


def _read_values(folder: Path) -> dict[str, Any]:
    """What ``card.json`` holds."""
    path = folder / CARD
    if not path.exists():
        raise FileNotFoundError(f"{folder} is no dataset or model of aime-gym: it has no {CARD}.")
    values = read_json(path, "no card")
    if not isinstance(values, dict):
        raise ValueError(f"{path} is no card: it holds {type(values).__name__}, not an object.")
    return values


def _is_old(values: Mapping[str, Any]) -> bool:
    return bool(OLD_FIELDS & set(values))


def _to_card(folder: Path, values: dict[str, Any]) -> Card:
    """What ``card.json`` holds, in the present form or the old one -> the card."""
    try:
        return Card.from_json(_renewed(values) if _is_old(values) else values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / CARD} is no card: {error}") from error


def _renewed(old: dict[str, Any]) -> dict[str, Any]:
    """The fields of an old card under their present names.

    "licence" is "license" now. The card of a model had no body, and named one dataset.
    """
    values = {name: value for name, value in old.items() if name not in OLD_FIELDS}
    values["license"] = old.get("licence", Card.license)
    if "dataset" in old:
        dataset = Origin(old["dataset"], old.get("source", "user"), old.get("dataset_checksum"))
        body = body_of(old["env_id"]) if "env_id" in old else "unknown"
        values |= {"kind": "model", "body": body, "learned_from": [dataclasses.asdict(dataset)]}
    return values


def _fits(value: object, expected: Any) -> bool:
    """Whether a value is of the type of a field."""
    kind, arguments = typing.get_origin(expected), typing.get_args(expected)
    if kind is Literal:
        return value in arguments
    if kind is types.UnionType:
        return any(_fits(value, argument) for argument in arguments)
    if kind is tuple:
        return isinstance(value, tuple) and all(_fits(each, arguments[0]) for each in value)
    if kind is dict:
        return isinstance(value, dict) and all(
            _fits(key, arguments[0]) and _fits(each, arguments[1]) for key, each in value.items()
        )
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return False
    return isinstance(value, int | float if expected is float else expected)


def _texts(value: object) -> list[str]:
    """All text in plain values, keys included."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for text in _texts(pair)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _check_unlisted(folder: Path, card: Card) -> None:
    """Refuses files that the card does not name; hidden ones, such as locks, do not count."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    names = {path.as_posix() for path in found if not any(p.startswith(".") for p in path.parts)}
    if unlisted := sorted(names - set(card.sha256) - UNLISTED):
        raise ValueError(
            f"{folder} has files that its {CARD} does not name, which may be of others: "
            f"{printable(', '.join(unlisted[:5]))}. Move them elsewhere."
        )
