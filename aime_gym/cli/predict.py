"""``aime-gym predict``: what a world model expects, beside what happened."""

from __future__ import annotations

from pathlib import Path

from agents.runs.export import load_world_model
from agents.runs.predictions import ROWS, SEEN, draw_curves, draw_video
from aime_gym.cli.console import is_watched
from aime_gym.cli.outputs import writes
from aime_gym.datasets import cached_images, check_dataset, load_dataset
from aime_gym.rendering import VIDEO_SIZE

FIGURES = (".png", ".pdf", ".svg")


@writes(out="file")
def predict(
    *,
    world_model: str,
    dataset: str,
    out: Path,
    trajectory: int = 0,
    first: int = 0,
    rows: int = ROWS,
    seen: int = SEEN,
    size: int = VIDEO_SIZE,
    device: str = "auto",
) -> None:
    """Show what a world model predicts of a trajectory, of which it sees the first rows alone.

    An .mp4 file shows what happened, what is predicted, and the difference, side by side: images in
    the visual setup, else the body as predicted sensors say that it stands. A .png, .pdf or .svg
    file has predicted beside true sensors, for every body.

    Args:
        world_model: A name of `aime-gym models list`, an archive, or a run that has a world model.
        dataset: A dataset with actions: a name of `aime-gym datasets list`, or a path.
        out: An .mp4 file; or a .png, .pdf or .svg file.
        trajectory: Number of the trajectory, from 0.
        first: The first row that is shown.
        rows: Rows that are shown, as many as there are at most.
        seen: Rows that the model sees; it imagines the others, told the actions alone.
        size: Width and height of each picture of a video, pixels.
        device: Where the networks are put.
    """
    if out.suffix not in (".mp4", *FIGURES) or size < 1:
        raise ValueError(
            f"Predictions are shown in an .mp4, {', '.join(FIGURES)} file, in pictures of 1 pixel "
            f"at least; got {out} and {size}."
        )
    model, _ = load_world_model(world_model, device)
    info = model.env_info
    data = load_dataset(dataset, progress_bar=is_watched())
    check_dataset(
        data,
        body=info.body,
        sensors=info.visible,
        actions=True,
        min_rows=2,
        action_repeat=info.action_repeat,
    )
    if not 0 <= trajectory < len(data):
        raise ValueError(
            f"There is no trajectory {trajectory}: {dataset} has 0 to {len(data) - 1}."
        )
    chosen = data[trajectory : trajectory + 1]
    window = chosen[0].window(first, min(rows, len(chosen[0]) - first))
    if info.image:
        window = cached_images(chosen.map(lambda _: window))[0]
    predicted = model.open_loop(window, seen)
    if out.suffix == ".mp4":
        draw_video(info, window, predicted, seen, out, size)
    else:
        draw_curves(window, predicted, seen, out)
    print(f"{out}: {seen} rows are seen, {len(window) - seen} imagined.")
