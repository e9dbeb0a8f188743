"""Behavioural cloning: supervised learning of the demonstrator's actions.

    min over the policy of  mean || policy(o_{t-k+1}, .., o_t) - a_t ||^2

The baseline that sees what AIME does not: the actions. Pomerleau 1989; the protocol is that of
AIME's baselines (Zhang et al. 2023, appendix): 70% of the windows train, the others validate, and
the weights with the best validation loss are kept.
Shapes: B batch, k stacked observations, E embedding, A action.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.base import Agent, Metrics
from agents.env_info import EnvInfo, Environment
from agents.nets import MLP, ImageEncoder, MLPConfig
from agents.windows import Batch, Rows, Windows, fit_dataset
from agents.world_models.world_model import scale_images
from aime_gym.datasets import Dataset
from aime_gym.trajectory import IMAGE

VALIDATION_CHUNK = 1_000


@dataclass(frozen=True)
class BCConfig:
    """Behavioural cloning; the defaults are the paper's.

    Attributes:
        stack: Observations that the policy sees; None for 1 in the mdp setup, else 5.
        num_demonstrations: The first so many demonstrations are used.
        batch_size: Windows of an update.
        learning_rate: Of Adam.
        train_share: Share of the windows that train.
        min_epochs: Epochs before which learning does not stop.
        patience: Epochs in a row without a new best after which it stops.
        policy: The policy's network.
        image_width: Channels of the image encoder's first convolution.
    """

    stack: int | None = None
    num_demonstrations: int = 100
    batch_size: int = 50
    learning_rate: float = 1e-3
    train_share: float = 0.7
    min_epochs: int = 50
    patience: int = 3
    policy: MLPConfig = dataclasses.field(default_factory=MLPConfig)
    image_width: int = 32


class StackPolicy(nn.Module):
    """The last k observations, each encoded and joined oldest first -> action in -1 .. 1."""

    def __init__(self, info: EnvInfo, stack: int, config: BCConfig) -> None:
        super().__init__()
        self._sensors = info.visible
        if info.setup == "visual":
            self.encoder: ImageEncoder | None = ImageEncoder(config.image_width)
            self.embed_dim = self.encoder.embed_dim
        else:
            self.encoder = None
            self.embed_dim = sum(info.layout.visible.values())
        self.net = MLP(stack * self.embed_dim, len(info.action_low), config.policy)

    def embed(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Sensor -> [.., n] to [.., E]."""
        if self.encoder is not None:
            embeds: Tensor = self.encoder(scale_images(observations[IMAGE]))
            return embeds
        return torch.cat([observations[name] for name in self._sensors], dim=-1)

    def forward(self, embeds: Tensor) -> Tensor:
        """[B, k, E] -> actions in -1 .. 1 [B, A]."""
        return torch.tanh(self.net(embeds.flatten(1)))


def cloning_loss(policy: StackPolicy, batch: Batch) -> Tensor:
    """Mean squared error of the actions in windows of k + 1 rows.

    The first k rows are seen; what led to the last one is the action to be taken.
    """
    assert batch.prev_actions is not None
    seen = {name: rows[:-1] for name, rows in batch.observations.items()}  # [k, B, ..]
    predicted = policy(policy.embed(seen).transpose(0, 1))
    return functional.mse_loss(predicted, batch.prev_actions[-1])


