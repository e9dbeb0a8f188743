"""Every id passes Gymnasium's and Stable-Baselines3's checkers."""

import re
import warnings

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import aime_gym
from aime_gym.envs.dm_control.setups import SETUPS
from aime_gym.envs.dm_control.tasks import BODIES
from aime_gym.ids import parse_env_id

RANGE = "symmetric and normalized"


def ids(body, setup):
    return [i for i in aime_gym.list_environments(body) if parse_env_id(i).setup == setup]


def test_every_id_is_checked():
    checked = [i for body in BODIES for setup in SETUPS for i in ids(body, setup)]
    assert sorted(checked) == sorted(aime_gym.list_environments())
    assert set(checked) == {i for i in gym.registry if i.startswith("AIME/")}


@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
@pytest.mark.parametrize("body", BODIES)
def test_vectors_pass_without_a_warning(body, setup):
    assert_checkers_pass(body, ids(body, setup))


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("body", BODIES)
def test_pictures_pass_without_a_warning(body):
    assert_checkers_pass(body, ids(body, "visual")[:1])


@pytest.mark.slow
@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("body", BODIES)
def test_pictures_of_further_tasks_pass_without_a_warning(body):
    assert_checkers_pass(body, ids(body, "visual")[1:])


def assert_checkers_pass(body, env_ids):
    for env_id in env_ids:
        env = gym.make(env_id).unwrapped
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(env, skip_render_check=True, skip_close_check=True)
            check_env_of_sb3(env)
        env.close()
        messages = [re.sub(r"\x1b\[\d+m", "", str(warning.message)) for warning in caught]
        if body == "quadruped":
            messages = [message for message in messages if RANGE not in message]
        # Gymnasium's checker asks for finite limits of observations, which velocities do not have.
        messages = [m for m in messages if "Box observation space m" not in m]
        assert not messages, env_id


@pytest.mark.usefixtures("opengl")
def test_rendering_passes_gymnasiums_checker():
    env = gym.make("AIME/cartpole-balance-visual", render_mode="rgb_array", render_width=32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("env_id", aime_gym.list_environments("reacher"))
def test_specs_serialise(env_id):
    spec = gym.spec(env_id)
    copy = EnvSpec.from_json(spec.to_json())
    assert copy == spec
    assert gym.make(copy).unwrapped.env_id == parse_env_id(env_id)


def test_module_form_of_an_id():
    env = gym.make("aime_gym:AIME/walker-run-lpomdp")
    assert str(env.unwrapped.env_id) == env.spec.id == "AIME/walker-run-lpomdp"


@pytest.mark.parametrize(
    ("name", "fps"), [("walker-run", 20), ("reacher-easy", 12), ("cheetah-run", 50)]
)
def test_fps_is_that_of_agent_steps(name, fps):
    env = gym.make(f"AIME/{name}-mdp").unwrapped
    assert env.metadata["render_fps"] == fps
    assert type(env).metadata["render_fps"] == 20
