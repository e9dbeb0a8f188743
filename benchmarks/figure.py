"""The figure of docs/speed.md, from the results of the other benchmarks.

python benchmarks/figure.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from timing import RESULTS

TARGET = Path(__file__).parents[1] / "docs" / "assets" / "speed.png"
CURVES = {
    "environments: us per step of each": ("environments", "time per agent step of each (us)"),
    "dataset rows: ms of a batch": ("rows of the dataset", "time of drawing a batch (ms)"),
}
UPDATES = {"batch_size: ms of an update": "batch", "sequence_length: ms of an update": "length"}


def read(name: str) -> Any:
    """The results of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text())["results"]


def draw_shares(axes: Axes, found: dict[str, Any]) -> None:
    """Bars: how much of MuJoCo's own speed each body has."""
    places = np.arange(len(found))
    for offset, (key, label) in zip(
        (-0.2, 0.2), {"64 of raw": "64 at once", "single of raw": "one alone"}.items(), strict=True
    ):
        shares = np.array([list(one[key].values()) for one in found.values()])
        median, low, high = shares.T
        axes.bar(places + offset, median, 0.4, label=label, yerr=[median - low, high - median])
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(places, [name.split("-")[0] for name in found], rotation=45, ha="right")
    axes.set_ylabel("share of raw mj_step")
    axes.legend(loc="lower left", ncols=2)


def draw_curve(axes: Axes, curve: dict[str, Any], label: str | None = None) -> None:
    """A median with its spread, over a size."""
    sizes = [int(size) for size in curve]
    median, low, high = np.array([list(values.values()) for values in curve.values()]).T
    axes.loglog(sizes, median, marker="o", label=label)
    axes.fill_between(sizes, low, high, alpha=0.2)
    axes.set_ylim(bottom=min(low) / 4, top=max(high) * 4)


def main() -> None:
    """Draws."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    panels = figure.subplots(2, 2)
    draw_shares(panels[0, 0], read("environments"))
    curves = read("growth")["curves"]
    for axes, (key, (xlabel, ylabel)) in zip(panels[:, 1], CURVES.items(), strict=True):
        draw_curve(axes, curves[key])
        axes.set(xlabel=xlabel, ylabel=ylabel)
    axes = panels[1, 0]
    for key, label in UPDATES.items():
        draw_curve(axes, curves[key], label)
    axes.set(xlabel="windows, or rows of a window; the other is 25", ylabel="update (ms)")
    axes.set_ylim(10, 1_000)
    axes.legend(frameon=False)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, dpi=90)
    print(f"Wrote {TARGET}")


if __name__ == "__main__":
    main()
