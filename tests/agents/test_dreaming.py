"""Dreamer and Plan2Explore: their losses by hand, what they collect, and that they go on."""

import dataclasses

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from agents.distributions import Normal
from agents.dreamer import DreamerAgent, DreamerConfig
from agents.nets import MLPConfig, RunningStandardizer
from agents.plan2explore import Plan2ExploreAgent, Plan2ExploreConfig
from agents.returns import lambda_returns
from agents.runs import predictions
from agents.runs.predictions import PredictionCallback
from agents.runs.recipe import Run, train
from agents.runs.recipes import DreamerRecipe, Plan2ExploreRecipe
from agents.runs.recording import MARK, check_mark, set_mark
from agents.world_models.config import TrainingConfig, WorldModelConfig
from agents.world_models.dreaming import ReturnScale
from agents.world_models.imagination import (
    advantages,
    policy_loss,
    reinforced,
    value_loss,
)
from agents.world_models.world_model import WorldModel
from aime_gym.datasets import collect, load_dataset
from aime_gym.envs.dm_control import environment

ENV = "AIME/cartpole-balance-mdp"
ACTION_REPEAT = 8  # Control steps of an agent step.
EPISODE = 20  # Agent steps of an episode of a run.
KINDS = {
    "dreamer": (DreamerAgent, DreamerConfig),
    "plan2explore": (Plan2ExploreAgent, Plan2ExploreConfig),
}
TINY = {
    "random_episodes": 2,
    "pretrain_updates": 2,
    "round_updates": 2,
    "horizon": 3,
    "imagined_states": 6,
    "policy": MLPConfig(8),
    "value": MLPConfig(8),
    "world_model": WorldModelConfig.rssmo().narrow(8),
    "training": TrainingConfig(sequence_length=5, batch_size=4),
}


@pytest.fixture(params=KINDS)
def make_dreaming(request):
    """A function that makes a small agent."""
    agent_class, config_class = KINDS[request.param]

    def make(env=ENV, seed=0, pretrained=None, **options):
        config = config_class(**{**TINY, **options})
        return agent_class(env, config, pretrained, seed=seed, device="cpu")

    return make


@pytest.fixture
def make_recipe(request, make_dreaming, monkeypatch, tmp_path):
    """A function that makes a recipe whose small preset is tiny."""
    recipe_class = {
        DreamerAgent: DreamerRecipe,
        Plan2ExploreAgent: Plan2ExploreRecipe,
    }[type(make_dreaming())]
    monkeypatch.setattr("agents.runs.recipes.agent.EPISODES", 2)
    monkeypatch.setattr(environment, "CONTROL_STEPS", ACTION_REPEAT * EPISODE)
    tiny = classmethod(lambda cls: cls(**TINY))
    monkeypatch.setattr(recipe_class.config_class, "small", tiny)

    def make(total_timesteps, **options):
        folders = {"folder": tmp_path / "run", "record": tmp_path / "episodes"}
        return recipe_class(
            env=ENV,
            total_timesteps=total_timesteps,
            evaluation_interval=1_000,
            checkpoint_interval=EPISODE,
            device="cpu",
            **{**folders, **options},
        )

    return make


# By hand


def test_lambda_returns_by_hand():
    rewards = torch.tensor([1.0, 2.0, 9.0])
    values = torch.tensor([5.0, 10.0, 20.0])
    found = lambda_returns(rewards, values, 0.5, 0.25)
    last = 2 + 0.5 * (0.75 * 20 + 0.25 * 20)
    first = 1 + 0.5 * (0.75 * 10 + 0.25 * last)
    torch.testing.assert_close(found, torch.tensor([first, last]))


@pytest.mark.parametrize("trace", [0.0, 1.0])
def test_lambda_returns_at_the_ends(trace):
    rewards, values = torch.rand(4, 3), torch.rand(4, 3)
    found = lambda_returns(rewards, values, 0.9, trace)
    if trace == 0:
        torch.testing.assert_close(found, rewards[:3] + 0.9 * values[1:])
    else:
        expected = rewards[0] + 0.9 * rewards[1] + 0.81 * rewards[2] + 0.729 * values[3]
        torch.testing.assert_close(found[0], expected)


