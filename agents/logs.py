"""Stable-Baselines3 loggers whose learning curve survives a restart."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)

STEP = "time/total_timesteps"
CURVE = "progress.csv"


def make_logger(
    folder: Path | None, resumed_at: int = 0, tensorboard: bool = False, verbose: int = 1
) -> Logger:
    """A logger to the terminal, ``progress.csv`` and TensorBoard.

    Args:
        folder: Where files go; None for none.
        resumed_at: Rows of an earlier run up to this step are kept, later ones dropped.
        tensorboard: Write TensorBoard events, too.
        verbose: 0 keeps the terminal quiet.
    """
    outputs: list[KVWriter] = [HumanOutputFormat(sys.stdout)] if verbose else []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        outputs.append(resume_csv(folder / CURVE, resumed_at))
        if tensorboard:
            outputs.append(TensorBoardOutputFormat(str(folder)))
    return Logger(None if folder is None else str(folder), outputs)


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a ``progress.csv``, without empty cells and without a last row cut short."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [
        {key: float(value) for key, value in row.items() if value} for row in csv.DictReader(whole)
    ]


def resume_csv(path: Path, resumed_at: int) -> CSVOutputFormat:
    """Stable-Baselines3's CSV writer, which truncates its file, given the earlier rows again.

    They are written beside the file first: there is no moment at which they are not on disk.
    """
    rows = [row for row in read_curve(path) if STEP in row and row[STEP] <= resumed_at]
    beside = path.with_suffix(".partial")
    output = CSVOutputFormat(str(beside))
    for row in rows:
        output.write(dict(row), {})
    output.file.close()
    os.replace(beside, path)
    output.file = path.open("r+", encoding="utf-8")
    output.file.seek(0, os.SEEK_END)
    return output
