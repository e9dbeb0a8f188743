"""Options of the world model, each of which changes a number; filter, imagine and evidence."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import AIMEAgent, TrainingConfig, WorldModel, WorldModelConfig
from agents.env_info import EnvInfo
from agents.layout import SensorLayout
from agents.nets import MLPConfig
from agents.windows import Rows, Windows
from agents.world_models.rssm import Latent
from agents.world_models.world_model import WorldModelNet
from aime_gym.datasets import Card, Dataset, Trajectory

GOLDEN = Path(__file__).parents[1] / "golden" / "rssm-mdp"
LAYOUT = SensorLayout("walker", "lpomdp", {"height": 1, "orientations": 3}, {"velocity": 2}, 2)
T, B = 4, 3


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)

    def draw(size):
        return torch.randn(T, B, size, generator=generator)

    observations = {"height": draw(1), "orientations": draw(3), "velocity": draw(2)}
    observations["reward"] = draw(1)
    return observations, torch.tanh(draw(2)), draw(4)


def make_net(base=None, **options):
    torch.manual_seed(0)
    config = dataclasses.replace((base or WorldModelConfig()).narrow(8), **options)
    return WorldModelNet(LAYOUT, config)


def gradients(net, batch):
    net.zero_grad()
    loss, metrics = net.loss(*batch)
    loss.backward()
    grads = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in net.named_parameters()
    }
    return loss.item(), metrics, grads


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "rssmo"},
        {"reweighting": "none"},
        {"reweighting": "modality_wise"},
        {"kl_scale": 3.0},
        {"min_std": 0.5},
        {"reward": True},
        {"idm": "none"},
        {"num_ensembles": 2},
        {"decoder_kind": "constant_std"},
        {"decoder_kind": "mean"},
        {"encoder": MLPConfig(8)},
        {"decoder": MLPConfig(8, layer_norm=True)},
        {"probe": MLPConfig(8, activation="swish")},
    ],
)
def test_each_option_changes_the_loss(batch, options):
    assert gradients(make_net(), batch)[0] != gradients(make_net(**options), batch)[0]


@pytest.mark.parametrize("kind", ["mean_std", "constant_std"])
def test_the_three_weightings_differ(batch, kind):
    losses = {
        name: gradients(make_net(reweighting=name, decoder_kind=kind, min_std=0.5), batch)[0]
        for name in ("none", "dim_wise", "modality_wise")
    }
    if kind == "constant_std":  # All are one at first.
        assert len({round(loss, 3) for loss in losses.values()}) == 1
    else:
        assert len(set(losses.values())) == 3


@pytest.mark.parametrize("options", [{"free_nats": 1e3}, {"kl_balance": 0.8}, {"idm": "end2end"}])
def test_options_that_change_gradients_alone(batch, options):
    plain, changed = gradients(make_net(), batch), gradients(make_net(**options), batch)
    assert changed[0] == pytest.approx(plain[0], rel=1e-6)
    assert any(not torch.equal(plain[2][name], changed[2][name]) for name in plain[2])


def test_free_nats_take_the_gradient_of_the_prior_and_keep_the_true_divergence(batch):
    _, metrics, grads = gradients(make_net(free_nats=1e3, idm="none"), batch)
    assert metrics["kl_term"].item() < 0
    assert all(not grad.any() for name, grad in grads.items() if name.startswith("cell.prior"))
    _, _, grads = gradients(make_net(idm="none"), batch)
    assert all(grad.any() for name, grad in grads.items() if name.startswith("cell.prior"))


@pytest.mark.parametrize(("mode", "reaches"), [("detach", False), ("end2end", True)])
def test_whether_inverse_dynamics_trains_states_and_encoder(batch, mode, reaches):
    net = make_net(WorldModelConfig.rssmo(), idm=mode)
    observations, prev_actions, noise = batch
    embeds = net.embed(observations)
    feature = net.filter(embeds, noise[..., :4], prev_actions).latents.feature
    loss, _ = net._inverse_dynamics(feature, embeds, prev_actions)
    loss.backward()
    for part in (net.cell, net.encoders):
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        assert any(grad.any() for grad in grads) == reaches
    assert all(p.grad.any() for p in net.idm.parameters())


def test_probes_and_ensembles_do_not_train_the_states(batch):
    with_heads = gradients(make_net(num_ensembles=2), batch)
    layout = dataclasses.replace(LAYOUT, hidden={})
    torch.manual_seed(0)
    bare = WorldModelNet(layout, WorldModelConfig().narrow(8))
    weights = make_net().state_dict()
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    _, metrics, grads = gradients(bare, batch)
    assert not any("probe" in name for name in metrics)
    for name, grad in grads.items():
        torch.testing.assert_close(with_heads[2][name], grad)


@pytest.mark.parametrize("base", [WorldModelConfig(), WorldModelConfig.rssmo()])
def test_the_first_prev_action_counts(batch, base):
    observations, prev_actions, noise = batch
    net = make_net(base)
    other = prev_actions.clone()
    other[0] = 0
    embeds = net.embed(observations)
    with torch.no_grad():
        first, second = (net.filter(embeds, noise, a).latents for a in (prev_actions, other))
    assert (first.deter[0] != second.deter[0]).any(dim=-1).all()
    assert (first.stoch[0] != second.stoch[0]).any(dim=-1).all()


@pytest.mark.parametrize("base", [WorldModelConfig(), WorldModelConfig.rssmo()])
def test_filtering_step_by_step_is_filtering_at_once(batch, base):
    """And equals the gated recurrent unit of PyTorch."""
    observations, prev_actions, noise = batch
    net = make_net(base)
    embeds = net.embed(observations)
    with torch.no_grad():
        whole = net.filter(embeds, noise, prev_actions).latents
        latent = net.cell.initial(B)
        for t in range(T):
            inputs = torch.cat([latent.stoch, prev_actions[t]], dim=-1)
            if base.cell == "rssmo":
                inputs = net.cell.pre_memory(inputs)
            deter = net.cell.memory_cell(inputs, latent.deter)
            step = net.filter(
                embeds[t : t + 1], noise[t : t + 1], prev_actions[t : t + 1], start=latent
            )
            latent = Latent(*(part[0] for part in step.latents))
            torch.testing.assert_close(latent.deter, deter)
            torch.testing.assert_close(latent.deter, whole.deter[t])
            torch.testing.assert_close(latent.stoch, whole.stoch[t])


# The learner


def test_gradients_are_clipped(make_model, pendulum):
    """Adam's first step does not see the scale, so its second moment tells."""
    norms = []
    for clip in (1e-3, 1e6):
        model = make_model(training=TrainingConfig(5, 4, grad_clip=clip)).learn(pendulum, 1)
        moments = model._optimizer.state_dict()["state"].values()
        norms.append(sum(m["exp_avg"].square().sum() for m in moments).sqrt().item() / 0.1)
        total = float(model._running["grad_norm"])
        assert norms[-1] == pytest.approx(min(clip, total), rel=1e-3)
    assert norms[0] < norms[1]


