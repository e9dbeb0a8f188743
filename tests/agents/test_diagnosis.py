"""The measurements of a diagnosis, its verdicts, and three made-up cases.

The toy is a cart on a line. Far to the right there blows a wind that random actions never meet;
the expert drives there and stays.
"""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from agents import AIMEAgent, AIMEConfig, TrainingConfig, WorldModel, WorldModelConfig
from agents.action_inference import Windows, action_inference_loss
from agents.diagnosis import (
    HEADER,
    Diagnosis,
    OneStep,
    Score,
    diagnose,
    imitate_true_actions,
    losses_of_actions,
    plot_diagnosis,
)
from agents.nets import MLPConfig
from agents.replay import make_replay
from aime_gym.datasets import Card, Dataset, Trajectory

TARGET, STEPS = 4.0, 30
QUICK = {"episodes": 2, "updates": 5}


def wind(x):
    return -0.3 * np.clip(x - 2, 0, 1)


def advance(state, action):
    x, speed = state[..., 0], state[..., 1]
    speed = 0.5 * speed + 0.5 * action + wind(x)
    return np.stack([x + 0.3 * speed, speed], axis=-1)


class WindyCart(gym.Env):
    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.array([self.np_random.uniform(-0.5, 0.5), 0.0])
        return self.state.astype(np.float32), {}

    def step(self, action):
        self.state = advance(self.state, float(action[0]))
        reward = float(np.exp(-((self.state[0] - TARGET) ** 2)))
        return self.state.astype(np.float32), reward, False, False, {}


def towards(target):
    """The actions that drive to a target, against the wind."""

    def choose(state):
        x, speed = state.T
        return 0.95 * np.tanh(0.8 * (target - x) - 0.5 * speed - 2 * wind(x))

    return choose


@pytest.fixture(scope="module", autouse=True)
def windy():
    """The toy's id."""
    gym.register("WindyCart-v0", WindyCart, max_episode_steps=STEPS)
    yield "WindyCart-v0"
    del gym.registry["WindyCart-v0"]


def episodes(count, choose, seed, noise=0.0, start=0.5):
    """Episodes of what chooses actions; a state is [count, 2]."""
    generator = np.random.default_rng(seed)
    state = np.stack([generator.uniform(-start, start, count), np.zeros(count)], axis=1)
    states, actions = [state], []
    for _ in range(STEPS):
        noisy = choose(state) + noise * generator.normal(size=count)
        actions.append(np.clip(noisy, -1, 1).astype(np.float32))
        states.append(state := advance(state, actions[-1]))
    rows, moves = np.stack(states, axis=1).astype(np.float32), np.stack(actions, axis=1)
    rewards = np.exp(-np.square(rows[:, 1:, 0] - TARGET))
    return Dataset(
        [
            Trajectory({"observation": seen}, did[:, None], got)
            for seen, did, got in zip(rows, moves, rewards, strict=True)
        ],
        Card("cart", "WindyCart"),
    )


def at_random(seed, count):
    generator = np.random.default_rng(seed)
    return episodes(count, lambda state: generator.uniform(-1, 1, len(state)), seed)


@pytest.fixture(scope="module")
def demonstrations():
    return episodes(20, towards(TARGET), seed=0, noise=0.05)


@pytest.fixture(scope="module")
def random_data():
    return at_random(1, 80)


@pytest.fixture(scope="module")
def wide_data():
    """Random episodes, and noisy drives to everywhere."""
    targets = np.random.default_rng(2).uniform(-1, 5, 160)
    return episodes(160, towards(targets), seed=3, noise=0.3) + at_random(4, 40)


def world_model(data, updates=800):
    config = WorldModelConfig().narrow(32)
    training = TrainingConfig(16, 16, 3e-3, decay_timesteps=updates)
    return WorldModel("WindyCart-v0", config, training, device="cpu").learn(data, updates)


@pytest.fixture(scope="module")
def narrow_model(random_data):
    return world_model(random_data)


@pytest.fixture(scope="module")
def good_model(wide_data):
    return world_model(wide_data)


def imitator(model, **options):
    settings = {"policy": MLPConfig(32), "sequence_length": 16, "batch_size": 8, **options}
    return AIMEAgent("WindyCart-v0", model, AIMEConfig(**settings), device="cpu")


# Three made-up cases


