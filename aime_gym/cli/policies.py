"""Policies by what a user would call them: a word, a name, a run folder, an archive."""

from __future__ import annotations

import dataclasses
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import stable_baselines3
import tyro
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents.actor import Actor
from agents.aime import AIMEAgent
from agents.checks import check_device
from agents.imujoco.published import load_published_sac
from agents.runs.folder import read_config
from agents.runs.recipes import RECIPES
from agents.runs.recipes.online import BEST
from aime_gym.catalogue import ARCHIVE, CHECKPOINT, FINAL, find_model
from aime_gym.foreign import DAMAGE, blame, check_contents, parse_json, printable
from aime_gym.ids import check_env_id
from aime_gym.imujoco_ids import inner_name
from aime_gym.normalized import NormalizedPolicy
from aime_gym.rollout import Policy, RandomPolicy

RANDOM = "random"
IN_A_FOLDER = (BEST, FINAL, CHECKPOINT, ARCHIVE)  # Archives whose folder has the telling name.
WHAT_ACTS = (
    "A policy is 'random', a run folder of `aime-gym train`, an archive (.zip) of an agent or its "
    "name, a published folder with policy.pt, or, with --sb3 ALGORITHM, a model of "
    "Stable-Baselines3."
)


@dataclass(frozen=True, kw_only=True)
class Acting:
    """What acts, and where.

    Attributes:
        env: The environment, such as AIME/walker-run-mdp or Hopper-v5.
        policy: random, a run folder of `aime-gym train`, or an agent's archive (.zip) or name.
        sampled: Sample the policy's actions, instead of its best.
        sb3: The algorithm, where the policy is a model of Stable-Baselines3.
        device: Where the policy's networks are put: auto, cpu, cuda, ...
        normalizer: The VecNormalize with which a Stable-Baselines3 model has learned, saved (.pkl).
        trust_pickle: Read the pickles of Stable-Baselines3, which may run any code.
    """

    env: str
    policy: str
    sampled: Annotated[bool, tyro.conf.arg(aliases=["--stochastic"])] = False
    sb3: Literal["sac", "ppo", "a2c", "td3", "ddpg"] | None = None
    device: str = "auto"
    normalizer: Path | None = None
    trust_pickle: bool = False

    def load(self, seed: int) -> Policy:
        """Loads whatever acts.

        Args:
            seed: Seed of random actions, and of the global generators that Stable-Baselines3
                samples from.

        Raises:
            FileNotFoundError: There is no such file or folder, or nothing in it acts.
            ValueError: There is no such environment or device, or the policy is damaged, is nothing
                that acts, or is of another environment.
        """
        check_device(self.device)
        env_id = check_env_id(self.env)
        if self.normalizer is not None:
            return self._load_normalized(seed)
        if self.policy == RANDOM:
            with gym.make(env_id) as env:
                return RandomPolicy(env.action_space, seed)
        if self.sb3 is not None:
            return self._load_sb3(self.sb3, seed)
        path = _find(self.policy)
        return _agent_class(path).load(path, env=env_id, device=self.device)

    @property
    def name(self) -> str:
        """A short label: the name of a run folder or archive."""
        path = Path(self.policy)
        return path.parent.name if path.name in IN_A_FOLDER else path.stem

    @property
    def run_config(self) -> dict[str, Any]:
        """What the policy's run is; empty where it comes from no run folder."""
        path = Path(self.policy).expanduser()
        return read_config(path.parent if path.name in IN_A_FOLDER else path)

    def _load_normalized(self, seed: int) -> Policy:
        """The policy with its observations normalised."""
        assert self.normalizer is not None
        path = self.normalizer.expanduser()
        if self.sb3 is None:
            raise ValueError(
                "--normalizer is for models of Stable-Baselines3, with --sb3 ALGORITHM: agents of "
                "this package normalise observations by themselves."
            )
        if not path.is_file():
            raise FileNotFoundError(f"There is no normalizer {path}.")
        if not self.trust_pickle:
            raise ValueError(
                f"{path} is a pickle, which may run any code when it is read. If you trust where "
                "it comes from: --trust-pickle."
            )
        policy = dataclasses.replace(self, normalizer=None).load(seed)
        with gym.make(check_env_id(self.env)) as env:
            try:
                normalizer = VecNormalize.load(str(path), DummyVecEnv([lambda: env]))
            except Exception as error:  # A pickle fails in any way.
                raise ValueError(
                    f"{path} is no VecNormalize for {self.env}: {type(error).__name__}: {error}"
                ) from error
        return NormalizedPolicy(policy, normalizer)

    def _load_sb3(self, algorithm: str, seed: int) -> Policy:
        path = Path(self.policy).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"There is no {self.policy!r}. {WHAT_ACTS}")
        set_random_seed(seed)
        if algorithm == "sac" and inner_name(check_env_id(self.env)) is not None:
            published: Policy = load_published_sac(path, self.env, self.device)
            return published
        if not self.trust_pickle and (pickled := _pickled_fields(path)):
            raise ValueError(
                f"{path} holds pickles ({', '.join(pickled[:4])}, ...), which may run any code "
                "when they are read. If you trust where it comes from: --trust-pickle."
            )
        model_class = getattr(stable_baselines3, algorithm.upper())
        try:
            model: Policy = model_class.load(
                path, env=gym.make(check_env_id(self.env)), device=self.device
            )
        except Exception as error:  # A model of another algorithm fails in many ways.
            raise ValueError(
                f"{path} is no model of Stable-Baselines3's {algorithm.upper()} for {self.env}: "
                f"{error}"
            ) from error
        return model


