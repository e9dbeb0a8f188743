"""Branches off stored states, and embodiment data made from small parts."""

import dataclasses

import numpy as np
import pytest

from aime_gym.datasets import collect, embodiment, load_dataset
from aime_gym.datasets.branches import branch, correlated_noise, push
from aime_gym.datasets.coverage import coverage
from aime_gym.datasets.embodiment import (
    EmbodimentRecipe,
    find_snapshots,
    make_embodiment,
    rows_by_source,
)

ENV_ID = "AIME/pendulum-swingup-mdp"


@pytest.fixture(scope="module")
def swings():
    return collect("random", ENV_ID, 2, seed=0, name="pendulum-random")


def test_branches_start_from_stored_states(swings):
    branches = list(branch(swings, ENV_ID, 5, seed=3, length=7))
    stored = np.concatenate([t.sensors["orientation"][:-1] for t in swings])
    assert len(branches) == 5
    for found in branches:
        assert len(found) == 8
        assert found.truncated
        assert np.abs(stored - found.sensors["orientation"][0]).max(axis=1).min() < 1e-6
        assert np.abs(found.actions).max() <= 1


def test_the_seed_decides_the_branches(swings):
    first, again, other = (list(branch(swings, ENV_ID, 3, seed=s, length=5)) for s in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.sensors["velocity"], two.sensors["velocity"])
        np.testing.assert_array_equal(one.actions, two.actions)
    assert not np.array_equal(first[0].actions, other[0].actions)


def test_branches_need_states_and_actions(swings):
    bare = swings.map(lambda t: dataclasses.replace(t, physics_states=None))
    with pytest.raises(ValueError, match=r"physics states and actions; .*'pendulum-random'"):
        list(branch(bare, ENV_ID, 1, seed=0))


def test_pushed_branches_start_with_other_velocities(swings):
    pushed = list(branch(swings, ENV_ID, 40, seed=3, length=7, pushed=True))
    stored = {name: np.concatenate([t.sensors[name] for t in swings]) for name in pushed[0].sensors}
    started = {name: np.stack([t.sensors[name][0] for t in pushed]) for name in stored}
    near = np.abs(stored["orientation"][None] - started["orientation"][:, None]).max(axis=2)
    assert near.min(axis=1).max() < 1e-6
    same = np.abs(stored["velocity"] - started["velocity"].T).min(axis=0) < 1e-6
    assert same.sum() < 3
    assert started["velocity"].std() > 1.2 * stored["velocity"].std()


def test_a_push_scales_velocities_and_adds_noise():
    generator = np.random.default_rng(0)
    states = np.tile([5.0, 6.0, 2.0, 0.0], (4_000, 1))
    found = push(states, np.array([0.0, 4.0]), generator)
    np.testing.assert_array_equal(found[:, :2], states[:, :2])
    assert found[:, 2].min() >= 0
    assert found[:, 2].max() == pytest.approx(3 * 2.0, abs=0.01)
    assert found[:, 2].mean() == pytest.approx(1.5 * 2.0, abs=0.1)
    assert found[:, 3].std() == pytest.approx(0.5 * 4.0, abs=0.1)


def test_noise_has_many_scales_and_correlations():
    noise = correlated_noise((400, 200, 2), np.random.default_rng(0))
    scales = noise.std(axis=0)
    assert scales.min() < 0.1
    assert 0.8 < scales.max() < 1.5
    near = [np.corrcoef(noise[1:, i, 0], noise[:-1, i, 0])[0, 1] for i in range(200)]
    assert min(near) < 0.15
    assert max(near) > 0.85


class Still:
    """A policy that does nothing."""

    def __init__(self, observations):
        import gymnasium as gym

        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (observations,))
        self.action_space = gym.spaces.Box(-1, 1, (1,))

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation), 1), np.float32), state


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(embodiment, "SNAPSHOTS", tmp_path)
    (tmp_path / "pendulum-swingup").mkdir()
    for steps in (100, 200):
        (tmp_path / "pendulum-swingup" / f"{steps:08d}.zip").touch()
    return EmbodimentRecipe(
        "toy", ENV_ID, ("pendulum-swingup",), "A toy.", rows=8_000, pushed_rows=320
    )


def test_embodiment_data(recipe):
    data = make_embodiment(recipe, lambda path: Still(3), seed=1)
    assert abs(sum(len(t) for t in data) - 8_320) < 1_500
    assert [part.partition(":")[0] for part in data.card.parts] == [
        "random",
        "correlated",
        "pendulum-swingup at 100",
        "pendulum-swingup at 200",
        "branches",
        "pushed",
    ]
    assert data.card.parts[-1] == "pushed: 10"
    assert all(t.rewards is None and t.physics_states is None for t in data)
    sources = dict(rows_by_source(data))
    assert sum(map(len, sources.values())) == sum(len(t) for t in data)
    shares = coverage(sources)
    assert all(0 < share <= 1 for share in shares.values())
    again = make_embodiment(recipe, lambda path: Still(3), seed=1)
    assert again.checksum == data.checksum
    assert make_embodiment(recipe, lambda path: Still(3), seed=2).checksum != data.checksum


def test_sources_without_an_episode_are_left_out(recipe):
    data = make_embodiment(dataclasses.replace(recipe, rows=1_000), lambda path: Still(3))
    assert data.card.parts[0] == "random: 0"
    sources = dict(rows_by_source(data))
    assert "random" not in sources
    assert sum(map(len, sources.values())) == sum(len(t) for t in data)


def test_physics_states_are_kept_on_request(recipe):
    data = make_embodiment(
        dataclasses.replace(recipe, branch_share=0.0, pushed_rows=0),
        lambda p: Still(3),
        physics=True,
    )
    assert all(t.physics_states is not None for t in data)


def test_a_snapshot_of_another_body(recipe):
    with pytest.raises(ValueError, match=r"00000100\.zip is of another body: .*\(17,\).*\(3,\)"):
        make_embodiment(recipe, lambda path: Still(17))


def test_a_teacher_without_snapshots(recipe):
    with pytest.raises(FileNotFoundError, match=r"no snapshots of 'walker-fly'.*pendulum-swingup"):
        find_snapshots("walker-fly")


def test_shares_that_are_too_large():
    with pytest.raises(ValueError, match="together at most 1"):
        EmbodimentRecipe("toy", ENV_ID, (), "", random_share=0.6, branch_share=0.6)


@pytest.mark.parametrize("name", embodiment.RECIPES)
def test_data_that_have_to_be_made_say_how(monkeypatch, tmp_path, name):
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"`aime-gym datasets make {name}`"):
        load_dataset(name)
