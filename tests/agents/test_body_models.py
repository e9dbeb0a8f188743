"""BCO and IIDM: models of a body, what is learnt from them, and what is not read."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from agents import (
    BCOAgent,
    BCOConfig,
    BodyModelConfig,
    ForwardModel,
    IIDMAgent,
    IIDMConfig,
    InverseModel,
)
from agents.body_models import BodyModel, prediction_loss
from agents.nets import MLPConfig
from agents.runs.recipe import train
from agents.runs.recipes import BCORecipe, IIDMRecipe
from agents.stacked import seen
from aime_gym import save_dataset
from aime_gym.datasets import collect

from .conftest import env_info

SMALL = {"batch_size": 20, "image_width": 4}
NET = MLPConfig(16)
KINDS = {
    "bco": (BCOAgent, BCOConfig, InverseModel),
    "iidm": (IIDMAgent, IIDMConfig, ForwardModel),
}


@pytest.fixture(autouse=True)
def few_updates(monkeypatch):
    monkeypatch.setattr(BodyModel, "default_timesteps", 20)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def body_config(**options):
    return BodyModelConfig(**{**SMALL, "min_updates": 0, "net": NET, **options})


@pytest.fixture
def make_agent(kind):
    """A function that makes a small agent of the pendulum."""
    agent_class, config_class, _ = kind

    def make(embodiment, setup="mdp", model=None, **options):
        config = config_class(
            **{**SMALL, "policy": NET, "body_model": model or body_config(), **options}
        )
        return agent_class(env_info(setup), embodiment, config, device="cpu")

    return make


def expert(pendulum_data):
    """Swings whose action is half of the velocity before, with its sign turned."""

    def act(trajectory):
        velocity = trajectory.sensors["velocity"].copy()
        actions = []
        for row in range(len(velocity) - 1):
            actions.append(-0.5 * velocity[row])
            velocity[row + 1] = velocity[row] + actions[-1]
        angle = np.cumsum(0.3 * velocity, axis=0) + velocity[0]
        orientation = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        sensors = {"orientation": orientation, "velocity": velocity}
        return dataclasses.replace(trajectory, sensors=sensors, actions=np.array(actions))

    def start(trajectory):
        speed = np.array(trajectory.sensors["velocity"])
        speed[0] = 2 * speed[3]
        return dataclasses.replace(trajectory, sensors={**trajectory.sensors, "velocity": speed})

    return pendulum_data(12, 12, seed=7).map(start).map(act)


def test_the_inverse_model_finds_the_action(pendulum_data):
    config = body_config(learning_rate=1e-2, decay_timesteps=800, epoch_updates=100)
    model = InverseModel(env_info("mdp"), config, device="cpu").learn(pendulum_data(30, 20), 800)
    assert model.supervised.epochs.best_loss < 0.004  # Their variance is 1/3.


def test_both_find_the_expert_from_observations_alone(pendulum_data, make_agent, monkeypatch):
    """The toy's action is the difference of two velocities, so that both can be exact."""
    monkeypatch.setattr(BodyModel, "default_timesteps", 800)
    demos = expert(pendulum_data)
    embodiment = pendulum_data(30, 20)
    wide = {"learning_rate": 1e-2, "decay_timesteps": 800}
    agent = make_agent(embodiment, model=body_config(**wide, epoch_updates=100, min_updates=800))
    agent.learn(demos.observations_only(), 500)
    assert agent.first_stage.done
    rows = np.concatenate(
        [np.concatenate([*t.sensors.values()], axis=1)[:-1] for t in demos]
    ).astype(np.float32)
    actions, _ = agent.predict(rows, deterministic=True)
    true = np.concatenate([t.actions for t in demos])
    assert np.square(actions - true).mean() < 0.15 * np.square(true).mean()


@pytest.mark.parametrize("setup", ["mdp", "lpomdp", "visual"])
def test_all_setups(pendulum, make_agent, setup, weights, same):
    data = pendulum
    if setup == "visual":
        data = pendulum.map(lambda t: t.with_images(np.full((len(t), 64, 64, 3), 7, np.uint8)))
    model = body_config(epoch_updates=2, decay_timesteps=3, patience=1)
    agent = make_agent(data, setup, model=model)
    agent.learn(data.observations_only(), 2)
    observation = env_info(setup).observation_space.sample()
    action, _ = agent.predict(observation)
    assert agent.action_space.contains(action)
    with torch.no_grad():
        embed = agent.body_net.encoder
        assert embed.embed_dim == agent.policy.encoder.embed_dim


