"""In double precision the golden numbers are met more closely; the recorded ones are single."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.action_inference import Terms, Windows, action_inference_loss
from agents.nets import MLPConfig, NormalHead
from agents.parts import load_weights
from agents.world_models.published import load_published, read_state_dict

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = [f"{cell}-{setup}" for cell in ("rssm", "rssmo") for setup in ("mdp", "lpomdp", "visual")]
VARIANTS = {
    "aime": {},
    "aime_kl_only": {"objective": "kl_only"},
    "aime_idm": {"guidance": True},
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def read(folder):
    with np.load(folder / "arrays.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    arrays = {n: a if a.dtype == torch.uint8 else a.double() for n, a in arrays.items()}
    names = ("image", "orientations", "height", "velocity", "position", "reward")
    observations = {n: arrays[f"in_{n}"] for n in names if f"in_{n}" in arrays}
    if "image" in observations:
        observations["image"] = observations["image"].movedim(-3, -1)
    return arrays, observations, json.loads((folder / "expected.json").read_text())


def assert_metrics(metrics, expected):
    for name, value in expected.items():
        actual = metrics["kl_loss" if name == "model_kl_loss" else name]
        assert actual.dtype == torch.float64, name
        assert actual.item() == pytest.approx(value, rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_losses_of_both_phases(folder):
    arrays, observations, expected = read(GOLDEN / folder)
    net = load_published(GOLDEN / folder).double()
    _, metrics = net.loss(observations, arrays["in_pre_action"], arrays["noise_state"])
    assert_metrics(metrics, expected["phase1"]["metrics"])
    policy = NormalHead(net.feature_dim, net.action_dim, MLPConfig(16))
    load_weights(policy, read_state_dict(GOLDEN / folder / "policy.pt"), "policy.pt")
    net.decoders.pop("reward")
    net.requires_grad_(False)
    embeds = net.embed(observations)
    windows = Windows(observations, embeds, arrays["noise_action"], arrays["noise_state2"])
    for variant, options in VARIANTS.items():
        _, metrics, actions = action_inference_loss(net, policy.double(), windows, Terms(**options))
        assert_metrics(metrics, expected[variant]["metrics"])
        torch.testing.assert_close(actions, arrays[f"out_{variant}_actions"], atol=1e-6, rtol=1e-6)
