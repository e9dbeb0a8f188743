"""Pictures of trajectories: frames, side-by-side grids, video files.

T frames, H and W pixels; frames are uint8 [T, H, W, 3].
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aime_gym.files import temporary_folder
from aime_gym.ids import find_env_id
from aime_gym.opengl import make_gl_context
from aime_gym.physics import get_physics_state, pose_states, set_physics_state
from aime_gym.trajectory import IMAGE, Trajectory

Frames = NDArray[np.uint8]

VIDEO_SIZE = 240  # Pixels.
FPS = 30  # Frames per second, where the environment has no rate of its own.
GAP = 4  # Pixels between pictures.
INK, PAPER = (30, 30, 30), 255


def render_states(
    env: gym.Env[Any, Any],
    physics_states: NDArray[np.float64],
    width: int,
    height: int,
    camera: int | None = None,
    progress_bar: bool = False,
) -> Frames:
    """Draws physics states, in a copy of an environment, which itself stays as it is.

    Args:
        env: An environment from `gymnasium.make` whose physics states are known: see
            `aime_gym.physics`.
        physics_states: What `Trajectory.physics_states` holds [T, P].
        width: Width of the frames, pixels. Pictures of environments that have a size of their own
            are stretched to it.
        height: Height of the frames, pixels.
        camera: Number of the camera; None for the one that takes the observations, -1 for a free
            one. Only this package's environments have a choice.
        progress_bar: Show one.

    Returns:
        Frames [T, H, W, 3].

    Raises:
        ValueError: The environment was not made by `gymnasium.make`, draws no pictures, has no
            physics states or no such camera, or the states are of another.
        RenderingUnavailable: There is no working OpenGL.
        ModuleNotFoundError: The environment draws with pygame, which is not installed.
    """
    if env.spec is None:
        raise ValueError("The environment has no spec: make it with gymnasium.make.")
    options = _drawing_options(env, width, height, camera)
    copy = gym.make(env.spec, render_mode="rgb_array", disable_env_checker=True, **options)
    try:
        copy.reset(seed=0)
        frames = np.empty((len(physics_states), height, width, 3), dtype=np.uint8)
        with _working_backend(copy):
            for frame, state in zip(
                tqdm(frames, desc="drawing", unit="frame", disable=not progress_bar),
                physics_states,
                strict=True,
            ):
                set_physics_state(copy, state)
                frame[:] = _resize(_draw(copy), width, height)
        return frames
    finally:
        copy.close()


def check_drawing(env: gym.Env[Any, Any], size: int = VIDEO_SIZE) -> None:
    """Draws one picture, to find out before long work whether there can be a video.

    Raises:
        ValueError: The environment draws no pictures.
        RenderingUnavailable: There is no working OpenGL.
        ModuleNotFoundError: What the environment draws with is not installed.
    """
    env.reset(seed=0)
    state = get_physics_state(env)
    if state is not None:
        render_states(env, state[None], size, size)


def _drawing_options(
    env: gym.Env[Any, Any], width: int, height: int, camera: int | None
) -> dict[str, Any]:
    """What `gymnasium.make` is told of the pictures."""
    assert env.spec is not None
    if find_env_id(env.spec.id) is not None:
        return {"render_width": width, "render_height": height, "camera_id": camera}
    modes = env.metadata.get("render_modes", [])
    if "rgb_array" not in modes:
        raise ValueError(
            f"{env.spec.id} draws no pictures: its render modes are {', '.join(modes) or 'none'}; "
            "needed is rgb_array."
        )
    if camera is not None:
        raise ValueError(f"{env.spec.id} has one camera: leave out camera {camera}.")
    return {}


def _draw(env: gym.Env[Any, Any]) -> Frames:
    """The picture of an environment as it is now, whatever draws it."""
    try:
        picture: Any = env.render()
    except gym.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError(f"{error} Or: pip install 'aime-gym[human]'.") from error
    return np.asarray(picture, dtype=np.uint8)


@contextmanager
def _working_backend(env: gym.Env[Any, Any]) -> Iterator[None]:
    """Tells Gymnasium's MuJoCo renderer which OpenGL works: by itself it asks for a display."""
    if not hasattr(env.unwrapped, "mujoco_renderer"):
        yield
        return
    context, backend = make_gl_context(1, 1)
    context.free()
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = backend
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
        if before is not None:
            os.environ["MUJOCO_GL"] = before


