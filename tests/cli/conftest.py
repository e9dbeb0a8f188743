import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from aime_gym.cli import main
from aime_gym.datasets import collect, save_dataset

ENV_ID = "AIME/cartpole-balance-mdp"  # The shortest episodes: 125 steps.


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Neither the user's folders nor the user's settings."""
    for name in ("CACHE", "DATA", "MODELS"):
        monkeypatch.setenv(f"AIME_GYM_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("AIME_GYM_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """A function that runs a command line: its exit code, and what it printed."""

    def call(line, *words):
        capsys.readouterr()
        try:
            code = main([*line.split(), *map(str, words)])
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def collected():
    """Two random episodes."""
    return collect("random", ENV_ID, 2, seed=3, name="cartpole-balance-random")


@pytest.fixture
def stored(collected, places):
    """The name of a dataset that the commands find."""
    save_dataset(collected, places / "data" / "cartpole-balance-random")
    return "cartpole-balance-random"