def test_the_learning_rate_falls_to_a_hundredth():
    config = TrainingConfig(learning_rate=1.0, decay_timesteps=100)
    assert [config.learning_rate_at(n) for n in (0, 50, 99, 100, 1000)] == [
        1, 0.5, pytest.approx(0.01), 0.01, 0.01
    ]  # fmt: skip
    assert TrainingConfig(learning_rate=1.0).learning_rate_at(10_000) == 1


@pytest.mark.parametrize("cell", ["rssm", "rssmo"])
@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
def test_it_learns(make_model, pendulum, cell, setup):
    """With free nats the bound itself may fall: the likelihood is what must rise."""
    model = make_model(setup, cell, TrainingConfig(5, 8, learning_rate=3e-3))
    windows = Windows(Rows(pendulum, ["orientation", "velocity"], True, model.device), 12)
    batch = windows.gather(torch.arange(len(windows)))
    noise = torch.randn(12, len(windows), 4, generator=torch.Generator().manual_seed(0))
    before = model.net.loss(*batch, noise)[1]["rec_term"]
    model.learn(pendulum, 60)
    assert model.net.loss(*batch, noise)[1]["rec_term"] > before + 1


def test_evaluating_it_does_not_change_what_it_learns(make_model, pendulum, weights, same):
    plain, watched = make_model().learn(pendulum, 6), make_model()
    batch = Windows(Rows(pendulum, ["orientation", "velocity"], True, watched.device), 5).gather(
        torch.zeros(2, dtype=torch.long)
    )
    watched.learn(pendulum, 6, callback=lambda *_: watched.elbo(*batch) is not None)
    assert same(weights(plain), weights(watched))


def test_filter_and_imagine(make_model, pendulum):
    model = make_model("lpomdp")
    trajectory = pendulum[0]
    observations = {n: torch.from_numpy(v)[:, None] for n, v in trajectory.sensors.items()}
    prev_actions = torch.from_numpy(trajectory.prev_actions)[:, None]
    states = model.filter(observations, prev_actions)
    assert states.deter.shape == (12, 1, model.config.deter_dim)
    assert torch.equal(states.stoch, model.filter(observations, prev_actions).stoch)
    start = Latent(states.deter[3], states.stoch[3])
    latents, decoded = model.imagine(start, prev_actions[4:7])
    assert latents.stoch.shape == (3, 1, model.config.stoch_dim)
    assert {name: tuple(v.shape) for name, v in decoded.items()} == {"orientation": (3, 1, 2)}
    _, other = model.imagine(start, -prev_actions[4:7])
    assert not torch.equal(other["orientation"], decoded["orientation"])