def test_a_model_that_has_seen_random_data_alone(narrow_model, demonstrations, random_data):
    agent = imitator(narrow_model, start_updates=300).learn(demonstrations, 300)
    found = diagnose(agent, demonstrations, random_data, episodes=5, updates=300)
    assert found.culprit == "data", found.rows()
    assert "has not yet been" in found.verdict
    assert diagnose(narrow_model, demonstrations, random_data, **QUICK).culprit == "data"


def test_a_policy_with_two_updates(good_model, demonstrations, wide_data):
    agent = imitator(good_model, start_updates=0).learn(demonstrations, 2)
    found = diagnose(agent, demonstrations, wide_data, episodes=5, updates=600)
    assert found.culprit == "policy", found.rows()
    assert found.score.percent < 0.5 * found.ceiling.percent


def test_a_good_model_and_its_policy(good_model, demonstrations, wide_data):
    agent = imitator(good_model, start_updates=600).learn(demonstrations, 620)
    found = diagnose(agent, demonstrations, wide_data, episodes=5, updates=600)
    assert found.culprit == "nothing", (found.rows(), found.verdict)
    assert found.r2["inverse dynamics"][0] > 0
    assert found.score.percent > 85
    assert found.left_out == ()
    alone = diagnose(good_model, demonstrations, wide_data, episodes=5, updates=600)
    assert (alone.culprit, alone.score) == ("nothing", None)


def test_a_model_that_has_hardly_learnt(wide_data, demonstrations):
    found = diagnose(world_model(wide_data, 2), demonstrations, wide_data, **QUICK)
    assert found.culprit == "model"
    assert "even on embodiment data" in found.verdict
    assert found.separated["noisy"] < 0.9  # Small differences drown in the sampling of states.


# The measurements


