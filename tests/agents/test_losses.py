"""Cases computed by hand, for what the golden numbers do not cover."""

import math

import pytest
import torch

from agents.distributions import Normal
from agents.nets import ConstantStdDecoder, MLPConfig, unit_normal
from agents.world_models.losses import (
    action_kl_loss,
    action_prior_loss,
    disagreement_loss,
    inverse_dynamics_loss,
    kl_loss,
    kl_weight,
    prediction_loss,
    probe_loss,
    reconstruction_loss,
)

LOG_2_PI = math.log(2 * math.pi)


def full(value, *shape):
    return torch.full(shape, value, dtype=torch.float64)


@pytest.fixture
def predictions():
    """T = 2, B = 3; two sensors with stds 2 and 4 (three dimensions) and 0.5 (one)."""
    stds = torch.tensor([2.0, 4.0, 4.0], dtype=torch.float64).expand(2, 3, 3)
    return {
        "wide": Normal(full(0.0, 2, 3, 3), stds),
        "narrow": Normal(full(1.0, 2, 3, 1), full(0.5, 2, 3, 1)),
    }


def test_likelihood_sums_over_time_and_dimensions_and_averages_over_the_batch(predictions):
    targets = {"wide": full(4.0, 2, 3, 3), "narrow": full(1.5, 2, 3, 1)}
    wide = -0.5 * (4 + 1 + 1) - math.log(2) - 2 * math.log(4) - 1.5 * LOG_2_PI
    narrow = -0.5 * 1 - math.log(0.5) - 0.5 * LOG_2_PI
    loss, metrics = reconstruction_loss(predictions, targets, "none")
    assert loss.item() == pytest.approx(-2 * (wide + narrow))
    assert metrics["wide_rec_term"].item() == pytest.approx(2 * wide)
    assert metrics["rec_term"].item() == pytest.approx(2 * (wide + narrow))
    assert metrics["narrow_mse"].item() == 0.25
    assert "wide_reconstruction_loss" not in metrics


@pytest.mark.parametrize("reweighting", ["dim_wise", "modality_wise"])
def test_each_dimension_of_the_likelihood_is_weighted_with_its_std(predictions, reweighting):
    targets = {"wide": full(4.0, 2, 3, 3), "narrow": full(1.5, 2, 3, 1)}
    wide = 2 * (-0.5 * 4 - math.log(2) - 0.5 * LOG_2_PI)
    wide += 2 * 4 * (-0.5 * 1 - math.log(4) - 0.5 * LOG_2_PI)
    narrow = 0.5 * (-0.5 - math.log(0.5) - 0.5 * LOG_2_PI)
    loss, metrics = reconstruction_loss(predictions, targets, reweighting)
    assert metrics["wide_reconstruction_loss"].item() == pytest.approx(-2 * wide)
    assert loss.item() == pytest.approx(-2 * (wide + narrow))


def test_weights_of_the_divergence(predictions):
    """All stds: 2, 4, 4, 0.5. By sensor: 10 / 3 and 0.5."""
    assert kl_weight(predictions, "none").item() == 1
    by_dimension = kl_weight(predictions, "dim_wise")
    by_modality = kl_weight(predictions, "modality_wise")
    torch.testing.assert_close(by_dimension, full(10.5 / 4, 2, 3))
    torch.testing.assert_close(by_modality, full((10 / 3 + 0.5) / 2, 2, 3))


def test_a_unit_variance_counts_as_ones(predictions):
    predictions["image"] = unit_normal(full(0.0, 2, 3, 3, 4, 4))
    torch.testing.assert_close(
        kl_weight(predictions, "dim_wise"), full((10.5 + 48) / 52, 2, 3), check_dtype=False
    )
    torch.testing.assert_close(
        kl_weight(predictions, "modality_wise"), full((10 / 3 + 0.5 + 1) / 3, 2, 3)
    )