def test_the_policys_loss_by_hand():
    returns = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
    far = Normal(torch.full((3, 2, 1), 0.88), torch.full((3, 2, 1), 0.88))
    expected = -(0.9 * 1 + 0.9 * 3 + 0.81 * 2 + 0.81 * 4) / 4 + 0.1 * 0.5
    assert policy_loss(returns, far, 0.9, 0.1).item() == pytest.approx(expected, rel=1e-6)


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0], [2.0], [3.0], [9.0]])
    values = torch.tensor([[5.0], [6.0], [7.0], [8.0]])
    returns = torch.tensor([[4.0], [10.0], [20.0]], requires_grad=True)
    found = advantages(rewards, values, returns, 0.5)
    assert found.tolist() == [[10 - (5 - 1) / 0.5], [20 - (6 - 2) / 0.5]]
    assert not found.requires_grad


def test_advantages_of_what_the_values_say_are_zero():
    rewards, values = torch.tensor([[1.0], [2.0], [4.0]]), torch.zeros(3, 1)
    values[2] = 6.0
    values[1] = 2 + 0.9 * values[2]
    values[0] = 1 + 0.9 * values[1]
    returns = lambda_returns(rewards, values, 0.9, 0.3)
    torch.testing.assert_close(advantages(rewards, values, returns, 0.9), torch.zeros(1, 1))


def test_reinforces_gradient_by_hand():
    mean = torch.zeros(4, 2, 1, requires_grad=True)
    std = torch.full((4, 2, 1), 0.5)
    beneath = torch.tensor([9.0, 0.1, -0.2, 9.0])[:, None, None].expand(4, 2, 1)
    gains = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    reinforced(gains, Normal(mean, std), beneath).sum().backward()
    slopes = gains[..., None] * beneath[1:3] / 0.5**2  # Of log N in its mean: error / variance.
    torch.testing.assert_close(mean.grad[1:3], slopes)
    assert mean.grad[0].abs().max() == mean.grad[3].abs().max() == 0


def test_reinforces_gradient_is_that_of_the_mean_return():
    """On E[(tanh z + 1)^2], whose gradient through the action is known."""
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    gradients = []
    for through in (True, False):
        mean = torch.tensor(0.3, requires_grad=True)
        drawn = mean + 0.6 * noise if through else (mean + 0.6 * noise).detach()
        gains = (torch.tanh(drawn) + 1).square()
        if not through:
            choices = Normal(mean.expand(3, 200_000, 1), torch.full((3, 200_000, 1), 0.6))
            better = (gains - gains.mean())[None, :, 0]
            gains = reinforced(better, choices, drawn.expand(3, -1, -1))
        gains.mean().backward()
        gradients.append(mean.grad.item())
    assert gradients[1] == pytest.approx(gradients[0], rel=0.02)


def test_the_range_of_returns_by_hand():
    returns = torch.arange(101.0).reshape(1, 101).requires_grad_()
    scale = ReturnScale(torch.zeros(()))
    assert float(scale.update(returns)) == pytest.approx(90)  # From 5 to 95.
    assert float(scale.update(2 * returns)) == pytest.approx(0.99 * 90 + 0.01 * 180)
    assert not scale.range.requires_grad
    assert float(ReturnScale(torch.zeros(())).update(returns / 1000)) == 1


def test_the_values_loss_by_hand():
    value = nn.Linear(1, 1)
    nn.init.constant_(value.weight, 2.0)
    nn.init.constant_(value.bias, 0.0)
    after = torch.tensor([[[1.0]], [[2.0]]], requires_grad=True)
    returns = torch.tensor([[10.0], [50.0]], requires_grad=True)
    loss = value_loss(value, after, returns, 0.9)
    assert loss.item() == pytest.approx(0.5 * ((2 - 1) ** 2 + (4 - 5) ** 2) / 2, rel=1e-5)
    loss.backward()
    assert after.grad is None
    assert returns.grad is None


# Learning


def test_rounds_collect_whole_episodes(make_dreaming):
    agent = make_dreaming().learn(3 * 125)
    assert agent.rounds.count == 2  # Two random episodes, then one of its own.
    assert agent.replay.lengths == [126] * 3
    assert agent.num_timesteps == 375
    assert agent.replay.prev_actions.abs().max() <= 1


def test_random_episodes_cover_the_action_range(make_dreaming):
    agent = make_dreaming().learn(250)
    actions = agent.replay.prev_actions[1:126]
    assert actions.min() < -0.9
    assert actions.max() > 0.9


