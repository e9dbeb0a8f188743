"""The published layout of iMuJoCo: read, written and sampled."""

import numpy as np
import pytest
import torch

from aime_gym.datasets import read_dataset, save_dataset, write_minari
from aime_gym.datasets.collect import collect
from aime_gym.datasets.imujoco_npz import (
    Sampler,
    find_robot,
    read_blocks,
    read_imujoco_npz,
    write_imujoco_npz,
)
from aime_gym.imujoco_ids import ROBOTS

VARIANT = "hopper-massdec_25_leggeom"
FILE = f"sac-{VARIANT}.npz"


def rows(blocks, rewards=True, robot="hopper", falls=()):
    """Data whose first column is the number of the block, and whose second is that of the row."""
    size = ROBOTS[robot].observation_size + ROBOTS[robot].action_size
    data = np.random.default_rng(0).normal(size=(blocks, 1000, size + 1 + rewards))
    data[..., 0] = np.arange(blocks)[:, None]
    data[..., 1] = np.arange(1000)
    data[..., -1] = 0
    data[:, -1, -1] = 1
    for block, row in falls:
        data[block, row, -1] = 1
    return data.reshape(-1, data.shape[-1]).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """A function that writes arrays as a published file."""

    def call(data, name=FILE, key="data"):
        np.savez(tmp_path / name, **{key: data})
        return tmp_path / name

    return call


@pytest.mark.parametrize(
    ("name", "robot"),
    [
        ("Hopper-v3", "hopper"),
        ("HalfCheetah-v3", "halfcheetah"),
        ("Walker2d-v3", "walker2d"),
        ("Walker2d-v5", "walker2d"),
        ("iMuJoCo/walker2d", "walker2d"),
        (f"iMuJoCo/{VARIANT}", "hopper"),
        (VARIANT, "hopper"),
    ],
)
def test_names_of_environments(name, robot):
    assert find_robot(name).name == robot


# Sampling


@pytest.mark.parametrize("rewards", [True, False])
def test_samples_are_blocks(write, rewards):
    data = rows(10, rewards)
    states, actions = Sampler("Hopper-v3", [write(data)], generator=0).sample(3)
    assert states.shape == (3, 1000, 11)
    assert actions.shape == (3, 1000, 3)
    assert states.dtype == actions.dtype == np.float32
    for state, action in zip(states, actions, strict=True):
        block = data.reshape(10, 1000, -1)[int(state[0, 0])]
        assert np.array_equal(state, block[:, :11])
        assert np.array_equal(action, block[:, 11:14])


def test_samples_can_be_tensors(write):
    path = write(rows(2))
    states, actions = Sampler("Hopper-v3", [path], convert=torch.from_numpy).sample(2)
    assert states.shape == (2, 1000, 11)
    assert actions.dtype == torch.float32


def test_the_file_that_idx_names(write):
    first, second = rows(4), rows(4)
    second[:, 0] += 100
    files = [write(first, "a.npz"), write(second, "b.npz")]
    sampler = Sampler("Hopper-v3", files, generator=0)
    assert sampler.sample(4, idx=0)[0].max() < 1000
    assert (sampler.sample(4, idx=1)[0][:, :, 0] >= 100).all()
    drawn = {bool(sampler.sample(1)[0][0, 0, 0] >= 100) for _ in range(20)}
    assert drawn == {True, False}


def test_without_replacement_every_block_comes_once(write):
    sampler = Sampler("Hopper-v3", [write(rows(7))], generator=0)
    assert sorted(sampler.sample(7)[0][:, 0, 0]) == list(range(7))
    drawn = sampler.sample(30, replace=True)[0][:, 0, 0]
    assert len(drawn) == 30
    assert len(set(drawn)) <= 7


@pytest.mark.parametrize("cut", [0.5, 0.8, 1 / 3, 0.47, 0.123])
def test_portions_that_meet_share_no_trajectory_and_leave_none_out(write, cut):
    path = write(rows(23))
    first, second = (
        Sampler("Hopper-v3", [path], portion, generator=0) for portion in ((0, cut), (cut, 1))
    )
    number = round(23 * cut)
    blocks = [*first.sample(number)[0], *second.sample(23 - number)[0]]
    assert sorted(block[0, 0] for block in blocks) == list(range(23))
    for block in blocks:
        assert np.array_equal(block[:, 1], np.arange(1000))
    assert max(block[0, 0] for block in blocks[:number]) < min(b[0, 0] for b in blocks[number:])


def test_the_generator_decides(write):
    path = write(rows(20))

    def draw(seed):
        return Sampler("Hopper-v3", [path], generator=seed).sample(5)[0][:, 0, 0].tolist()

    assert draw(1) == draw(1) == draw(np.random.default_rng(1))
    assert draw(1) != draw(2)
    assert len({tuple(draw(None)) for _ in range(5)}) > 1


# As datasets


@pytest.mark.parametrize("rewards", [True, False])
def test_reading_and_writing_lose_nothing(write, tmp_path, rewards):
    data = rows(4, rewards, falls=[(0, 300), (0, 700), (2, 4), (2, 998), (3, 997)])
    dataset = read_imujoco_npz(write(data))
    assert [t.num_steps for t in dataset] == [300, 399, 298, 999, 4, 993, 997, 1]
    assert dataset.card.env_id == f"iMuJoCo/{VARIANT}"
    assert dataset.card.body == "imujoco-hopper"
    second = dataset[1]
    assert np.array_equal(second.sensors["observation"], data[301:701, :11])
    assert np.array_equal(second.actions, data[301:700, 11:14])
    if rewards:
        assert np.array_equal(second.rewards, data[301:700, 14])
    else:
        assert second.rewards is None
    copy = write_imujoco_npz(dataset, tmp_path / "copy.npz")
    assert np.array_equal(np.load(copy)["data"], data)


