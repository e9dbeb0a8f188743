"""World models written in AIME's published layout: a folder with ``config.yaml`` and ``model.pt``.

That layout has no standardised sensors, so means m and deviations s are folded into the layers
beside the sensors, in double precision:

    inputs     W (x - m) / s + b = (W / s) x + (b - W m / s)
    outputs    m + s (W f + b)   = (s W) f + (m + s b)

States, predictions, probes and inverse dynamics are then the same. What the layout cannot say of a
standardised model are the decoders' deviations: a deviation softplus(r) becomes softplus(r + log s)
where s softplus(r) is meant, which is nearly the same where both are small (walker-mix-mdp: up to
2% apart for directions and heights, velocities' up to a quarter too small); and decoders of means
alone have variance one, now in the sensors' own units.
"""

from __future__ import annotations

import dataclasses
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from agents.nets import MIN_STD, MLP, ConstantStdDecoder, MeanDecoder, MeanStdDecoder, MLPConfig
from agents.parts import load_weights
from agents.world_models.config import WorldModelConfig
from agents.world_models.network import WorldModelNet
from agents.world_models.published import CELL_KINDS, DECODER_KINDS
from agents.world_models.world_model import IDM, WorldModel
from aime_gym.catalogue import PUBLISHED_CONFIG, PUBLISHED_WEIGHTS
from aime_gym.envs.dm_control.setups import get_body
from aime_gym.files import atomic_write, check_new_folder, new_folder
from aime_gym.ids import find_env_id
from aime_gym.trajectory import IMAGE

STANDARDIZERS = "standardizers."


class _WithoutAliases(yaml.SafeDumper):  # type: ignore[misc]
    """Repeats what occurs more than once, as other readers expect it."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether to repeat: always."""
        return True


def write_published(model: WorldModel, folder: Path) -> None:
    """Writes a world model in the published layout, which `WorldModel.load` reads, too.

    Inverse dynamics that sees the observation before the action, or whose networks have another
    size than the cell's, is left out: the layout has no place for it.

    Args:
        model: An RSSM or RSSMO of one of this package's environments.
        folder: A new folder.

    Raises:
        ValueError: The layout has no place for the model; the message says for what of it.
        FileExistsError: The folder is not empty.
    """
    check_new_folder(folder)
    config = _published_config(model)
    left_out = () if _has_place_for_idm(model.config) else (IDM,)
    weights = {
        name.removeprefix("cell."): weight.float().cpu().contiguous()
        for name, weight in without_standardization(model.net).state_dict().items()
        if not name.startswith(left_out)
    }
    with new_folder(folder) as part:
        with atomic_write(part / PUBLISHED_WEIGHTS) as file:
            torch.save(weights, file)
        with atomic_write(part / PUBLISHED_CONFIG, "w") as file:
            yaml.dump(config, file, _WithoutAliases, sort_keys=False)


# Weights


@torch.no_grad()
def without_standardization(net: WorldModelNet) -> WorldModelNet:
    """The same model on sensors as they are, in double precision; see the module's docstring."""
    config = dataclasses.replace(net.config, standardize=False)
    with torch.random.fork_rng():
        plain = WorldModelNet(net.info, config).double()
    weights = {n: w for n, w in net.state_dict().items() if not n.startswith(STANDARDIZERS)}
    load_weights(plain, weights, "the world model")
    if net.standardizers and not net.info.image:
        _fold_embedding(plain, *_moments(net, list(net.info.visible)))
    for name, decoder in chain(plain.decoders.items(), plain.probes.items()):
        if name in net.standardizers:
            _fold_decoder(decoder, *_moments(net, [name]))
    return plain


def _moments(net: WorldModelNet, names: list[str]) -> tuple[Tensor, Tensor]:
    """Means and deviations of some sensors, joined, in double precision on the CPU [n]."""
    standardizers = [net.standardizers[name] for name in names]
    mean, std = (
        torch.cat([getattr(s, moment).double().cpu() for s in standardizers])
        for moment in ("mean", "std")
    )
    return mean, std


def _fold_embedding(net: WorldModelNet, mean: Tensor, std: Tensor) -> None:
    """Folds moments of the visible sensors [E] into what reads them and what predicts them."""
    if "tabular" in net.encoders:
        encoder = net.encoders["tabular"]
        assert isinstance(encoder, MLP)
        _fold_inputs(encoder, mean, std)
        return
    readers = list(net.cell.posterior_nets)
    if net.idm is not None and net.idm.changes is None:
        readers += [net.idm.mean_net, net.idm.std_net]
    for reader in readers:
        _fold_inputs(reader, mean, std)
    for head in net.emb_prediction_heads:
        assert isinstance(head, MLP)
        _fold_outputs(head, mean, std)


def _fold_decoder(decoder: nn.Module, mean: Tensor, std: Tensor) -> None:
    """Folds moments of a sensor [n] into its decoder or probe."""
    if isinstance(decoder, MeanDecoder):
        _fold_outputs(decoder.net, mean, std)
        return
    assert isinstance(decoder, MeanStdDecoder | ConstantStdDecoder)
    _fold_outputs(decoder.mu_net, mean, std)
    if isinstance(decoder, MeanStdDecoder):
        _last(decoder.std_net).bias.add_(std.log())
    else:
        exact = std * (decoder.log_std.exp() + MIN_STD) - MIN_STD
        decoder.log_std.copy_(exact.clamp(min=MIN_STD).log())


