"""benchmarks/plain.py computes what the package computes: weights after some updates are equal."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from agents.action_inference import Windows, action_inference_loss
from agents.nets import MLPConfig, NormalHead
from agents.spaces import EnvInfo, to_vec_env
from agents.world_models.config import WorldModelConfig
from agents.world_models.network import WorldModelNet
from aime_gym.trajectory import IMAGE

PATH = Path(__file__).parents[1] / "benchmarks" / "plain.py"
STEPS, BATCH, UPDATES = 5, 3, 4


@pytest.fixture(scope="module")
def plain():
    spec = importlib.util.spec_from_file_location("plain", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[("walker", "mdp"), ("cheetah", "mdp"), ("walker", "visual")])
def pair(request, plain):
    """Our networks and the plain ones with the same weights, and observations."""
    body, setup = request.param
    config = replace(WorldModelConfig.paper(body).narrow(), standardize=False)
    torch.manual_seed(0)
    ours = WorldModelNet(EnvInfo.of(to_vec_env(f"AIME/{body}-run-{setup}")), config)
    theirs = plain.PlainModel(ours.info.visible, ours.info.hidden, ours.action_dim, config)
    theirs.load_state_dict(ours.state_dict())
    sizes = {**ours.info.visible, **ours.info.hidden}
    observations = {name: torch.randn(STEPS, BATCH, size) for name, size in sizes.items()}
    if setup == "visual":
        images = torch.randint(0, 256, (STEPS, BATCH, 64, 64, 3), dtype=torch.uint8)
        observations[IMAGE] = images
    return ours, theirs, observations


def assert_same_weights(ours, theirs):
    for (name, one), (other_name, other) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == other_name
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-6, msg=name)


def update(loss, net, optimizer):
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 100.0)
    optimizer.step()


def test_phase_1(pair, plain):
    ours, theirs, observations = pair
    first, second = (torch.optim.Adam(net.parameters(), lr=3e-4) for net in (ours, theirs))
    before = {name: weight.clone() for name, weight in ours.named_parameters()}
    for _ in range(UPDATES):
        actions = torch.rand(STEPS, BATCH, ours.action_dim) * 2 - 1
        noise = torch.randn(STEPS, BATCH, ours.config.stoch_dim)
        loss = ours.loss(observations, actions, noise)[0]
        other = theirs.loss(observations, actions, noise)
        assert loss.item() == pytest.approx(other.item(), rel=1e-5)
        update(loss, ours, first)
        plain.update(other, theirs, second)
    assert_same_weights(ours, theirs)
    assert all((before[name] != weight).any() for name, weight in ours.named_parameters())


def test_phase_2(pair, plain):
    ours, theirs, observations = pair
    ours.requires_grad_(False)
    theirs.requires_grad_(False)
    policy = NormalHead(ours.feature_dim, ours.action_dim, MLPConfig(16))
    other = plain.MeanStd(ours.feature_dim, ours.action_dim, MLPConfig(16), "mean_net")
    other.load_state_dict(policy.state_dict())
    first, second = (torch.optim.Adam(net.parameters(), lr=3e-4) for net in (policy, other))
    for _ in range(UPDATES):
        noises = [torch.randn(STEPS, BATCH, n) for n in (ours.action_dim, ours.config.stoch_dim)]
        windows = Windows(observations, ours.embed(observations), *noises)
        loss, *_ = action_inference_loss(ours, policy, windows)
        other_loss = theirs.inference_loss(other, observations, *noises)
        assert loss.item() == pytest.approx(other_loss.item(), rel=1e-5)
        update(loss, policy, first)
        plain.update(other_loss, other, second)
    assert_same_weights(policy, other)
