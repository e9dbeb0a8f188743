import subprocess
import sys

import pytest

import aime_gym

HEAVY = ("torch", "mujoco", "dm_control", "matplotlib", "stable_baselines3", "scipy", "PIL")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_is_light_and_registers_the_ids():
    loaded = run(
        "import sys, aime_gym, gymnasium\n"
        "gymnasium.spec('AIME/walker-run-mdp')\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded == []


def test_datasets_and_scores_need_no_simulator():
    loaded = run(
        "import sys\n"
        "from aime_gym import Dataset, Evaluation, ScoreTable, evaluate, load_dataset\n"
        f"print(*[name for name in {HEAVY[:5]} if name in sys.modules])"
    )
    assert loaded == []


@pytest.mark.parametrize("name", aime_gym.__all__)
def test_every_public_name_exists(name):
    assert getattr(aime_gym, name) is not None
    assert name in dir(aime_gym)


def test_an_unknown_name_is_an_error_that_lists_the_names():
    with pytest.raises(AttributeError, match=r"no 'load_data': it has .*load_dataset"):
        _ = aime_gym.load_data
    assert not hasattr(aime_gym, "nothing")