def _pickled_fields(path: Path) -> list[str]:
    """The fields of a model of Stable-Baselines3 that are pickles.

    Raises:
        ValueError: It is no such model, or is damaged.
    """
    check_contents(path)
    with blame(path, "no model of Stable-Baselines3"), zipfile.ZipFile(path) as archive:
        data = parse_json(archive.read("data"), "data")
        if not isinstance(data, dict):
            raise ValueError("its data are no object")
        return [
            printable(name)
            for name, value in data.items()
            if isinstance(value, dict) and ":serialized:" in value
        ]


def _find(policy: str) -> Path:
    """The archive of an agent, the best one of its run, or a published folder."""
    best = Path(policy).expanduser() / BEST
    if best.is_file():
        return best
    try:
        return find_model(policy)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} {WHAT_ACTS}") from error


def _agent_class(path: Path) -> type[Actor]:
    """The class of what acts; an archive says it, and published folders are AIME's."""
    if path.is_dir():
        if not (path / "policy.pt").is_file():
            raise FileNotFoundError(f"In {path} there is nothing that acts. {WHAT_ACTS}")
        return AIMEAgent
    kind = _kind(path)
    known = {recipe.learner_class.__name__: recipe.learner_class for recipe in RECIPES}
    if kind not in known:
        raise ValueError(
            f"{path} holds a {kind}, which this version does not know; it knows {', '.join(known)}."
        )
    learner_class = known[kind]
    if not issubclass(learner_class, Actor):
        raise ValueError(f"{path} holds a {kind}, which does not act. {WHAT_ACTS}")
    return learner_class


def _kind(path: Path) -> str:
    """The class name that an archive of this package holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            if "config.json" not in archive.namelist() and "data" in archive.namelist():
                raise ValueError(
                    f"{path} looks like a model of Stable-Baselines3: say which with "
                    "--sb3 sac, ppo, ..."
                )
            return str(parse_json(archive.read("config.json"), "config.json")["kind"])
    except DAMAGE as error:
        if str(path) in str(error):
            raise
        raise ValueError(
            f"{path} is truncated, or no archive of aime-gym: {error}. {WHAT_ACTS}"
        ) from error
