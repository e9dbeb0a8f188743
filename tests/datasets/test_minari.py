import dataclasses
import errno
import json
import os
import sys

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from aime_gym.card import Card
from aime_gym.catalogue import dataset_origin
from aime_gym.datasets import (
    Dataset,
    collect,
    list_datasets,
    load_dataset,
    read_aime_npz,
    read_dataset,
    read_minari,
    save_dataset,
    write_aime_npz,
    write_minari,
)
from aime_gym.rollout import RandomPolicy
from aime_gym.trajectory import Trajectory

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")  # What its metadata lack.

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
PICTURE = gym.spaces.Box(0, 255, (32, 40, 3), np.uint8)


@pytest.fixture
def foreign(minari_root):
    """A function that lets Minari write two episodes of four steps, as others would."""

    def write(observation_space, action_space=BOX, env=None, **fields):
        def rows(space, number):
            space.seed(number)
            if isinstance(space, gym.spaces.Dict):
                return {key: rows(inner, number) for key, inner in space.spaces.items()}
            return np.stack([space.sample() for _ in range(number)])

        parts = {
            "observations": rows(observation_space, 5),
            "actions": rows(action_space, 4),
            "rewards": np.arange(4.0),
            "terminations": np.arange(4) == 3,
            "truncations": np.zeros(4, dtype=bool),
        }
        buffers = [EpisodeBuffer(**{**parts, **fields}) for _ in range(2)]
        minari.create_dataset_from_buffers(
            "robots/arm/expert-v2",
            buffers,
            env=env,
            observation_space=observation_space,
            action_space=action_space,
            description="An arm.",
            jpeg_encoding=False,
        )
        return parts

    return write


def assert_equal(first: Dataset, second: Dataset, same) -> None:
    assert list(first.sensor_shapes) == list(second.sensor_shapes)
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_users_of_minari_get_what_the_environment_shows(collected, same, minari_root):
    expert = dataclasses.replace(collected.card, evaluation_returns=(100.0, 300.0))
    dataset = Dataset(collected, expert)
    write_minari(dataset, minari_root / "robots" / "cartpole-random-v0")

    theirs = minari.load_dataset("robots/cartpole-random-v0")
    env = theirs.recover_environment()
    assert env.spec.id == collected.card.env_id
    assert theirs.observation_space == env.observation_space
    assert theirs.action_space == env.action_space
    assert len(theirs) == 2
    episode = theirs[1]
    observation, _ = env.reset(seed=4)  # Episode 1 started from seed 3 + 1.
    np.testing.assert_array_equal(episode.observations[0], observation)
    for step in range(3):
        observation, reward, *_ = env.step(episode.actions[step])
        np.testing.assert_array_equal(episode.observations[step + 1], observation)
        assert episode.rewards[step] == reward
    np.testing.assert_array_equal(episode.infos["physics_state"], collected[1].physics_states)
    assert episode.truncations.tolist() == [False] * 124 + [True]
    assert not episode.terminations.any()
    assert minari.get_normalized_score(theirs, np.array([50.0])) == [0.25]
    assert list(minari.list_local_datasets()) == ["robots/cartpole-random-v0"]

    ours = load_dataset("minari/robots/cartpole-random-v0")
    assert_equal(dataset, ours, same)
    assert dataclasses.replace(ours.card, sha256={}) == expert
    assert dataset_origin("minari/robots/cartpole-random-v0").sha256 == ours.checksum
    assert "minari/robots/cartpole-random-v0" in list_datasets()


def published_file(rows, dtype, **others):
    """What a file of the published layout holds; every trajectory has something odd of its own."""
    rng = np.random.default_rng(rows)
    ends = np.arange(rows) == rows - 1
    return {
        "height": rng.normal(size=rows).astype(dtype),
        "velocity": rng.normal(size=(rows, 3)).astype(dtype),
        "image": rng.integers(0, 256, (rows, 40, 40, 3), dtype=np.uint8),
        "pre_action": np.r_[np.zeros((1, 2)), rng.normal(size=(rows - 1, 2))].astype(dtype),
        "reward": np.r_[0, rng.normal(size=rows - 1)].astype(dtype),
        "is_first": ends[::-1],
        "is_last": ends,
        "is_terminal": ends & (rows % 2 == 0),
        **others,
    }