def _fold_inputs(mlp: MLP, mean: Tensor, std: Tensor) -> None:
    """The last inputs of a network [n] come as they are, instead of standardised."""
    layer = mlp.net[0]
    assert isinstance(layer, nn.Linear)
    columns = layer.weight[:, -len(mean) :] / std
    layer.bias.sub_(columns @ mean)
    layer.weight[:, -len(mean) :] = columns


def _fold_outputs(mlp: MLP, mean: Tensor, std: Tensor) -> None:
    """The outputs of a network [n] are in the sensor's own units, instead of standardised."""
    layer = _last(mlp)
    layer.weight.mul_(std[:, None])
    layer.bias.mul_(std).add_(mean)


def _last(mlp: MLP) -> nn.Linear:
    """A network's linear head."""
    layer = mlp.net[-1]
    assert isinstance(layer, nn.Linear)
    return layer


# Configuration


def _published_config(model: WorldModel) -> dict[str, Any]:
    """What ``config.yaml`` says, or a ValueError where the layout cannot say it."""
    info, config, training = model.env_info, model.config, model.training
    env_id = None if info.env_id is None else find_env_id(info.env_id)
    misfits = {
        f"a cell {config.cell!r} (it has {', '.join(CELL_KINDS)})": config.cell not in CELL_KINDS,
        "linear maps beside networks (skip)": any(
            mlp.skip for mlp in (config.encoder, config.decoder, config.probe)
        ),
        "a reward network of its own": config.reward and config.reward_net.hidden_layers > 0,
        f"{info}, which is no environment of this package": env_id is None,
    }
    found = [what for what, misfit in misfits.items() if misfit]
    if found or env_id is None:
        raise ValueError(f"The published layout has no place for {', nor for '.join(found)}.")
    return {
        "seed": model.seed,
        "horizon": training.sequence_length,
        "batch_size": training.batch_size,
        "model_lr": training.learning_rate,
        "grad_clip": training.grad_clip,
        "use_reward": config.reward,
        "environment_setup": info.setup,
        "world_model": _published_networks(model),
        "env": {
            "class": "dmc",
            "name": f"{env_id.body}-{env_id.task}",
            "embodiment": env_id.body,
            "task": env_id.task,
            "action_repeat": info.kwargs.get("action_repeat", get_body(env_id.body).action_repeat),
            "sensors": _published_sensors(model),
        },
    }


def _has_place_for_idm(config: WorldModelConfig) -> bool:
    """Whether the layout can hold a model's inverse dynamics."""
    usual = (None, MLPConfig(config.hidden_dim))
    sees_as_published = config.idm_sees_state and not config.idm_sees_both
    return sees_as_published and config.idm_net in usual and config.idm_std_dim is None


def _published_networks(model: WorldModel) -> dict[str, Any]:
    config = model.config
    kinds = {ours: theirs for theirs, ours in DECODER_KINDS.items()}
    reweighting = {"modality_wise": "modility_wise"}.get(config.reweighting, config.reweighting)
    image = {"name": "cnn_ha", "width": config.image_width}
    encoder: dict[str, Any] = {"name": "identity"}
    if config.encoder.hidden_layers:
        encoder = {"name": "mlp", **_published_mlp(config.encoder), "have_head": False}
    return {
        "name": config.cell,
        "state_dim": [config.deter_dim, config.stoch_dim],
        "hidden_size": config.hidden_dim,
        "hidden_layers": 2,
        "norm": "ln" if config.cell == "rssmo" else None,
        "nll_reweight": reweighting,
        "idm_mode": config.idm if _has_place_for_idm(config) else "none",
        "min_std": config.min_std,
        "kl_scale": config.kl_scale,
        "free_nats": config.free_nats,
        "kl_rebalance": config.kl_balance,
        "encoders": {"tabular": encoder, "visual": image},
        "decoders": {
            "tabular": {"name": kinds[config.decoder_kind], **_published_mlp(config.decoder)},
            "visual": image,
        },
        "probes": {"tabular": {"name": "dmlp", **_published_mlp(config.probe)}, "visual": image},
    }


def _published_mlp(mlp: MLPConfig) -> dict[str, Any]:
    return {
        "hidden_size": mlp.hidden_dim,
        "hidden_layers": mlp.hidden_layers,
        "hidden_activation": mlp.activation,
        "norm": "ln" if mlp.layer_norm else None,
    }


def _published_sensors(model: WorldModel) -> dict[str, dict[str, str]]:
    """The sensors in the model's order; those that it hides are of second order in lpomdp."""
    info = model.env_info
    body = get_body(info.body)
    orders = {sensor.name: sensor.order for sensor in body.sensors}
    sensors = {
        name: {"modility": "tabular", "order": orders.get(name, "first")}
        for name in (*info.visible, *info.hidden)
    }
    return {**sensors, IMAGE: {"modility": "visual", "order": "first"}}
