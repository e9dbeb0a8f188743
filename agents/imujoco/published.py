"""The policies that were published with iMuJoCo: Stable-Baselines3's, saved under gym 0.21.

Such a zip file has pickles of gym's spaces and of functions, which need gym to be read, and may do
anything while they are. They are left alone: the weights are read with PyTorch's own restricted
reader into a new model, whose spaces are those of the environment.

    actor     observation [n] -> two layers of 256 with ReLU -> mu [A]; action = tanh(mu)
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import SAC
from torch import Tensor

from agents.checks import check_device
from aime_gym.datasets.imujoco_npz import variant_of_file
from aime_gym.ids import check_env_id
from aime_gym.imujoco_ids import NAMESPACE

WEIGHTS = "policy.pth"
HIDDEN = "actor.latent_pi.{}.weight"  # Layers with even numbers; ReLUs stand between them.


def load_published_sac(
    path: str | os.PathLike[str], env: str | gym.Env[Any, Any] | None = None, device: str = "cpu"
) -> SAC:
    """Loads a policy that Stable-Baselines3's SAC saved, without executing any of its pickles.

    What comes back acts as it did; its replay is empty, and its optimisers are new.

    Args:
        path: ``sac-<variant>.zip``.
        env: The environment, or its id; None for that of the variant that the file is named after.
        device: Where the networks are put.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no policy of Stable-Baselines3's SAC, is damaged, has more than
            weights where these should be, or is of another body; or its name tells no variant. Or
            there is no such device.
    """
    check_device(device)
    weights = _read_weights(Path(path).expanduser())
    if env is None:
        env = f"{NAMESPACE}/{variant_of_file(path)}"
    if isinstance(env, str):
        env = gym.make(check_env_id(env))
    layers = [number for number in range(0, 20, 2) if HIDDEN.format(number) in weights]
    widths = [len(weights[HIDDEN.format(number)]) for number in layers]
    model = SAC("MlpPolicy", env, buffer_size=1, policy_kwargs={"net_arch": widths}, device=device)
    try:
        model.policy.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{path} has a policy of another body: it sees {_size(weights)} values and has "
            f"{len(weights['actor.mu.bias'])} actions; the environment has "
            f"{env.observation_space.shape} and {env.action_space.shape}."
        ) from error
    return model


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no policy {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(WEIGHTS)
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except KeyError as error:
        raise ValueError(
            f"{path} is no policy of Stable-Baselines3: it has no {WEIGHTS}."
        ) from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} has more than weights in its {WEIGHTS}, or is damaged; it is not opened."
        ) from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is damaged, or no policy of Stable-Baselines3: {error}."
        ) from error
    if not isinstance(weights, Mapping) or not {HIDDEN.format(0), "actor.mu.bias"} <= set(weights):
        raise ValueError(f"{path} is no policy of Stable-Baselines3's SAC: it has no such actor.")
    return weights


def _size(weights: Mapping[str, Tensor]) -> int:
    return int(weights[HIDDEN.format(0)].shape[1])