def test_weights_have_no_gradient():
    std = full(2.0, 1, 1, 1).requires_grad_()
    predicted = {"a": Normal(full(0.0, 1, 1, 1), std)}
    loss, _ = reconstruction_loss(predicted, {"a": full(2.0, 1, 1, 1)}, "dim_wise")
    loss.backward()
    # d/dstd of -2 (-(4 / std^2) / 2 - log std) at std = 2 is -2 (4 / 8 - 1 / 2) = 0.
    assert std.grad.item() == pytest.approx(0)
    assert not kl_weight(predicted, "dim_wise").requires_grad
    assert not kl_weight(predicted, "modality_wise").requires_grad


def states(means):
    """Posteriors with these means [T][B], S = 2, against standard normal priors."""
    mean = torch.tensor(means, dtype=torch.float64)[..., None].expand(-1, -1, 2).clone()
    prior = Normal(torch.zeros_like(mean).requires_grad_(), torch.ones_like(mean))
    return Normal(mean.requires_grad_(), torch.ones_like(mean)), prior


def test_divergence_is_weighted_by_step():
    posterior, prior = states([[1.0, 2.0], [3.0, 0.0]])
    weight = torch.tensor([[1.0, 10.0], [100.0, 1000.0]], dtype=torch.float64)
    loss, metrics = kl_loss(posterior, prior, weight)
    # KL of a step is the mean squared, as both dimensions have it.
    assert loss.item() == pytest.approx((1 * 1 + 10 * 4 + 100 * 9) / 2)
    assert metrics["kl_term"].item() == pytest.approx(-(1 + 4 + 9) / 2)
    assert metrics["kl_loss"].item() == loss.item()


