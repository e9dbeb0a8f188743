"""World models out of what has one, as models of their own that load by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from agents.aime import AIMEAgent
from agents.archive import Archive
from agents.checks import check_device
from agents.dreamer import DreamerAgent
from agents.plan2explore import Plan2ExploreAgent
from agents.world_models.network import WorldModelNet
from agents.world_models.world_model import WorldModel
from aime_gym.card import Card, installed_versions, write_card
from aime_gym.catalogue import ARCHIVE, find_model
from aime_gym.files import new_folder, sha256

AGENTS = {each.__name__: each for each in (AIMEAgent, DreamerAgent, Plan2ExploreAgent)}
"""Agents that have a world model, under the names that their archives have."""


def load_world_model(
    source: str | os.PathLike[str], device: str = "auto"
) -> tuple[WorldModel, str]:
    """The world model of whatever has one.

    Args:
        source: A name of `aime-gym models list`; or an archive, a run folder or a published folder,
            of a world model or of an agent that has one.
        device: Where to put it.

    Returns:
        The world model, and in words what it was part of.

    Raises:
        FileNotFoundError: There is no such model; the message lists what there is.
        ValueError: The archive is damaged, or holds nothing with a world model; or there is no such
            device.
    """
    check_device(device)
    found = find_model(source)
    if found.is_dir():
        return WorldModel.load(found, device=device), "a published world model"
    kind = Archive.read_kind(found)
    if kind == WorldModel.__name__:
        model = WorldModel.load(found, device=device)
        return model, f"a {kind} after {model.num_timesteps:,} timesteps"
    if kind not in AGENTS:
        raise ValueError(f"{found} holds a {kind}, which has no world model.")
    agent: Any = AGENTS[kind].load(found, device=device)
    net: WorldModelNet = agent.world_model
    model = WorldModel(net.info, net.config, seed=agent.seed, device=device)
    model.net.load_state_dict(net.state_dict())
    return model, f"a {kind} after {agent.num_timesteps:,} timesteps"


def export_world_model(
    model: WorldModel, folder: Path, name: str, description: str, command: str | None = None
) -> Card:
    """Writes a world model as a folder with a card, which loads by name or by path.

    Args:
        model: What to write.
        folder: A new folder.
        name: The model's name.
        description: A sentence for the card.
        command: The shell command that does the same.

    Raises:
        FileExistsError: The folder is not empty.
    """
    with new_folder(folder) as part:
        return _write(model, part, name, description, command)


def _write(
    model: WorldModel, folder: Path, name: str, description: str, command: str | None
) -> Card:
    model.save(folder / ARCHIVE, compact=True)
    card = Card(
        name,
        model.env_info.body,
        kind="model",
        env_id=model.env_info.env_id,
        description=description,
        command=command,
        seed=model.seed,
        versions=installed_versions(),
        updates=model.num_timesteps or None,
        sha256={ARCHIVE: sha256(folder / ARCHIVE)},
    )
    write_card(folder, card)
    return card
