import dataclasses
import importlib.util
import os

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest

import aime_gym  # noqa: F401
from aime_gym.opengl import RenderingUnavailable
from aime_gym.rendering import (
    draw_observations,
    imitation_video,
    prediction_video,
    render_states,
    side_by_side,
    write_video,
)
from aime_gym.rollout import RandomPolicy, make_envs, rollout
from aime_gym.trajectory import Trajectory


@pytest.fixture(scope="module")
def walker():
    env = gym.make("AIME/walker-run-visual", action_repeat=20)
    yield env
    env.close()


@pytest.fixture(scope="module")
def trajectory(walker):
    image, _ = walker.reset(seed=1)
    images, states = [image], [walker.unwrapped.get_physics_state()]
    for _ in range(4):
        images.append(walker.step(np.full(6, 0.5, dtype=np.float32))[0])
        states.append(walker.unwrapped.get_physics_state())
    return Trajectory({"image": np.stack(images)}, physics_states=np.stack(states))


def read(path):
    frames = imageio_ffmpeg.read_frames(str(path))
    meta = next(frames)
    width, height = meta["size"]
    pictures = [np.frombuffer(f, dtype=np.uint8).reshape(height, width, 3) for f in frames]
    return meta, np.stack(pictures)


def noise(length, height=20, width=48):
    return np.random.default_rng(length).integers(0, 255, (length, height, width, 3), np.uint8)


def test_states_are_drawn_as_the_environment_draws_them(walker, trajectory):
    before = walker.unwrapped.get_physics_state()
    frames = render_states(walker, trajectory.physics_states, 64, 64)
    np.testing.assert_array_equal(frames, trajectory.sensors["image"])
    np.testing.assert_array_equal(walker.unwrapped.get_physics_state(), before)


def test_size_and_camera_of_drawn_states(walker, trajectory):
    states = trajectory.physics_states[:1]
    wide = render_states(walker, states, 96, 48)
    assert wide.shape == (1, 48, 96, 3)
    assert (render_states(walker, states, 96, 48, camera=1) != wide).any()
    with pytest.raises(ValueError, match="cameras 0 to"):
        render_states(walker, states, 96, 48, camera=9)
    with pytest.raises(ValueError, match="no spec"):
        render_states(gym.Env(), states, 64, 64)


def test_side_by_side_holds_every_video_and_the_last_frame():
    videos = {"expert": noise(3), "AIME": noise(5)}
    grid = side_by_side(videos)
    assert grid.shape[0] == 5
    assert grid.shape[2] == 2 * 48 + 4
    np.testing.assert_array_equal(grid[:3, -20:, :48], videos["expert"])
    np.testing.assert_array_equal(grid[4, -20:, :48], videos["expert"][-1])
    np.testing.assert_array_equal(grid[:, -20:, -48:], videos["AIME"])
    for caption in (grid[0, :-20, :48], grid[0, :-20, -48:]):
        assert (caption < 128).any()


def test_columns_make_rows():
    videos = {name: noise(2) for name in "abc"}
    tall = side_by_side(videos, columns=2)
    assert tall.shape[2] == 2 * 48 + 4
    assert tall.shape[1] > 2 * 20
    np.testing.assert_array_equal(tall[:, -20:, :48], videos["c"])


def test_long_labels_fit():
    grid = side_by_side({"a label that is longer than its picture": noise(1)})
    assert (grid[0, :-20, [0, -1]] > 128).all()


def test_videos_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="frames of one size"):
        side_by_side({"a": noise(1), "b": noise(1, height=10)})
    with pytest.raises(ValueError, match="no video"):
        side_by_side({})


def test_a_video_is_h264_of_even_size(tmp_path):
    frames = np.zeros((10, 33, 51, 3), dtype=np.uint8)
    frames[5:] = 200
    path = write_video(tmp_path / "new" / "film.mp4", iter(frames), fps=12.5)
    meta, pictures = read(path)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == pytest.approx(12.5)
    assert pictures.shape == (10, 34, 52, 3)
    assert pictures[:5].mean() < 10
    assert abs(pictures[5:].mean() - 200) < 10
    assert [file.name for file in path.parent.iterdir()] == ["film.mp4"]


