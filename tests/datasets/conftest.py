import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

import aime_gym  # noqa: F401
from aime_gym.datasets import Card, Dataset, Trajectory, collect

ENV_ID = "AIME/cartpole-balance-mdp"  # The shortest episodes: 125 steps.


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """Neither the user's cache nor the user's datasets."""
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIME_GYM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "data"


@pytest.fixture
def minari_root(data_folder):
    """Where Minari's datasets are in these tests."""
    return data_folder.with_name("minari")


@pytest.fixture(scope="session")
def collected() -> Dataset:
    """Two random episodes of the cartpole, with physics states."""
    return collect("random", ENV_ID, 2, seed=3, name="cartpole-balance-random")


@pytest.fixture
def short(collected) -> Dataset:
    """Windows of four observations, which are quick to draw."""
    return collected.map(lambda trajectory: trajectory.window(0, 4))


@pytest.fixture
def toy():
    """A function that makes a trajectory of numbers."""

    def make(rows=4, images=False, **fields) -> Trajectory:
        rng = np.random.default_rng(rows)
        sensors = {"height": rng.normal(size=(rows, 1)), "velocity": rng.normal(size=(rows, 3))}
        sensors = {name: values.astype(np.float32) for name, values in sensors.items()}
        if images:
            sensors["image"] = rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8)
        parts = {
            "actions": rng.uniform(-1, 1, (rows - 1, 2)).astype(np.float32),
            "rewards": rng.uniform(size=rows - 1).astype(np.float32),
        }
        return Trajectory(sensors=sensors, **{**parts, **fields})

    return make


@pytest.fixture
def toys(toy):
    """A function that makes a dataset of such trajectories of given lengths."""

    def make(*rows, name="walker-toy", body="walker", env_id=None, **fields) -> Dataset:
        card = Card(name, body, env_id=env_id)
        return Dataset([toy(number, **fields) for number in rows or (4, 5)], card)

    return make


@pytest.fixture
def old_card():
    """A function that turns the card of a folder into one of the old form."""

    def make(folder, licence) -> None:
        path = folder / "card.json"
        values = json.loads(path.read_text()) | {"licence": licence}
        del values["license"], values["kind"]
        path.write_text(json.dumps(values))

    return make


def _same_array(first, second) -> bool:
    if first is None or second is None:
        return first is second
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and first.tobytes() == second.tobytes()
    )


@pytest.fixture
def same():
    """A function that tells whether trajectories are equal to the bit."""

    def check(first: Trajectory, second: Trajectory) -> bool:
        arrays = ("actions", "rewards", "physics_states")
        mappings = ("sensors", "extras")
        return (
            all(_same_array(getattr(first, name), getattr(second, name)) for name in arrays)
            and all(
                getattr(first, name).keys() == getattr(second, name).keys()
                and all(
                    _same_array(rows, getattr(second, name)[key])
                    for key, rows in getattr(first, name).items()
                )
                for name in mappings
            )
            and (first.terminated, first.truncated) == (second.terminated, second.truncated)
            and first.first_step == second.first_step
        )

    return check
