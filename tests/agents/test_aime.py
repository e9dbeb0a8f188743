"""Action inference: what each option trains, and what it may look at."""

import dataclasses

import numpy as np
import pytest
import torch

from agents import AIMEAgent, AIMEConfig, TrainingConfig, WorldModel, WorldModelConfig
from agents.action_inference import Terms, Windows, action_inference_loss
from agents.nets import MLPConfig, NormalHead
from agents.runs.figures import determination, plot_curve, plot_inferred_actions, plot_metric
from aime_gym.datasets import Card, Dataset, Trajectory

OPTIONS = {
    "elbo": {},
    "kl_only": {"objective": "kl_only"},
    "reconstruction_only": {"objective": "reconstruction_only"},
    "guidance": {"guidance": True},
    "finetune": {"finetune": True},
    "guided finetune": {"guidance": True, "finetune": True},
}


def part(weights, prefix):
    return {name: w for name, w in weights.items() if name.startswith(prefix)}


def test_images_alone_are_enough(make_aime):
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    seen = Dataset([Trajectory({"image": images})], Card("seen", "pendulum"))
    agent = make_aime("visual", sequence_length=5).learn(seen, 1)
    assert agent.world_model.probes
    assert agent.infer_actions(seen)[0].shape == (5, 1)


@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_policy_learns_and_the_world_model_only_if_asked(
    make_aime, pendulum, weights, same, setup, options
):
    agent = make_aime(setup, **options)
    before = weights(agent)
    agent.learn(pendulum, 3)
    after = weights(agent)
    policy = {**part(before, "policy.mean_net."), **part(before, "policy.std_net.")}
    assert not any(torch.equal(weight, after[name]) for name, weight in policy.items())
    assert same(part(before, "world_model."), part(after, "world_model.")) != agent.config.finetune


def test_every_variant_leads_to_another_policy(make_aime, pendulum, weights):
    policies = [
        weights(make_aime(**options).learn(pendulum, 3))["policy.mean_net.net.0.weight"]
        for options in OPTIONS.values()
    ]
    for index, first in enumerate(policies):
        assert not any(torch.equal(first, second) for second in policies[index + 1 :])


@pytest.mark.parametrize(
    "options",
    [
        {"num_demonstrations": 1},
        {"sequence_length": 6},
        {"batch_size": 5},
        {"learning_rate": 1e-2},
        {"grad_clip": 1e-3},
        {"decay_timesteps": 3},
        {"start_updates": 1},
        {"start_updates": 2, "start_learning_rate": 3e-3},
        {"action_prior": 1.0},
        {"initial_std": 0.1},
        {"refresh_interval": 2},
        {"sample_states": False},
        {"see_observation": True},
        {"standardize": True},
    ],
    ids=str,
)
def test_every_other_option_changes_the_policy(make_aime, pendulum, weights, same, options):
    plain = weights(make_aime().learn(pendulum, 3))
    assert not same(plain, weights(make_aime(**options).learn(pendulum, 3)))


def test_the_published_algorithm():
    paper = AIMEConfig.paper()
    assert (paper.batch_size, paper.sequence_length, paper.learning_rate) == (50, 50, 3e-4)
    assert paper.start_updates == paper.action_prior == 0
    assert not paper.standardize
    assert not paper.see_observation
    assert paper.sample_states
    assert paper.initial_std is paper.refresh_interval is None
    assert [paper.learning_rate_at(n) for n in (0, 10_000)] == [3e-4, 3e-4]
    decaying = AIMEConfig(learning_rate=1.0, decay_timesteps=100)
    assert [decaying.learning_rate_at(n) for n in (0, 50, 99)] == [1, 0.5, 0.1]


def test_a_new_policys_actions_vary_as_they_are_told_to(make_aime):
    std = make_aime(initial_std=0.05).policy(torch.zeros(7, 20)).std
    assert ((std > 0.02) & (std < 0.12)).all()


