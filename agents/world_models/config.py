"""Configuration of a world model: its networks and losses, and its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agents.checks import check_at_least, check_numbers, check_positive, check_share
from agents.nets import MLPConfig
from agents.world_models.losses import InverseDynamicsLoss, Reweighting

DecoderKind = Literal["mean", "mean_std", "constant_std"]
CellKind = Literal["residual", "rssm", "rssmo"]


@dataclass(frozen=True)
class WorldModelConfig:
    """Networks and losses of a world model; the defaults are AIME's RSSM on standardised sensors.

    Attributes:
        cell: The recurrent cell: residual, rssm or rssmo; see `rssm`.
        deter_dim: Size of the memory; the deterministic state, except that a residual cell's has
            stoch_dim more.
        stoch_dim: Size of the stochastic state.
        hidden_dim: Width of the cell's networks.
        min_std: Floor of the standard deviations of prior and posterior.
        encoder: Network on the vector sensors; without hidden layers, they pass unchanged.
        decoder: Networks which decode the vector sensors and the reward.
        decoder_kind: What the decoders give: a mean (variance one), mean and std, or a constant
            std.
        probe: Networks which read hidden sensors from the states, without training these.
        image_width: Channels of the image encoder's first convolution.
        reward: Whether the reward is decoded, too.
        reward_net: Network which decodes the reward with variance one, so that its loss is the
            squared error; without hidden layers, the reward is decoded as the sensors are.
        idm: Inverse dynamics: none, detach (states stay untrained) or end2end.
        idm_net: Networks of inverse dynamics, one for means and one for standard deviations; None
            for two layers of hidden_dim.
        idm_sees_both: Whether inverse dynamics sees the observation before the action, which the
            state before holds with less precision, and how the one after differs from it, in
            standard deviations of such changes; if not, it sees the one after alone.
        idm_sees_state: Whether inverse dynamics sees the state before the action. Where what is
            observed tells all, as in mdp setups, it may do without; alone, it then learns from
            windows of two rows, which need no filtering.
        idm_std_dim: Width of the only hidden layer for its standard deviations; None for a network
            like that for means.
        idm_loss: What trains its means: their likelihood beneath the tanh, or their squared error
            as actions. The former is ruled by actions near the limits, where little depends on it.
        num_ensembles: Members of the ensemble for exploration by disagreement.
        ensemble_dim: Width of the ensemble's networks.
        standardize: Whether the vector sensors are standardised, with means and deviations of the
            embodiment data; losses and unit variances then act in standard deviations.
        reweighting: Weighting of likelihood and KL by standard deviations; see `losses`.
        kl_scale: Factor of the KL.
        free_nats: KL of a step below which it has no gradient, nats.
        kl_balance: The prior's share of the KL's gradient; None for the plain KL.
        prediction_scale: Factor of the loss of one-step predictions of the vector sensors.
    """

    cell: CellKind = "rssm"
    deter_dim: int = 512
    stoch_dim: int = 128
    hidden_dim: int = 128
    min_std: float = 1e-6
    encoder: MLPConfig = field(default_factory=lambda: MLPConfig(hidden_layers=0))
    decoder: MLPConfig = field(default_factory=MLPConfig)
    decoder_kind: DecoderKind = "mean_std"
    probe: MLPConfig = field(default_factory=MLPConfig)
    image_width: int = 32
    reward: bool = False
    reward_net: MLPConfig = field(default_factory=lambda: MLPConfig(hidden_layers=0))
    idm: Literal["none", "detach", "end2end"] = "detach"
    idm_net: MLPConfig | None = None
    idm_sees_both: bool = False
    idm_sees_state: bool = True
    idm_std_dim: int | None = None
    idm_loss: InverseDynamicsLoss = "likelihood"
    num_ensembles: int = 0
    ensemble_dim: int = 1024
    standardize: bool = True
    reweighting: Reweighting = "dim_wise"
    kl_scale: float = 1.0
    free_nats: float = 0.0
    kl_balance: float | None = None
    prediction_scale: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(
            1,
            deter_dim=self.deter_dim,
            stoch_dim=self.stoch_dim,
            hidden_dim=self.hidden_dim,
            image_width=self.image_width,
            ensemble_dim=self.ensemble_dim,
            idm_std_dim=self.idm_std_dim,
        )
        check_at_least(
            0,
            min_std=self.min_std,
            num_ensembles=self.num_ensembles,
            kl_scale=self.kl_scale,
            free_nats=self.free_nats,
            prediction_scale=self.prediction_scale,
        )
        check_share(kl_balance=self.kl_balance)
        layer_norm = self.idm_net is not None and self.idm_net.layer_norm
        if self.idm_sees_state and (layer_norm or self.idm_std_dim is not None):
            raise ValueError(
                "Inverse dynamics with an idm_std_dim or layer norm needs idm_sees_state=False."
            )

    @classmethod
    def residual(cls) -> WorldModelConfig:
        """A model that learns a body's physics in minutes on a CPU, of any body and setup."""
        return cls(
            cell="residual",
            deter_dim=256,
            stoch_dim=64,
            hidden_dim=256,
            decoder=MLPConfig(256, 1, "swish", layer_norm=True, skip=True),
            prediction_scale=4.0,
            **_LAPTOP_IDM,
        )

    @classmethod
    def rssmo(cls) -> WorldModelConfig:
        """AIME's RSSMO, used for the cheetah."""
        wide = MLPConfig(512, 2, "swish", layer_norm=True)
        return cls(
            cell="rssmo",
            stoch_dim=30,
            hidden_dim=512,
            min_std=0.1,
            encoder=wide,
            decoder=wide,
            decoder_kind="mean",
            probe=wide,
            reweighting="none",
            free_nats=1.0,
            kl_balance=0.8,
        )

    @classmethod
    def paper(cls, body: str) -> WorldModelConfig:
        """The published one, on sensors as they are: RSSM for the walker, RSSMO for the others."""
        return replace(cls() if body == "walker" else cls.rssmo(), standardize=False)

    @classmethod
    def of_cell(cls, cell: CellKind) -> WorldModelConfig:
        """The configuration of a cell, on standardised sensors, with the same inverse dynamics."""
        made: dict[CellKind, Callable[[], WorldModelConfig]] = {
            "residual": cls.residual, "rssm": cls, "rssmo": cls.rssmo
        }  # fmt: skip
        return replace(made[cell](), **_LAPTOP_IDM)

    def narrow(self, width: int = 16) -> WorldModelConfig:
        """The same kind of model with every layer narrowed: for tests and first tries."""

        def narrowed(mlp: MLPConfig) -> MLPConfig:
            return replace(mlp, hidden_dim=width)

        own = self.reward_net
        return replace(
            self,
            deter_dim=2 * width,
            stoch_dim=width // 2,
            hidden_dim=width,
            encoder=narrowed(self.encoder),
            decoder=narrowed(self.decoder),
            probe=narrowed(self.probe),
            reward_net=narrowed(own) if own.hidden_layers else own,
            idm_net=self.idm_net and narrowed(self.idm_net),
            idm_std_dim=self.idm_std_dim and width,
            image_width=4,
            ensemble_dim=width,
        )


