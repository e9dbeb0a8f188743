"""A whole gradient update as one CUDA graph.

An update of a recurrent model is some thousands of small kernels, and a GPU computes them faster
than a processor launches them. A CUDA graph holds them all: it is captured once, and every replay
computes the same on what is then in the same memory. So an update that is captured

- reads and changes tensors that stay where they are, such as weights and rows of data;
- draws its noise from generators that the graph knows, whose states go on with every replay;
- takes from the host nothing that changes: the learning rate, too, lies on the device;
- waits for nothing that the device computes, such as how many elements of a tensor are true.

On other devices, and where the environment variable AIME_GYM_CUDA_GRAPHS is 0, the update is called
directly, so there is one update code.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from agents.running import Metrics

VARIABLE = "AIME_GYM_CUDA_GRAPHS"
WARM_UP = 3  # Calls before the capture, which prepare libraries, moments and caches.


class Captured:
    """An update that is captured in a CUDA graph at its fourth call, and replayed from then on.

    Every call is one update, those before the capture included. A new one is needed whenever a
    tensor that the update reads has moved, such as for other data.

    Args:
        update: One whole update of the sizes that it is called with. It returns metrics: tensors of
            one shape, or none at all where it keeps its results in tensors that stay.
        optimizers: Those that the update steps; where it is captured, their learning rates become
            tensors on the device.
        generators: Where the update's noise comes from, one or more; their device is the update's.
    """

    def __init__(
        self,
        update: Callable[..., Metrics],
        optimizers: Sequence[Optimizer],
        generators: Sequence[torch.Generator],
    ) -> None:
        self._update = update
        self._generators = list(generators)
        self._device = self._generators[0].device
        self._captures = uses_graphs(self._device)
        self._prepare()
        for optimizer in optimizers:
            prepare_optimizer(optimizer, self._device, self._captures)

    def _prepare(self) -> None:
        self._calls = 0
        self._sizes: dict[str, int] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        if self._captures:
            self._stream = torch.cuda.Stream(self._device)

    # Copies, by `copy.deepcopy` and `pickle`, have tensors of their own: they capture anew.

    def __getstate__(self) -> dict[str, Any]:
        made_anew = ("_graph", "_stream", "_names", "_values")
        return {name: value for name, value in vars(self).items() if name not in made_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    def __call__(self, **sizes: int) -> Metrics:
        """Makes one update.

        Args:
            **sizes: What the update takes, such as its batch size. A graph is of one size: where
                the update is captured, every call has those of the first.

        Returns:
            Metrics by name, which later updates leave as they are.

        Raises:
            ValueError: The update is captured, and the sizes are others than before.
            RuntimeError: The update cannot be captured.
        """
        if not self._captures:
            return self._update(**sizes)
        self._check(sizes)
        if self._calls < WARM_UP:
            self._calls += 1
            return self._warm_up(sizes)
        if self._graph is None:
            self._graph = self._capture(sizes)
        self._graph.replay()
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def _check(self, sizes: dict[str, int]) -> None:
        if self._sizes is None:
            self._sizes = sizes
        if sizes != self._sizes:
            raise ValueError(
                f"This update is captured in a CUDA graph for {_listed(self._sizes)}, and cannot "
                f"be one for {_listed(sizes)}: learn(...) captures anew, and {VARIABLE}=0 in the "
                "environment does without graphs."
            )

    def _warm_up(self, sizes: dict[str, int]) -> Metrics:
        """An update that is not captured, on the stream of the capture."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), self._device, warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*capturable=True")  # It will be captured.
            metrics = self._update(**sizes)
        current.wait_stream(self._stream)
        return metrics

    def _capture(self, sizes: dict[str, int]) -> torch.cuda.CUDAGraph:
        """Records an update without computing it, and where its metrics will lie.

        Tensors that name no device are made on this one: a graph cannot copy from the host.
        """
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph, stream=self._stream), self._device:
                metrics = self._update(**sizes)
                self._names = [*metrics]
                self._values = torch.stack([*metrics.values()]) if metrics else torch.empty(0)
        except RuntimeError as error:
            raise RuntimeError(
                f"The update cannot be captured in a CUDA graph ({error}); {VARIABLE}=0 in the "
                "environment does without, more slowly."
            ) from error
        return graph


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "no sizes"


def uses_graphs(device: torch.device) -> bool:
    """Whether updates on a device are captured: on CUDA, unless AIME_GYM_CUDA_GRAPHS is 0."""
    return device.type == "cuda" and os.environ.get(VARIABLE, "1") != "0"


def prepare_optimizer(optimizer: Optimizer, device: torch.device, captured: bool) -> None:
    """Makes an optimiser fit for capture, or as it usually is, whatever archive it is from.

    Args:
        optimizer: One that has an option ``capturable``, such as Adam.
        device: Where its parameters are.
        captured: Whether learning rates are tensors, which replays read, or plain numbers; one that
            is such a tensor already stays the same one.
    """
    for group in optimizer.param_groups:
        before, rate = group["lr"], float(group["lr"])
        on_device = torch.tensor(rate, dtype=torch.float32, device=device)
        stays = isinstance(before, Tensor) and before.device == on_device.device
        if not captured:
            group["lr"] = rate
        elif not stays:
            group["lr"] = on_device
        group["capturable"] = captured


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Sets the learning rate of all parameters, in place where a CUDA graph reads it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
