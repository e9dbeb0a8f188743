"""Options of the world model, each of which changes a number; filter, imagine and evidence."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import AIMEAgent, TrainingConfig, WorldModel, WorldModelConfig
from agents.nets import MLPConfig
from agents.replay import Replay
from agents.runs.logs import make_logger, read_curve
from agents.world_models.network import WorldModelNet
from agents.world_models.one_step import one_step_errors
from agents.world_models.rssm import Latent
from agents.world_models.world_model import HELD_OUT

GOLDEN = Path(__file__).parents[1] / "golden" / "rssm-mdp"
VISIBLE, HIDDEN = {"height": 1, "orientations": 3}, {"velocity": 2}
T, B = 4, 3


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)

    def draw(size):
        return torch.randn(T, B, size, generator=generator)

    observations = {"height": draw(1), "orientations": draw(3), "velocity": draw(2)}
    observations["reward"] = draw(1)
    return observations, torch.tanh(draw(2)), draw(4)


@pytest.fixture
def make_net(make_info):
    def make(base=None, hidden=HIDDEN, **options):
        torch.manual_seed(0)
        config = dataclasses.replace((base or WorldModelConfig()).narrow(8), **options)
        return WorldModelNet(make_info(VISIBLE, hidden, setup="lpomdp"), config)

    return make


CELLS = pytest.mark.parametrize(
    "base",
    [WorldModelConfig.of_cell(cell) for cell in ("residual", "rssm", "rssmo")],
    ids=lambda config: config.cell,
)


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
        {"cell": "residual"},
        {"prediction_scale": 1.0},
        {"idm_net": MLPConfig(9)},
        {"idm_sees_both": True},
        {"idm_sees_state": False},
        {"idm_loss": "squared_error"},
        {"decoder": MLPConfig(8, skip=True)},
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
def test_each_option_changes_the_loss(make_net, batch, options):
    assert gradients(make_net(), batch)[0] != gradients(make_net(**options), batch)[0]


@pytest.mark.parametrize("kind", ["mean_std", "constant_std"])
def test_the_three_weightings_differ(make_net, batch, kind):
    losses = {
        name: gradients(make_net(reweighting=name, decoder_kind=kind, min_std=0.5), batch)[0]
        for name in ("none", "dim_wise", "modality_wise")
    }
    if kind == "constant_std":  # All are one at first.
        assert len({round(loss, 3) for loss in losses.values()}) == 1
    else:
        assert len(set(losses.values())) == 3


@pytest.mark.parametrize("options", [{"free_nats": 1e3}, {"kl_balance": 0.8}, {"idm": "end2end"}])
def test_options_that_change_gradients_alone(make_net, batch, options):
    plain, changed = gradients(make_net(), batch), gradients(make_net(**options), batch)
    assert changed[0] == pytest.approx(plain[0], rel=1e-6)
    assert any(not torch.equal(plain[2][name], changed[2][name]) for name in plain[2])


def test_free_nats_take_the_gradient_of_the_prior_and_keep_the_true_divergence(make_net, batch):
    _, metrics, grads = gradients(make_net(free_nats=1e3, idm="none"), batch)
    assert metrics["kl_term"].item() < 0
    assert all(not grad.any() for name, grad in grads.items() if name.startswith("cell.prior"))
    _, _, grads = gradients(make_net(idm="none"), batch)
    assert all(grad.any() for name, grad in grads.items() if name.startswith("cell.prior"))


@pytest.mark.parametrize(("mode", "reaches"), [("detach", False), ("end2end", True)])
def test_whether_inverse_dynamics_trains_states_and_encoder(make_net, batch, mode, reaches):
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


def test_inverse_dynamics_sees_changes_in_their_deviations(make_model, pendulum):
    """Those of embeddings that an encoder learns stay as they are."""
    idm = make_model().learn(pendulum, 1).net.idm
    rows = [np.concatenate([*t.sensors.values()], axis=1) for t in pendulum]
    scale = np.concatenate(rows).std(axis=0)
    changes = np.concatenate([np.diff(r, axis=0) for r in rows]) / scale
    np.testing.assert_allclose(idm.changes.std, changes.std(axis=0), rtol=1e-4)
    before, after = torch.randn(2, 5, 3)
    seen = idm.seen(before, after)
    torch.testing.assert_close(seen[:, :3], before)
    torch.testing.assert_close(seen[:, 3:] * idm.changes.std + idm.changes.mean, after - before)
    encoded = make_model(encoder=MLPConfig(8)).learn(pendulum, 1).net.idm
    assert not encoded.changes.fitted


def test_probes_and_ensembles_do_not_train_the_states(make_net, batch):
    with_heads = gradients(make_net(num_ensembles=2), batch)
    bare = make_net(hidden={})
    weights = make_net().state_dict()
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    _, metrics, grads = gradients(bare, batch)
    assert not any("probe" in name for name in metrics)
    for name, grad in grads.items():
        torch.testing.assert_close(with_heads[2][name], grad)


@CELLS
def test_the_first_prev_action_counts(make_net, batch, base):
    observations, prev_actions, noise = batch
    net = make_net(base)
    other = prev_actions.clone()
    other[0] = 0
    embeds = net.embed(observations)
    with torch.no_grad():
        first, second = (net.filter(embeds, noise, a).latents for a in (prev_actions, other))
    assert (first.deter[0] != second.deter[0]).any(dim=-1).all()
    assert (first.stoch[0] != second.stoch[0]).any(dim=-1).all()


@CELLS
def test_one_step_is_a_step_of_the_fast_loop(make_net, batch, base):
    """And the memory is the gated recurrent unit of PyTorch."""
    observations, prev_actions, noise = batch
    net = make_net(base)
    embeds = net.embed(observations)
    with torch.no_grad():
        filtered = net.filter(embeds, noise, prev_actions)
        imagined, _ = net.imagine(net.cell.initial(B), noise, prev_actions)
        seen = ahead = net.cell.initial(B)
        for t in range(T):
            seen, posterior = net.cell.observe(seen, prev_actions[t], embeds[t], noise[t])
            ahead = net.cell.imagine(ahead, prev_actions[t], noise[t])
            torch.testing.assert_close(seen.deter, filtered.latents.deter[t])
            torch.testing.assert_close(seen.stoch, filtered.latents.stoch[t])
            torch.testing.assert_close(posterior.std, filtered.posterior.std[t])
            torch.testing.assert_close(ahead.deter, imagined.deter[t])
            torch.testing.assert_close(ahead.stoch, imagined.stoch[t])


@CELLS
def test_actions_are_given_or_chosen_on_the_way(make_net, batch, base):
    observations, _, noise = batch
    net = make_net(base)
    embeds = net.embed(observations)

    def act(feature):
        return torch.tanh(feature[:, :2])

    with torch.no_grad():
        chosen = net.filter(embeds, noise, act)
        given = net.filter(embeds, noise, chosen.actions)
        start = Latent(*(part[-1] for part in chosen.latents))
        ahead, actions = net.imagine(start, noise, act)
        again, _ = net.imagine(start, noise, actions)
    torch.testing.assert_close(given.latents.deter, chosen.latents.deter)
    torch.testing.assert_close(again.deter, ahead.deter)
    torch.testing.assert_close(actions[0], act(start.feature))
    torch.testing.assert_close(actions[1], act(ahead.feature[0]))


# Standardised sensors


def scaled(data, factor, offset):
    def change(trajectory):
        sensors = {n: factor * rows + offset for n, rows in trajectory.sensors.items()}
        return dataclasses.replace(trajectory, sensors=sensors)

    return data.map(change)


def test_sensors_are_standardised_once(make_model, pendulum):
    model = make_model("lpomdp").learn(scaled(pendulum, 100, 7), 1)
    replay = Replay(model.env_info, ["orientation", "velocity"]).add(scaled(pendulum, 100, 7))
    for name, rows in replay.columns.items():
        values = model.net.standardize(name, rows)
        torch.testing.assert_close(
            values.mean(dim=0), torch.zeros(rows.shape[1]), atol=1e-3, rtol=0
        )
        assert ((values.std(dim=0, correction=0) - 1).abs() < 1e-3).all()
    before = model.net.state_dict()["standardizers.velocity.std"].clone()
    model.learn(pendulum, 1)
    assert torch.equal(model.net.state_dict()["standardizers.velocity.std"], before)


def test_units_do_not_matter_where_sensors_are_standardised(make_model, pendulum):
    """Same losses; the logged numbers are in the sensors' own units."""
    logged = []
    for data in (pendulum, scaled(pendulum, 10, -3)):
        seen = {}
        make_model("lpomdp").learn(
            data, 1, callback=lambda values, _, seen=seen: seen.update(values["metrics"]) is None
        )
        logged.append({name: float(value) for name, value in seen.items()})
    plain, ten = logged
    assert ten["total_loss"] == pytest.approx(plain["total_loss"], rel=1e-3)
    assert ten["orientation_mse"] == pytest.approx(100 * plain["orientation_mse"], rel=1e-3)
    shift = 5 * 2 * np.log(10)  # Rows of a window, and values of the sensor.
    assert ten["orientation_rec_term"] == pytest.approx(
        plain["orientation_rec_term"] - shift, rel=1e-3
    )
    assert ten["velocity_probe_mse"] == pytest.approx(100 * plain["velocity_probe_mse"], rel=1e-3)
    assert ten["elbo"] == pytest.approx(plain["elbo"] - shift, rel=1e-3)


