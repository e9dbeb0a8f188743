import dataclasses
import errno

import numpy as np
import pytest

from aime_gym.datasets import (
    Card,
    Dataset,
    EpisodeWriter,
    read_dataset,
    save_dataset,
    shards,
    storage,
)


def test_round_trip(toys, same, tmp_path):
    dataset = toys(4, 5, 6, first_step=7, terminated=True, truncated=False)
    back = read_dataset(save_dataset(dataset, tmp_path / "new"))
    assert all(same(a, b) for a, b in zip(dataset, back, strict=True))
    assert back.card.sha256
    assert dataclasses.replace(back.card, sha256={}) == dataset.card


def test_half_precision_is_smaller_and_close(toys, tmp_path):
    dataset = toys(500)
    half = read_dataset(save_dataset(dataset, tmp_path / "half", sensor_dtype=np.float16))
    full = save_dataset(dataset, tmp_path / "full")
    sizes = [(path / "000000.npz").stat().st_size for path in (tmp_path / "half", full)]
    assert sizes[0] < 0.7 * sizes[1]
    assert half[0].sensors["velocity"].dtype == np.float32
    np.testing.assert_allclose(
        half[0].sensors["velocity"], dataset[0].sensors["velocity"], rtol=1e-3, atol=1e-6
    )


def test_images_stay_on_disk(toys, tmp_path):
    back = read_dataset(save_dataset(toys(4, 5, images=True), tmp_path / "new"))
    cut = (back + back)[1:3].map(lambda trajectory: trajectory.window(1, 3))
    for trajectory in cut:
        assert isinstance(trajectory.sensors["image"], np.memmap)
        assert trajectory.sensors["image"].dtype == np.uint8
    path = tmp_path / "new" / "images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"images\.npy is damaged"):
        read_dataset(tmp_path / "new", verify=False)


