import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aime_gym.datasets import (
    Card,
    Dataset,
    load_dataset,
    read_aime_npz,
    read_dataset,
    save_dataset,
    write_aime_npz,
)
from aime_gym.datasets.aime_npz import from_arrays, to_arrays

FLAT, COLUMN = (), (1,)


def file_arrays(rows=4, scalar=COLUMN, dtype=np.float32, terminated=False, actions=2):
    """What a file of the format holds."""
    rng = np.random.default_rng(rows)

    def numbers(*shape):
        return rng.normal(size=(rows, *shape)).astype(dtype)

    flags = np.zeros((3, rows), dtype=bool)
    flags[0, 0], flags[1, -1], flags[2, -1] = True, True, terminated
    arrays = {
        "height": numbers(*scalar),
        "velocity": numbers(3),
        "pre_action": numbers(actions),
        "reward": numbers(*scalar),
        **{
            name: values.reshape(rows, *scalar)
            for name, values in zip(("is_first", "is_last", "is_terminal"), flags, strict=True)
        },
    }
    arrays["pre_action"][0] = arrays["reward"][0] = 0
    return arrays


def write_files(folder, *files):
    folder.mkdir(parents=True)
    for index, arrays in enumerate(files):
        np.savez(folder / f"{index}.npz", **arrays)
    return folder


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values.dtype == second[name].dtype, name
        assert values.shape == second[name].shape, name
        assert values.tobytes() == second[name].tobytes(), name