def test_rewards_belong_to_the_rows_they_led_to():
    agent = DreamerAgent(ENV, DreamerConfig(**TINY), device="cpu").learn(250)
    assert agent.replay.columns["reward"][0] == 0
    episode = agent.episodes[0]
    np.testing.assert_allclose(
        agent.replay.columns["reward"][1:126, 0].numpy(), episode.rewards, rtol=1e-6
    )


def test_the_reward_has_a_network_of_its_own():
    like_sensors = DreamerAgent(ENV, DreamerConfig(**TINY), device="cpu").world_model
    kind = type(like_sensors.decoders["position"])
    assert type(like_sensors.decoders["reward"]) is kind
    own = dataclasses.replace(TINY["world_model"], reward_net=MLPConfig(4, 2))
    config = DreamerConfig(**{**TINY, "world_model": own})
    agent = DreamerAgent(ENV, config, device="cpu").learn(250)
    assert type(agent.world_model.decoders["position"]) is kind
    decoder = agent.world_model.decoders["reward"]
    assert [m.out_features for m in decoder.modules() if isinstance(m, nn.Linear)] == [4, 4, 1]
    assert torch.equal(decoder(torch.ones(agent.world_model.feature_dim)).std, torch.ones(1))


def test_plan2explore_reads_no_reward():
    agent = Plan2ExploreAgent(ENV, Plan2ExploreConfig(**TINY), device="cpu").learn(250)
    assert "reward" not in agent.replay.columns
    assert "reward" not in agent.world_model.decoders
    assert len(agent.world_model.emb_prediction_heads) == 5


def test_all_networks_learn_and_only_by_their_own_loss(make_dreaming, weights):
    agent = make_dreaming(round_updates=1, pretrain_updates=0)
    before = weights(agent)
    agent.learn(250)
    after = weights(agent)
    changed = {
        name.partition(".")[0] for name in after if not torch.equal(before[name], after[name])
    }
    assert changed == {"world_model", "policy", "value"}
    start = agent._starts(agent._learn_model()[0])
    before = weights(agent)
    agent.world_model.zero_grad()
    imagined, worth = agent._imagine(start)
    worth.returns.mean().backward()
    assert all(p.grad is None for p in agent.world_model.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in agent.policy.parameters())
    assert imagined.before.shape == (3, 6, agent.world_model.feature_dim)


def test_reinforce_alone_needs_no_gradient_through_the_model(make_dreaming):
    agent = make_dreaming(reinforce_share=1.0).learn(250)
    imagined, worth = agent._imagine(agent._starts(agent._learn_model()[0]))
    assert not imagined.actions.requires_grad
    assert not worth.returns.requires_grad
    agent.world_model.zero_grad()
    agent._gains(imagined, worth).mean().backward()
    assert sum(p.grad.abs().sum() for p in agent.policy.parameters()) > 0
    assert all(p.grad is None for p in agent.world_model.parameters())


def test_a_share_of_reinforce(make_dreaming):
    agent = make_dreaming(reinforce_share=0.25).learn(250)
    imagined, worth = agent._imagine(agent._starts(agent._learn_model()[0]))
    gains = agent._gains(imagined, worth)
    torch.testing.assert_close(gains[0], 0.75 * worth.returns[0])
    better = advantages(*worth, agent.config.discount)
    chosen = reinforced(better, imagined.choices, imagined.beneath)
    torch.testing.assert_close(gains[1:], 0.75 * worth.returns[1:] + 0.25 * chosen)


def test_policy_and_value_see_standardized_features(make_dreaming):
    agent = make_dreaming(feature_gain=4.0).learn(250)
    assert agent.standardizer.updates == 2
    start = agent._starts(agent._learn_model()[0])
    imagined, _ = agent._imagine(start)
    mean, std = agent.standardizer.mean, (agent.standardizer.var + 1e-4).sqrt()
    seen = 4 * (imagined.before - mean) / std
    torch.testing.assert_close(imagined.choices.mean, agent.policy(seen).mean, atol=1e-5, rtol=1e-4)
    plain = make_dreaming().learn(250)
    imagined, _ = plain._imagine(plain._starts(plain._learn_model()[0]))
    expected = plain.policy(imagined.before).mean
    torch.testing.assert_close(imagined.choices.mean, expected, atol=1e-5, rtol=1e-4)