def test_a_failed_video_leaves_the_old_one(tmp_path):
    path = write_video(tmp_path / "film.mp4", noise(2), fps=10)
    before = path.read_bytes()

    def breaks():
        yield noise(1)[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_video(path, breaks(), fps=10)
    with pytest.raises(ValueError, match="differ in size"):
        write_video(path, [noise(1)[0], noise(1, height=10)[0]], fps=10)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_wrong_videos(tmp_path):
    with pytest.raises(ValueError, match=r"\.mp4 files"):
        write_video(tmp_path / "film.gif", noise(1), fps=10)
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "film.mp4", [], fps=10)
    with pytest.raises(ValueError, match="more than 0 frames"):
        write_video(tmp_path / "film.mp4", noise(1), fps=0)
    with pytest.raises(ValueError, match="uint8"):
        write_video(tmp_path / "film.mp4", [np.zeros((4, 4, 3))], fps=10)


def test_imitator_beside_expert(tmp_path, walker, trajectory):
    images_alone = dataclasses.replace(trajectory, physics_states=None)
    path = imitation_video(
        tmp_path / "film.mp4", walker, trajectory, {"AIME": images_alone}, size=64
    )
    meta, pictures = read(path)
    assert len(pictures) == 5
    assert meta["fps"] == pytest.approx(walker.unwrapped.metadata["render_fps"], rel=0.01)
    expert, imitator = pictures[:, -64:, :64], pictures[:, -64:, 68:132]
    assert np.abs(expert.astype(int) - imitator).mean() < 8
    blind = Trajectory({"height": np.zeros((2, 1))})
    with pytest.raises(ValueError, match="'blind' has neither physics states nor images"):
        imitation_video(path, walker, trajectory, {"blind": blind}, size=64)


# Predictions


@pytest.fixture(scope="module")
def stood():
    """The walker's sensors and states over five rows."""
    with gym.make("AIME/walker-run-lpomdp", action_repeat=20) as env:
        env.reset(seed=1)
        rows, states = [], []
        for _ in range(5):
            rows.append(env.unwrapped.read_sensors())
            states.append(env.unwrapped.get_physics_state())
            env.step(np.full(6, 0.5, dtype=np.float32))
        sensors = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        yield env, Trajectory(sensors, physics_states=np.stack(states))


@pytest.mark.usefixtures("opengl")
def test_sensors_are_drawn_as_the_states_are(stood):
    env, truth = stood
    frames = render_states(env, truth.physics_states, 64, 64)
    drawn = draw_observations(env, truth.sensors, 64, physics_states=truth.physics_states)
    assert np.abs(frames.astype(int) - drawn).mean() < 0.1
    from_the_start = draw_observations(env, truth.sensors, 64)
    assert from_the_start.shape == frames.shape
    assert np.abs(frames.astype(int) - from_the_start).mean() < 12  # The floor lies elsewhere.


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("states", [True, False])
def test_a_prediction_beside_the_truth(tmp_path, stood, states):
    env, truth = stood
    truth = truth if states else dataclasses.replace(truth, physics_states=None)
    predicted = {name: values.copy() for name, values in truth.sensors.items()}
    predicted["height"][3:] += 0.3
    path = prediction_video(tmp_path / "film.mp4", env, truth, predicted, seen=3, size=64)
    _, pictures = read(path)
    assert pictures.shape[0] == 5
    difference = pictures[:, -64:, 136:200].astype(int)
    assert difference[:3].mean() < 3
    assert difference[3:].mean() > 6
    captions = pictures[:, :-64, 68:132]
    assert np.abs(captions[2].astype(int) - captions[3]).mean() > 2  # filtered, then imagined.


def test_predicted_images_beside_the_truth(tmp_path, walker):
    truth = Trajectory({"image": np.full((4, 64, 64, 3), 200, np.uint8)})
    image = truth.sensors["image"].copy()
    image[2:, :, 32:] = 80
    path = prediction_video(tmp_path / "film.mp4", walker, truth, {"image": image}, 1, size=64)
    _, pictures = read(path)
    shown = pictures[:, -64:].astype(int)
    for left, expected in ((0, truth.sensors["image"]), (68, image), (136, 200 - image)):
        assert np.abs(shown[:, :, left + 4 : left + 60] - expected[:, :, 4:60]).mean() < 3