def test_imagined_sensors_are_in_their_own_units(make_model, pendulum):
    model = make_model().learn(scaled(pendulum, 1, 1_000), 2)
    start = model.net.cell.initial(2)
    _, sensors = model.imagine(start, torch.zeros(3, 2, 1))
    assert all((values > 900).all() for values in sensors.values())


def test_a_constant_sensor_is_told_and_divides_by_nothing(make_model, pendulum):
    still = pendulum.map(
        lambda t: dataclasses.replace(
            t, sensors={**t.sensors, "velocity": np.full_like(t.sensors["velocity"], 3.0)}
        )
    )
    model = make_model()
    with pytest.warns(UserWarning, match=r"'velocity' .*constant in dimensions \[0\]") as told:
        model.learn(still, 2)
    assert len(told) == 1
    assert all(torch.isfinite(w).all() for w in model.net.state_dict().values())


def test_a_residual_cell_keeps_the_last_state_beside_its_memory(make_net, batch):
    observations, prev_actions, noise = batch
    net = make_net(WorldModelConfig.residual())
    with torch.no_grad():
        latents = net.filter(net.embed(observations), noise, prev_actions).latents
    size = net.config.deter_dim
    assert latents.deter.shape[-1] == size + net.config.stoch_dim
    assert torch.equal(latents.deter[1:, :, size:], latents.stoch[:-1])
    assert not latents.deter[0, :, size:].any()