def side_by_side(frames_by_label: Mapping[str, Frames], columns: int | None = None) -> Frames:
    """Puts videos beside one another, each under its label.

    A video that is shorter than the longest stays at its last frame.

    Args:
        frames_by_label: Label -> frames [T_i, H, W, 3].
        columns: Videos per row; None for all of them.

    Returns:
        Frames [T, H', W', 3] with T the longest.

    Raises:
        ValueError: There are no videos, or their frames differ in size.
    """
    shapes = {label: frames.shape[1:] for label, frames in frames_by_label.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"All videos should have frames of one size; got {shapes or 'no video'}.")
    height, width, _ = next(iter(shapes.values()))
    columns = min(columns or len(shapes), len(shapes))
    captions = _captions(list(shapes), width)
    row_height = captions.shape[1] + height + GAP
    rows = -(-len(shapes) // columns)
    length = max(map(len, frames_by_label.values()))
    grid_shape = (length, rows * row_height - GAP, columns * (width + GAP) - GAP, 3)
    grid = np.full(grid_shape, PAPER, dtype=np.uint8)
    for index, (caption, frames) in enumerate(zip(captions, frames_by_label.values(), strict=True)):
        top, left = index // columns * row_height, index % columns * (width + GAP)
        middle, right = top + len(caption), left + width
        grid[:, top:middle, left:right] = caption
        grid[: len(frames), middle : middle + height, left:right] = frames
        grid[len(frames) :, middle : middle + height, left:right] = frames[-1]
    return grid


def _captions(labels: list[str], width: int) -> Frames:
    """One strip of text per label [N, h, width, 3], as large as fits the longest label."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(10, width // 14)
    longest = max(ImageFont.load_default(size).getlength(label) for label in labels)
    size = max(6, int(size * min(1.0, width / max(longest, 1.0))))
    font = ImageFont.load_default(size)
    strips = []
    for label in labels:
        strip = Image.new("RGB", (width, 2 * size), (PAPER,) * 3)
        ImageDraw.Draw(strip).text((width / 2, size), label, fill=INK, font=font, anchor="mm")
        strips.append(np.asarray(strip))
    return np.stack(strips)


def write_video(path: str | os.PathLike[str], frames: Iterable[Frames], fps: float) -> Path:
    """Writes an MP4 file (H.264, yuv420p), which plays everywhere.

    The file appears once it is whole. An odd width or height grows by one pixel.

    Args:
        path: Where it goes; its folder is made.
        frames: Pictures [H, W, 3], uint8, all of one size.
        fps: Frames per second.

    Raises:
        ValueError: There are no frames, their sizes or types differ, `fps` is not above 0, or the
            path does not end in ``.mp4``.
    """
    from imageio_ffmpeg import write_frames

    target = Path(path)
    if target.suffix != ".mp4":
        raise ValueError(f"Videos are .mp4 files; got {target.name!r}.")
    if fps <= 0:
        raise ValueError(f"A video shows more than 0 frames per second; got {fps}.")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("A video has at least one frame.")
    height, width = _even(first).shape[:2]
    with temporary_folder(target) as folder:
        unfinished = folder / target.name
        writer = write_frames(
            str(unfinished), (width, height), fps=fps, codec="libx264", macro_block_size=2
        )
        writer.send(None)
        try:
            for frame in chain([first], frames):
                if frame.shape != first.shape:
                    raise ValueError(f"The frames differ in size: {first.shape} and {frame.shape}.")
                writer.send(_even(frame))
        finally:
            writer.close()
        os.replace(unfinished, target)
    return target


def _even(frame: Frames) -> Frames:
    """Repeats the last row and column where their number is odd: yuv420p halves both."""
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
        raise ValueError(
            f"A frame is uint8 [H, W, 3]; got {frame.dtype} with shape {list(frame.shape)}."
        )
    height, width, _ = frame.shape
    padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded)


def imitation_video(
    path: str | os.PathLike[str],
    env: gym.Env[Any, Any],
    expert: Trajectory,
    imitators: Mapping[str, Trajectory],
    size: int = VIDEO_SIZE,
    camera: int | None = None,
    progress_bar: bool = False,
) -> Path:
    """Writes a video of the expert beside those who imitate it.

    Args:
        path: An ``.mp4`` file.
        env: The environment of all trajectories, from `gymnasium.make`.
        expert: The demonstration.
        imitators: Label -> what it did, as from ``evaluate(..., record=True).trajectories``.
        size: Width and height of each picture, pixels.
        camera: Number of the camera; None for the one that takes the observations.
        progress_bar: Show one while frames are drawn.

    Raises:
        ValueError: A trajectory has neither physics states nor images.
        RenderingUnavailable: There is no working OpenGL.
    """
    frames = {
        label: _frames(env, trajectory, label, size, camera, progress_bar)
        for label, trajectory in {"expert": expert, **imitators}.items()
    }
    fps = env.unwrapped.metadata.get("render_fps", FPS)
    return write_video(path, side_by_side(frames), fps)


def prediction_video(
    path: str | os.PathLike[str],
    env: gym.Env[Any, Any],
    truth: Trajectory,
    predicted: Mapping[str, NDArray[Any]],
    seen: int,
    size: int = VIDEO_SIZE,
    camera: int | None = None,
) -> Path:
    """Writes a video of what happened, what a model predicts, and their difference.

    The difference is brighter where the pictures differ more; where nothing differs it is black.
    For what is drawn, see `draw_observations`.

    Args:
        path: An ``.mp4`` file.
        env: The environment of the trajectory, from `gymnasium.make`.
        truth: What happened.
        predicted: Sensor -> [T, n] in its own units; or images, uint8 [T, H, W, 3].
        seen: Rows that the model has seen, which are labelled "filtered"; later ones are
            "imagined".
        size: Width and height of each picture, pixels.
        camera: Number of the camera; None for the one that takes the observations.

    Raises:
        ValueError: The sensors do not determine how the body stands, or what is predicted is not
            as long as what happened.
        RenderingUnavailable: There is no working OpenGL.
    """
    lengths = {len(values) for values in predicted.values()}
    if lengths != {len(truth)}:
        raise ValueError(f"Predicted should be {len(truth)} rows, as there are; got {lengths}.")
    states = truth.physics_states
    if IMAGE in predicted or states is None:
        true = draw_observations(env, truth.sensors, size, camera)
    else:
        true = render_states(env, states, size, size, camera)
    guess = draw_observations(env, predicted, size, camera, states)
    difference = np.abs(true.astype(np.int16) - guess).astype(np.uint8)
    parts = [
        side_by_side({"truth": true[rows], label: guess[rows], "difference": difference[rows]})
        for label, rows in (("filtered", slice(seen)), ("imagined", slice(seen, None)))
        if len(true[rows])
    ]
    fps = env.unwrapped.metadata.get("render_fps", FPS)
    return write_video(path, np.concatenate(parts), fps)


def draw_observations(
    env: gym.Env[Any, Any],
    sensors: Mapping[str, NDArray[Any]],
    size: int = VIDEO_SIZE,
    camera: int | None = None,
    physics_states: NDArray[np.float64] | None = None,
) -> Frames:
    """Draws what sensors read: images enlarged, else the body as it stands.

    What the sensors do not determine, such as how far a walker has come, is that of the physics
    states; without these, that of an episode's start.

    Args:
        env: The environment that has the sensors, from `gymnasium.make`.
        sensors: Sensor -> [T, n]; or images, uint8 [T, H, W, 3].
        size: Width and height of the frames, pixels.
        camera: Number of the camera; None for the one that takes the observations.
        physics_states: What `Trajectory.physics_states` holds [T, P].

    Returns:
        Frames [T, size, size, 3].

    Raises:
        ValueError: There are no images, and the sensors do not determine how the body stands.
        RenderingUnavailable: There is no working OpenGL.
    """
    if IMAGE in sensors:
        return np.stack([_resize(image, size, size) for image in sensors[IMAGE]])
    if physics_states is None:
        rows = len(next(iter(sensors.values())))
        physics_states = np.repeat(_start_state(env)[None], rows, axis=0)
    return render_states(env, pose_states(env, sensors, physics_states), size, size, camera)


def _start_state(env: gym.Env[Any, Any]) -> NDArray[np.float64]:
    """The physics state of an episode's start, in a copy of the environment."""
    if env.spec is None:
        raise ValueError("The environment has no spec: make it with gymnasium.make.")
    with gym.make(env.spec, disable_env_checker=True) as copy:
        copy.reset(seed=0)
        state = get_physics_state(copy)
    if state is None:
        raise ValueError(f"{env.spec.id} has no physics states.")
    return state


def _frames(
    env: gym.Env[Any, Any],
    trajectory: Trajectory,
    label: str,
    size: int,
    camera: int | None,
    progress_bar: bool,
) -> Frames:
    """Drawn from the physics states where they are known, else the observed images enlarged."""
    if trajectory.physics_states is not None:
        return render_states(env, trajectory.physics_states, size, size, camera, progress_bar)
    if IMAGE not in trajectory.sensors:
        raise ValueError(
            f"Trajectory {label!r} has neither physics states nor images. evaluate(..., "
            "record=True) records them, where the environment has them: see aime_gym.physics."
        )
    return np.stack([_resize(image, size, size) for image in trajectory.sensors[IMAGE]])


def _resize(picture: Frames, width: int, height: int) -> Frames:
    """The picture in another size; pixels are repeated or left out."""
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST))