def test_without_a_gain_archives_are_as_before(make_dreaming, weights):
    heads = {name.partition(".")[0] for name in weights(make_dreaming())}
    assert heads == {"world_model", "policy", "value"}
    more = {name.partition(".")[0] for name in weights(make_dreaming(feature_gain=4.0))}
    assert more - heads == {"standardizer"}


def test_a_compact_archive_of_many_updates(make_dreaming, tmp_path):
    agent = make_dreaming(feature_gain=4.0).learn(250)
    agent.standardizer.updates.fill_(1e6)  # More than half precision holds.
    agent.save(tmp_path / "agent", compact=True)
    assert type(agent).load(tmp_path / "agent", device="cpu").standardizer.updates == 1e6


def test_the_standardizer_follows_what_it_sees():
    standardizer = RunningStandardizer(1, gain=2.0, kept=0.75)
    standardizer.update(torch.tensor([[1.0], [3.0]]))  # Counts whole,
    assert standardizer(torch.tensor([4.0])).item() == pytest.approx(2 * 2, rel=1e-3)
    standardizer.update(torch.tensor([[5.0], [7.0]]))  # half,
    assert standardizer.mean.item() == 4
    for _ in range(3):
        standardizer.update(torch.tensor([[4.0], [4.0]]))  # then a third, a quarter and a quarter.
    assert standardizer.var.item() == pytest.approx(2 / 3 * 3 / 4 * 3 / 4)


@pytest.mark.parametrize("options", [{}, {"reinforce_share": 0.5, "feature_gain": 4.0}])
def test_it_resumes_between_rounds_to_the_bit(make_dreaming, tmp_path, weights, same, options):
    whole = make_dreaming(**options).learn(500)
    cut = make_dreaming(**options).learn(375)
    cut.save(tmp_path / "agent")
    again = type(cut).load(tmp_path / "agent", device="cpu")
    assert again.replay.lengths == cut.replay.lengths
    again.learn(125, reset_num_timesteps=False)
    assert again.num_timesteps == whole.num_timesteps == 500
    assert same(weights(whole), weights(again))


def test_before_the_first_round_the_model_learns_alone(make_dreaming, weights):
    agent = make_dreaming(pretrain_updates=3, round_updates=1)
    seen = []
    learn, update = agent._learn_model, agent._update
    agent._learn_model = lambda: seen.append("model") or learn()
    agent._update = lambda: seen.append("all") or update()
    agent.learn(375)
    assert seen == ["model"] * 3 + ["all", "model"] * 2


def test_normalized_returns_weigh_the_entropy_more(make_dreaming, weights, same, tmp_path):
    plain, scaled = make_dreaming().learn(250), make_dreaming(normalize_returns=True).learn(250)
    assert plain.return_scale.updates == 0
    assert scaled.return_scale.updates == 2
    assert float(scaled.return_scale.range) > 0
    scaled.save(tmp_path / "agent")
    again = type(scaled).load(tmp_path / "agent", device="cpu")
    assert again.return_scale == scaled.return_scale
    agents = [make_dreaming(), make_dreaming(normalize_returns=True)]
    for agent in agents:
        agent.return_scale = ReturnScale(torch.tensor(1e6), 1)
        agent.learn(250)
    assert not same(weights(agents[0]), weights(agents[1]))


def test_a_compact_archive_acts_and_has_no_replay(make_dreaming, tmp_path):
    agent = make_dreaming().learn(250)
    agent.save(tmp_path / "agent", compact=True)
    again = type(agent).load(tmp_path / "agent", device="cpu")
    assert len(again.replay) == 0
    observation = agent.observation_space.sample()
    action, _ = again.predict(observation, deterministic=True)
    expected, _ = agent.predict(observation, deterministic=True)
    np.testing.assert_allclose(action, expected, atol=0.02)


def test_exploration_noise_is_what_the_filter_sees(make_dreaming):
    agent = make_dreaming(exploration_std=0.5)
    observation = np.zeros((2, 5), np.float32)
    action, state = agent._explore(observation, None, np.ones(2, bool), False)
    np.testing.assert_allclose(state[-1], action, atol=1e-6)
    plain, _ = agent.predict(observation, deterministic=True)
    assert not np.allclose(action, plain)