def test_predictions_that_cannot_be_drawn(tmp_path, stood):
    env, truth = stood
    short = {name: values[1:] for name, values in truth.sensors.items()}
    with pytest.raises(ValueError, match="should be 5 rows, as there are"):
        prediction_video(tmp_path / "film.mp4", env, truth, short, seen=3)
    with (
        gym.make("AIME/finger-spin-mdp") as finger,
        pytest.raises(ValueError, match="of finger do not determine"),
    ):
        draw_observations(finger, {"position": np.zeros((2, 4))})
    with pytest.raises(ValueError, match=r"Hopper-v5 .* is not known from its sensors"):
        draw_observations(gym.make("Hopper-v5"), {"observation": np.zeros((2, 11))})
    assert not list(tmp_path.iterdir())


# Environments of Gymnasium


@pytest.fixture(scope="module")
def hopper():
    env = make_envs("Hopper-v5", 1)
    policy = RandomPolicy(env.single_action_space, seed=0)
    return next(rollout(policy, env, 1, seed=0, record=True))


def test_states_of_gymnasiums_mujoco_are_drawn(hopper, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    env = gym.make("Hopper-v5")
    frames = render_states(env, hopper.physics_states[[0, 0, -1]], 60, 40)
    assert frames.shape == (3, 40, 60, 3)
    assert len(np.unique(frames)) > 50
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()
    assert "MUJOCO_GL" not in os.environ
    with pytest.raises(ValueError, match="Hopper-v5 has one camera: leave out camera 1"):
        render_states(env, hopper.physics_states, 60, 40, camera=1)
    with pytest.raises(ValueError, match=r"has shape \(12,\), not \(3,\)"):
        render_states(env, np.zeros((1, 3)), 60, 40)


def test_a_setting_of_the_backend_stays(hopper, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    render_states(gym.make("Hopper-v5"), hopper.physics_states[:1], 60, 40)
    assert os.environ["MUJOCO_GL"] == "egl"
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(RenderingUnavailable, match="MUJOCO_GL is 'disabled'"):
        render_states(gym.make("Hopper-v5"), hopper.physics_states[:1], 60, 40)


def test_a_film_of_gymnasiums_mujoco(tmp_path, hopper):
    env, hopper = gym.make("Hopper-v5"), hopper.window(0, 6)
    path = imitation_video(tmp_path / "film.mp4", env, hopper, {"BC": hopper}, size=40)
    meta, pictures = read(path)
    assert len(pictures) == len(hopper)
    assert meta["fps"] == pytest.approx(env.metadata["render_fps"], rel=0.01)
    blind = dataclasses.replace(hopper, physics_states=None)
    with pytest.raises(ValueError, match="'expert' has neither physics states nor images"):
        imitation_video(path, env, blind, {}, size=40)


def test_pygame_draws_classic_control():
    states = np.array([[0.0, 0.0], [1.0, 0.0]])
    env = gym.make("Pendulum-v1")
    if importlib.util.find_spec("pygame") is None:
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'aime-gym\[human\]'"):
            render_states(env, states, 60, 40)
        return
    frames = render_states(env, states, 60, 40)
    assert frames.shape == (2, 40, 60, 3)
    assert (frames[0] != frames[1]).any()


class Box(gym.Env):
    """Draws nothing, or has no physics state."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}


def test_environments_that_cannot_be_drawn(monkeypatch):
    spec = gym.envs.registration.EnvSpec("Box-v0", entry_point=Box)
    monkeypatch.setitem(gym.registry, "Box-v0", spec)
    env = gym.make("Box-v0")
    with pytest.raises(ValueError, match="draws no pictures: its render modes are none"):
        render_states(env, np.zeros((1, 1)), 60, 40)
    monkeypatch.setattr(Box, "metadata", {"render_modes": ["rgb_array"]})
    with pytest.raises(ValueError, match="Box-v0 has no physics states"):
        render_states(env, np.zeros((1, 1)), 60, 40)