def test_the_start_brings_the_policy_to_inverse_dynamics(make_model, make_aime, pendulum_data):
    """And only the evidence after it moves the policy elsewhere."""
    data = pendulum_data(6, 16)
    model = make_model(training=TrainingConfig(8, 8, learning_rate=3e-3)).learn(data, 60)
    options = {"start_updates": 400, "start_learning_rate": 1e-2, "standardize": True}
    agent = make_aime(model=model, **options, refresh_interval=5, action_prior=0.1)
    agent.learn(data, 1)
    guided = np.concatenate(agent.infer_actions_by_inverse_dynamics(data))
    before = np.abs(np.concatenate(agent.infer_actions(data)) - guided).mean()
    agent.learn(data, 399, reset_num_timesteps=False)
    after = np.abs(np.concatenate(agent.infer_actions(data)) - guided).mean()
    assert after < 0.6 * before
    seen = {}
    agent.learn(
        data,
        3,
        callback=lambda values, _: seen.update(values["metrics"]) is None,
        reset_num_timesteps=False,
    )
    assert {"evidence_loss", "action_prior_loss", "total_loss"} <= seen.keys()
    assert agent.progress.updates == 403


def test_features_are_standardised_on_the_demonstrations(make_aime, pendulum):
    agent = make_aime(standardize=True).learn(pendulum, 1)
    standardizer = agent.policy.standardizer
    assert standardizer.fitted
    features = standardizer(agent._explanation[0])
    varied = standardizer.std != 1
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(20), atol=1e-4, rtol=0)
    assert ((features.std(dim=0, correction=0)[varied] - 1).abs() < 1e-3).all()


def test_windows_start_from_the_states_of_the_whole_demonstration(make_aime, pendulum):
    agent = make_aime(refresh_interval=1).learn(pendulum, 1)
    rows = torch.tensor([0, 3, 12, 20])  # Two of them start an episode of 12 rows.
    agent.take_states(agent._filter_all(agent._replay, agent.policy).states)
    before = agent._before_windows(rows)
    assert before.is_first.tolist() == [True, False, True, False]
    assert not before.state.deter[before.is_first].any()
    assert not before.embed[before.is_first].any()
    states = agent._filter_all(agent._replay, agent.policy).states
    torch.testing.assert_close(before.state.stoch[1], states.stoch[2])
    torch.testing.assert_close(before.state.deter[3], states.deter[19])
    embeds = agent._replay.map_rows(agent.world_model.embed)
    torch.testing.assert_close(before.embed[[1, 3]], embeds[[2, 19]])


@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
def test_a_policy_that_sees_the_observation(make_aime, pendulum, setup):
    """It sees the same in windows, in whole demonstrations and while it acts."""
    agent = make_aime(setup, see_observation=True, standardize=True, refresh_interval=1)
    agent.learn(pendulum, 2)
    model, policy = agent.world_model, agent.policy
    assert agent._explanation[0].shape[1] == model.feature_dim + model.embed_dim
    first = pendulum[:1]
    inferred = agent.infer_actions(first)[0]
    acted, state = [], None
    for index in range(len(inferred)):
        seen = np.concatenate([first[0].sensors[name][index] for name in agent.env_info.visible])
        action, state = agent.predict(seen, state, deterministic=True)
        acted.append(action)
    np.testing.assert_allclose(np.stack(acted), inferred, atol=1e-5)
    embeds = torch.randn(4, 3, model.embed_dim)
    features = torch.randn(4, 3, model.feature_dim)
    unrolled = policy.unroll(embeds)
    for feature, expected in zip(
        features, policy(policy.inputs(features, embeds)).mean, strict=True
    ):
        torch.testing.assert_close(unrolled(feature).mean, expected)


def test_the_action_prior_is_the_distance_from_inverse_dynamics(make_model, pendulum):
    """It scales with its weight, and the loss of the evidence is told without it."""
    net = make_model().net.requires_grad_(False)
    agent = AIMEAgent("AIME/pendulum-swingup-mdp", net, AIMEConfig.paper(), device="cpu")
    replay = agent._make_replay(pendulum, 5)
    observations, *_ = replay.gather(torch.arange(4), 5)
    generator = torch.Generator().manual_seed(0)
    noises = [torch.randn(5, 4, size, generator=generator) for size in (1, 4)]
    losses = {}
    for weight in (0.0, 1.0, 2.0):
        loss, metrics, _ = action_inference_loss(
            net,
            agent.policy,
            Windows(observations, net.embed(observations), *noises),
            Terms(action_prior=weight),
        )
        losses[weight] = loss.item()
        assert metrics["evidence_loss"].item() == pytest.approx(losses[0.0])
        if weight:
            distance = weight * metrics["action_prior_loss"].item()
            assert loss.item() - losses[0.0] == pytest.approx(distance, rel=1e-4)
    assert losses[1.0] > losses[0.0]
    assert losses[2.0] - losses[0.0] == pytest.approx(2 * (losses[1.0] - losses[0.0]), rel=1e-4)


