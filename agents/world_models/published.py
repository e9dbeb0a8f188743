"""World models in AIME's published layout: a folder with ``config.yaml`` and ``model.pt``.

Module names here are those of the published state dicts, except that the recurrent cell's have no
prefix there.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import yaml
from gymnasium import spaces
from torch import Tensor

from agents.nets import MLPConfig
from agents.parts import load_weights
from agents.spaces import REWARD, EnvInfo
from agents.world_models.config import CellKind, DecoderKind, WorldModelConfig
from agents.world_models.losses import Reweighting
from agents.world_models.network import WorldModelNet
from aime_gym.foreign import DAMAGE, check_contents
from aime_gym.trajectory import IMAGE_SHAPE

MAX_YAML = 2**20  # Bytes.

CELL_PREFIXES = (
    "initial_memory",
    "initial_state",
    "memory_cell",
    "pre_memory",
    "prior_",
    "posterior_",
)
OPTIONAL_HEADS = ("idm.", "emb_prediction_heads.", f"decoders.{REWARD}.")
DECODER_KINDS: dict[str, DecoderKind] = {
    "dmlp": "mean",
    "smlp": "mean_std",
    "ssmlp": "constant_std",
}
CELL_KINDS: dict[str, CellKind] = {"rssm": "rssm", "rssmo": "rssmo"}
StateDict = Mapping[str, Tensor]
Choice = TypeVar("Choice")


def load_published(folder: Path, env: EnvInfo | None = None) -> WorldModelNet:
    """Builds and loads the world model of a published folder.

    Args:
        folder: Has ``config.yaml`` and ``model.pt``.
        env: The environment that it is for; it gives what the files lack, such as action limits.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or the weights do not fit the configuration; or the
            environment has other sensors.
    """
    config = read_published_config(folder)
    state = read_state_dict(folder / "model.pt")
    try:
        info, model_config = _parse(config, state)
    except DAMAGE as error:
        raise ValueError(
            f"{folder} is no world model of AIME: {error} is missing from its configuration "
            "or its weights, or is of another kind."
        ) from error
    if env is not None:
        if env.action_dim == info.action_dim:
            info = replace(info, action_space=env.action_space)
        info = info.adapted_to(env, f"The world model of {folder}")
    with torch.random.fork_rng():
        net = WorldModelNet(info, model_config)
    load_weights(net, from_published_names(state), str(folder), OPTIONAL_HEADS)
    return net


def read_published_config(folder: Path) -> dict[str, Any]:
    """Reads ``config.yaml``.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no mapping.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise FileNotFoundError(f"{folder} is no published model: it has no config.yaml.")
    try:
        config = _load_yaml(path)
    except (yaml.YAMLError, *DAMAGE) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no settings.")
    return config


def _load_yaml(path: Path) -> Any:
    """What a YAML file holds, which has no aliases: with them a few lines can mean terabytes.

    Raises:
        ValueError: It has some, or is far too large.
    """
    if path.stat().st_size > MAX_YAML:
        raise ValueError("it is too large")
    text = path.read_text(encoding="utf-8")
    if any(isinstance(event, yaml.events.AliasEvent) for event in yaml.parse(text)):
        raise ValueError("it has aliases")
    return yaml.safe_load(text)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a file of `torch.save` as plain tensors, without running what is in it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing.")
    try:
        check_contents(path)  # PyTorch's own reader does not.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *DAMAGE) as error:
        raise ValueError(f"{path} is truncated, or no file of weights: {error}.") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no named tensors.")
    return cast(dict[str, Tensor], state)


def from_published_names(state: StateDict) -> dict[str, Tensor]:
    """Published names -> ours."""
    return {
        f"cell.{name}" if name.startswith(CELL_PREFIXES) else name: value
        for name, value in state.items()
    }


def _parse(config: dict[str, Any], state: StateDict) -> tuple[EnvInfo, WorldModelConfig]:
    model = config["world_model"]
    deter_dim, stoch_dim = model["state_dim"]
    heads = [name for name in state if name.startswith("emb_prediction_heads.")]
    decoder = model["decoders"]["tabular"]
    encoder = model["encoders"]["tabular"]
    model_config = WorldModelConfig(
        cell=_choice(model["name"], CELL_KINDS),
        deter_dim=deter_dim,
        stoch_dim=stoch_dim,
        hidden_dim=model["hidden_size"],
        min_std=1e-6 if model["min_std"] is None else model["min_std"],
        encoder=MLPConfig(hidden_layers=0) if encoder["name"] == "identity" else _mlp(encoder),
        decoder=_mlp(decoder),
        decoder_kind=_choice(decoder["name"], DECODER_KINDS),
        probe=_mlp(model["probes"]["tabular"]),
        image_width=model["encoders"]["visual"].get("width", 32),
        reward=any(name.startswith(f"decoders.{REWARD}.") for name in state),
        idm=(model["idm_mode"] or "none") if "idm.mean_net.net.0.weight" in state else "none",
        num_ensembles=len({name.split(".")[1] for name in heads}),
        ensemble_dim=len(state["emb_prediction_heads.0.net.0.bias"]) if heads else 1024,
        standardize=False,
        reweighting=_reweighting(model["nll_reweight"]),
        kl_scale=model["kl_scale"],
        free_nats=model["free_nats"] or 0.0,
        kl_balance=model["kl_rebalance"],
    )
    return _parse_sensors(config, state, model_config), model_config


