"""Policies by what a user would call them: a word, a run folder, an archive."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import tyro
from gymnasium import spaces

from aime_gym.envs.setups import parse_env_id
from aime_gym.rollout import Policy, RandomPolicy

RANDOM = "random"
OF_A_RUN = ("final", "checkpoint")  # Archives in a run folder.
Algorithm = Literal["sac", "ppo", "a2c", "td3", "ddpg"]
Sampled = Annotated[bool, tyro.conf.arg(aliases=["--stochastic"])]
WHAT_ACTS = (
    "A policy is 'random', a run folder of `aime-gym train`, an archive (.zip) of an agent, "
    "a published folder with policy.pt, or, with --sb3 ALGORITHM, a model of Stable-Baselines3."
)


def load_policy(
    spec: str, env_id: str, sb3: Algorithm | None = None, seed: int = 0, device: str = "auto"
) -> Policy:
    """Loads whatever acts.

    Args:
        spec: ``"random"``, a run folder, an archive, or a published folder.
        env_id: Where it is to act.
        sb3: The algorithm, where `spec` is a model of Stable-Baselines3.
        seed: Of random actions, and of the global generators that Stable-Baselines3 samples from.
        device: Where to put its networks.

    Raises:
        FileNotFoundError: There is no such file or folder, or nothing in it acts.
        ValueError: It is damaged, or nothing that acts.
    """
    observations, actions = _spaces(env_id)
    if spec == RANDOM:
        return RandomPolicy(actions, seed)
    policy = _load(spec, env_id, sb3, seed, device)
    _check_space("observations", policy, "observation_space", observations)
    _check_space("actions", policy, "action_space", actions)
    return policy


def policy_name(spec: str) -> str:
    """A short label: the name of a run folder or archive."""
    path = Path(spec)
    return path.parent.name if path.stem in OF_A_RUN else path.stem


def run_config(spec: str) -> dict[str, Any]:
    """What the run of a policy is; empty where it comes from no run folder."""
    path = Path(spec).expanduser()
    config = (path.parent if path.stem in OF_A_RUN else path) / "config.json"
    values: dict[str, Any] = json.loads(config.read_bytes()) if config.is_file() else {}
    return values


def _spaces(env_id: str) -> tuple[spaces.Box, spaces.Box]:
    """The environment's observations and actions."""
    parse_env_id(env_id)
    env: gym.Env[Any, Any] = gym.make(env_id)
    observations, actions = env.observation_space, env.action_space
    env.close()
    assert isinstance(observations, spaces.Box)
    assert isinstance(actions, spaces.Box)
    return observations, actions


def _check_space(what: str, policy: Policy, attribute: str, expected: spaces.Box) -> None:
    """Compares sizes; the axes of images may stand in another order."""
    shape = getattr(policy, attribute).shape
    if sorted(shape) != sorted(expected.shape):
        raise ValueError(
            f"The policy's {what} have shape {shape}, the environment's {expected.shape}: "
            "was it made for another?"
        )


def _load(spec: str, env_id: str, sb3: Algorithm | None, seed: int, device: str) -> Policy:
    path = Path(spec).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no {spec!r}. {WHAT_ACTS}")
    if sb3 is not None:
        return _load_sb3(path, sb3, seed, device)
    if path.is_file():
        return _load_archive(path, device)
    if (path / "best" / "model.zip").is_file():
        return _load_expert(path, seed)
    if (path / "final.zip").is_file():
        return _load_archive(path / "final.zip", device)
    if (path / "policy.pt").is_file():
        from agents import AIMEAgent

        return AIMEAgent.load(path, env=env_id, device=device)
    raise FileNotFoundError(f"In {spec} there is nothing that acts, yet. {WHAT_ACTS}")


def _load_expert(folder: Path, seed: int) -> Policy:
    from stable_baselines3.common.utils import set_random_seed

    from agents import Expert

    set_random_seed(seed)
    return Expert.load(folder)


def _load_archive(path: Path, device: str) -> Policy:
    """An archive of this package; its kind is written in it."""
    import agents
    from agents.base import Agent

    kind = _kind(path)
    agent_class = getattr(agents, kind, None)
    if not isinstance(agent_class, type) or not issubclass(agent_class, Agent):
        raise ValueError(f"{path} holds a {kind}, which does not act. {WHAT_ACTS}")
    return agent_class.load(path, device=device)


def _kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            if "config.json" not in archive.namelist() and "data" in archive.namelist():
                raise ValueError(
                    f"{path} looks like a model of Stable-Baselines3: say which with "
                    "--sb3 sac, ppo, ..."
                )
            return str(json.loads(archive.read("config.json"))["kind"])
    except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is truncated, or no archive of aime-gym: {error}. {WHAT_ACTS}"
        ) from error


def _load_sb3(path: Path, algorithm: Algorithm, seed: int, device: str) -> Policy:
    import stable_baselines3
    from stable_baselines3.common.utils import set_random_seed

    set_random_seed(seed)
    model_class = getattr(stable_baselines3, algorithm.upper())
    try:
        model: Policy = model_class.load(path, device=device)
    except Exception as error:  # A model of another algorithm fails in many ways.
        raise ValueError(
            f"{path} is no model of Stable-Baselines3's {algorithm.upper()}: {error}"
        ) from error
    return model