def test_below_the_free_nats_the_value_stays_and_the_gradient_goes():
    posterior, prior = states([[1.0, 2.0], [3.0, 0.0]])
    loss, metrics = kl_loss(posterior, prior, torch.ones(()), free_nats=4.5)
    loss.backward()
    assert loss.item() == pytest.approx(7)
    assert metrics["kl_term"].item() == pytest.approx(-7)
    # d/dmean of mean^2 / 2 by dimension, over a batch of two.
    expected = torch.tensor([[0.0, 0.0], [1.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(posterior.mean.grad[..., 0], expected)
    torch.testing.assert_close(prior.mean.grad[..., 0], -expected)


def test_balance_splits_the_gradient_and_keeps_the_value():
    posterior, prior = states([[2.0]])
    plain, _ = kl_loss(posterior, prior, torch.ones(()))
    loss, metrics = kl_loss(posterior, prior, torch.ones(()), balance=0.8)
    loss.backward()
    assert loss.item() == pytest.approx(plain.item())
    assert metrics["kl_term"].item() == pytest.approx(-plain.item())
    torch.testing.assert_close(posterior.mean.grad.flatten(), full(0.2 * 2, 2))
    torch.testing.assert_close(prior.mean.grad.flatten(), full(0.8 * -2, 2))


def test_probes_leave_out_the_first_row_and_are_not_weighted():
    predicted = {"hidden": unit_normal(full(0.0, 3, 2, 2))}
    targets = {"hidden": full(1.0, 3, 2, 2)}
    targets["hidden"][0] = 100
    loss, metrics = probe_loss(predicted, targets)
    assert loss.item() == pytest.approx(2 * 2 * (0.5 + 0.5 * LOG_2_PI))
    assert metrics["hidden_probe_mse"].item() == 1
    assert metrics["hidden_probe_reconstruction_loss"].item() == pytest.approx(loss.item())


def test_predictions_are_weighted_by_the_decoders_std_which_has_no_gradient():
    predicted = {"a": Normal(full(0.0, 3, 2, 2), full(0.5, 3, 2, 2).requires_grad_())}
    targets = {"a": full(1.0, 3, 2, 2)}
    targets["a"][0] = 100  # No prediction.
    expected = {"a": full(0.0, 2, 2, 2).requires_grad_()}
    loss, metrics = prediction_loss(expected, predicted, targets)
    assert loss.item() == pytest.approx(2 * 2 * 1 / (2 * 0.5))
    assert metrics["prediction_loss"] == loss
    loss.backward()
    assert expected["a"].grad.any()
    assert predicted["a"].std.grad is None
    sharp = {"a": Normal(full(0.0, 3, 2, 2), full(1e-9, 3, 2, 2))}
    floored, _ = prediction_loss(expected, sharp, targets)
    assert floored.item() == pytest.approx(2 * 2 * 1 / (2 * 0.05))


def test_inverse_dynamics_averages_over_time_and_sums_over_the_batch():
    predicted = Normal(full(0.0, 4, 3, 2), full(1.0, 4, 3, 2))
    actions = full(0.5, 4, 3, 2)
    before = math.atanh(0.5)
    one = -0.5 * before**2 - 0.5 * LOG_2_PI - math.log(1 - 0.25)
    loss, metrics = inverse_dynamics_loss(predicted, actions)
    assert loss.item() == pytest.approx(-3 * 2 * one)
    assert metrics["idm_mse"].item() == 0.25


def test_squared_errors_train_the_mean_of_inverse_dynamics_and_the_likelihood_its_std():
    mean, std = full(0.2, 4, 3, 2).requires_grad_(), full(0.7, 4, 3, 2).requires_grad_()
    actions = full(0.5, 4, 3, 2)
    loss, metrics = inverse_dynamics_loss(Normal(mean, std), actions, "squared_error")
    loss.backward()
    error = math.tanh(0.2) - 0.5
    likelihood, _ = inverse_dynamics_loss(Normal(mean, std), actions)
    assert loss.item() == pytest.approx(likelihood.item() + 3 * 2 * error**2)
    slope = 2 * error * (1 - math.tanh(0.2) ** 2) / 4  # A mean over four steps.
    torch.testing.assert_close(mean.grad, full(slope, 4, 3, 2))
    distance = math.atanh(0.5) - 0.2
    torch.testing.assert_close(std.grad, full((1 / 0.7 - distance**2 / 0.7**3) / 4, 4, 3, 2))
    assert metrics["idm_mse"].item() == pytest.approx(error**2)


def test_disagreement_sums_over_the_ensemble():
    embeds = full(0.0, 2, 3, 4)
    loss, _ = disagreement_loss([full(1.0, 2, 3, 4), full(2.0, 2, 3, 4)], embeds)
    assert loss.item() == 1 + 4


def test_the_divergence_of_actions_sums_over_time_and_dimensions():
    guide = Normal(full(1.0, 4, 3, 2), full(1.0, 4, 3, 2))
    policy = Normal(full(0.0, 4, 3, 2), full(1.0, 4, 3, 2))
    loss, metrics = action_kl_loss(guide, policy)
    assert loss.item() == metrics["action_kl_loss"].item() == pytest.approx(4 * 2 * 0.5)


def test_the_action_prior_compares_actions_and_not_what_is_beneath_the_tanh():
    std = full(1.0, 4, 3, 2)
    policy, explained = (Normal(full(mean, 4, 3, 2), std) for mean in (math.atanh(0.5), 0.0))
    loss, metrics = action_prior_loss(policy, explained)
    assert loss.item() == metrics["action_prior_loss"].item() == pytest.approx(4 * 2 * 0.25)
    at_the_limit, _ = action_prior_loss(
        Normal(full(9.0, 4, 3, 2), std), Normal(full(5.0, 4, 3, 2), std)
    )
    assert at_the_limit.item() < 1e-6


def test_a_constant_std_is_one_parameter_a_dimension():
    decoder = ConstantStdDecoder(4, 2, MLPConfig(8))
    with torch.no_grad():
        decoder.log_std.copy_(torch.tensor([0.0, math.log(3)]))
    first, second = (decoder(torch.randn(5, 3, 4)) for _ in range(2))
    torch.testing.assert_close(first.std[0, 0], torch.tensor([1.0, 3.0]))
    assert torch.equal(first.std, second.std)
    assert first.std.shape == first.mean.shape == (5, 3, 2)
    first.std.sum().backward()
    torch.testing.assert_close(decoder.log_std.grad, torch.tensor([15.0, 45.0]))
