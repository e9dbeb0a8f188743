"""Which states data have seen: rows of sensors in the plane of their first principal components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from aime_gym.trajectory import IMAGE, Trajectory


def sensor_rows(trajectories: Iterable[Trajectory]) -> NDArray[np.float32]:
    """The vector sensors of all observations, one after another [N, n]; n is 0 without any."""
    rows = [
        np.concatenate(
            [np.zeros((len(t), 0)), *(v for name, v in t.sensors.items() if name != IMAGE)], axis=1
        )
        for t in trajectories
    ]
    return np.concatenate(rows).astype(np.float32)


def project(parts: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """Source -> rows [N, n] on the first two principal components of all rows [N, 2].

    Rows are standardised before; rows of one value have zeros as their second component.
    """
    rows = np.concatenate([*parts.values()]).astype(np.float64)
    mean, std = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    covariance = np.atleast_2d(np.cov(((rows - mean) / std).T))
    _, _, directions = np.linalg.svd(covariance)
    axes = np.pad(directions[:2], ((0, max(0, 2 - len(directions))), (0, 0))).T
    return {name: (part - mean) / std @ axes for name, part in parts.items()}


def coverage(parts: Mapping[str, NDArray[np.float32]], cells: int = 40) -> dict[str, float]:
    """How much of all that was experienced each source has seen.

    The plane of the first two principal components is cut into cells.

    Args:
        parts: Source -> rows [N, n].
        cells: Cells along each axis.

    Returns:
        Source -> share of the cells with any row in which that source has one.
    """
    planes = project(parts)
    everything = np.concatenate([*planes.values()])
    low, high = np.percentile(everything, [0.1, 99.9], axis=0)
    span = np.maximum(high - low, 1e-6)

    def occupied(plane: NDArray[np.float64]) -> set[int]:
        places = np.clip((plane - low) / span * cells, 0, cells - 1).astype(int)
        return set((places[:, 0] * cells + places[:, 1]).tolist())

    total = len(occupied(everything))
    return {name: len(occupied(plane)) / total for name, plane in planes.items()}