def test_rewards_are_decoded_on_request(make_model, pendulum):
    model = make_model(reward=True).learn(pendulum, 3)
    assert "reward" in model.net.decoders
    silent = pendulum.map(lambda t: dataclasses.replace(t, rewards=None))
    with pytest.raises(ValueError, match="no rewards"):
        model.learn(silent, 1)


def test_the_global_generators_are_left_alone(make_aime, make_bc, pendulum, tmp_path):
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    agent = make_aime().learn(pendulum, 2)
    agent.save(tmp_path / "agent")
    AIMEAgent.load(tmp_path / "agent").predict(np.zeros(3, np.float32))
    AIMEAgent.load(GOLDEN)
    WorldModel.load(f"{GOLDEN}")
    make_bc("lpomdp").learn(pendulum, 2).predict(np.zeros(2, np.float32))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


# Windows and actions


def test_windows_are_consecutive_rows_of_one_trajectory(pendulum_data):
    data = pendulum_data(2, 4) + pendulum_data(1, 6, seed=1)
    windows = Windows(Rows(data, ["velocity"], True, torch.device("cpu")), 4)
    assert len(windows) == 1 + 1 + 3
    batch = windows.gather(torch.arange(5))
    whole = [data[0], data[1], *(data[2].window(start, 4) for start in range(3))]
    for index, trajectory in enumerate(whole):
        actual = batch.observations["velocity"][:, index].numpy()
        np.testing.assert_array_equal(actual, trajectory.sensors["velocity"])
        assert batch.prev_actions.shape == (4, 5, 1)
        _, *later = batch.prev_actions[:, index]
        np.testing.assert_array_equal(np.stack(later), trajectory.actions)
    assert not batch.prev_actions[0, [0, 1, 2]].any()
    np.testing.assert_array_equal(batch.prev_actions[0, 3], data[2].actions[0])


def test_windows_are_drawn_uniformly(pendulum_data):
    data = pendulum_data(1, 4) + pendulum_data(1, 6, seed=1)
    windows = Windows(Rows(data, ["velocity"], False, torch.device("cpu")), 3)
    batch = windows.sample(6_000, torch.Generator().manual_seed(0))
    assert batch.prev_actions is None
    starts = batch.observations["velocity"][1, :, 0]
    _, counts = starts.unique(return_counts=True)
    assert len(counts) == 2 + 4
    assert (counts - 1_000).abs().max() < 150


def test_images_stay_bytes():
    images = np.zeros((4, 64, 64, 3), np.uint8)
    data = Dataset([Trajectory({"image": images})], Card("toy", "walker"))
    rows = Rows(data, ["image"], False, torch.device("cpu"))
    assert rows.columns["image"].dtype == torch.uint8


def test_actions_are_scaled_to_the_limits():
    info = EnvInfo(
        "toy", "run", "mdp", {"a": 1}, {"a": (0, 1)}, action_low=(-1.0, 0.0), action_high=(1.0, 4.0)
    )
    actions = torch.tensor([[-1.0, 0.0], [0.5, 3.0], [1.0, 4.0]])
    unit = torch.tensor([[-1.0, -1.0], [0.5, 0.5], [1.0, 1.0]])
    torch.testing.assert_close(info.to_unit(actions), unit)
    torch.testing.assert_close(info.from_unit(unit), actions)


def test_no_action_leads_to_a_first_row():
    """Zero stays zero where the limits differ, as the quadruped's do."""
    low, high = (-1.0, -1.0, -0.8), (1.0, 1.1, 0.8)
    info = EnvInfo("quadruped", "walk", "mdp", {"height": 1}, {"height": (0, 1)}, low, high)
    swings = [
        Trajectory({"height": np.zeros((rows, 1))}, np.tile(np.float32(high), (rows - 1, 1)))
        for rows in (3, 2)
    ]
    rows = Rows(Dataset(swings, Card("d", "quadruped")), ["height"], True, torch.device("cpu"))
    rows.scale_actions(info)
    expected = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])[:, None].expand(5, 3)
    torch.testing.assert_close(rows.prev_actions, expected)


def test_a_model_can_start_from_another_ones_weights(make_model, pendulum):
    trained = make_model().learn(pendulum, 2)
    fresh = make_model(seed=5)
    fresh.start_from(trained)
    for name, weight in trained.net.state_dict().items():
        assert torch.equal(weight, fresh.net.state_dict()[name]), name
    assert not fresh._optimizer.state_dict()["state"]
    with pytest.raises(ValueError, match="pretrained world model do not fit"):
        make_model("lpomdp").start_from(trained)
