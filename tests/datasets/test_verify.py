import dataclasses

import numpy as np
import pytest

from aime_gym.catalogue import dataset_folders
from aime_gym.datasets import (
    Dataset,
    collect,
    read_aime_npz,
    render_images,
    save_dataset,
    verify_dataset,
    verify_trajectories,
    write_aime_npz,
    write_minari,
)

BUNDLED = sorted(path.name for path in dataset_folders()[-1].iterdir())


def by_name(checks):
    return {check.name: (check.passed, check.detail) for check in checks}


def changed(dataset, **fields):
    """The dataset with fields of every trajectory replaced by functions of it."""
    return dataset.map(
        lambda t: dataclasses.replace(t, **{name: make(t) for name, make in fields.items()})
    )


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_datasets_are_what_they_say(name):
    checks = verify_dataset(name)
    assert not [check for check in checks if check.passed is False]
    assert sum(check.passed is True for check in checks) >= 8


def test_all_is_well(collected, tmp_path):
    checks = by_name(verify_dataset(save_dataset(collected, tmp_path / "whole")))
    assert {name: passed for name, (passed, _) in checks.items()} == {
        "files": True,
        "arrays": True,
        "episodes": True,
        "actions": True,
        "sensors": True,
        "rewards": True,
        "sensors of states": True,
        "pictures of states": None,
        "steps of states": True,
        "rewards of states": True,
    }
    assert "250 steps of 2 trajectories" in checks["arrays"][1]
    assert checks["pictures of states"][1] == "there are no pictures"


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1", "Hopper-v5"])
def test_other_environments(env_id):
    checks = by_name(verify_trajectories(collect("random", env_id, 2, seed=1, name="others")))
    assert not [name for name, (passed, _) in checks.items() if passed is False]
    assert checks["steps of states"][0]
    assert checks["rewards of states"] == (None, f"{env_id} is not of this package")


def test_files_that_changed(collected, tmp_path):
    folder = save_dataset(collected, tmp_path / "data")
    save_dataset(collected[:1], tmp_path / "other")
    (tmp_path / "other" / "000000.npz").replace(folder / "000000.npz")
    checks = by_name(verify_dataset(folder))
    assert checks["files"] == (False, "000000.npz differs")
    assert checks["arrays"][0]  # What is there now can be read, and is checked.
    (folder / "000000.npz").rename(folder / "000001.npz")
    checks = by_name(verify_dataset(folder))
    assert checks["files"][1] == "000000.npz is missing; 000001.npz is not in the card"
    assert list(checks) == ["files", "arrays"]
    assert "trajectories 0 to 0 are missing" in checks["arrays"][1]


def test_files_of_other_formats(short, tmp_path):
    published = write_aime_npz(short, tmp_path / "cartpole-balance-short")
    assert by_name(verify_dataset(published))["files"][0] is None
    theirs = write_minari(short, tmp_path / "short-v0")
    assert by_name(verify_dataset(theirs))["files"][0]
    (theirs / "data" / "main_data.hdf5").write_bytes(b"")
    checks = by_name(verify_dataset(theirs))
    assert checks["files"] == (False, "data/main_data.hdf5 differs")
    assert not checks["arrays"][0]


@pytest.mark.parametrize(("shift", "where"), [(1, "one row late"), (-1, "one row early")])
def test_actions_and_rewards_that_are_off_by_one(collected, shift, where):
    moved = changed(
        collected,
        actions=lambda t: np.roll(t.actions, shift, axis=0),
        rewards=lambda t: np.roll(t.rewards, shift) + 0.01 * np.arange(125) % 1,
    )
    checks = by_name(verify_trajectories(moved))
    assert not checks["steps of states"][0]
    assert checks["steps of states"][1].endswith(f"the actions stand {where}")
    assert not checks["rewards of states"][0]
    assert checks["sensors of states"][0]


def test_sensors_that_are_off_by_one(collected):
    moved = changed(
        collected, sensors=lambda t: {name: np.roll(v, 1, 0) for name, v in t.sensors.items()}
    )
    passed, detail = by_name(verify_trajectories(moved))["sensors of states"]
    assert not passed
    assert "of velocity; storage explains 1e-05" in detail


def test_storage_as_float16_is_allowed_for(collected, tmp_path):
    compact = save_dataset(
        collected, tmp_path / "half", sensor_dtype="float16", physics_dtype="float32"
    )
    checks = by_name(verify_dataset(compact))
    assert not [name for name, (passed, _) in checks.items() if passed is False]
    assert "storage explains 0.001" in checks["sensors of states"][1]


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("actions", 1.25, "beyond the limits by 0.25 in trajectory 0, row 7"),
        ("sensors", -2e4, "beyond the limits by 1e+04 in trajectory 0, row 7"),
        ("rewards", -0.5, "beyond the limits by 0.5 in trajectory 0, row 7"),
        ("rewards", 9.0, "beyond the limits by 1 in trajectory 0, row 7"),
    ],
)
def test_values_out_of_range(collected, part, value, message):
    def put(trajectory):
        rows = trajectory.sensors["velocity"] if part == "sensors" else getattr(trajectory, part)
        rows = rows.copy()
        rows[7] = value
        return {**trajectory.sensors, "velocity": rows} if part == "sensors" else rows

    assert by_name(verify_trajectories(changed(collected, **{part: put})))[part] == (False, message)