def test_images_may_be_all_there_is(toys, same, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_BYTES", 30)  # One trajectory per file.
    dataset = toys(4, 5, 6, images=True).map(
        lambda t: dataclasses.replace(t, sensors={"image": t.sensors["image"]})
    )
    folder = save_dataset(dataset, tmp_path / "new")
    assert len(storage.shards(folder)) == 3
    back = read_dataset(folder)
    assert all(same(a, b) for a, b in zip(dataset, back, strict=True))
    assert isinstance(back[2].sensors["image"], np.memmap)
    np.save(folder / "images.npy", np.zeros((14, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="has 14 images for 15 observations"):
        read_dataset(folder, verify=False)


def test_constant_physics_is_stored_once_per_trajectory(toy, same, tmp_path):
    rng = np.random.default_rng(0)

    def states(rows):
        terrain = np.broadcast_to(rng.normal(size=2000), (rows, 2000))
        signed_zero = np.zeros((rows, 1))
        signed_zero[1] = -0.0
        return np.concatenate([rng.normal(size=(rows, 3)), terrain, signed_zero], axis=1)

    trajectories = [toy(rows, physics_states=states(rows)) for rows in (40, 50)]
    dataset = Dataset(trajectories, Card("quadruped-escape", "quadruped"))
    folder = save_dataset(dataset, tmp_path / "new")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 60_000
    back = read_dataset(folder)
    assert all(same(a, b) for a, b in zip(dataset, back, strict=True))


def test_trajectories_with_and_without_actions(toy, same, tmp_path):
    mixed = [toy(4), toy(5).observations_only(), toy(6)]
    dataset = Dataset(mixed, Card("walker-mixed", "walker"))
    back = read_dataset(save_dataset(dataset, tmp_path / "new"))
    assert all(same(a, b) for a, b in zip(dataset, back, strict=True))
    with pytest.raises(ValueError, match="the same parts"):
        shards.write_shard(tmp_path / "x.npz", mixed)


def test_taken_folder(toys, tmp_path):
    save_dataset(toys(), tmp_path / "taken")
    before = {path: path.read_bytes() for path in (tmp_path / "taken").iterdir()}
    with pytest.raises(FileExistsError, match="choose a new folder"):
        save_dataset(toys(9), tmp_path / "taken")
    assert before == {path: path.read_bytes() for path in (tmp_path / "taken").iterdir()}


def test_full_disk_leaves_nothing(toys, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = EpisodeWriter(tmp_path / "episodes", Card("walker-toy", "walker"))
    writer.append(toys()[0])
    before = {path: path.read_bytes() for path in writer.folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_card", full)
        with pytest.raises(OSError, match="No space left"):
            save_dataset(toys(images=True), tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", full)
        with pytest.raises(OSError, match="No space left"):
            writer.append(toys()[1])
        with pytest.raises(OSError, match="No space left"):
            save_dataset(toys(), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["episodes"]
    assert before == {path: path.read_bytes() for path in writer.folder.iterdir()}
    save_dataset(toys(), tmp_path / "new")


@pytest.mark.parametrize("cut", [0, 10, 200, -1, -50])
def test_truncated_shard(toys, tmp_path, cut):
    folder = save_dataset(toys(), tmp_path / "new")
    path = folder / "000000.npz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"000000\.npz is damaged"):
        read_dataset(folder)
    with pytest.raises(ValueError, match=r"000000\.npz is damaged"):
        read_dataset(folder, verify=False)


def test_flipped_bits(toys, tmp_path):
    folder = save_dataset(toys(), tmp_path / "new")
    path = folder / "000000.npz"
    content = path.read_bytes()
    for index in range(40, len(content), len(content) // 25):
        path.write_bytes(content[:index] + bytes([content[index] ^ 0xFF]) + content[index + 1 :])
        try:
            shards.read_shard(path)
        except ValueError as error:
            assert "000000.npz" in str(error)  # noqa: PT017


def test_missing_pieces(toys, tmp_path):
    folder = save_dataset(toys(), tmp_path / "new")
    (folder / "000000.npz").unlink()
    with pytest.raises(FileNotFoundError, match="is not whole"):
        read_dataset(folder)
    (folder / "card.json").write_text("{}")
    with pytest.raises(ValueError, match="has name and body"):
        read_dataset(folder)
    (folder / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no card\.json"):
        read_dataset(folder)


def test_episode_writer_goes_on(toy, same, tmp_path):
    card = Card("walker-training", "walker")
    writer = EpisodeWriter(tmp_path / "episodes", card)
    for rows in (3, 4, 5, 6):
        writer.append(toy(rows))
    resumed = EpisodeWriter(tmp_path / "episodes", card, keep=2)
    assert resumed.num_episodes == 2
    resumed.append(toy(9))
    assert not read_dataset(resumed.folder).card.sha256
    resumed.finish()
    dataset = read_dataset(resumed.folder)
    assert [len(trajectory) for trajectory in dataset] == [3, 4, 9]
    assert list(dataset.card.sha256) == ["000000.npz", "000001.npz", "000002.npz"]
    assert same(dataset[2], toy(9))


def test_episode_writer_sees_gaps(toys, toy, tmp_path):
    folder = tmp_path / "episodes"
    writer = EpisodeWriter(folder, Card("walker-training", "walker"))
    for rows in (3, 4, 5):
        writer.append(toy(rows))
    (folder / "000001.npz").unlink()
    with pytest.raises(ValueError, match="trajectories 1 to 1 are missing"):
        read_dataset(folder)
    with pytest.raises(ValueError, match="one shard per episode"):
        EpisodeWriter(folder, Card("walker-training", "walker"))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"env_id": "AIME/walker-run-mdp"},
        {"seed": 1},
        {"command": "make --algorithm sac --seed 0"},
    ],
)
def test_episode_writer_leaves_other_datasets_alone(toy, tmp_path, changes):
    card = Card("walker-training", "walker", command="make --algorithm simba --seed 0", seed=0)
    EpisodeWriter(tmp_path, card).append(toy(3))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"another dataset, 'walker-training'.*choose another"):
        EpisodeWriter(tmp_path, dataclasses.replace(card, **changes), keep=0)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    longer = "make --algorithm simba --seed 0 --total-timesteps 9 --record 'a b'"
    for command in (longer, f"{longer} --snapshot-interval 3", None):
        again = dataclasses.replace(card, command=command)
        assert EpisodeWriter(tmp_path, again).num_episodes == 1
    (tmp_path / "card.json").unlink()
    with pytest.raises(ValueError, match=r"episodes and no card\.json"):
        EpisodeWriter(tmp_path, card, keep=0)
    assert (tmp_path / "000000.npz").exists()


def test_checksum_follows_the_data(toys, tmp_path):
    dataset = toys(4, 5)
    assert dataset.checksum == toys(4, 5).checksum
    assert dataset.checksum != dataset[:1].checksum
    assert dataset.checksum != dataset.observations_only().checksum
    stored = read_dataset(save_dataset(dataset, tmp_path / "new"))
    assert stored.checksum == read_dataset(tmp_path / "new").checksum
    assert stored[:1].checksum == dataset[:1].checksum


def test_episode_writer_keeps_no_images(toy, tmp_path):
    seen = toy(3, images=True)
    writer = EpisodeWriter(tmp_path, Card("walker-training", "walker"))
    writer.append(seen)
    assert set(read_dataset(tmp_path).sensor_shapes) == {"height", "velocity"}
    with pytest.raises(ValueError, match=r"images alone.*save_dataset keeps images"):
        writer.append(dataclasses.replace(seen, sensors={"image": seen.sensors["image"]}))


@pytest.mark.parametrize(
    "num_steps", [[3, 3], [4, 5], [3, 4, 1], [-1, 8], [0, 7], [3.0, 4.0], [[3, 4]]]
)
def test_lengths_that_do_not_fit_are_refused(toys, tmp_path, num_steps):
    folder = save_dataset(toys(4, 5), tmp_path / "new")
    path = folder / "000000.npz"
    with np.load(path) as file:
        arrays = dict(file)
    assert arrays["num_steps"].tolist() == [3, 4]
    np.savez(path, **{**arrays, "num_steps": np.array(num_steps)})
    with pytest.raises(ValueError, match=r"000000\.npz is damaged, .*num_steps"):
        read_dataset(folder, verify=False)