def test_one_term_alone_has_its_factor(make_model, make_aime, pendulum):
    """As in the reference: the KL alone is scaled by kl_scale, too."""
    seen = {}
    for scale in (1.0, 0.5):
        agent = make_aime(model=make_model(kl_scale=scale), objective="kl_only")
        agent.learn(
            pendulum, 1, callback=lambda v, _, s=scale: seen.update({s: v["metrics"]}) is None
        )
    assert seen[0.5]["total_loss"] == pytest.approx(0.5 * seen[0.5]["kl_loss"])
    assert seen[1.0]["total_loss"] == pytest.approx(seen[1.0]["kl_loss"])


def test_only_the_policys_gradient_is_clipped(make_aime, pendulum, weights):
    """As in the reference: the world model that is trained along keeps its own."""
    agents = [make_aime(finetune=True, grad_clip=clip).learn(pendulum, 1) for clip in (1e-6, 1e6)]
    moments = [agent.optimizer.state_dict()["state"] for agent in agents]
    count = len(list(agents[0].policy.parameters()))
    for index, state in moments[0].items():
        same = torch.allclose(state["exp_avg"], moments[1][index]["exp_avg"])
        assert same == (index >= count) or not state["exp_avg"].any()


def test_a_model_without_inverse_dynamics_needs_the_published_algorithm(make_model):
    model = make_model(idm="none")
    with pytest.raises(ValueError, match=r"start_updates needs .*AIMEConfig\.paper\(\)"):
        AIMEAgent("AIME/pendulum-swingup-mdp", model, device="cpu")
    AIMEAgent("AIME/pendulum-swingup-mdp", model, AIMEConfig.paper(), device="cpu")


def test_data_far_from_the_models_are_told(make_model, make_aime, pendulum):
    model = make_model().learn(pendulum, 1)
    far = pendulum.map(
        lambda t: dataclasses.replace(
            t, sensors={**t.sensors, "velocity": t.sensors["velocity"] + 1_000}
        )
    )
    with pytest.warns(UserWarning, match=r"'velocity' of 'pendulum-toy' lies up to \d+ standard"):
        make_aime(model=model).learn(far, 1)


def test_the_learner_is_not_the_given_model(make_model, make_aime, pendulum, weights, same):
    model = make_model(reward=True)
    before = weights(model)
    agent = make_aime(model=model, finetune=True).learn(pendulum, 2)
    assert same(before, weights(model))
    assert "reward" not in agent.world_model.decoders


@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_actions_and_rewards_are_never_read(make_aime, pendulum, weights, same, setup, options):
    with_actions = make_aime(setup, **options).learn(pendulum, 3)
    stripped = make_aime(setup, **options).learn(pendulum.observations_only(), 3)
    wrong = pendulum.map(lambda t: dataclasses.replace(t, actions=-t.actions, rewards=None))
    assert same(weights(with_actions), weights(stripped))
    assert same(weights(with_actions), weights(make_aime(setup, **options).learn(wrong, 3)))


def test_the_seed_decides(make_aime, pendulum, weights, same):
    first, again, other = (make_aime(seed=seed).learn(pendulum, 3) for seed in (1, 1, 2))
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def test_embeddings_are_computed_once_and_only_where_they_stay(make_model, make_aime, pendulum):
    frozen = make_aime(model=make_model(cell="rssmo"))
    trained = make_aime(model=make_model(cell="rssmo"), finetune=True)
    for agent in (frozen, trained):
        agent.learn(pendulum, 1)
    batch = frozen._replay.gather(torch.arange(3), 5)
    torch.testing.assert_close(batch.embeds, frozen.world_model.embed(batch.observations))
    assert trained._replay.gather(torch.arange(3), 5).embeds is None


