"""The evidence lower bound and the losses beside it: pure functions of tensors.

    ELBO = sum_t [ log p(o_t | s_t) - KL(q_t || p_t) ],  mean over the batch, in nats

Zhang et al. 2023 (AIME), Sec. 3; balancing and free nats as in Hafner et al. 2021 (DreamerV2),
arXiv:2010.02193. Shapes: T time, B batch, S stoch, A action, E embedding; images are
[T, B, 3, H, W]. Every loss sums over dimensions and time and takes the mean over the batch, unless
it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from agents.distributions import Normal, normal_kl, normal_log_prob, tanh_log_prob
from agents.running import Metrics

PREDICTION_FLOOR = 0.05  # Least standard deviation in `prediction_loss`.
Reweighting = Literal["none", "dim_wise", "modality_wise"]
InverseDynamicsLoss = Literal["likelihood", "squared_error"]


def reconstruction_loss(
    predictions: Mapping[str, Normal],
    targets: Mapping[str, Tensor],
    reweighting: Reweighting,
    deviations: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Metrics]:
    """-sum over sensors, dimensions and t of w log p(o_t | s_t); w = sg(std), or 1 for "none".

    Args:
        predictions: Sensor -> decoded normal [T, B, n].
        targets: Sensor -> what was seen [T, B, n].
        reweighting: Other than "none" weights each dimension with its own standard deviation.
        deviations: Sensor -> the deviations [n] in which it is standardised, if it is. The loss
            acts in these; metrics are converted to the sensor's own units.

    Returns:
        The loss, and per sensor ``_mse`` (mean over all elements), ``_rec_term`` (unweighted
        log-likelihood, nats) and ``_reconstruction_loss`` (where weighted); ``rec_term`` in all.
    """
    loss, rec_term, metrics = torch.zeros(()), torch.zeros(()), Metrics()
    for name, predicted in predictions.items():
        log_prob = normal_log_prob(targets[name], predicted)
        term = _sum_mean(log_prob)
        sensor_loss = -term
        if reweighting != "none":
            sensor_loss = -_sum_mean(log_prob * predicted.std.detach())
            metrics[f"{name}_reconstruction_loss"] = sensor_loss.detach()
        loss = loss.to(term) + sensor_loss
        error = predicted.mean.detach() - targets[name]
        term, error = _in_own_units(term.detach(), error, (deviations or {}).get(name))
        rec_term = rec_term.to(term) + term
        metrics[f"{name}_mse"] = error.square().mean()
        metrics[f"{name}_rec_term"] = term
    metrics["rec_term"] = rec_term
    return loss, metrics


def kl_weight(predictions: Mapping[str, Normal], reweighting: Reweighting) -> Tensor:
    """What the KL of each step is multiplied with [T, B] (or []), so that it suits the likelihood.

    "dim_wise": the mean of all standard deviations; "modality_wise": the average over sensors of
    each one's mean; "none": one. Without gradient.
    """
    if reweighting == "none":
        return torch.ones(())
    stds = [predicted.std.detach().flatten(2) for predicted in predictions.values()]
    means = torch.stack([std.mean(dim=-1) for std in stds])  # [sensors, T, B]
    if reweighting == "modality_wise":
        return means.mean(dim=0)
    sizes = torch.stack([means.new_full((), std.shape[-1]) for std in stds])  # Made on the device.
    return torch.einsum("n,ntb->tb", sizes / sizes.sum(), means)


def kl_loss(
    posterior: Normal,
    prior: Normal,
    weight: Tensor,
    free_nats: float = 0.0,
    balance: float | None = None,
) -> tuple[Tensor, Metrics]:
    """Weighted sum over t of KL(q_t || p_t).

    Args:
        posterior: q, [T, B, S].
        prior: p, [T, B, S].
        weight: From `kl_weight`.
        free_nats: Below this, the KL of a step, summed over S, has no gradient.
        balance: The share of the gradient that trains the prior,
            b KL(sg(q) || p) + (1 - b) KL(q || sg(p)); None for the plain KL. The value is the same.

    Returns:
        The loss, and ``kl_term`` (unweighted, negative, nats) and ``kl_loss``.
    """
    if balance is None:
        kl = normal_kl(posterior, prior).sum(dim=-1)
    else:
        to_prior = normal_kl(posterior.detach(), prior).sum(dim=-1)
        to_posterior = normal_kl(posterior, prior.detach()).sum(dim=-1)
        kl = balance * to_prior + (1 - balance) * to_posterior
    term = -_sum_mean(kl.detach())
    if free_nats > 0:
        kl = torch.where(kl > free_nats, kl, kl.detach())
    loss = _sum_mean(kl * weight)
    return loss, {"kl_term": term, "kl_loss": loss.detach()}


def prediction_loss(
    expected: Mapping[str, Tensor], predictions: Mapping[str, Normal], targets: Mapping[str, Tensor]
) -> tuple[Tensor, Metrics]:
    """Squared errors of what the prior expects, over t >= 1, each divided by twice its std.

    This is a likelihood, weighted as in `reconstruction_loss`, whose standard deviations are those
    of the decoder at the posterior. It trains the dynamics on the sensors themselves, beside the
    KL, which trains them on a posterior that is itself still to be learnt.

    Args:
        expected: Sensor -> decoded mean of the prior's mean [T-1, B, n].
        predictions: Sensor -> what is decoded from the posterior [T, B, n]; its std is detached.
        targets: Sensor -> what was seen [T, B, n].

    Returns:
        The loss, and ``prediction_loss``.
    """
    loss = torch.zeros(())
    for name, mean in expected.items():
        std = predictions[name].std[1:].detach().clamp(min=PREDICTION_FLOOR)
        term = _sum_mean((mean - targets[name][1:]).square() / (2 * std))
        loss = loss.to(term) + term
    return loss, {"prediction_loss": loss.detach()}


def probe_loss(
    predictions: Mapping[str, Normal],
    targets: Mapping[str, Tensor],
    deviations: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood of hidden sensors over t >= 1; never weighted.

    Arguments and metrics as for `reconstruction_loss`.
    """
    loss, metrics = torch.zeros(()), Metrics()
    for name, predicted in predictions.items():
        mean, target = predicted.mean[1:], targets[name][1:]
        term = -_sum_mean(normal_log_prob(target, Normal(mean, predicted.std[1:])))
        loss = loss.to(term) + term
        own, error = _in_own_units(
            -term.detach(), mean.detach() - target, (deviations or {}).get(name)
        )
        metrics[f"{name}_probe_mse"] = error.square().mean()
        metrics[f"{name}_probe_reconstruction_loss"] = -own
    return loss, metrics