def test_alignment_by_hand():
    arrays = {
        "height": np.array([[1.0], [2.0], [3.0]]),
        "pre_action": np.array([[0.0, 0.0], [0.1, 0.2], [0.3, 0.4]]),
        "reward": np.array([[0.0], [5.0], [6.0]]),
        "is_first": np.array([[True], [False], [False]]),
        "is_last": np.array([[False], [False], [True]]),
        "is_terminal": np.zeros((3, 1), dtype=bool),
    }
    trajectory = from_arrays(arrays)
    # a_0 and r_0 led from the first observation to the second.
    np.testing.assert_array_equal(trajectory.actions, [[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_array_equal(trajectory.rewards, [5.0, 6.0])
    np.testing.assert_array_equal(trajectory.sensors["height"][:, 0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(trajectory.prev_actions, arrays["pre_action"])
    assert (trajectory.terminated, trajectory.truncated) == (False, True)
    assert not trajectory.extras
    assert_same(to_arrays(trajectory), arrays)


@given(
    rows=st.integers(2, 6),
    scalar=st.sampled_from([FLAT, COLUMN]),
    dtype=st.sampled_from(["<f2", "<f4", "<f8", ">f4"]),
    flag_dtype=st.sampled_from([bool, np.float32, np.uint8]),
    terminated=st.booleans(),
    actions=st.integers(1, 3),
    row_zero=st.booleans(),
    absent=st.sets(st.sampled_from(["pre_action", "reward", "is_first", "is_last"])),
    foreign=st.dictionaries(st.sampled_from(["seed", "goal", "label"]), st.integers(0, 3)),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_file_survives(
    rows, scalar, dtype, flag_dtype, terminated, actions, row_zero, absent, foreign
):
    arrays = file_arrays(rows, scalar, dtype, terminated, actions)
    for name in ("is_first", "is_last", "is_terminal"):
        arrays[name] = arrays[name].astype(flag_dtype)
    if row_zero:
        arrays["pre_action"][0] = 0.5
    arrays = {name: values for name, values in arrays.items() if name not in absent}
    arrays |= {key: np.full((2,) * ndim, "x") for key, ndim in foreign.items()}
    trajectory = from_arrays(arrays)
    assert trajectory.terminated == terminated
    assert_same(to_arrays(trajectory), arrays)


def test_aime_native_aime(tmp_path):
    files = [file_arrays(4, FLAT, np.float64), {**file_arrays(5), "note": np.array("odd")}]
    folder = write_files(tmp_path / "walker-run-odd", *files)
    native = save_dataset(read_aime_npz(folder), tmp_path / "native", sensor_dtype=None)
    back = write_aime_npz(read_dataset(native), tmp_path / "back")
    for index, arrays in enumerate(files):
        with np.load(back / f"{index}.npz") as file:
            assert_same({name: file[name] for name in file.files}, arrays)


@pytest.mark.parametrize("ending", [(False, True), (True, False), (True, True), (False, False)])
def test_native_aime_native(toys, same, tmp_path, ending):
    terminated, truncated = ending
    states = np.random.default_rng(0).normal(size=(4, 6))
    dataset = toys(
        4,
        4,
        terminated=terminated,
        truncated=truncated,
        first_step=40,
        physics_states=states,
        images=True,
    )
    folder = write_aime_npz(dataset, tmp_path / "walker-toy")
    back = read_aime_npz(folder)
    assert back.card.body == "walker"
    assert all(same(a, b) for a, b in zip(dataset, back, strict=True))
    native = read_dataset(save_dataset(back, tmp_path / "native"))
    assert all(same(a, b) for a, b in zip(dataset, native, strict=True))


def test_observations_alone(toys, same, tmp_path):
    demos = toys().observations_only()
    back = read_aime_npz(write_aime_npz(demos, tmp_path / "walker-demos"))
    assert all(same(a, b) for a, b in zip(demos, back, strict=True))


def test_files_in_the_order_of_their_numbers(tmp_path):
    folder = write_files(tmp_path / "walker-run-many", *(file_arrays(n + 2) for n in range(12)))
    dataset = read_aime_npz(folder)
    assert [len(trajectory) for trajectory in dataset] == [n + 2 for n in range(12)]
    assert list(dataset.card.sha256) == [f"{n}.npz" for n in range(12)]
    assert (dataset.card.body, dataset.card.env_id) == ("walker", "AIME/walker-run-mdp")
    (folder / "5.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"5\.npz is missing"):
        read_aime_npz(folder)


def test_images_are_memory_mapped(toys, tmp_path):
    dataset = toys(4, 6, images=True)
    folder = write_aime_npz(dataset, tmp_path / "walker-toy")
    for back in (read_aime_npz(folder), load_dataset(folder)):
        for mine, theirs in zip(dataset, back, strict=True):
            assert isinstance(theirs.sensors["image"], np.memmap)
            np.testing.assert_array_equal(mine.sensors["image"], theirs.sensors["image"])
    assert not read_aime_npz(folder, images=False).has_images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": np.full((4, 1), np.nan)}, r"1\.npz.*height.*not finite"),
        ({"is_last": np.ones((4, 1), dtype=bool)}, r"1\.npz.*is_last is set in between"),
        ({"reward": np.zeros((4, 2))}, r"1\.npz.*reward has shape"),
        ({"height": np.array([{}] * 4, dtype=object)}, r"1\.npz.*damaged"),
        ({"pre_action": np.zeros((4, 5))}, "actions of a dataset have the same size"),
    ],
)
def test_faulty_files(tmp_path, change, message):
    folder = write_files(tmp_path / "walker-run-bad", file_arrays(), {**file_arrays(), **change})
    with pytest.raises(ValueError, match=message):
        read_aime_npz(folder)


def test_damaged_and_foreign_files(tmp_path):
    folder = write_files(tmp_path / "walker-run-bad", file_arrays())
    path = folder / "0.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"0\.npz is damaged"):
        read_aime_npz(folder)
    np.savez(path, weights=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"0\.npz.*has none of pre_action.*but weights"):
        read_aime_npz(folder)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.npz is damaged"):
        read_aime_npz(folder)


def test_body_must_be_told(tmp_path):
    folder = write_files(tmp_path / "robot-run", file_arrays())
    with pytest.raises(ValueError, match="does not start with a body"):
        read_aime_npz(folder)
    assert read_aime_npz(folder, Card("robot-run", "walker")).card.body == "walker"


def test_names_that_clash(toy, tmp_path):
    trajectory = toy()
    sensors = {**trajectory.sensors, "reward": trajectory.sensors["height"]}
    dataset = Dataset([type(trajectory)(sensors)], Card("walker-clash", "walker"))
    with pytest.raises(ValueError, match="may be named reward"):
        write_aime_npz(dataset, tmp_path / "walker-clash")
    assert not (tmp_path / "walker-clash").exists()


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_images_that_are_not_bytes_are_refused(tmp_path, dtype):
    image = np.full((4, 64, 64, 3), 0.5).astype(dtype)
    folder = write_files(tmp_path / "walker-run-expert", {**file_arrays(4), "image": image})
    with pytest.raises(
        ValueError, match=rf"0\.npz is damaged, .*image has {dtype.__name__}; .*uint8"
    ):
        read_aime_npz(folder)