def test_losses_are_the_models_own_evidence(good_model, demonstrations):
    net = good_model.net
    replay = make_replay(demonstrations, good_model.env_info, {"observation": 2}, 10)
    batch = replay.gather(torch.arange(0, 40, 3), 10)
    losses = losses_of_actions(net, replay, batch, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn((10, 14, net.config.stoch_dim), generator=generator)
    embeds = net.embed(batch.observations)
    with torch.no_grad():
        filtered = net.filter(embeds, noise, batch.prev_actions)
        reconstruction, kl, _ = net.evidence(filtered, filtered.latents.feature, batch.observations)
    assert losses["true"].mean().item() == pytest.approx((reconstruction + kl).item(), rel=1e-4)
    assert list(losses) == ["true", "noisy", "zero", "shuffled"]
    assert all(loss.shape == (14,) for loss in losses.values())
    assert losses["true"].mean() < losses["zero"].mean()


def test_losses_are_those_of_phase_two(good_model, demonstrations):
    """A policy without spread that always gives the same action has that action's loss."""
    agent = imitator(good_model, standardize=False, start_updates=0)
    with torch.no_grad():
        for weight in agent.policy.parameters():
            weight.zero_()
        agent.policy.std_net.net[-1].bias.fill_(-50.0)
    replay = make_replay(demonstrations, agent.env_info, {"observation": 2}, 10)
    batch = replay.gather(torch.arange(5, 11), 10)  # From the first demonstration, not its start.
    losses = losses_of_actions(agent.world_model, replay, batch, torch.Generator().manual_seed(1))
    noise = torch.randn(
        (10, 6, agent.world_model.config.stoch_dim), generator=torch.Generator().manual_seed(1)
    )
    embeds = agent.world_model.embed(batch.observations)
    loss, _, _ = action_inference_loss(
        agent.world_model,
        agent.policy,
        Windows(batch.observations, embeds, torch.zeros(10, 6, 1), noise),
    )
    assert losses["zero"].mean().item() == pytest.approx(loss.item(), rel=1e-4)


def test_no_action_leads_to_a_first_row(good_model, demonstrations):
    net = good_model.net
    replay = make_replay(demonstrations, good_model.env_info, {"observation": 2}, 1)
    batch = replay.gather(torch.arange(0, 62, 31), 1)  # Windows of a first row alone.
    losses = losses_of_actions(net, replay, batch, torch.Generator().manual_seed(1))
    assert all(torch.equal(loss, losses["true"]) for loss in losses.values())


def test_errors_on_embodiment_data_are_those_in_its_deviations(good_model, wide_data):
    plain = diagnose(good_model, wide_data.observations_only(), wide_data)
    stretched = wide_data.map(
        lambda t: dataclasses.replace(t, sensors={"observation": 2 * t.sensors["observation"]})
    )
    assert plain.on_embodiment.mean == pytest.approx(plain.on_embodiment.sensors["observation"])
    assert plain.on_embodiment.mean < 0.3
    # Another unit of the errors alone: the same demonstrations, data twice as wide.
    demonstrations = wide_data[:5]
    scales = [
        diagnose(good_model, demonstrations, data, **QUICK).on_demonstrations.mean
        for data in (wide_data, stretched)
    ]
    assert scales[0] == pytest.approx(4 * scales[1], rel=1e-3)


def test_a_regressed_policy_knows_the_true_actions(good_model, demonstrations):
    agent = imitator(good_model)
    true = np.concatenate([t.actions for t in demonstrations])
    before = np.square(np.concatenate(agent.infer_actions(demonstrations)) - true).mean()
    error = imitate_true_actions(agent, demonstrations, 300)
    after = np.square(np.concatenate(agent.infer_actions(demonstrations)) - true).mean()
    assert agent.policy.standardizer.fitted
    assert error < 0.05
    assert after < 0.5 * before


def test_demonstrations_of_several_lengths(good_model, demonstrations):
    mixed = demonstrations[:2] + Dataset([demonstrations[2].window(0, 7)], demonstrations.card)
    assert imitate_true_actions(imitator(good_model), mixed, 2) > 0
    assert diagnose(good_model, mixed, **QUICK).losses


def test_the_agent_stays_as_it_is(good_model, demonstrations, weights, same):
    agent = imitator(good_model)
    before = weights(agent)
    diagnose(agent, demonstrations, **QUICK)
    assert same(before, weights(agent))


def test_the_seed_decides(good_model, demonstrations):
    first, again, other = (
        diagnose(good_model, demonstrations, seed=seed, **QUICK) for seed in (0, 0, 1)
    )
    assert first == again
    assert first.losses != other.losses


# What is left out


def test_demonstrations_without_actions(good_model, demonstrations, wide_data):
    blind = demonstrations.observations_only()
    found = diagnose(imitator(good_model), blind, wide_data, **QUICK)
    assert found.on_demonstrations is None
    assert (found.losses, found.separated, found.r2, found.ceiling) == ({}, {}, {}, None)
    assert found.on_embodiment is not None
    assert found.score is not None
    assert found.culprit == "unknown"
    assert any("'cart' has demonstrations without actions" in text for text in found.left_out)
    nothing = diagnose(good_model, blind)
    assert (nothing.culprit, nothing.rows()) == ("unknown", [])


def test_without_a_policy_or_embodiment_data(good_model, demonstrations):
    found = diagnose(good_model, demonstrations, **QUICK)
    assert found.score is None
    assert list(found.r2) == ["inverse dynamics"]
    assert found.on_demonstrations is not None
    assert found.on_embodiment is None
    policy, embodiment = found.left_out
    assert policy == "There is a world model alone: neither R2 nor score of a policy."
    assert embodiment == "There are no embodiment data: no one-step error on them."


def test_without_inverse_dynamics_standardised_sensors_or_id(make_model, make_aime, pendulum):
    model = make_model(idm="none", standardize=False)
    model.env_info = model.net.info = dataclasses.replace(model.env_info, env_id=None)
    found = diagnose(model, pendulum, updates=2)
    assert found.on_demonstrations is None
    assert (found.r2, found.ceiling) == ({}, None)
    text = " ".join(found.left_out)
    assert "does not standardise its sensors: no one-step errors" in text
    assert "no inverse dynamics: no R2" in text
    assert "no id under which to make it: no scores" in text


def test_images_have_no_one_step_error(make_model):
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    seen = Dataset([Trajectory({"image": images})], Card("seen", "pendulum"))
    found = diagnose(make_model("visual"), seen, **QUICK)
    assert any("sees images alone: no one-step errors" in text for text in found.left_out)


def test_returns_stand_where_no_expert_is_known(good_model, demonstrations):
    without = demonstrations.map(lambda t: dataclasses.replace(t, rewards=None))
    found = diagnose(imitator(good_model), without, **QUICK)
    assert found.score.percent is None
    assert "No expert's return is known" in found.left_out[-1]
    assert str(found.score) == f"return {found.score.mean_return:.1f}"


@pytest.mark.parametrize(
    ("subject", "changes", "error", "message"),
    [
        ("model", {"episodes": 0}, ValueError, "At least one episode"),
        ("model", {"updates": 0}, ValueError, "one update"),
        ("walker-mix-mdp", {}, TypeError, "takes an AIMEAgent or a WorldModel first, not str"),
    ],
)
def test_wrong_input(good_model, demonstrations, subject, changes, error, message):
    subject = good_model if subject == "model" else subject
    with pytest.raises(error, match=message):
        diagnose(subject, demonstrations, **changes)


def test_embodiment_data_of_another_body(good_model, demonstrations, pendulum):
    with pytest.raises(ValueError, match="is of body 'pendulum'; needed is 'WindyCart'"):
        diagnose(good_model, demonstrations, pendulum)


# Verdicts


def scored(percent):
    return percent and Score(10 * percent, percent, (percent - 1, percent + 1))


def measured(shown=0.1, seen=0.1, noisy=0.9, shuffled=1.0, score=50.0, ceiling=55.0, **changes):
    values = {
        "on_demonstrations": OneStep({"s": shown}, shown),
        "on_embodiment": OneStep({"s": seen}, seen),
        "losses": {"true": 1.0, "noisy": 2.0, "shuffled": 3.0},
        "separated": {"noisy": noisy, "shuffled": shuffled},
        "r2": {"inverse dynamics": [0.5, 0.7]},
        "score": scored(score),
        "ceiling": scored(ceiling),
        "left_out": ("One thing.",),
    }
    return Diagnosis(**{**values, **changes})


@pytest.mark.parametrize(
    ("found", "culprit", "words"),
    [
        (measured(score=90.0, seen=2.0), "nothing", "scores 90% of the expert"),
        (measured(seen=0.4), "model", "0.40 squared deviations"),
        (measured(seen=0.4, shown=9.0), "model", "train it longer"),
        (measured(shown=0.5), "data", "5.0 times"),
        (measured(shown=0.25, score=45.0), "unknown", "told the true actions"),
        (measured(shown=0.08, seen=0.01, ceiling=95.0), "policy", "scores 95%"),
        (measured(noisy=0.5, shuffled=0.6), "model", "no more than 60% of the windows"),
        (measured(noisy=0.9, shuffled=0.5, ceiling=90.0), "policy", "scores 50%"),
        (measured(score=50.0, ceiling=59.0), "unknown", "too few demonstrations"),
        (measured(score=78.0, ceiling=80.0), "nothing", "about as well"),
        (measured(on_embodiment=None, shown=0.5), "unknown", "embodiment data would tell"),
        (measured(on_embodiment=None, ceiling=90.0), "policy", "one that was told"),
        (measured(score=None, ceiling=90.0), "unknown", "the policy is unknown"),
        (measured(ceiling=None), "unknown", "the policy is unknown"),
        (measured(score=None, ceiling=90.0, has_policy=False), "nothing", "Neither model nor data"),
        (measured(score=None, ceiling=None), "unknown", "the policy is unknown"),
    ],
)
def test_verdicts(found, culprit, words):
    assert found.culprit == culprit
    assert words in found.verdict
    assert found.verdict.count(". ") == 0


def test_a_diagnosis_survives_json():
    for found in (measured(), Diagnosis(), measured(score=90.0)):
        text = json.dumps(found.to_json())
        assert Diagnosis.from_json(json.loads(text)) == found
        assert json.loads(text)["culprit"] == found.culprit
        assert json.loads(text)["verdict"] == found.verdict


def test_the_table_has_every_measurement():
    rows = measured().rows()
    assert all(len(row) == len(HEADER) for row in rows)
    assert ("one-step error, demonstrations (squared deviations)", "s", "0.100") in rows
    assert ("R2, inverse dynamics", "joint 1", "0.70") in rows
    assert ("R2, inverse dynamics", "all joints", "0.60") in rows
    assert ("score (of the expert)", "policy", "50.0% (49.0 to 51.0)") in rows
    noisy = next(row for row in rows if row[1] == "noisy actions")
    assert noisy[2] == "2.0; above the true in 90% of the windows"


@pytest.mark.parametrize("found", [measured(), Diagnosis()], ids=["all", "nothing"])
def test_figure(found, tmp_path):
    path = plot_diagnosis(found, tmp_path / "figures" / "diagnosis.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