def test_the_paper_is_the_default():
    config = DreamerConfig()
    assert (config.horizon, config.discount, config.trace) == (15, 0.99, 0.95)
    assert (config.random_episodes, config.pretrain_updates, config.round_updates) == (5, 100, 100)
    assert (config.policy_learning_rate, config.value_learning_rate) == (8e-5, 8e-5)
    assert config.training == TrainingConfig.paper()
    assert DreamerAgent("AIME/walker-walk-mdp", config, device="cpu").world_model.config == (
        dataclasses.replace(WorldModelConfig.paper("walker"), reward=True)
    )


@pytest.mark.parametrize("name", ["random_episodes", "round_updates", "imagined_states"])
def test_numbers_out_of_range(name):
    with pytest.raises(ValueError, match=name):
        DreamerConfig(**{name: 0})


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match=r"reinforce_share is a share, from 0 to 1; got 1\.5"):
        DreamerConfig(reinforce_share=1.5)
    with pytest.raises(ValueError, match="feature_gain"):
        DreamerConfig(feature_gain=0.0)


# Pretrained world models


@pytest.fixture(scope="module")
def learnt():
    """A world model of the cartpole, with inverse dynamics and without a task."""
    model = WorldModel(ENV, WorldModelConfig.residual().narrow(8), device="cpu")
    model.learn(collect("random", ENV, 2, seed=0, name="random"), 2)
    return model


@pytest.mark.parametrize("frozen", [True, False])
def test_a_pretrained_model_is_taken_over(make_dreaming, learnt, weights, same, frozen):
    agent = make_dreaming(frozen=frozen, pretrained=learnt)
    heads = ("decoders.reward.", "emb_prediction_heads.")
    before = {name: w.clone() for name, w in agent.world_model.state_dict().items()}
    brought = {name: w for name, w in before.items() if not name.startswith(heads)}
    assert same(brought, {n: w for n, w in learnt.net.state_dict().items()})
    assert len(before) > len(brought)
    policy = [w.clone() for w in agent.policy.parameters()]
    agent.learn(250)
    after = agent.world_model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert any(not name.startswith(heads) for name in changed) is not frozen
    assert {n for n in before if n.startswith(heads)} <= changed
    assert not all(map(torch.equal, policy, agent.policy.parameters()))
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("standardizers."))


def test_a_pretrained_agent_resumes_to_the_bit(make_dreaming, learnt, tmp_path, weights, same):
    options = {"frozen": True, "pretrained": learnt}
    whole = make_dreaming(**options).learn(500)
    cut = make_dreaming(**options).learn(375)
    cut.save(tmp_path / "agent")
    again = type(cut).load(tmp_path / "agent", device="cpu")
    again.learn(125, reset_num_timesteps=False)
    assert same(weights(whole), weights(again))


def test_pretrained_models_that_do_not_fit(make_dreaming, learnt, make_model, tmp_path):
    with pytest.raises(ValueError, match=r"is of pendulum, mdp.* is of cartpole, mdp"):
        make_dreaming(pretrained=make_model())
    with pytest.raises(FileNotFoundError, match="There is no model 'nowhere'"):
        make_dreaming(pretrained="nowhere")
    with pytest.raises(TypeError, match="pretrained is a WorldModel or the name of one, not int"):
        make_dreaming(pretrained=3)
    with pytest.raises(ValueError, match="Only a pretrained world model can be frozen"):
        make_dreaming(frozen=True)


def test_a_run_from_a_pretrained_model(make_recipe, learnt, tmp_path, same):
    learnt.save(tmp_path / "model.zip")
    agent = train(make_recipe(2 * EPISODE, pretrained=str(tmp_path / "model.zip"), frozen=True))
    found = agent.world_model.state_dict()
    assert all(torch.equal(found[name], w) for name, w in learnt.net.state_dict().items())
    with pytest.raises(ValueError, match=r"another configuration .*frozen True, not False"):
        train(make_recipe(2 * EPISODE, pretrained=str(tmp_path / "model.zip")))
    folders = {"folder": tmp_path / "second", "record": None}
    second = make_recipe(2 * EPISODE, pretrained=str(tmp_path / "run"), **folders).make()
    assert same(second.world_model.state_dict(), agent.world_model.state_dict())


# Runs


def test_a_run_writes_its_replay_as_a_dataset(make_recipe, tmp_path):
    agent = train(make_recipe(3 * EPISODE))
    data = load_dataset(str(tmp_path / "episodes"))
    assert data.card.name in ("cartpole-balance-buffer", "cartpole-plan2explore-buffer")
    assert len(data) == agent.num_episodes == 3
    assert all(t.physics_states is not None and t.rewards is not None for t in data)
    actions = agent.env_info.to_unit(torch.from_numpy(data[2].actions))
    torch.testing.assert_close(actions, agent.replay.prev_actions[-EPISODE:], atol=1e-6, rtol=0)
    assert (tmp_path / "run" / "final.zip").exists()