def inverse_dynamics_loss(
    predicted: Normal, prev_actions: Tensor, kind: InverseDynamicsLoss = "likelihood"
) -> tuple[Tensor, Metrics]:
    """What trains inverse dynamics, for t >= 1 [T-1, B, A]: MEAN over time, SUM over the batch.

        likelihood       -log p(a_{t-1} | s_{t-1}, e_t), the reference's
        squared_error    ||tanh(mean) - a_{t-1}||^2 trains the mean, the likelihood the std alone

    The reduction is the reference's. It counts in the clipped gradient norm, so it matters.
    """
    squared = (torch.tanh(predicted.mean) - prev_actions).square()
    if kind == "squared_error":
        predicted = Normal(predicted.mean.detach(), predicted.std)
    loss = -tanh_log_prob(prev_actions, predicted).sum(dim=-1).mean(dim=0).sum()
    if kind == "squared_error":
        loss = loss + squared.sum(dim=-1).mean(dim=0).sum()
    return loss, {"idm_loss": loss.detach(), "idm_mse": squared.detach().mean()}


def disagreement_loss(predicted: list[Tensor], embeds: Tensor) -> tuple[Tensor, Metrics]:
    """Sum over an ensemble of the mean squared error of e_t [T-1, B, E], t >= 1.

    Sekar et al. 2020 (Plan2Explore), arXiv:2005.05960: where its members disagree, a model has
    something to learn.
    """
    loss = torch.stack([(head - embeds).square().mean() for head in predicted]).sum()
    return loss, {"emb_prediction_loss": loss.detach()}


def action_kl_loss(guide: Normal, policy: Normal) -> tuple[Tensor, Metrics]:
    """Sum over t and action dimensions of KL(guide || policy) [T, B, A]."""
    loss = _sum_mean(normal_kl(guide, policy))
    return loss, {"action_kl_loss": loss.detach()}


def action_prior_loss(policy: Normal, explained: Normal) -> tuple[Tensor, Metrics]:
    """Sum over t and action dimensions of the squared difference of two modes [T, B, A].

    The modes are actions, tanh of the means. Beneath the tanh, as in a KL, differences between
    actions at the limits would count most, where least depends on them.
    """
    loss = _sum_mean((torch.tanh(policy.mean) - torch.tanh(explained.mean)).square())
    return loss, {"action_prior_loss": loss.detach()}


def _in_own_units(term: Tensor, error: Tensor, deviation: Tensor | None) -> tuple[Tensor, Tensor]:
    """A log-likelihood [] and errors [T, B, n] of standardised values, in the values' own units.

    log p(o) = log p((o - mean) / deviation) - log deviation, for each t and dimension.
    """
    if deviation is None:
        return term, error
    return term - len(error) * deviation.log().sum(), error * deviation


def _sum_mean(values: Tensor) -> Tensor:
    """Sum over time and dimensions, mean over the batch [T, B, ..] -> []."""
    return values.sum() / values.shape[1]
