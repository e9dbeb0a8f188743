"""Logged values between two rows of the learning curve, and whether they are numbers at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
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


class DivergedError(ValueError):
    """Training came to a loss, or to weights, that are no finite numbers."""


class Divergence:
    """Finds the first update with a metric that is no finite number, which ends the training.

    On a GPU it is noted there, without waiting for it, and told at the next `check`.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None  # The number of the update; inf while there is none.
        self._unit, self._names = "update", ""

    def watch(self, metrics: Mapping[str, Tensor], number: int, unit: str = "update") -> None:
        """Looks at the metrics of one update.

        Args:
            metrics: Name -> one value.
            number: The update's, from 1.
            unit: What is counted.

        Raises:
            DivergedError: One is no finite number; not raised yet where they are on a GPU.
        """
        if not metrics:
            return
        total = sum(value.detach() for value in metrics.values())
        assert isinstance(total, Tensor)
        self._unit = unit
        if total.device.type == "cpu":
            if not torch.isfinite(total):
                bad = [n for n, value in metrics.items() if not torch.isfinite(value)]
                raise DivergedError(_diverged(unit, number, bad or [*metrics]))
            return
        now = torch.where(torch.isfinite(total), float("inf"), float(number))
        self._first = now if self._first is None else torch.minimum(self._first, now)

    def check(self) -> None:
        """Waits for the GPU, if there is one.

        Raises:
            DivergedError: There was such an update.
        """
        first = float("inf") if self._first is None else float(self._first)
        self._first = None
        if first < float("inf"):
            raise DivergedError(_diverged(self._unit, int(first), ["a loss"]))


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Checks weights before they replace good ones.

    Raises:
        DivergedError: Some are no finite numbers.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise DivergedError(
                f"Training has diverged: {name} has values that are no finite numbers, and is not "
                "saved. What was saved before stays as it was; a lower learning rate may help."
            )


def _diverged(unit: str, number: int, names: Sequence[str]) -> str:
    what = ", ".join(names)
    return (
        f"Training has diverged: in {unit} {number} {what} became no finite number. What was saved "
        "before stays as it was; a lower learning rate may help."
    )