@pytest.mark.usefixtures("opengl")
def test_predictions_are_shown_after_rounds(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "ROWS", 8)
    monkeypatch.setattr(predictions, "SMALL", 32)
    agent = DreamerAgent(ENV, DreamerConfig(**TINY), device="cpu")
    agent.learn(375, PredictionCallback(tmp_path, 250))
    kinds = ("curves.png", "prediction.mp4", "imagination.mp4")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{steps:08d}-{kind}" for steps in (250, 375) for kind in kinds}
    assert all((tmp_path / name).stat().st_size > 1_000 for name in names)


def test_showing_leaves_learning_as_it_is(tmp_path, monkeypatch, weights, same):
    monkeypatch.setattr(environment, "CONTROL_STEPS", 30)
    shown, plain = (
        DreamerAgent("AIME/finger-spin-lpomdp", DreamerConfig(**TINY), device="cpu").learn(60, call)
        for call in (PredictionCallback(tmp_path, 30), None)
    )
    assert same(weights(shown), weights(plain))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"00000030-curves.png", "00000060-curves.png"}


def test_a_run_shows_its_predictions_where_that_is_asked_for(make_recipe, tmp_path):
    run = Run(tmp_path / "run")
    for interval, count in ((None, 0), (250, 1)):
        chosen = make_recipe(2 * EPISODE, prediction_interval=interval).callbacks(run)
        assert sum(isinstance(each, PredictionCallback) for each in chosen) == count


def test_a_replay_of_another_run_is_left_as_it_is(make_recipe, tmp_path):
    train(make_recipe(2 * EPISODE))
    before = {path.name: path.read_bytes() for path in (tmp_path / "episodes").iterdir()}
    with pytest.raises(ValueError, match=r"already has episodes.*record into another folder"):
        train(make_recipe(2 * EPISODE, folder=tmp_path / "new"))
    other = tmp_path / "other"  # Of the same task and seed.
    train(make_recipe(2 * EPISODE, folder=other, record=tmp_path / "others"))
    for timesteps in (2 * EPISODE, 3 * EPISODE):
        with pytest.raises(
            ValueError, match=r"has the episodes of another run than that in .*other"
        ):
            train(make_recipe(timesteps, folder=other))
    with pytest.raises(ValueError, match=r"has 0 of the 2 episodes that the run has had"):
        train(make_recipe(3 * EPISODE, folder=other, record=tmp_path / "nothing"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "episodes").iterdir()} == before
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "nothing").exists()


def test_a_recording_may_move_and_have_no_mark_yet(tmp_path):
    runs, episodes = [tmp_path / "a", tmp_path / "b"], tmp_path / "episodes"
    for folder in (*runs, episodes):
        folder.mkdir()
    check_mark(episodes, runs[0])
    set_mark(episodes, runs[0])
    check_mark(episodes, runs[1])  # There are no episodes.
    (episodes / "000000.npz").touch()
    moved = episodes.rename(tmp_path / "moved")
    check_mark(moved, runs[0])
    with pytest.raises(ValueError, match=r"moved has the episodes of another run .*b: record into"):
        check_mark(moved, runs[1])
    (moved / MARK).unlink()
    check_mark(moved, runs[1])
    set_mark(moved, runs[0])
    check_mark(moved, runs[0])


def test_a_killed_run_goes_on_with_its_replay(make_recipe, tmp_path, weights, same):
    class Kill(BaseCallback):
        def _on_step(self):
            if self.model.num_timesteps == 3.5 * EPISODE:  # In the middle of an episode.
                raise KeyboardInterrupt
            return True

    with pytest.raises(KeyboardInterrupt):
        train(make_recipe(4 * EPISODE), [Kill()])
    cut = train(make_recipe(4 * EPISODE))
    folders = {"folder": tmp_path / "whole", "record": tmp_path / "whole-episodes"}
    whole = train(make_recipe(4 * EPISODE, **folders))
    assert same(weights(cut), weights(whole))
    first, second = (load_dataset(str(tmp_path / n)) for n in ("episodes", "whole-episodes"))
    assert first.checksum == second.checksum