def test_the_loss_falls(make_model, make_aime, pendulum_data):
    """On a model that has learnt the toy, the demonstrations become more likely."""
    data = pendulum_data(8, 16)
    model = make_model(training=TrainingConfig(8, 8, learning_rate=3e-3)).learn(data, 100)
    agent = make_aime(model=model, learning_rate=1e-2, batch_size=8, sequence_length=16)
    agent.learn(data, 1)
    observations, _, embeds, _ = agent._replay.gather(torch.arange(8), 16)
    generator = torch.Generator().manual_seed(0)
    noises = [torch.randn(16, 8, size, generator=generator) for size in (1, 4)]

    @torch.no_grad()
    def loss():
        windows = Windows(observations, embeds, *noises)
        return action_inference_loss(agent.world_model, agent.policy, windows)[0].item()

    before = loss()
    agent.learn(data, 40)
    assert loss() < before - 0.5


def test_logged_metrics(make_aime, pendulum):
    seen = {}
    make_aime("lpomdp", guidance=True).learn(
        pendulum, 1, callback=lambda values, _: seen.update(values["metrics"]) is None
    )
    expected = (
        "elbo rec_term kl_term kl_loss reconstruction_loss action_kl_loss total_loss grad_norm"
    )
    assert set(expected.split()) <= set(seen)
    assert "velocity_probe_mse" in seen
    assert seen["elbo"].item() == pytest.approx((seen["rec_term"] + seen["kl_term"]).item())


def test_kl_scale_weighs_the_divergence_of_states_and_of_actions(make_model):
    torch.manual_seed(0)
    losses = {}
    for scale in (0.0, 1.0, 3.0):
        net = make_model(kl_scale=scale, seed=3).net
        generator = torch.Generator().manual_seed(0)
        observations = {"orientation": torch.ones(4, 2, 2), "velocity": torch.ones(4, 2, 1)}
        noise = [torch.randn(4, 2, size, generator=generator) for size in (1, 4)]
        loss, metrics, _ = action_inference_loss(
            net,
            policy_of(net),
            Windows(observations, net.embed(observations), *noise),
            Terms(guidance=True),
        )
        losses[scale] = loss.item()
        extra = (metrics["kl_loss"] + metrics["action_kl_loss"]).item()
        expected = metrics["reconstruction_loss"].item() + scale * extra
        assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert losses[3.0] - losses[0.0] == pytest.approx(3 * (losses[1.0] - losses[0.0]), rel=1e-4)


def policy_of(net):
    torch.manual_seed(5)
    return NormalHead(net.feature_dim, net.action_dim, MLPConfig(8))


# Inferred actions


def test_inferred_actions(make_aime, pendulum, pendulum_data):
    agent = make_aime("lpomdp").learn(pendulum, 2)
    mixed = pendulum + pendulum_data(1, 7, seed=5)
    actions = agent.infer_actions(mixed)
    assert [a.shape for a in actions] == [(11, 1)] * 3 + [(6, 1)]
    assert all(a.dtype == np.float32 and (np.abs(a) <= 1).all() for a in actions)
    for first, second in zip(actions, agent.infer_actions(mixed.observations_only()), strict=True):
        np.testing.assert_array_equal(first, second)


def test_demonstrations_of_equal_length_are_explained_together(make_aime, pendulum_data):
    agent = make_aime("lpomdp", batch_size=2)
    mixed = pendulum_data(1, 9, seed=1) + pendulum_data(3, 12) + pendulum_data(2, 9, seed=2)
    together = agent.infer_actions(mixed)
    for index, actions in enumerate(together):
        (alone,) = agent.infer_actions(mixed[index : index + 1])
        np.testing.assert_allclose(actions, alone, atol=1e-6)


def test_the_sizes_of_probed_sensors_are_checked(make_aime, pendulum):
    wide = [
        Trajectory({**t.sensors, "velocity": np.tile(t.sensors["velocity"], 2)}) for t in pendulum
    ]
    with pytest.raises(ValueError, match=r"'velocity'.* has 2 values; needed are 1"):
        make_aime("lpomdp").learn(Dataset(wide, pendulum.card), 1)


def test_the_figure_compares_with_true_actions(make_aime, pendulum, tmp_path):
    agent = make_aime()
    scores = plot_inferred_actions(agent, pendulum, tmp_path / "figures" / "actions.png")
    assert scores.shape == (1,)
    assert (tmp_path / "figures" / "actions.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no actions"):
        plot_inferred_actions(agent, pendulum.observations_only(), tmp_path / "other.png")