@pytest.mark.parametrize(
    ("dtypes", "native"),
    [((np.float64, ">f4", np.float32), True), ((np.float16,) * 3, False)],
    ids=["through ours", "halves, which ours makes singles"],
)
def test_published_ours_minari_ours_published(tmp_path, dtypes, native):
    files = [
        published_file(4, dtypes[0]),
        published_file(5, dtypes[1], **{"note": np.array("odd"), "a/b": np.eye(2)}),
        published_file(6, dtypes[2], first_goal=np.arange(3)),
    ]
    del files[2]["pre_action"], files[2]["reward"]
    published = tmp_path / "walker-run-odd"
    published.mkdir()
    for index, arrays in enumerate(files):
        np.savez(published / f"{index}.npz", **arrays)
    dataset = read_aime_npz(published)
    if native:
        dataset = read_dataset(save_dataset(dataset, tmp_path / "there", sensor_dtype=None))
    dataset = read_minari(write_minari(dataset, tmp_path / "walker-run-odd-v0"))
    if native:
        dataset = read_dataset(save_dataset(dataset, tmp_path / "here", sensor_dtype=None))
    back = write_aime_npz(dataset, tmp_path / "back")
    for index, arrays in enumerate(files):
        with np.load(back / f"{index}.npz") as file:
            assert set(file.files) == set(arrays)
            for name, values in arrays.items():
                assert file[name].dtype == values.dtype, name
                assert file[name].shape == values.shape, name
                assert file[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize("ending", [(False, True), (True, False), (True, True), (False, False)])
def test_named_sensors_where_there_is_no_environment(toys, same, tmp_path, ending):
    terminated, truncated = ending
    fields = {"terminated": terminated, "truncated": truncated, "first_step": 40, "images": True}
    dataset = toys(4, 5, name="robot-toy", body="robot", **fields)
    back = read_minari(write_minari(dataset, tmp_path / "robot-toy-v3"))
    assert_equal(dataset, back, same)
    assert back.card.env_id is None
    assert isinstance(back[1].sensors["image"], np.memmap)
    assert not load_dataset(tmp_path / "robot-toy-v3", images="none").has_images
    theirs = minari.MinariDataset(tmp_path / "robot-toy-v3" / "data")
    assert set(theirs[0].observations) == {"height", "velocity", "image"}
    assert theirs.spec.dataset_id == "robot-toy-v3"


def test_what_the_environment_hides_goes_into_infos(short, same, tmp_path):
    hidden = dataclasses.replace(short.card, env_id="AIME/cartpole-balance-lpomdp")
    dataset = Dataset(short, hidden)
    folder = write_minari(dataset, tmp_path / "cartpole-v0")
    assert_equal(dataset, read_minari(folder), same)
    episode = minari.MinariDataset(folder / "data")[0]
    np.testing.assert_array_equal(episode.observations, short[0].sensors["position"])
    np.testing.assert_array_equal(
        episode.infos["sensors"]["velocity"], short[0].sensors["velocity"]
    )


@pytest.mark.usefixtures("opengl")
def test_pictures_are_exact(same, tmp_path, short_episodes):
    env_id = "AIME/cartpole-balance-visual"
    visual = collect("random", env_id, 1, seed=0, name="cartpole-visual", images=True)
    folder = write_minari(visual, tmp_path / "cartpole-visual-v0")
    assert_equal(visual, read_minari(folder), same)
    theirs = minari.MinariDataset(folder / "data")
    np.testing.assert_array_equal(theirs[0].observations, visual[0].sensors["image"])
    assert theirs.observation_space == gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_other_environments_and_discrete_actions(same, tmp_path, env_id):
    dataset = collect("random", env_id, 2, seed=0, name="others")
    folder = write_minari(dataset, tmp_path / "others-v0")
    assert_equal(dataset, read_minari(folder), same)
    theirs = minari.MinariDataset(folder / "data")
    env = theirs.recover_environment()
    assert env.spec.id == env_id
    assert theirs.action_space == env.action_space
    RandomPolicy(theirs.action_space)
    assert theirs.observation_space == env.observation_space


def test_observations_alone_are_nan_to_minari(collected, same, tmp_path):
    demos = collected.observations_only()
    folder = write_minari(demos, tmp_path / "demos-v0")
    assert_equal(demos, read_minari(folder), same)
    episode = minari.MinariDataset(folder / "data")[0]
    assert episode.actions.shape == (125, 1)
    assert np.isnan(episode.actions).all()
    assert np.isnan(episode.rewards).all()


def test_any_box_becomes_a_sensor(foreign, tmp_path):
    inner = gym.spaces.Dict({"force": gym.spaces.Box(-9, 9, (2, 3), np.float64)})
    space = gym.spaces.Dict(
        {
            "arm": inner,
            "camera": PICTURE,
            "count": gym.spaces.Box(0, 9, (), np.int64),
        }
    )
    written = foreign(space)
    dataset = load_dataset("minari/robots/arm/expert-v2")
    first, observed = dataset[0], written["observations"]
    assert dataset.sensor_shapes == {"arm.force": (6,), "image": (32, 40, 3), "count": (1,)}
    np.testing.assert_array_equal(
        first.sensors["arm.force"], observed["arm"]["force"].reshape(5, 6)
    )
    np.testing.assert_array_equal(first.sensors["image"], observed["camera"])
    assert first.sensors["count"].dtype == np.float32
    np.testing.assert_array_equal(first.actions, written["actions"])
    np.testing.assert_array_equal(first.rewards, written["rewards"])
    assert (first.terminated, first.truncated) == (True, False)
    assert first.physics_states is None
    card = dataset.card
    assert (card.name, card.body) == ("minari/robots/arm/expert-v2", "expert")
    assert (card.env_id, card.description, card.license) == (None, "An arm.", "NOASSERTION")
    native = save_dataset(dataset, tmp_path / "native")
    assert len(read_dataset(native)) == 2


def test_the_environment_tells_the_body(foreign):
    env = gym.make("Pendulum-v1")
    written = foreign(env.observation_space, gym.spaces.Discrete(3, start=1), env="Pendulum-v1")
    dataset = load_dataset("minari/robots/arm/expert-v2")
    assert (dataset.card.body, dataset.card.env_id) == ("Pendulum", "Pendulum-v1")
    np.testing.assert_array_equal(dataset[1].sensors["observation"], written["observations"])
    assert dataset[0].actions.dtype == np.int64
    np.testing.assert_array_equal(dataset[0].actions[:, 0], written["actions"])


@pytest.mark.parametrize(
    ("observation_space", "action_space", "fields", "message"),
    [
        (gym.spaces.Discrete(4), BOX, {}, "observations are boxes or dictionaries of them"),
        (gym.spaces.Dict(a=PICTURE, b=PICTURE), BOX, {}, "one picture at a time.*a and b"),
        (BOX, gym.spaces.MultiDiscrete([2, 2]), {}, "actions are a box, or discrete"),
        (BOX, BOX, {"observations": np.zeros((4, 2))}, "actions should have .* 3 rows"),
        (BOX, BOX, {"rewards": np.array([0, np.nan, 0, 0])}, "episode 0: rewards has 1 values"),
    ],
)
def test_what_is_no_trajectory(foreign, observation_space, action_space, fields, message):
    foreign(observation_space, action_space, **fields)
    with pytest.raises(ValueError, match=rf"expert-v2 cannot be read: .*{message}"):
        load_dataset("minari/robots/arm/expert-v2")


def test_damaged_files(short, tmp_path):
    folder = write_minari(short, tmp_path / "short-v0")
    arrays = folder / "data" / "main_data.hdf5"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is damaged"):
        read_minari(folder)
    (folder / "data" / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match=r"metadata\.json is damaged"):
        read_minari(folder)
    (folder / "data" / "metadata.json").write_text(json.dumps({"total_steps": 3}))
    with pytest.raises(ValueError, match="has no dataset_id"):
        read_minari(folder)
    ours = {"dataset_id": "short-v0", "aime_gym": {"sensors": {}}}
    (folder / "data" / "metadata.json").write_text(json.dumps(ours))
    with pytest.raises(ValueError, match=r"metadata\.json has no card"):
        read_minari(folder)
    with pytest.raises(FileNotFoundError, match="no dataset of Minari's"):
        read_minari(tmp_path)


def test_a_full_disk_is_not_the_datasets_fault(toys, tmp_path, monkeypatch):
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = write_minari(toys(4, name="robot", body="robot", images=True), tmp_path / "robot-v0")
    with monkeypatch.context() as patch:
        patch.setattr("aime_gym.datasets.image_files.write_images", no_room)
        with pytest.raises(OSError, match="No space left on device") as caught:
            read_minari(folder)
    assert caught.value.errno == errno.ENOSPC
    assert read_minari(folder).has_images


def test_what_cannot_be_written(toys, short, tmp_path):
    with pytest.raises(ValueError, match=r"a version at the end.*got 'short'"):
        write_minari(short, tmp_path / "short")
    slashed = short.map(
        lambda t: dataclasses.replace(t, sensors={"a/b": t.sensors["velocity"]}, extras={})
    )
    with pytest.raises(ValueError, match=r"slash in Minari's format: a/b"):
        write_minari(slashed, tmp_path / "short-v0")
    discrete = collect("random", "CartPole-v1", 1, seed=0, name="d").observations_only()
    with pytest.raises(ValueError, match=r"1 of the 1 trajectories .* unknown actions"):
        write_minari(discrete, tmp_path / "short-v0")
    assert not list(tmp_path.glob("*short*"))
    write_minari(short, tmp_path / "short-v0")
    with pytest.raises(FileExistsError, match="choose a new folder"):
        write_minari(short, tmp_path / "short-v0")


def test_names_that_are_not_there(foreign):
    with pytest.raises(FileNotFoundError, match=r"there are none.*minari download robots/x-v0"):
        load_dataset("minari/robots/x-v0")
    foreign(BOX)
    with pytest.raises(FileNotFoundError, match="did you mean 'minari/robots/arm/expert-v2'"):
        load_dataset("minari/robots/arm/expert-v1")


@pytest.mark.parametrize("package", ["minari", "h5py"])
def test_without_minari_the_error_names_the_extra(short, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=r"aime-gym\[minari\]"):
        write_minari(short, tmp_path / "short-v0")


def test_a_relative_path_will_do(collected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_minari(collected, "here/cartpole-balance-random-v0")
    assert len(load_dataset("here/cartpole-balance-random-v0")) == 2


def test_a_changed_byte_of_ours_is_noticed(tmp_path):
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    toy = Dataset([Trajectory({"height": rows})], Card("walker-toy", "walker"))
    folder = write_minari(toy, tmp_path / "toy-v0")
    assert len(read_minari(folder)) == 1
    path = folder / "data" / "main_data.hdf5"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is damaged: its checksum"):
        read_minari(folder)