def test_the_prediction_loss_trains_the_dynamics_by_the_sensors(make_net, batch):
    """Without the KL, nothing else would train the prior."""
    for scale in (0.0, 1.0):
        net = make_net(WorldModelConfig.residual(), kl_scale=0.0, prediction_scale=scale)
        _, metrics, grads = gradients(net, batch)
        trained = [grad.any().item() for name, grad in grads.items() if "cell.prior" in name]
        assert ("prediction_loss" in metrics) == bool(scale) == any(trained)
        assert not any("std" in name for name in metrics)


def test_burn_ins_give_windows_the_state_of_a_longer_trajectory(make_model, pendulum_data):
    """In turn, each as long as some trajectory; their rows have no part in the loss."""
    model = make_model(training=TrainingConfig(4, 3, burn_ins=(0, 5, 100)))
    seen = []
    loss = model.net.loss

    def watched(observations, prev_actions, noise, start=None):
        seen.append((len(prev_actions), None if start is None else start.deter.shape[0]))
        assert start is None or not start.deter.requires_grad
        return loss(observations, prev_actions, noise, start)

    model.net.loss = watched
    model.learn(pendulum_data(3, 12), 4)
    assert seen == [(4, None), (4, 3), (4, None), (4, 3)]


def test_a_window_after_its_burn_in_is_the_end_of_a_longer_one(make_net, batch):
    observations, prev_actions, noise = batch
    net, cut = make_net(WorldModelConfig.residual()), 2
    with torch.no_grad():
        whole = net.filter(net.embed(observations), noise, prev_actions).latents
        start = Latent(*(part[cut - 1] for part in whole))
        rest = {name: values[cut:] for name, values in observations.items()}
        after = net.filter(net.embed(rest), noise[cut:], prev_actions[cut:], start).latents
    torch.testing.assert_close(after.feature, whole.feature[cut:])