class BCAgent(Agent):
    """Clones a demonstrator's actions.

    Args:
        env: An AIME id, environment or VecEnv.
        config: None for the paper's.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Example:
        >>> BCAgent("AIME/walker-run-mdp").learn(demos)  # doctest: +SKIP
    """

    def __init__(
        self, env: Environment | EnvInfo, config: BCConfig | None = None, **common: Any
    ) -> None:
        self.config = config or BCConfig()
        super().__init__(env, **common)
        self._epoch = _Epoch()

    @property
    def stack(self) -> int:
        """Observations that the policy sees, k."""
        if self.config.stack is not None:
            return self.config.stack
        return 1 if self.env_info.setup == "mdp" else 5

    def _build(self) -> nn.Module:
        self.policy = StackPolicy(self.env_info, self.stack, self.config)
        self.best_policy = copy.deepcopy(self.policy).requires_grad_(False)
        return nn.ModuleDict({"policy": self.policy, "best_policy": self.best_policy})

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.policy.parameters(), lr=self.config.learning_rate)

    # Learning

    def _prepare(self, dataset: Dataset, progress_bar: bool) -> None:
        dataset = dataset[: self.config.num_demonstrations]
        info, length = self.env_info, self.stack + 1
        dataset = fit_dataset(dataset, info, info.layout.visible, length, True, progress_bar)
        rows = Rows(dataset, info.visible, actions=True, device=self.device)
        rows.scale_actions(info)
        self._windows = Windows(rows, length)

    def _begin(self, reset: bool) -> None:
        epoch = self._epoch
        if reset or len(epoch.order) + len(epoch.held_out) != len(self._windows):
            shuffled = self._permutation(len(self._windows))
            train = max(1, round(self.config.train_share * len(shuffled)))
            self._epoch = _Epoch(shuffled[:train], shuffled[train:])

    def _permutation(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self._generator, device=self.device)

    def _update(self) -> Metrics:
        epoch = self._epoch
        if epoch.position == 0:
            epoch.order = epoch.order[self._permutation(len(epoch.order))]
        chosen = epoch.order[epoch.position : epoch.position + self.config.batch_size]
        loss = cloning_loss(self.policy, self._windows.gather(chosen))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        epoch.position += len(chosen)
        metrics = {"loss": loss.detach()}
        if epoch.position == len(epoch.order):
            self._end_epoch()
        return metrics

    @torch.no_grad()
    def _end_epoch(self) -> None:
        epoch = self._epoch
        epoch.position, epoch.count = 0, epoch.count + 1
        epoch.validation_loss = self._validation_loss()
        if epoch.validation_loss < epoch.best_loss:
            epoch.best_loss, epoch.stale = epoch.validation_loss, 0
            self.best_policy.load_state_dict(self.policy.state_dict())
        else:
            epoch.stale += 1

    def _log(self) -> None:
        self.logger.record("train/epoch", self._epoch.count)
        if self._epoch.count:
            self.logger.record("train/validation_loss", self._epoch.validation_loss)
        super()._log()

    def _validation_loss(self) -> float:
        chunks = (self._epoch.held_out if len(self._epoch.held_out) else self._epoch.order).split(
            VALIDATION_CHUNK
        )
        losses = [
            float(cloning_loss(self.policy, self._windows.gather(c))) * len(c) for c in chunks
        ]
        return sum(losses) / sum(len(c) for c in chunks)

    def _finished(self) -> bool:
        epoch = self._epoch
        return epoch.count >= self.config.min_epochs and epoch.stale >= self.config.patience

    # Acting

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        if self.stack == 1:
            return ()
        seen = torch.zeros(batch, self.stack, self.policy.embed_dim, device=self.device)
        return seen, torch.zeros(batch, 1, dtype=torch.bool, device=self.device)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        policy = self.best_policy if self._epoch.count else self.policy
        embed = policy.embed(observations)[:, None]  # [B, 1, E]
        if not state:
            return policy(embed), ()
        seen, started = state
        repeated = embed.expand(-1, self.stack, -1)
        seen = torch.where(started[..., None], torch.cat([seen[:, 1:], embed], dim=1), repeated)
        return policy(seen), (seen, torch.ones_like(started))

    # Archives

    def _config(self) -> dict[str, Any]:
        return {"config": dataclasses.asdict(self.config), "epochs": self._epoch.count}

    @classmethod
    def _from_config(cls, config: dict[str, Any], **common: Any) -> Self:
        values = dict(config["config"])
        values["policy"] = MLPConfig(**values["policy"])
        agent = cls(common.pop("env"), BCConfig(**values), **common)
        agent._epoch.count = config["epochs"]
        return agent

    def _counters(self) -> dict[str, Any]:
        scalars = dataclasses.asdict(self._epoch)
        return {name: value for name, value in scalars.items() if not isinstance(value, Tensor)}

    def _training_tensors(self) -> dict[str, Tensor]:
        return {"order": self._epoch.order, "held_out": self._epoch.held_out}

    def _restore_training(self, counters: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
        names = [field.name for field in dataclasses.fields(_Epoch)]
        scalars = {name: counters[name] for name in names if name in counters}
        order, held_out = tensors["order"].to(self.device), tensors["held_out"].to(self.device)
        self._epoch = _Epoch(order, held_out, **scalars)


@dataclass
class _Epoch:
    """Where learning stands.

    Attributes:
        order: Windows that train, in the order of this epoch.
        held_out: Windows that validate.
        position: Windows of this epoch behind us.
        count: Epochs behind us.
        stale: Epochs in a row without a new best.
        validation_loss: After the last epoch.
        best_loss: The smallest of these.
    """

    order: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    held_out: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    position: int = 0
    count: int = 0
    stale: int = 0
    validation_loss: float = math.inf
    best_loss: float = math.inf
