"""Supervised learning by shuffled epochs, with early stopping, and stacks of observations.

BC learns this way, and so do the stages of BCO and IIDM (Zhang et al. 2023, appendix): a share of
the windows trains, the others validate, and the weights with the best validation loss are kept.
Shapes: B batch, k stacked observations, E embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.nets import ImageEncoder, scale_images
from agents.running import Metrics
from agents.spaces import EnvInfo
from aime_gym.trajectory import IMAGE, IMAGE_SHAPE

VALIDATION_CHUNK = 1_000  # Windows at a time.
Loss = Callable[[nn.Module, Tensor], Tensor]
"""(network, numbers of windows [B]) -> mean loss over these windows []."""


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
        stale: Epochs in a row without a new best.
        validation_loss: Validation loss after the last epoch; None before the first is done.
        best_loss: The smallest validation loss so far.
    """

    order: Tensor = field(default_factory=_no_windows)
    held_out: Tensor = field(default_factory=_no_windows)
    position: int = 0
    count: int = 0
    stale: int = 0
    validation_loss: float | None = None
    best_loss: float | None = None


class Supervised:
    """One network that learns by epochs and stops early.

    Args:
        network: What learns; already on its device.
        generator: Draws the split and the order of the windows.
        learning_rate: Adam's learning rate.
        batch_size: Windows per update.
        train_share: Share of the windows that train.
        min_epochs: Epochs before which it is not finished.
        patience: Epochs in a row without a new best after which it is.

    Attributes:
        best: A copy of the network with the best validation loss so far.
    """

    parts: ClassVar[tuple[str, ...]] = ("network", "best", "optimizer", "epochs")

    def __init__(
        self,
        network: nn.Module,
        generator: torch.Generator,
        *,
        learning_rate: float,
        batch_size: int,
        train_share: float,
        min_epochs: int,
        patience: int,
    ) -> None:
        self.network = network
        self.best = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        self.epochs = Epochs()
        self._generator, self._batch_size, self._train_share = generator, batch_size, train_share
        self._min_epochs, self._patience = min_epochs, patience

    @property
    def current(self) -> nn.Module:
        """The best network, or the one that learns where no epoch is done yet."""
        return self.best if self.epochs.count else self.network

    @property
    def finished(self) -> bool:
        """Whether validation has stopped improving."""
        epochs = self.epochs
        return epochs.count >= self._min_epochs and epochs.stale >= self._patience

    def begin(self, num_windows: int, reset: bool) -> None:
        """Splits the windows, anew or where their number is another one."""
        epochs = self.epochs
        if reset or len(epochs.order) + len(epochs.held_out) != num_windows:
            shuffled = self._permutation(num_windows)
            train = max(1, round(self._train_share * num_windows))
            self.epochs = Epochs(shuffled[:train], shuffled[train:])

    def update(self, loss_of: Loss) -> Metrics:
        """Makes one gradient update; after the last one of an epoch, validates."""
        epochs = self.epochs
        if epochs.position == 0:
            epochs.order = epochs.order[self._permutation(len(epochs.order))]
        chosen = epochs.order[epochs.position : epochs.position + self._batch_size]
        loss = loss_of(self.network, chosen)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        epochs.position += len(chosen)
        if epochs.position == len(epochs.order):
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


# Stacks of observations


class ObservationEncoder(nn.Module):
    """Sensor -> [.., n] to embeddings [.., E]: vectors joined in order, images by convolutions.

    Raises:
        ValueError: Images are of another shape than 64 x 64.
    """

    def __init__(self, info: EnvInfo, image_width: int = 32) -> None:
        super().__init__()
        shape = info.observation_space.shape
        if info.image and shape != IMAGE_SHAPE:
            raise ValueError(
                f"A policy sees images of shape {IMAGE_SHAPE}; {info} has {shape}. "
                "gymnasium.wrappers.ResizeObservation resizes."
            )
        self._sensors = info.names
        self.image_net = ImageEncoder(image_width) if info.image else None
        self.embed_dim = 32 * image_width if info.image else sum(info.visible.values())

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Sensor -> [.., n] to [.., E]."""
        if self.image_net is not None:
            embeds: Tensor = self.image_net(scale_images(observations[IMAGE]))
            return embeds
        return torch.cat([observations[name] for name in self._sensors], dim=-1)


def default_stack(info: EnvInfo) -> int:
    """Observations that suffice to act: one where velocities are seen, else five, as in AIME."""
    return 1 if info.setup == "mdp" else 5


def initial_stack(
    batch: int, stack: int, embed_dim: int, device: torch.device
) -> tuple[Tensor, ...]:
    """The state of `push` at an episode's start; empty for a stack of one."""
    if stack == 1:
        return ()
    seen = torch.zeros(batch, stack, embed_dim, device=device)
    return seen, torch.zeros(batch, 1, dtype=torch.bool, device=device)


def push(embed: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Adds an embedding [B, E] to a stack, oldest first; the first one is repeated.

    Returns:
        The stack [B, k, E], and the next state.
    """
    if not state:
        return embed[:, None], ()
    seen, started = state
    newest = embed[:, None]
    later = torch.cat([seen[:, 1:], newest], dim=1)
    seen = torch.where(started[..., None], later, newest.expand_as(seen))
    return seen, (seen, torch.ones_like(started))
