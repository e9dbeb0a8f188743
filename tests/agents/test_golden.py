"""World models meet the outputs of the reference implementation, metric by metric."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agents.action_inference import Terms, Windows, action_inference_loss
from agents.nets import MLPConfig, NormalHead
from agents.parts import load_weights
from agents.returns import lambda_returns
from agents.world_models.imagination import (
    disagreement,
    distance_from_uniform,
    imagine_with,
    predicted_rewards,
)
from agents.world_models.published import load_published, read_state_dict
from agents.world_models.rssm import Latent

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = [f"{cell}-{setup}" for cell in ("rssm", "rssmo") for setup in ("mdp", "lpomdp", "visual")]
SINGLE = {"loss": 1e-4, "state": 1e-5, "grad": 1e-3}


@pytest.fixture(params=FOLDERS)
def golden(request):
    folder = GOLDEN / request.param
    with np.load(folder / "arrays.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    observations = {n.removeprefix("in_"): a for n, a in arrays.items() if n.startswith("in_")}
    observations.pop("value")
    prev_actions = observations.pop("pre_action")
    if "image" in observations:
        observations["image"] = observations["image"].movedim(-3, -1)
    net = load_published(folder)
    policy = NormalHead(net.feature_dim, net.action_dim, MLPConfig(16))
    load_weights(policy, read_state_dict(folder / "policy.pt"), "policy.pt")
    expected = json.loads((folder / "expected.json").read_text())
    return SimpleNamespace(
        net=net,
        policy=policy,
        arrays=arrays,
        observations=observations,
        prev_actions=prev_actions,
        expected=expected,
    )


def assert_metrics(metrics, expected):
    renamed = {"model_kl_loss": "kl_loss"}
    for name, value in expected.items():
        actual = metrics[renamed.get(name, name)].item()
        assert actual == pytest.approx(value, rel=SINGLE["loss"], abs=1e-6), name


def to_published_names(named):
    return {name.removeprefix("cell."): value for name, value in named.items()}


def assert_gradients(module, expected, published=to_published_names):
    named = published(dict(module.named_parameters()))
    assert set(named) == set(expected)
    for name, norm in expected.items():
        actual = named[name].grad.norm().item()
        assert actual == pytest.approx(norm, rel=SINGLE["grad"], abs=1e-6), name


def test_phase_1_losses_and_gradients(golden):
    loss, metrics = golden.net.loss(
        golden.observations, golden.prev_actions, golden.arrays["noise_state"]
    )
    loss.backward()
    assert_metrics(metrics, golden.expected["phase1"]["metrics"])
    assert loss.item() == pytest.approx(
        golden.expected["phase1"]["metrics"]["total_loss"], rel=1e-4
    )
    assert_gradients(golden.net, golden.expected["phase1"]["grad_norms"])


@torch.no_grad()
def test_filtered_states(golden):
    latents = golden.net.filter(
        golden.net.embed(golden.observations), golden.arrays["noise_state"], golden.prev_actions
    ).latents
    torch.testing.assert_close(latents.deter, golden.arrays["out_deter"], atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.stoch, golden.arrays["out_stoch"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_open_loop_predictions(golden):
    net, noise, actions = golden.net, golden.arrays["noise_state"], golden.prev_actions
    embeds = net.embed(golden.observations)
    seen = net.filter(embeds[:4], noise[:4], actions[:4]).latents
    last = Latent(seen.deter[-1], seen.stoch[-1])
    ahead = net.imagine(last, noise[4:], actions[4:])[0]
    feature = torch.cat([seen.feature, ahead.feature])
    for name, normal in net.decode(feature).items():
        expected = golden.arrays[f"out_openloop_{name}"]
        torch.testing.assert_close(normal.mean, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("aime", {}),
        ("aime_kl_only", {"objective": "kl_only"}),
        ("aime_idm", {"guidance": True}),
    ],
)
def test_phase_2(golden, variant, options):
    net = golden.net.requires_grad_(False)
    net.decoders.pop("reward")
    noises = golden.arrays["noise_action"], golden.arrays["noise_state2"]
    windows = Windows(golden.observations, net.embed(golden.observations), *noises)
    loss, metrics, actions = action_inference_loss(net, golden.policy, windows, Terms(**options))
    loss.backward()
    expected = golden.expected[variant]
    assert_metrics(metrics, expected["metrics"])
    assert_gradients(golden.policy, expected["grad_norms"], lambda named: named)
    torch.testing.assert_close(actions, golden.arrays[f"out_{variant}_actions"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_imagination_under_the_recorded_actions(golden):
    arrays = golden.arrays
    start = Latent(arrays["imag_start_deter"], arrays["imag_start_stoch"])
    latents, _ = golden.net.imagine(start, arrays["noise_imag_state"], arrays["out_imag_actions"])
    reward = golden.net.decode(latents.feature)["reward"].mean
    torch.testing.assert_close(reward, arrays["out_imag_reward"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_imagination_with_the_policy(golden):
    arrays, net = golden.arrays, golden.net
    start = Latent(arrays["imag_start_deter"], arrays["imag_start_stoch"])
    imagined = imagine_with(
        net, golden.policy, start, arrays["noise_imag_action"], arrays["noise_imag_state"]
    )
    deter = imagined.after[..., : start.deter.shape[-1]]
    torch.testing.assert_close(deter, arrays["out_imag_deter"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(imagined.actions, arrays["out_imag_actions"], atol=1e-5, rtol=1e-5)
    rewards = predicted_rewards(net, imagined)
    torch.testing.assert_close(rewards, arrays["out_imag_reward"][..., 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        distance_from_uniform(imagined.choices),
        arrays["out_imag_action_entropy"],
        atol=1e-5,
        rtol=1e-5,
    )
    if net.emb_prediction_heads:
        torch.testing.assert_close(
            disagreement(net, imagined),
            arrays["out_imag_intrinsic_reward"][..., 0],
            atol=1e-5,
            rtol=1e-4,
        )


def test_lambda_returns(golden):
    arrays = golden.arrays
    found = lambda_returns(arrays["out_imag_reward"], arrays["in_value"], 0.99, 0.95)
    torch.testing.assert_close(found, arrays["out_lambda_return"], atol=1e-5, rtol=1e-5)