def test_true_actions_are_never_read(pendulum, make_agent, weights, same):
    wrong = pendulum.map(lambda t: dataclasses.replace(t, actions=np.ones_like(t.actions)))
    plain, other = (weights(make_agent(pendulum).learn(d, 3)) for d in (pendulum, wrong))
    assert same(plain, other)


def test_the_policy_starts_from_the_models_encoder(pendulum, kind, make_agent):
    model = kind[2](env_info("visual"), body_config(stack=2), device="cpu")
    agent = make_agent(model, "visual", stack=2)
    for net in (agent.supervised.network, agent.supervised.best):
        for name, weight in net.encoder.state_dict().items():
            assert torch.equal(weight, model.network.encoder.state_dict()[name])


def test_the_model_is_frozen_and_its_scale_shared(pendulum, kind, make_agent):
    model = kind[2](env_info("mdp"), body_config(), device="cpu").learn(pendulum, 3)
    agent = make_agent(model)
    before = {n: w.clone() for n, w in agent.body_net.state_dict().items()}
    agent.learn(pendulum.observations_only(), 5)
    assert all(torch.equal(w, before[n]) for n, w in agent.body_net.state_dict().items())
    assert not any(p.requires_grad for p in agent.body_net.parameters())
    scale = model.network.encoder.standardizer
    assert torch.equal(agent.policy.encoder.standardizer.mean, scale.mean)
    assert float(scale.fitted) == 1


def test_it_resumes_to_the_bit(pendulum, kind, make_agent, tmp_path, weights, same):
    whole = make_agent(pendulum).learn(pendulum, 7)
    cut = make_agent(pendulum).learn(pendulum, 3)
    cut.save(tmp_path / "agent")
    again = kind[0].load(tmp_path / "agent", device="cpu")
    again.learn(pendulum, 4, reset_num_timesteps=False)
    assert same(weights(whole), weights(again))


def test_the_forward_models_loss_is_the_sum_over_sensors(pendulum):
    """Means of squared errors per sensor, standardised, summed."""
    model = ForwardModel(env_info("mdp"), body_config(), device="cpu").learn(pendulum, 1)
    batch = model._replay.gather(torch.arange(4), 2)
    net = model.supervised.network
    with torch.no_grad():
        loss = prediction_loss(net, batch, batch.prev_actions[-1])
        predicted = net(seen(batch), batch.prev_actions[-1])
    mean, std = net.encoder.standardizer.mean, net.encoder.standardizer.std
    last = torch.cat([batch.observations[n][-1] for n in ("orientation", "velocity")], dim=-1)
    truth = (last - mean) / std
    expected = (predicted["orientation"] - truth[:, :2]).square().mean()
    expected = expected + (predicted["velocity"] - truth[:, 2:]).square().mean()
    torch.testing.assert_close(loss, expected)


def test_bcos_loss_compares_policy_and_inverse_model(pendulum):
    """Windows of k + 1 rows: the policy sees k of them, the inverse model all."""
    model = InverseModel(env_info("lpomdp"), body_config(stack=2), device="cpu").learn(pendulum, 2)
    config = BCOConfig(stack=2, policy=NET, standardize=False)
    agent = BCOAgent(env_info("lpomdp"), model, config, device="cpu")
    agent.learn(pendulum.observations_only(), 1)
    batch = agent._replay.gather(torch.arange(4), 3)
    assert batch.prev_actions is None
    rows = torch.cat([batch.observations["orientation"][i] for i in range(3)], dim=-1)
    scale = model.network.encoder.standardizer
    mean, std = scale.mean.repeat(3), scale.std.repeat(3)
    standardized = (rows - mean) / std
    policy = agent.supervised.network
    with torch.no_grad():
        inferred = torch.tanh(model.network.net(standardized))
        chosen = torch.tanh(policy.net(standardized[:, :4]))
        loss = agent._loss(policy, batch)
    torch.testing.assert_close(loss, (chosen - inferred).square().mean())


def test_inferred_actions_belong_to_their_rows(pendulum):
    model = InverseModel(env_info("lpomdp"), body_config(stack=2), device="cpu").learn(pendulum, 2)
    config = BCOConfig(stack=2, policy=NET)
    agent = BCOAgent(env_info("lpomdp"), model, config, device="cpu")
    found = agent.infer_actions(pendulum)
    assert [len(a) for a in found] == [t.num_steps for t in pendulum]
    batch = model._replay.gather(torch.arange(3), 3)  # Windows of the first swing.
    with torch.no_grad():
        expected = agent.inverse_net.of_window(batch.observations)
    np.testing.assert_allclose(found[0][1:4], expected.numpy(), atol=1e-6)
    first = {n: torch.tensor(t[[0, 0, 1]])[:, None] for n, t in pendulum[0].sensors.items()}
    with torch.no_grad():
        padded = agent.inverse_net.of_window({"orientation": first["orientation"]})
    np.testing.assert_allclose(found[0][:1], padded.numpy(), atol=1e-6)