def test_numbers_of_discrete_actions():
    dataset = collect("random", "CartPole-v1", 1, seed=0, name="d")
    wrong = changed(dataset, actions=lambda t: t.actions + 1)
    assert "beyond the limits by 1" in by_name(verify_trajectories(wrong))["actions"][1]


def test_actions_of_another_size(collected):
    wide = changed(collected, actions=lambda t: np.repeat(t.actions, 2, axis=1))
    checks = by_name(verify_trajectories(wide))
    assert checks["actions"] == (False, "they have shape (2,); the environment's, (1,)")
    assert not checks["steps of states"][0]


def test_episodes_that_are_too_long_or_overlap(collected, short):
    long = changed(
        collected,
        sensors=lambda t: {name: np.repeat(rows, 2, 0) for name, rows in t.sensors.items()},
        actions=lambda t: None,
        rewards=lambda t: None,
        physics_states=lambda t: None,
    )
    passed, detail = by_name(verify_trajectories(long))["episodes"]
    assert not passed
    assert detail == "trajectory 0 has 251 steps, and episodes end after 125; 2 such"
    steps = iter([0, 2])
    counted = changed(short, first_step=lambda t: next(steps))
    passed, detail = by_name(verify_trajectories(counted))["episodes"]
    assert (passed, detail) == (False, "trajectory 1 starts before trajectory 0 ends")


def test_published_files_that_are_not_shifted(short, tmp_path):
    folder = write_aime_npz(short, tmp_path / "cartpole-balance-odd")
    with np.load(folder / "1.npz") as file:
        arrays = dict(file)
    arrays["pre_action"][0] = 0.5
    np.savez(folder / "1.npz", **arrays)
    passed, detail = by_name(verify_trajectories(read_aime_npz(folder)))["episodes"]
    assert not passed
    assert detail == "row 0 of pre_action in trajectory 1 is not zero: is it shifted?"


@pytest.mark.usefixtures("opengl")
def test_pictures(collected, monkeypatch):
    few = collected.map(lambda trajectory: trajectory.window(20, 8))
    drawn = render_images(few)
    assert by_name(verify_trajectories(drawn, sample=5))["pictures of states"][0]
    moved = changed(drawn, sensors=lambda t: {"image": np.roll(t.sensors["image"], 1, axis=0)})
    passed, detail = by_name(verify_trajectories(moved, sample=5))["pictures of states"]
    assert not passed
    assert detail.endswith("they stand one row late")
    dark = changed(drawn, sensors=lambda t: {"image": t.sensors["image"] // 2})
    assert not by_name(verify_trajectories(dark, sample=5))["pictures of states"][0]
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    passed, detail = by_name(verify_trajectories(drawn, sample=5))["pictures of states"]
    assert passed is None
    assert "MUJOCO_GL is 'disabled'" in detail


def test_what_is_not_there_cannot_be_checked(collected, toys):
    reasons = {
        "actions": "there are no actions",
        "rewards": "there are no rewards",
        "steps of states": "there are no actions",
    }
    checks = by_name(verify_trajectories(collected.observations_only()))
    assert {name: checks[name] for name in reasons} == {n: (None, r) for n, r in reasons.items()}
    bare = by_name(verify_trajectories(toys(name="robot", body="robot")))
    assert "No environment is known of 'robot'" in bare["actions"][1]
    assert bare["steps of states"] == (None, "there are no physics states")
    brief = by_name(verify_trajectories(collected.map(lambda t: t.window(0, 4))))
    assert brief["steps of states"][1] == "no trajectory with physics states has 9 rows"
    still = changed(collected, actions=lambda t: np.zeros_like(t.actions))
    still = Dataset([roll_out(still[0])], collected.card)
    assert "lead to the same states" in by_name(verify_trajectories(still))["steps of states"][1]


def roll_out(trajectory):
    """What the cartpole does under a trajectory's actions."""

    class Replay:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return trajectory.actions[:1], None

    return collect(Replay(), "AIME/cartpole-balance-mdp", 1, seed=0, name="replay")[0]


def test_states_that_the_simulator_refuses(collected):
    broken = changed(collected, physics_states=lambda t: t.physics_states[:, :-1])
    reasons = by_name(verify_trajectories(broken))
    assert "No environment takes the physics states" in reasons["sensors of states"][1]
    wild = changed(collected, physics_states=lambda t: t.physics_states * 1e9)
    assert not by_name(verify_trajectories(wild))["steps of states"][0]


def test_the_sample_is_chosen(collected):
    def detail(**options):
        return by_name(verify_trajectories(collected, **options))["rewards of states"][1]

    assert detail(sample=3).startswith("3 rewards")
    assert detail(sample=3, seed=0) == detail(sample=3)
    wrong = changed(collected, rewards=lambda t: t.rewards + 0.1 * np.arange(125) / 125)
    places = {
        by_name(verify_trajectories(wrong, sample=3, seed=seed))["rewards of states"][1]
        for seed in (0, 1)
    }
    assert len(places) == 2
    with pytest.raises(ValueError, match="at least 1 row; got 0"):
        verify_trajectories(collected, sample=0)
    with pytest.raises(ValueError, match="at least 1 row; got -1"):
        verify_dataset("found out before it is looked for", sample=-1)


def test_a_name_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="no dataset 'walker'"):
        verify_dataset("walker")
