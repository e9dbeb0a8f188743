import numpy as np
import pytest

from aime_gym.datasets.coverage import coverage, project, sensor_rows


def test_rows_are_the_vector_sensors(toys):
    dataset = toys(4, 5, images=True)
    rows = sensor_rows(dataset)
    assert rows.shape == (9, 4)
    np.testing.assert_array_equal(rows[4:, :1], dataset[1].sensors["height"])
    images = dataset.map(lambda t: type(t)({"image": t.sensors["image"]}))
    assert sensor_rows(images).shape == (9, 0)


def test_the_plane_keeps_what_varies_together():
    rng = np.random.default_rng(0)
    along, across = rng.normal(size=(2, 4_000, 1))
    rows = np.hstack([along, 5 * along + 0.1 * rng.normal(size=along.shape), 100 * across])
    plane = project({"a": rows[:1_000].astype(np.float32), "b": rows[1_000:].astype(np.float32)})
    joined = np.concatenate([plane["a"], plane["b"]])
    assert abs(np.corrcoef(joined[:, 0], along[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(joined[:, 1], across[:, 0])[0, 1]) > 0.99
    line = project({"a": along.astype(np.float32)})["a"]
    assert np.ptp(line[:, 0]) > 1
    assert np.ptp(line[:, 1]) == 0


def test_the_share_of_cells_that_a_source_has_seen():
    rng = np.random.default_rng(0)
    wide = rng.uniform(-1, 1, (20_000, 2)).astype(np.float32)
    shares = coverage({"all": wide, "half": wide[wide[:, 0] > 0]}, cells=20)
    assert shares["all"] == 1
    assert shares["half"] == pytest.approx(0.5, abs=0.05)
    still = coverage({"still": np.zeros((10, 2), np.float32)})
    assert still == {"still": 1}