def test_the_papers_protocol():
    for config in (BCOConfig.paper(), IIDMConfig.paper()):
        for stage in (config, config.body_model):
            assert (stage.batch_size, stage.learning_rate, stage.train_share) == (50, 1e-3, 0.7)
            assert (stage.min_epochs, stage.min_updates, stage.patience) == (50, 5_000, 3)
            assert stage.epoch_updates is stage.decay_timesteps is None
            assert not stage.standardize
        assert config.policy == config.body_model.net == MLPConfig(128, 2, "elu")


# Runs


def make_recipe(kind, folder, task="walk", **options):
    recipe_class = {BCOAgent: BCORecipe, IIDMAgent: IIDMRecipe}[kind[0]]
    return recipe_class(
        env=f"AIME/walker-{task}-mdp",
        demos=str(folder / "data"),
        dataset=str(folder / "data"),
        total_timesteps=3,
        body_model_timesteps=4,
        config=kind[1](**SMALL, policy=NET, body_model=body_config()),
        device="cpu",
        **options,
    )


@pytest.fixture
def walking(tmp_path, monkeypatch):
    """A folder with data of a walker, in which runs are made."""
    data = collect("random", "AIME/walker-walk-mdp", episodes=2, seed=0, name="walker-toy")
    save_dataset(data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agents.runs.recipes.agent.EPISODES", 1)
    return tmp_path


def test_all_tasks_share_one_model_of_the_body(kind, walking):
    first = train(make_recipe(kind, walking))
    (stage,) = (walking / "runs").glob("*-model-data-mdp-seed0")
    second = train(make_recipe(kind, walking, task="stand"))
    assert len(list((walking / "runs").iterdir())) == 3
    learned = kind[2].load(stage, device="cpu")
    assert learned.num_timesteps == 4
    for agent in (first, second):
        assert agent.num_timesteps == 3
        for name, weight in learned.network.state_dict().items():
            assert torch.equal(agent.body_net.state_dict()[name], weight)


def test_a_model_of_other_settings_is_not_replaced(kind, walking):
    train(make_recipe(kind, walking))
    other = make_recipe(kind, walking, task="stand")
    wider = dataclasses.replace(other.config, body_model=body_config(net=MLPConfig(24)))
    with pytest.raises(ValueError, match=r"another configuration.*hidden_dim 16, not 24"):
        train(dataclasses.replace(other, config=wider))


def test_a_learnt_model_is_left_alone_by_other_runs(kind, walking):
    """Its archive is never away, not even while another task's run starts."""
    train(make_recipe(kind, walking, body_model_folder=walking / "stage"))
    before = (walking / "stage" / "final.zip").stat()
    train(make_recipe(kind, walking, task="stand", body_model_folder=walking / "stage"))
    after = (walking / "stage" / "final.zip").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_second_run_waits_for_the_model(kind, walking):
    recipe = make_recipe(kind, walking)
    second = make_recipe(kind, walking, task="stand")
    with ThreadPoolExecutor() as pool:
        agents = [*pool.map(train, (recipe, second))]
    first, other = (agent.body_net.state_dict() for agent in agents)
    assert all(torch.equal(first[name], other[name]) for name in first)


# Bad input


def test_embodiment_of_another_kind(make_agent):
    with pytest.raises(TypeError, match=r"embodiment is a dataset, or a .*Model.*not int"):
        make_agent(3)


def test_a_model_of_another_setup(kind, make_agent, pendulum):
    model = kind[2](env_info("lpomdp"), body_config(stack=1), device="cpu")
    with pytest.raises(ValueError, match=r"The \w+Model"):
        make_agent(model, "mdp")


def test_a_model_of_another_stack(kind, make_agent):
    model = kind[2](env_info("mdp"), body_config(stack=3), device="cpu")
    with pytest.raises(ValueError, match=r"sees 1 observations, its \w+ 3"):
        make_agent(model)


def test_embodiment_without_actions(make_agent, pendulum):
    silent = pendulum.observations_only()
    with pytest.raises(ValueError, match="Actions are needed"):
        make_agent(silent).learn(pendulum, 1)


def test_embodiment_of_another_body(make_agent, pendulum, pendulum_data):
    with pytest.raises(ValueError, match="walker"):
        make_agent(pendulum_data(body="walker")).learn(pendulum, 1)


def test_without_a_model_nothing_starts(make_agent, pendulum):
    with pytest.raises(ValueError, match="make the agent with embodiment data"):
        make_agent(body_config()).learn(pendulum, 1)
