"""Logged values between two rows of the learning curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

STEP = "time/total_timesteps"
Metrics = dict[str, Tensor]


class RunningMeans:
    """Means of logged values since the last row of the learning curve.

    They are summed on the device, so that updates do not wait for each other.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: Metrics) -> None:
        """Takes in the metrics of one update."""
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def pop(self) -> dict[str, float]:
        """The means; from here on the next ones begin."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums and their number, under flat names."""
        return {"count": self.count, **{f"sums.{name}": v for name, v in self.sums.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        sums = {key: value for key, value in state.items() if key.startswith("sums.")}
        self.sums = {key.removeprefix("sums."): value for key, value in sums.items()}
        self.count = state.get("count", 0) if sums else 0