@pytest.mark.parametrize("burn_ins", [(), (0, -1)])
def test_burn_ins_out_of_range(burn_ins):
    with pytest.raises(ValueError, match="burn_ins"):
        TrainingConfig(burn_ins=burn_ins)


def test_the_published_settings():
    assert not WorldModelConfig.paper("walker").standardize
    assert WorldModelConfig.paper("cheetah").cell == "rssmo"
    paper = TrainingConfig.paper()
    assert (paper.sequence_length, paper.batch_size, paper.learning_rate) == (50, 50, 3e-4)
    assert paper.decay_timesteps is None
    assert not paper.held_out_share


def test_the_one_step_error_of_held_out_trajectories_is_logged_and_falls(
    make_model, pendulum_data, tmp_path
):
    data = pendulum_data(20, 12)
    training = TrainingConfig(6, 8, learning_rate=3e-3, held_out_share=0.2)
    model = make_model(training=training)
    model.set_logger(make_logger(tmp_path, verbose=0))
    model.learn(data, 60, log_interval=20)
    curve = read_curve(tmp_path / "progress.csv")
    errors = [row[HELD_OUT] for row in curve]
    assert errors[-1] < errors[0]
    last = curve[-1]
    by_sensor = [last[f"held_out/{n}_one_step_error"] for n in ("orientation", "velocity")]
    assert errors[-1] == pytest.approx((2 * by_sensor[0] + by_sensor[1]) / 3)
    assert len(model._replay.lengths) == 16
    assert len(model._held_out.lengths) == 4


def test_the_one_step_error_by_hand(make_model, pendulum):
    model = make_model().learn(pendulum, 1)
    observations, prev_actions = model.tensors(pendulum[0])
    scales = {"orientation": torch.tensor([2.0, 4.0]), "velocity": torch.tensor([5.0])}
    errors = one_step_errors(model.net, observations, prev_actions, scales)
    states = model.filter(observations, prev_actions)
    last = Latent(states.deter[6], states.stoch[6])
    _, expected = model.imagine(last, prev_actions[7:8])
    by_hand = ((expected["orientation"][0, 0] - observations["orientation"][7, 0]) / 2).square()
    assert errors["orientation"][6, 0, 0].item() == pytest.approx(by_hand[0].item(), rel=1e-3)
    assert errors["velocity"].shape == (11, 1, 1)


# The learner


def test_gradients_are_clipped(make_model, pendulum):
    """Adam's first step does not see the scale, so its second moment tells."""
    norms = []
    for clip in (1e-3, 1e6):
        model = make_model(training=TrainingConfig(5, 4, grad_clip=clip)).learn(pendulum, 1)
        moments = model.optimizer.state_dict()["state"].values()
        norms.append(sum(m["exp_avg"].square().sum() for m in moments).sqrt().item() / 0.1)
        total = float(model.running.sums["grad_norm"])
        assert norms[-1] == pytest.approx(min(clip, total), rel=1e-3)
    assert norms[0] < norms[1]


def test_the_learning_rate_falls_to_a_hundredth():
    config = TrainingConfig(learning_rate=1.0, decay_timesteps=100)
    assert [config.learning_rate_at(n) for n in (0, 50, 99, 100, 1000)] == [
        1, 0.5, pytest.approx(0.01), 0.01, 0.01
    ]  # fmt: skip
    assert TrainingConfig.paper().learning_rate_at(10_000) == 3e-4


@pytest.mark.parametrize("cell", ["residual", "rssm", "rssmo"])
@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
def test_it_learns(make_model, pendulum, cell, setup):
    """With free nats the bound itself may fall: the likelihood is what must rise."""
    model = make_model(setup, cell, TrainingConfig(5, 8, learning_rate=3e-3))
    replay = Replay(model.env_info, ["orientation", "velocity"]).add(pendulum)
    windows = replay.num_windows(12)
    observations, prev_actions, *_ = replay.gather(torch.arange(windows), 12)
    noise = torch.randn(12, windows, 4, generator=torch.Generator().manual_seed(0))
    before = model.net.loss(observations, prev_actions, noise)[1]["rec_term"]
    model.learn(pendulum, 60)
    assert model.net.loss(observations, prev_actions, noise)[1]["rec_term"] > before + 1


