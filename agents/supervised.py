"""Supervised learning by shuffled epochs, with early stopping.

BC learns this way, and so do both stages of BCO and IIDM (Zhang et al. 2023, appendix): a share of
the windows trains, the others validate, and the weights with the best validation loss are kept.
Shapes: B batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.captured import set_learning_rate
from agents.checks import check_at_least, check_numbers, check_positive, check_share
from agents.running import Metrics

VALIDATION_CHUNK = 1_000  # Windows at a time.
Loss = Callable[[nn.Module, Tensor], Tensor]
"""(network, numbers of windows [B]) -> mean loss over these windows []."""


@dataclass(frozen=True)
class EpochConfig:
    """Settings of supervised learning by epochs.

    Attributes:
        batch_size: Windows per update.
        learning_rate: Adam's learning rate.
        decay_timesteps: Updates over which the learning rate falls, in a straight line, to a
            twentieth; None keeps it constant.
        train_share: Share of the windows that train; the others validate.
        epoch_updates: Updates after which an epoch ends, at the latest; None for all windows.
        min_epochs: Epochs before which learning does not stop.
        min_updates: Updates before which it does not.
        patience: Epochs in a row without a new best validation loss after which it stops.

    Raises:
        ValueError: A number is out of range.
    """

    batch_size: int = 50
    learning_rate: float = 1e-3
    decay_timesteps: int | None = None
    train_share: float = 0.7
    epoch_updates: int | None = None
    min_epochs: int = 50
    min_updates: int = 0
    patience: int = 3

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(
            1,
            batch_size=self.batch_size,
            decay_timesteps=self.decay_timesteps,
            epoch_updates=self.epoch_updates,
            patience=self.patience,
        )
        check_at_least(0, min_epochs=self.min_epochs, min_updates=self.min_updates)
        check_positive(learning_rate=self.learning_rate)
        check_share(train_share=self.train_share)

    def learning_rate_at(self, update: int) -> float:
        """The learning rate of the update with this number."""
        if self.decay_timesteps is None:
            return self.learning_rate
        return self.learning_rate * max(0.05, 1 - update / self.decay_timesteps)


def _no_windows() -> Tensor:
    return torch.zeros(0, dtype=torch.long)


@dataclass
class Epochs:
    """Where learning stands.

    Attributes:
        order: Windows that train, in the order of this epoch.
        held_out: Windows that validate.
        position: Windows of this epoch that are done.
        count: Epochs that are done.
        updates: Updates that are done.
        stale: Epochs in a row without a new best.
        validation_loss: Validation loss after the last epoch; None before the first is done.
        best_loss: The smallest validation loss so far.
    """

    order: Tensor = field(default_factory=_no_windows)
    held_out: Tensor = field(default_factory=_no_windows)
    position: int = 0
    count: int = 0
    updates: int = 0
    stale: int = 0
    validation_loss: float | None = None
    best_loss: float | None = None


class Supervised:
    """One network that learns by epochs and stops early.

    Args:
        network: What learns; already on its device.
        generator: Draws the split and the order of the windows.
        config: Batches, learning rate, and when to stop.

    Attributes:
        best: A copy of the network with the best validation loss so far.
    """

    parts: ClassVar[tuple[str, ...]] = ("network", "best", "optimizer", "epochs")

    def __init__(self, network: nn.Module, generator: torch.Generator, config: EpochConfig) -> None:
        self.network = network
        self.best = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        self.epochs = Epochs()
        self._generator, self._config = generator, config

    @property
    def current(self) -> nn.Module:
        """The best network, or the one that learns where no epoch is done yet."""
        return self.best if self.epochs.count else self.network

    @property
    def finished(self) -> bool:
        """Whether validation has stopped improving."""
        epochs, config = self.epochs, self._config
        enough = epochs.count >= config.min_epochs and epochs.updates >= config.min_updates
        return enough and epochs.stale >= config.patience

    def begin(self, num_windows: int, reset: bool) -> None:
        """Splits the windows, anew or where their number is another one."""
        epochs = self.epochs
        if reset or len(epochs.order) + len(epochs.held_out) != num_windows:
            shuffled = self._permutation(num_windows)
            train = max(1, round(self._config.train_share * num_windows))
            self.epochs = Epochs(shuffled[:train], shuffled[train:])

    def update(self, loss_of: Loss) -> Metrics:
        """Makes one gradient update; after the last one of an epoch, validates."""
        epochs, config = self.epochs, self._config
        if epochs.position == 0:
            epochs.order = epochs.order[self._permutation(len(epochs.order))]
        chosen = epochs.order[epochs.position : epochs.position + config.batch_size]
        set_learning_rate(self.optimizer, config.learning_rate_at(epochs.updates))
        loss = loss_of(self.network, chosen)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        epochs.updates += 1
        epochs.position += len(chosen)
        last = len(epochs.order)
        if config.epoch_updates is not None:
            last = min(last, config.epoch_updates * config.batch_size)
        if epochs.position >= last:
            self._end_epoch(loss_of)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def _end_epoch(self, loss_of: Loss) -> None:
        epochs = self.epochs
        epochs.position, epochs.count = 0, epochs.count + 1
        epochs.validation_loss = self._validation_loss(loss_of)
        if epochs.best_loss is None or epochs.validation_loss < epochs.best_loss:
            epochs.best_loss, epochs.stale = epochs.validation_loss, 0
            self.best.load_state_dict(self.network.state_dict())
        else:
            epochs.stale += 1

    def _validation_loss(self, loss_of: Loss) -> float:
        windows = self.epochs.held_out if len(self.epochs.held_out) else self.epochs.order
        chunks = windows.split(VALIDATION_CHUNK)
        total = sum(float(loss_of(self.network, chunk)) * len(chunk) for chunk in chunks)
        return total / len(windows)

    def _permutation(self, count: int) -> Tensor:
        device = self._generator.device
        return torch.randperm(count, generator=self._generator, device=device)