_LAPTOP_IDM: dict[str, Any] = {
    "idm_net": MLPConfig(512, 2, "swish"),
    "idm_sees_both": True,
    "idm_loss": "squared_error",
}


@dataclass(frozen=True)
class TrainingConfig:
    """Windows and optimiser of phase 1; the defaults suit two cores, `paper` is the published.

    Attributes:
        sequence_length: Rows of a window.
        batch_size: Windows per update.
        learning_rate: Adam's learning rate.
        grad_clip: Largest norm of the gradient.
        decay_timesteps: Updates over which the learning rate falls, in a straight line, to a
            hundredth; None keeps it constant.
        burn_ins: Rows that are filtered before the windows, without gradient, so that these start
            from a state as a long trajectory has it and not always from zero; updates take these
            numbers in turn. Those for which no trajectory is long enough are passed over.
        only_idm: Whether inverse dynamics learns alone, and everything else stays as it is: for a
            pretrained model, whose head may also be of another kind.
        held_out_share: Share of the trajectories that the model does not learn from; its one-step
            error on them is logged.
    """

    sequence_length: int = 32
    batch_size: int = 25
    learning_rate: float = 4e-3
    grad_clip: float = 100.0
    decay_timesteps: int | None = 20_000
    burn_ins: tuple[int, ...] = (0, 0, 64, 0, 0, 192)
    only_idm: bool = False
    held_out_share: float = 0.05

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(2, sequence_length=self.sequence_length)
        check_at_least(1, batch_size=self.batch_size, decay_timesteps=self.decay_timesteps)
        check_positive(learning_rate=self.learning_rate, grad_clip=self.grad_clip)
        check_share(held_out_share=self.held_out_share)
        if not self.burn_ins or min(self.burn_ins) < 0:
            raise ValueError(f"burn_ins are numbers of rows, at least one, not {self.burn_ins}.")

    @classmethod
    def paper(cls) -> TrainingConfig:
        """The published settings: 100,000 updates of 50 windows of 50 rows, at a constant rate."""
        return cls(50, 50, 3e-4, decay_timesteps=None, burn_ins=(0,), held_out_share=0.0)

    def learning_rate_at(self, timestep: int) -> float:
        """The learning rate of the update with this number."""
        if self.decay_timesteps is None:
            return self.learning_rate
        return self.learning_rate * max(0.01, 1 - timestep / self.decay_timesteps)
