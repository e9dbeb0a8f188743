"""``aime-gym environments``: the ids, and whether they keep to Gymnasium's rules."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import tyro
from gymnasium.utils.env_checker import check_env
from tqdm import tqdm
from tyro.extras import SubcommandApp

from aime_gym.cli.console import is_watched, show_table
from aime_gym.envs.dm_control.setups import get_body, visible_sensors
from aime_gym.ids import list_environments, parse_env_id
from aime_gym.trajectory import IMAGE_SHAPE

app = SubcommandApp()
FINE = "passes"
TERMINAL_COLOUR = re.compile(r"\x1b\[\d+m")
EXPECTED = (  # What the checkers would like, and these environments have for a reason.
    "Box observation space m",  # Velocities have no limits.
    "symmetric and normalized",  # Quadruped's actions are in its actuators' units.
)


@app.command(name="list")
def list_(*, body: str | None = None) -> None:
    """List the ids of the environments.

    Args:
        body: Those of one body alone, such as walker.
    """
    rows = []
    for env_id in list_environments(body):
        body_name, task, setup = parse_env_id(env_id)
        known = get_body(body_name)
        sensors = visible_sensors(known.sensors + known.tasks[task].sensors, setup)
        shape = IMAGE_SHAPE if setup == "visual" else (sum(sensor.size for sensor in sensors),)
        rows.append((env_id, " x ".join(map(str, shape)), str(known.action_repeat)))
    show_table(("id", "observation", "action repeat"), rows)


@app.command
def check(env: tyro.conf.Positional[str | None] = None, *, body: str | None = None) -> int:
    """Run the checkers of Gymnasium and of Stable-Baselines3.

    Args:
        env: An id, such as AIME/walker-run-mdp; by default all.
        body: All of one body.
    """
    if env is not None and body is not None:
        raise ValueError("Give an id or --body, not both.")
    ids = list_environments(body) if env is None else [str(parse_env_id(env))]
    rows = [(env_id, *_check(env_id)) for env_id in tqdm(ids, "checking", disable=not is_watched())]
    show_table(("id", "Gymnasium", "Stable-Baselines3"), rows)
    failed = sum(row[1:] != (FINE, FINE) for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} pass.")
    return 1 if failed else 0


def _check(env_id: str) -> tuple[str, str]:
    """What each checker says of an environment."""
    from stable_baselines3.common.env_checker import check_env as check_env_of_sb3  # With PyTorch.

    env: gym.Env[Any, Any] = gym.make(env_id).unwrapped
    try:
        return (
            _verdict(lambda: check_env(env, skip_render_check=True, skip_close_check=True)),
            _verdict(lambda: check_env_of_sb3(env)),
        )
    finally:
        env.close()


def _verdict(checker: Callable[[], None]) -> str:
    """`FINE`, or what the checker found first."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            checker()
        except Exception as error:  # Checkers assert, and environments may raise anything.
            return _one_line(error)
    found = [_one_line(warning.message) for warning in caught]
    unexpected = [text for text in found if not any(known in text for known in EXPECTED)]
    return unexpected[0] if unexpected else FINE


def _one_line(message: object) -> str:
    text = " ".join(TERMINAL_COLOUR.sub("", str(message)).split())
    return text or type(message).__name__