def test_determination():
    true = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]])
    np.testing.assert_allclose(determination(true, true), 1)
    np.testing.assert_allclose(determination(true, np.broadcast_to([1, 2], (3, 2))), 0)
    np.testing.assert_allclose(determination(true, true + np.eye(3, 2) * [1, 0]), [0.5, 1])


# What does not fit


def test_guidance_needs_inverse_dynamics(make_model, make_aime):
    with pytest.raises(ValueError, match="inverse dynamics"):
        make_aime(model=make_model(idm="none"), guidance=True)


def test_a_world_model_of_another_setup_or_body(make_model, make_aime):
    with pytest.raises(
        ValueError,
        match=r"does not fit AIME/pendulum-swingup-mdp.*of pendulum, lpomdp.*of pendulum, mdp",
    ):
        make_aime("mdp", make_model("lpomdp"))
    cartpole = WorldModel("AIME/cartpole-balance-mdp", WorldModelConfig().narrow(8), device="cpu")
    with pytest.raises(
        ValueError, match=r"It is of cartpole, mdp.*AIME/pendulum-swingup-mdp is of pendu"
    ):
        make_aime("mdp", cartpole)


def test_a_world_model_may_be_of_another_task(make_aime):
    config = WorldModelConfig().narrow(8)
    model = WorldModel("AIME/cartpole-swingup-mdp", config, device="cpu")
    assert (
        AIMEAgent("AIME/cartpole-balance-mdp", model).env_info.env_id == "AIME/cartpole-balance-mdp"
    )


def test_a_world_model_by_name_or_path(make_model, pendulum, places, monkeypatch, weights, same):
    model = make_model()
    model.save(places / "models" / "swing" / "model.zip")
    for name in ("swing", places / "models" / "swing" / "model.zip"):
        agent = AIMEAgent("AIME/pendulum-swingup-mdp", name, device="cpu")
        assert same(dict(model.net.state_dict()), dict(agent.world_model.state_dict()))


def test_curves_are_drawn_where_there_are_values(tmp_path):
    progress, path = tmp_path / "progress.csv", tmp_path / "figures" / "curve.png"
    assert not plot_curve(progress, path)
    progress.write_text("time/total_timesteps,train/elbo,eval/score\n1,-3.0,\n2,-2.0,\n")
    assert not plot_curve(progress, path)
    assert not path.exists()
    assert plot_metric(progress, "train/elbo", path, "evidence lower bound (nats)")
    assert path.exists()


def test_the_loss_of_demonstrations_is_that_of_learning_per_row(make_aime, pendulum, pendulum_data):
    """Means and modes in place of samples; demonstrations count by their rows."""
    agent = make_aime()
    long, short = pendulum[:1], pendulum_data(1, rows=6, seed=3)
    for data in (long, short):
        replay = agent._make_replay(data, length=1)
        rows = len(replay)
        observations = {name: column[:, None] for name, column in replay.columns.items()}
        embeds = agent.world_model.embed(observations)
        inferred = torch.from_numpy(agent.infer_actions(data)[0])
        actions = torch.cat([torch.zeros(1, 1), inferred])[:, None]
        noise = torch.zeros(rows, 1, agent.world_model.config.stoch_dim)
        with torch.no_grad():
            filtered = agent.world_model.filter(embeds, noise, actions)
            reconstruction, kl, _ = agent.world_model.evidence(
                filtered, filtered.latents.feature, observations
            )
        expected = float(reconstruction + agent.world_model.config.kl_scale * kl) / rows
        assert agent.evidence_loss(data) == pytest.approx(expected, rel=1e-4)
    both = agent.evidence_loss(long + short)
    parts = 12 * agent.evidence_loss(long) + 6 * agent.evidence_loss(short)
    assert both == pytest.approx(parts / 18, rel=1e-5)


def test_the_loss_of_demonstrations_falls_while_it_learns(make_aime, pendulum):
    agent = make_aime(learning_rate=1e-2, batch_size=16)
    before = agent.evidence_loss(pendulum)
    assert agent.learn(pendulum, 60).evidence_loss(pendulum) < before
    silent = pendulum.observations_only()
    assert agent.evidence_loss(silent) == agent.evidence_loss(pendulum)