def _parse_sensors(
    config: dict[str, Any], state: StateDict, model_config: WorldModelConfig
) -> EnvInfo:
    """The environment as far as the files tell: sensors in their order, actions in -1 .. 1."""
    setup = _setup(config)
    vectors = {
        name: sensor["order"]
        for name, sensor in config["env"]["sensors"].items()
        if sensor["modility"] == "tabular"
    }
    visible = [
        name
        for name, order in vectors.items()
        if setup == "mdp" or (setup == "lpomdp" and order == "first")
    ]
    hidden = [name for name in vectors if name not in visible]
    sizes = {name: _output_size(state, f"decoders.{name}.") for name in visible}
    stops = np.cumsum([0, *sizes.values()]).tolist()
    observation = (
        spaces.Box(0, 255, IMAGE_SHAPE, np.uint8)
        if setup == "visual"
        else spaces.Box(-np.inf, np.inf, (stops[-1],))
    )
    first = "memory_cell.weight_ih" if model_config.cell == "rssm" else "pre_memory.net.0.weight"
    action_dim = state[first].shape[1] - model_config.stoch_dim
    repeat = config["env"].get("action_repeat")
    return EnvInfo(
        env_id=None,
        body=str(config["env"]["embodiment"]),
        setup=setup,
        observation_space=observation,
        action_space=spaces.Box(-1.0, 1.0, (action_dim,)),
        slices=dict(zip(visible, pairwise(stops), strict=True)),
        hidden={name: _output_size(state, f"probes.{name}.") for name in hidden},
        action_repeat=repeat if isinstance(repeat, int) else None,
        drawing="exact" if setup == "visual" else None,
    )


def _output_size(state: StateDict, prefix: str) -> int:
    """Size of a head's output: that of its mean network's last bias."""
    biases = [
        name
        for name in state
        if name.startswith((f"{prefix}mu_net.net.", f"{prefix}net.net.")) and name.endswith(".bias")
    ]
    if not biases:
        raise KeyError(f"{prefix}*")
    return len(state[max(biases, key=lambda name: int(name.split(".")[-2]))])


def _mlp(settings: Mapping[str, Any]) -> MLPConfig:
    return MLPConfig(
        hidden_dim=settings.get("hidden_size", 128),
        hidden_layers=settings.get("hidden_layers", 2),
        activation=settings.get("hidden_activation", "elu"),
        layer_norm=settings.get("norm") == "ln",
    )


def _reweighting(name: str | None) -> Reweighting:
    names: dict[str, Reweighting] = {
        "none": "none",
        "dim_wise": "dim_wise",
        "modility_wise": "modality_wise",
    }
    return _choice(name or "none", names)


def _choice(name: str, choices: Mapping[str, Choice]) -> Choice:
    if name not in choices:
        raise ValueError(f"The configuration has {name!r}; known are {', '.join(choices)}.")
    return choices[name]


def published_env_id(folder: Path) -> str:
    """The environment that a published model or agent was made for.

    Raises:
        ValueError: The configuration does not name its task.
    """
    config = read_published_config(folder)
    if not {"env", "environment_setup"} <= config.keys():
        raise ValueError(f"{folder} is no world model of AIME: its configuration has no env.")
    env = config["env"]
    task = env.get("task")
    if not _resolved(task) and _resolved(env.get("name")):
        task = env["name"].rsplit("-", 1)[-1]
    if not _resolved(task):
        raise ValueError(
            f"{folder / 'config.yaml'} does not name its task: env.task is {task!r}. "
            "load(path, env) takes an environment."
        )
    return f"AIME/{env['embodiment']}-{task}-{_setup(config)}"


def _resolved(name: object) -> bool:
    """Whether a setting is there, and no reference to another one."""
    return isinstance(name, str) and "${" not in name


def _setup(config: Mapping[str, Any]) -> str:
    setup = str(config["environment_setup"])
    return "lpomdp" if setup == "pomdp" else setup
