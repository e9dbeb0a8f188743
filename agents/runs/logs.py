"""Stable-Baselines3 loggers whose learning curve survives a restart."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
    filter_excluded_keys,
)

from agents.running import STEP

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
    """A CSV writer that goes on after the rows of an earlier run up to a step; at 0, anew."""
    rows = read_curve(path) if resumed_at else []
    rows = [row for row in rows if STEP in row and row[STEP] <= resumed_at]
    return _CurveWriter(path, rows)


class _CurveWriter(CSVOutputFormat):
    """Stable-Baselines3's CSV writer, which is never without its rows.

    That one truncates its file at the start, and writes it anew where a column is added. Here this
    happens beside the file, which is then replaced.
    """

    def __init__(self, path: Path, rows: list[dict[str, float]]) -> None:
        self._path, self._beside = path, path.with_suffix(".partial")
        super().__init__(str(self._beside))
        for row in rows:
            super().write(dict(row), {})
        self._replace()

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Writes a row."""
        if filter_excluded_keys(key_values, key_excluded, "csv").keys() <= {*self.keys}:
            super().write(key_values, key_excluded, step)
            return
        self.file.close()
        shutil.copyfile(self._path, self._beside)
        self.file = self._beside.open("r+", encoding="utf-8")
        super().write(key_values, key_excluded, step)
        self._replace()

    def _replace(self) -> None:
        self.file.close()
        os.replace(self._beside, self._path)
        self.file = self._path.open("r+", encoding="utf-8")
        self.file.seek(0, os.SEEK_END)
