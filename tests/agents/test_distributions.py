import math

import pytest
import torch
from torch.distributions import Normal as TorchNormal
from torch.distributions import TanhTransform, TransformedDistribution, kl_divergence

from agents.distributions import (
    Normal,
    normal_kl,
    normal_log_prob,
    tanh_log_prob,
)

MEAN = torch.tensor([[0.3, -1.0], [0.0, 2.0]], dtype=torch.float64)
STD = torch.tensor([[0.5, 1.5], [1.0, 0.1]], dtype=torch.float64)
NORMAL = Normal(MEAN, STD)


def test_samples_are_mean_plus_std_times_noise_with_gradients():
    mean, std = (torch.tensor([value], requires_grad=True) for value in (2.0, 0.5))
    sample = Normal(mean, std).sample(torch.tensor([-3.0]))
    sample.sum().backward()
    assert sample.item() == 0.5
    assert (mean.grad.item(), std.grad.item()) == (1.0, -3.0)


def test_detached_normals_have_no_gradient():
    detached = Normal(MEAN.clone().requires_grad_(), STD.clone().requires_grad_()).detach()
    assert not detached.mean.requires_grad
    assert not detached.std.requires_grad


def test_log_densities_are_those_of_torch():
    value = torch.tensor([[0.1, 0.2], [-2.0, 2.1]], dtype=torch.float64)
    expected = TorchNormal(MEAN, STD).log_prob(value)
    torch.testing.assert_close(normal_log_prob(value, NORMAL), expected)


def test_divergence_is_that_of_torch_and_zero_from_itself():
    other = Normal(MEAN.flip(0), STD.flip(1))
    expected = kl_divergence(TorchNormal(*NORMAL), TorchNormal(*other))
    torch.testing.assert_close(normal_kl(NORMAL, other), expected)
    assert normal_kl(NORMAL, NORMAL).abs().max() < 1e-15


def test_log_density_behind_tanh_is_that_of_torch():
    action = torch.tensor([[0.1, -0.9], [0.5, 0.99]], dtype=torch.float64)
    expected = TransformedDistribution(TorchNormal(MEAN, STD), TanhTransform()).log_prob(action)
    torch.testing.assert_close(tanh_log_prob(action, NORMAL), expected)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_actions_at_their_limits_count_as_999_thousandths(sign):
    normal = Normal(torch.tensor([0.2]), torch.tensor([0.7]))
    before = math.atanh(0.999)
    z = (sign * before - 0.2) / 0.7
    expected = -0.5 * z * z - math.log(0.7) - 0.5 * math.log(2 * math.pi)
    expected -= math.log(1 - 0.999**2)
    for action in (sign, sign * 0.9995, sign * 0.999):
        assert tanh_log_prob(torch.tensor([action]), normal).item() == pytest.approx(
            expected, rel=1e-4
        )
    assert tanh_log_prob(torch.tensor([sign * 0.99]), normal).item() != pytest.approx(
        expected, rel=1e-2
    )