def test_own_episodes_fill_blocks(tmp_path):
    dataset = collect("random", "iMuJoCo/hopper", 150, seed=0, name="random", num_envs=1)
    path = write_imujoco_npz(dataset, tmp_path / "sac-hopper.npz")
    blocks = read_blocks(path, ROBOTS["hopper"])
    assert blocks.observations.shape == (dataset.num_steps // 1000, 1000, 11)
    first = dataset[0]
    assert np.array_equal(
        blocks.observations[0, : first.num_steps], first.sensors["observation"][:-1]
    )
    assert np.array_equal(blocks.actions[0, : first.num_steps], first.actions)
    assert blocks.done[0, first.num_steps - 1]
    assert not blocks.done[0, : first.num_steps - 1].any()
    again = read_imujoco_npz(path)
    assert [t.num_steps + 1 for t in again[:3]] == [t.num_steps for t in dataset[:3]]


def test_they_can_be_stored_as_this_package_does(write, tmp_path):
    dataset = read_imujoco_npz(write(rows(1, falls=[(0, 10)])))
    save_dataset(dataset, tmp_path / "stored")
    assert len(read_dataset(tmp_path / "stored")) == 2


# What is wrong


def test_damaged_files(write):
    path = write(rows(3))
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged, or no dataset file"):
            read_imujoco_npz(path)
        with pytest.raises(ValueError, match="damaged, or no dataset file"):
            Sampler("Hopper-v3", [path]).sample(1)


@pytest.mark.parametrize(
    ("data", "key", "message"),
    [
        (rows(1)[:-1], "data", "999 rows, and blocks have 1,000"),
        (rows(0), "data", "0 rows"),
        (rows(1)[:, :-3], "data", "15 or 16 floats"),
        (rows(1, robot="walker2d"), "data", "no dataset of hopper"),
        (rows(1).astype(int), "data", "no dataset of hopper"),
        (rows(1), "other", "damaged, or no dataset file"),
        (np.array([[{}]]), "data", "damaged, or no dataset file"),
    ],
)
def test_other_files(write, data, key, message):
    with pytest.raises(ValueError, match=message):
        read_imujoco_npz(write(data, key=key))


def test_an_episode_of_one_row_at_the_start(write):
    with pytest.raises(ValueError, match="one row at the start of block 1"):
        read_imujoco_npz(write(rows(2, falls=[(1, 0)])))


def test_names_of_files(write, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'leggeom'"):
        read_imujoco_npz(write(rows(1), "sac-hopper-massdec_25_legeom.npz"))
    assert read_imujoco_npz(write(rows(1), "mine.npz"), VARIANT).card.env_id.endswith(VARIANT)
    with pytest.raises(FileNotFoundError):
        read_imujoco_npz(tmp_path / "sac-hopper.npz")


@pytest.mark.parametrize("portion", [(-0.1, 0.5), (0.5, 1.1), (0.5, 0.5), (0.8, 0.2)])
def test_portions_out_of_range(write, portion):
    with pytest.raises(ValueError, match="from a share to a larger one"):
        Sampler("Hopper-v3", [write(rows(2))], portion)


def test_wrong_samples(write, tmp_path):
    path = write(rows(10))
    sampler = Sampler("Hopper-v3", [path], (0, 0.4))
    with pytest.raises(ValueError, match="tot_shots is 1 to 4"):
        sampler.sample(5)
    assert len(sampler.sample(5, replace=True)[0]) == 5
    with pytest.raises(ValueError, match="tot_shots is 1 to 4"):
        sampler.sample(0)
    with pytest.raises(ValueError, match="0 to 0"):
        sampler.sample(1, idx=1)
    with pytest.raises(ValueError, match="has none"):
        Sampler("Hopper-v3", [path], (0.5, 0.52)).sample(1)
    with pytest.raises(ValueError, match="did you mean 'Hopper-v3'"):
        Sampler("Hoper-v3", [path])
    with pytest.raises(ValueError, match="at least one file"):
        Sampler("Hopper-v3", [])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Sampler("Hopper-v3", [tmp_path / "nowhere.npz"])


def test_wrong_writing(write, tmp_path):
    dataset = read_imujoco_npz(write(rows(1)))
    with pytest.raises(FileExistsError, match="already"):
        write_imujoco_npz(dataset, tmp_path / FILE)
    with pytest.raises(ValueError, match="has actions"):
        write_imujoco_npz(dataset.observations_only(), tmp_path / "new.npz")
    short = collect("random", "iMuJoCo/hopper", 2, seed=0, name="random")
    with pytest.raises(ValueError, match="a block has 1,000"):
        write_imujoco_npz(short, tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()


def test_they_can_be_handed_to_minari(write, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    dataset = read_imujoco_npz(write(rows(1, falls=[(0, 10)])))
    write_minari(dataset, tmp_path / "imujoco-v0")
    episodes = list(minari.load_dataset("imujoco-v0"))
    assert [len(episode.actions) for episode in episodes] == [10, 988]
    assert np.array_equal(episodes[1].observations, dataset[1].sensors["observation"])