def test_evaluating_it_does_not_change_what_it_learns(make_model, pendulum, weights, same):
    plain, watched = make_model().learn(pendulum, 6), make_model()
    replay = Replay(watched.env_info, ["orientation", "velocity"]).add(pendulum)
    observations, prev_actions, *_ = replay.gather(torch.zeros(2, dtype=torch.long), 5)
    watched.learn(
        pendulum, 6, callback=lambda *_: watched.elbo(observations, prev_actions) is not None
    )
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


def test_inverse_dynamics_can_learn_alone(make_model, make_aime, pendulum):
    """On the states of a pretrained model, whose own may be of another kind."""
    plain = make_model(idm_sees_both=False, idm_net=MLPConfig(5)).learn(pendulum, 2)
    training = TrainingConfig(5, 4, 1e-2, burn_ins=(0, 3), only_idm=True)
    model = make_model(training=training)
    model.start_from(plain)
    seen = []
    model.learn(pendulum, 60, callback=lambda v, _: seen.append(v["metrics"]["idm_mse"]) is None)
    assert sum(seen[-10:]) < 0.9 * sum(seen[:10])
    for name, weight in plain.net.state_dict().items():
        if not name.startswith("idm."):
            assert torch.equal(weight, model.net.state_dict()[name]), name
    again = make_model(training=training, seed=3)
    again.start_from(model)  # Of the same kind: its head goes on.
    for name, weight in model.net.state_dict().items():
        assert torch.equal(weight, again.net.state_dict()[name]), name
    agent = make_aime(model=model, start_updates=2, action_prior=0.1).learn(pendulum, 4)
    assert agent.progress.updates == 4


def test_inverse_dynamics_that_sees_no_state_learns_from_pairs_of_rows(
    make_model, make_aime, pendulum, monkeypatch
):
    """Nothing is filtered, and it may be deep, with layer norm."""
    head = {
        "idm_sees_state": False,
        "idm_net": MLPConfig(16, 3, "swish", layer_norm=True),
        "idm_std_dim": 4,
    }
    training = TrainingConfig(2, 64, 1e-2, burn_ins=(0,), only_idm=True, held_out_share=0.0)
    model, seen = make_model(training=training, **head), list[float]()
    model.start_from(make_model())
    with monkeypatch.context() as patched:
        patched.delattr(type(model.net), "filter")
        model.learn(
            pendulum, 60, callback=lambda v, _: seen.append(v["metrics"]["idm_mse"]) is None
        )
    assert sum(seen[-10:]) < 0.9 * sum(seen[:10])
    agent = make_aime(model=model, start_updates=2, action_prior=0.1).learn(pendulum, 4)
    inferred = agent.infer_actions_by_inverse_dynamics(pendulum)
    net, idm = agent.world_model, agent.world_model.idm
    for trajectory, actions in zip(pendulum, inferred, strict=True):
        embeds = net.embed({n: torch.as_tensor(rows) for n, rows in trajectory.sensors.items()})
        with torch.no_grad():
            direct = torch.tanh(idm(idm.seen(embeds[:-1], embeds[1:])).mean)
        expected = agent.env_info.from_unit(direct)
        torch.testing.assert_close(torch.as_tensor(actions), expected)
    with pytest.raises(ValueError, match="needs idm_sees_state=False"):
        make_model(idm_std_dim=4)


def test_a_model_can_start_from_another_ones_weights(make_model, pendulum):
    trained = make_model().learn(pendulum, 2)
    fresh = make_model(seed=5)
    fresh.start_from(trained)
    for name, weight in trained.net.state_dict().items():
        assert torch.equal(weight, fresh.net.state_dict()[name]), name
    assert not fresh.optimizer.state_dict()["state"]
    with pytest.raises(ValueError, match="pretrained world model do not fit"):
        make_model("lpomdp").start_from(trained)
