import dataclasses

import numpy as np
import pytest
from PIL import Image

from aime_gym import picture
from aime_gym.datasets import collect
from aime_gym.picture import draw_dataset

ENV_ID = "AIME/cartpole-balance-mdp"


@pytest.fixture(scope="module")
def collected():
    """Four random episodes, the third of which is the best and the second the worst."""
    dataset = collect("random", ENV_ID, 4, seed=3, name="cartpole-random")
    totals = iter([3.0, 1.0, 9.0, 2.0])
    return dataset.map(
        lambda t: dataclasses.replace(t, rewards=np.full(t.num_steps, next(totals) / t.num_steps))
    )


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the figure: the title, the frames, the returns and the plane."""
    parts = {}

    def keep(path, title, strips, returns, plane):
        parts.update(title=title, strips=strips, returns=returns, plane=plane)
        return path

    monkeypatch.setattr(picture, "plot_dataset", keep)
    return parts


@pytest.mark.usefixtures("opengl")
def test_a_picture(collected, tmp_path):
    path = draw_dataset(collected, tmp_path / "deep" / "cartpole.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert width > height > 800
    colours = pixels.reshape(-1, 3)
    assert (np.ptp(colours, axis=1) > 100).sum() > 10_000  # Bars and states, coloured.
    assert (pixels[100:400].std(axis=2) > 10).mean() > 0.4  # Frames fill the upper part.
    vector = draw_dataset(collected, tmp_path / "cartpole.svg")
    assert "<svg" in vector.read_text()


@pytest.mark.usefixtures("opengl")
def test_frames_are_drawn_from_states(collected, drawn, tmp_path):
    draw_dataset(collected, tmp_path / "x.png")
    assert drawn["title"] == f"cartpole-random: 4 trajectories, 500 steps of {ENV_ID}"
    assert [strip.label for strip in drawn["strips"]] == [
        "return\n1.0",
        "return\n3.0",
        "return\n9.0",
    ]
    first = drawn["strips"][0]
    assert first.frames.shape == (8, 160, 160, 3)
    assert (first.steps[0], first.steps[-1]) == (0, 125)
    assert first.frames[0].std() > 10
    assert (first.frames[0] != first.frames[3]).any()
    np.testing.assert_allclose(drawn["returns"], [3, 1, 9, 2])
    assert drawn["plane"].shape == (504, 2)


@pytest.mark.usefixtures("opengl")
def test_frames_are_of_episodes_with_states(collected, drawn, tmp_path):
    some = collected[:2].map(without_states) + collected[2:]
    draw_dataset(some, tmp_path / "x.png")
    assert [strip.label for strip in drawn["strips"]] == ["return\n2.0", "return\n9.0"]
    assert len(drawn["returns"]) == 4


def test_stored_images_without_states(collected, drawn, tmp_path):
    images = np.arange(126, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    alone = collected.map(
        lambda t: dataclasses.replace(t, sensors={"image": images}, physics_states=None)
    )
    draw_dataset(alone, tmp_path / "x.png")
    strip = drawn["strips"][2]
    assert strip.frames[:, 0, 0, 0].tolist() == strip.steps
    assert drawn["plane"] == "no states: there are images alone"


def test_a_word_where_something_is_missing(collected, drawn, tmp_path, monkeypatch):
    draw_dataset(collected.observations_only().map(without_states), tmp_path / "x.png")
    assert drawn["strips"] == "no frames: there are neither physics states nor images"
    assert drawn["returns"] == "no returns: there are no rewards"
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    draw_dataset(collected, tmp_path / "x.png")
    assert "MUJOCO_GL is 'disabled'" in drawn["strips"]


@pytest.mark.parametrize("count", [1, 4])
def test_the_words_are_drawn(collected, tmp_path, count):
    bare = collected[:count].observations_only().map(without_states)
    path = draw_dataset(bare, tmp_path / "x.png")
    pixels = np.asarray(Image.open(path).convert("L"))
    assert pixels.shape[0] < 700  # There is no sheet of frames.
    assert (pixels < 160).any()


def test_an_unknown_format_is_refused_before_any_work(collected, drawn, tmp_path):
    with pytest.raises(ValueError, match=r"'x.doc' has the ending of no picture: .*\.png"):
        draw_dataset(collected, tmp_path / "x.doc")
    assert not drawn


def without_states(trajectory):
    return dataclasses.replace(trajectory, physics_states=None)
