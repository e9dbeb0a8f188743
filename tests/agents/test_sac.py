"""Experts: the libraries' algorithms in this package's archives, runs and recordings."""

import dataclasses
import sys
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import aime_gym
from agents import SACAgent, SACConfig
from agents.archive import Archive
from agents.running import STEP
from agents.runs.logs import read_curve
from agents.runs.recipe import train
from agents.runs.recipes import ExpertRecipe
from agents.sac import MLPActor, Normalizer, SimbaActor, simba_weights
from aime_gym.datasets import read_dataset
from aime_gym.envs.dm_control import environment

CARTPOLE = "AIME/cartpole-balance-mdp"
NARROW = SACConfig(batch_size=8, learning_starts=5, hidden_dim=8)
RECIPE = ExpertRecipe(
    env=CARTPOLE,
    total_timesteps=60,
    device="cpu",
    checkpoint_interval=20,
    evaluation_interval=20,
    config=NARROW,
)
needs_sbx = pytest.mark.slow  # `make test-all` installs the extra `expert`, and runs these.
SBX_OUTPUTS = Path(__file__).parent / "simba_actor.npz"  # Of SBX 0.28.0, from seed 0.


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Episodes of 10 steps of the agent, and few of them per evaluation."""
    monkeypatch.setattr(environment, "CONTROL_STEPS", 80)
    monkeypatch.setattr("agents.runs.recipes.online.EXPERT_EPISODES", 1)
    monkeypatch.setattr("agents.runs.recipes.agent.EPISODES", 2)


@pytest.fixture(params=["sac", pytest.param("simba", marks=needs_sbx)])
def config(request):
    return dataclasses.replace(NARROW, algorithm=request.param)


def make(config=NARROW, env="Pendulum-v1", seed=0):
    return SACAgent(env, config, seed=seed, device="cpu")


def act(agent, seed=1, deterministic=True):
    observations = np.random.default_rng(seed).normal(size=(4, *agent.observation_space.shape))
    return agent.predict(observations.astype(np.float32), deterministic=deterministic)[0]


# Networks


def test_the_simba_actor_by_hand():
    actor = SimbaActor(1, 1, 2)
    with torch.no_grad():
        for weight in actor.parameters():
            weight.zero_()
        actor.embed.weight.copy_(torch.tensor([[1.0], [-1.0]]))  # 2 -> (2, -2)
        actor.block_norm.weight.fill_(1.0)  # (1, -1)
        actor.expand.weight[0, 0] = actor.expand.weight[1, 1] = 1.0  # ReLU: (1, 0, ..)
        actor.contract.weight[0, 0], actor.contract.weight[0, 1] = 3.0, 5.0
        actor.contract.bias[1] = 1.0  # (3, 1), and with the residual (5, -1)
        actor.norm.weight.fill_(1.0)  # (1, -1)
        actor.mu.weight.copy_(torch.tensor([[0.5, 0.25]]))
        actor.log_std.weight.copy_(torch.tensor([[0.0, -5.0]]))  # 5, which is clipped to 2
        normal = actor(torch.tensor([[2.0]]))
    torch.testing.assert_close(normal.mean, torch.tensor([[0.25]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std, torch.tensor([[np.exp(2.0)]]).float())


def test_parameters_of_flax_as_weights():
    def dense(rows, columns):
        kernel = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
        return {"kernel": kernel, "bias": np.arange(columns, dtype=np.float32)}

    norm = {"scale": np.full(2, 3.0, np.float32), "bias": np.full(2, 4.0, np.float32)}
    block = {"LayerNorm_0": norm, "Dense_0": dense(2, 8), "Dense_1": dense(8, 2)}
    layers = {"Dense_0": dense(5, 2), "Dense_1": dense(2, 1), "Dense_2": dense(2, 1)}
    actor = SimbaActor(5, 1, 2).requires_grad_(False)
    actor.load_state_dict(
        simba_weights({**layers, "SimbaResidualBlock_0": block, "LayerNorm_0": norm})
    )
    np.testing.assert_array_equal(actor.embed.weight[0], [0.0, 2.0, 4.0, 6.0, 8.0])
    np.testing.assert_array_equal(actor.contract.weight[1], np.arange(1, 16, 2))
    np.testing.assert_array_equal(actor.block_norm.weight, [3.0, 3.0])
    np.testing.assert_array_equal(actor.norm.bias, [4.0, 4.0])


def test_the_simba_actor_gives_what_sbx_gave():
    with np.load(SBX_OUTPUTS) as file:
        recorded = dict(file)
    params = {}
    for name in (name for name in recorded if name.startswith("params/")):
        *layers, last = name.removeprefix("params/").split("/")
        place = params
        for layer in layers:
            place = place.setdefault(layer, {})
        place[last] = recorded[name]
    actor = SimbaActor(5, 3, 16)
    actor.load_state_dict(simba_weights(params))
    with torch.no_grad():
        normal = actor(torch.from_numpy(recorded["observations"]))
    np.testing.assert_allclose(normal.mean, recorded["mean"], atol=1e-5)
    np.testing.assert_allclose(normal.std, recorded["std"], rtol=1e-5)


@needs_sbx
def test_the_simba_actor_is_that_of_sbx():
    import jax
    from sbx.common.policies import SimbaSquashedGaussianActor

    observations = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    theirs = SimbaSquashedGaussianActor(net_arch=[16], action_dim=3)
    params = theirs.init(jax.random.PRNGKey(0), observations)
    inner = theirs.apply(params, observations).distribution
    ours = SimbaActor(5, 3, 16)
    ours.load_state_dict(simba_weights(params["params"]))
    with torch.no_grad():
        normal = ours(torch.from_numpy(observations))
    np.testing.assert_allclose(normal.mean, inner.loc, atol=1e-5)
    np.testing.assert_allclose(normal.std, inner.stddev(), rtol=1e-5)


def test_the_standard_deviation_is_limited():
    actor = MLPActor(1, 2, 4)
    with torch.no_grad():
        actor.log_std.weight.zero_()
        actor.log_std.bias.copy_(torch.tensor([-30.0, 3.0]))
        std = actor(torch.ones(1, 1)).std
    np.testing.assert_allclose(std, [[np.exp(-20.0), np.exp(2.0)]], rtol=1e-5)


def test_the_normaliser_is_that_of_stable_baselines3():
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    rows = np.random.default_rng(0).normal(100.0, [1e-3, 1.0, 50.0], size=(200, 3))
    env.obs_rms.update(rows)
    normalizer = Normalizer(3)
    normalizer.copy_from(env.obs_rms)
    rows[0] = [0.0, 1e4, 100.0]
    expected = env.normalize_obs(rows)
    np.testing.assert_allclose(normalizer(torch.from_numpy(rows)), expected, rtol=1e-6)
    assert {-10.0, 10.0} <= set(expected[0])
    other = RunningMeanStd(shape=(3,))
    normalizer.copy_to(other)
    np.testing.assert_array_equal(other.var, env.obs_rms.var)
    assert other.count == env.obs_rms.count


# Learning and acting


def test_what_acts_is_what_learned(config):
    agent = make(config).learn(30)
    algorithm = agent.training.algorithm.model
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    normalized = algorithm.get_vec_normalize_env().normalize_obs(observations)
    theirs, _ = algorithm.predict(normalized, deterministic=True)
    ours, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert agent.normalizer.count == pytest.approx(31, abs=0.01)


def test_it_learns_and_acts(config):
    agent = make(config)
    before = act(agent)
    agent.learn(40)
    assert agent.num_timesteps == 40
    assert agent.training.algorithm.model._n_updates == 35
    assert not np.allclose(before, act(agent))
    sampled = act(agent, deterministic=False)
    assert not np.allclose(sampled, act(agent))
    assert all(agent.action_space.contains(action) for action in sampled)
    single, state = agent.predict(np.ones(3, np.float32), deterministic=True)
    assert single.shape == (1,)
    assert state is None
    evaluate_policy(agent, Monitor(gym.make("Pendulum-v1", max_episode_steps=5)), 1)


def test_actions_fill_the_limits():
    agent = make()
    with torch.no_grad():
        agent.actor.mu.weight.zero_()
        agent.actor.mu.bias.fill_(100.0)
    np.testing.assert_allclose(act(agent), 2.0)


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"learning_starts": 9}, {"hidden_dim": 9}])
def test_every_option_changes_something(change):
    one = make().learn(20)
    other = make(dataclasses.replace(NARROW, **change)).learn(20)
    assert not np.allclose(act(one), act(other))
    assert np.allclose(act(one), act(make().learn(20)))


@pytest.mark.parametrize("first", [None, "random", "policy"])
def test_what_acts_before_the_first_update(first):
    other = make().learn(10)
    upper = {"networks.policy.actor.mu.bias": torch.full((1,), 50.0)}  # Actions at the limit.
    other.training.load_state_dict({**other.training.state_dict(), **upper})
    agent = make(dataclasses.replace(NARROW, learning_starts=8, first_actions=first))
    agent.start_from(other)
    actions = agent.learn(8).training.state_dict()["replay.actions"]
    assert len(actions) == 8
    assert bool((actions > 0.99).all()) == (first == "policy")


def test_default_widths():
    assert SACConfig().width == 256
    assert SACConfig("simba").width == 128
    assert make(SACConfig("simba")).actor.expand.weight.shape == (512, 128)


def test_several_environments():
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=10)] * 2)
    agent = make(env=env).learn(40)
    assert agent.num_timesteps == 40
    assert agent.progress.episodes == 4


def test_other_sensors_first():
    """Networks see the observation as the environment gives it."""
    agent = make(env="AIME/pendulum-swingup-mdp").learn(15)
    observation = np.array([[0.1, 0.2, 0.3]], np.float32)
    algorithm = agent.training.algorithm.model
    normalized = algorithm.get_vec_normalize_env().normalize_obs(observation)
    theirs, _ = algorithm.predict(normalized, deterministic=True)
    np.testing.assert_allclose(agent.predict(observation, deterministic=True)[0], theirs, atol=1e-5)


class Steps(BaseCallback):
    """Collects the agent's steps, and stops at one."""

    def __init__(self, last=None):
        super().__init__()
        self.last, self.seen, self.events = last, [], []

    def _on_training_start(self):
        self.events.append("training")

    def _on_rollout_start(self):
        self.events.append("rollout")

    def _on_training_end(self):
        self.events.append("end")

    def _on_step(self):
        assert isinstance(self.model, SACAgent)
        assert "dones" in self.locals
        self.seen.append(self.num_timesteps)
        return self.num_timesteps != self.last


def test_callbacks_see_every_step_of_the_agent():
    callback = Steps(last=7)
    agent = make().learn(20, callback)
    assert callback.seen == list(range(1, 8))
    assert callback.events == ["training", *["rollout"] * 7, "end"]
    agent.learn(3, more := Steps(), reset_num_timesteps=False)
    assert more.seen == [8, 9, 10]
    agent.learn(2, again := Steps())
    assert again.seen == [1, 2]


# Archives


def test_archives_hold_no_pickle_and_act_the_same(config, tmp_path):
    agent = make(config).learn(30)
    agent.save(tmp_path / "agent.zip")
    agent.save(tmp_path / "compact.zip", compact=True)
    names = {"config.json", "weights.safetensors", "counters.json"}
    assert set(zipfile.ZipFile(tmp_path / "compact.zip").namelist()) == names
    whole = set(zipfile.ZipFile(tmp_path / "agent.zip").namelist())
    assert whole == {*names, "training.safetensors"}
    loaded = SACAgent.load(tmp_path / "agent.zip", device="cpu")
    np.testing.assert_array_equal(act(loaded), act(agent))
    compact = SACAgent.load(tmp_path / "compact.zip", device="cpu")
    np.testing.assert_allclose(act(compact), act(agent), atol=0.01)
    for name in ("mean", "var", "count"):
        assert torch.equal(getattr(compact.normalizer, name), getattr(agent.normalizer, name))
    assert compact.num_timesteps == 30
    assert compact.training.algorithm is loaded.training.algorithm is None


def test_acting_needs_neither_sbx_nor_jax(tmp_path, monkeypatch):
    for name in ("sbx", "jax", "flax"):
        monkeypatch.setitem(sys.modules, name, None)
    agent = make(dataclasses.replace(NARROW, algorithm="simba"))
    agent.save(tmp_path / "agent.zip", compact=True)
    loaded = SACAgent.load(tmp_path / "agent.zip", device="cpu")
    np.testing.assert_allclose(act(loaded), act(agent), atol=0.01)
    with pytest.raises(ModuleNotFoundError, match=r"aime-gym\[expert\].*--algorithm sac"):
        loaded.learn(1)


def test_a_compact_archive_cannot_go_on(tmp_path):
    make().learn(10).save(tmp_path / "agent.zip", compact=True)
    loaded = SACAgent.load(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match=r"compact archive.*load checkpoint.zip or final.zip"):
        loaded.learn(10)


def training_state(agent):
    """The state of the algorithm itself, which is made by a `learn` of no steps."""
    agent.learn(0, reset_num_timesteps=False)
    assert agent.training.algorithm is not None
    return dict(agent.training.state_dict())


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(torch.as_tensor(second[name]), torch.as_tensor(value))


def test_a_saved_agent_goes_on(config, tmp_path):
    agent = make(config, env=CARTPOLE).learn(33)
    before = training_state(agent)
    agent.save(tmp_path / "agent.zip")
    loaded = SACAgent.load(tmp_path / "agent.zip", device="cpu")
    assert loaded.num_timesteps == 33
    assert loaded.progress.episodes == 3
    after = training_state(loaded)
    assert_same(before, after)
    assert after["replay.observations"].shape == (33, 1, 5)
    assert after["updates"] == 28
    assert any("exp_avg" in name or ".mu" in name for name in after)
    statistics = loaded.training.algorithm.model.get_vec_normalize_env().obs_rms
    assert np.abs(statistics.mean).max() > 0
    assert statistics.count == pytest.approx(34 + 1, abs=0.01)  # Each began with an observation.
    loaded.learn(10, reset_num_timesteps=False)
    assert loaded.num_timesteps == 43
    assert loaded.training.state_dict()["updates"] == 38
    assert not np.allclose(act(loaded), act(agent))


def test_saving_before_going_on_loses_nothing(tmp_path):
    make().learn(12).save(tmp_path / "one.zip")
    SACAgent.load(tmp_path / "one.zip", device="cpu").save(tmp_path / "two.zip")
    one, two = (Archive.read(tmp_path / name) for name in ("one.zip", "two.zip"))
    assert one.counters == two.counters
    assert_same(one.training, two.training)


def test_without_its_replay_it_goes_on_with_an_empty_one(config, tmp_path):
    agent = make(config).learn(12)
    agent.without_replay().save(tmp_path / "agent.zip")
    loaded = SACAgent.load(tmp_path / "agent.zip", device="cpu")
    assert loaded.num_timesteps == 12
    np.testing.assert_array_equal(act(loaded), act(agent))
    before, after = training_state(agent), training_state(loaded)
    networks = {name for name in before if name.startswith("networks.")}
    assert_same({n: before[n] for n in networks}, {n: after[n] for n in networks})
    assert len(before["replay.actions"]) == 12
    assert len(after["replay.actions"]) == 0
    loaded.learn(4, reset_num_timesteps=False)
    assert len(loaded.training.state_dict()["replay.actions"]) == 4
    assert agent.training.state_dict()["replay.actions"].shape[0] == 12
    assert not np.allclose(act(loaded), act(agent))


def test_a_full_replay_buffer(monkeypatch, tmp_path):
    """The oldest rows are replaced, and the place of the next one is kept."""
    from agents import sac

    algorithm = sac.SAC
    monkeypatch.setattr(sac, "SAC", lambda *args, **kw: algorithm(*args, buffer_size=16, **kw))
    agent = make().learn(20)
    state = training_state(agent)
    assert (int(state["replay.pos"]), bool(state["replay.full"])) == (4, True)
    agent.save(tmp_path / "agent.zip")
    assert_same(state, training_state(SACAgent.load(tmp_path / "agent.zip", device="cpu")))


def test_another_environment_on_the_way():
    agent = make().learn(12)
    before = dict(agent.training.state_dict())
    other = gym.make("Pendulum-v1", max_episode_steps=3)
    agent.set_env(other)
    assert_same(before, training_state(agent))
    agent.learn(6, reset_num_timesteps=False)
    assert agent.progress.episodes == 2


# Wrong input


def test_unknown_algorithms_and_first_actions():
    with pytest.raises(ValueError, match="no algorithm 'simb': did you mean 'simba'"):
        SACConfig("simb")
    with pytest.raises(ValueError, match="'random' or those of the 'policy'; got 'expert'"):
        SACConfig(first_actions="expert")


def test_environments_that_it_does_not_take():
    with pytest.raises(TypeError, match=r"sees vectors.*AIME/pendulum-swingup-visual"):
        make(env="AIME/pendulum-swingup-visual")
    with pytest.raises(TypeError, match="discrete"):
        make(env="CartPole-v1")


# Runs


def recipe(tmp_path, record=True, **changes):
    episodes = tmp_path / "episodes" if record else None
    return dataclasses.replace(RECIPE, folder=tmp_path / "run", record=episodes, **changes)


def killed(recipe, at, kill):
    with pytest.raises(kill.Error):
        train(recipe, [kill(at)])


def evaluated(folder):
    """The steps of the evaluations."""
    return [row[STEP] for row in read_curve(folder / "progress.csv") if "eval/mean_return" in row]


def starts(folder):
    return [trajectory.first_step for trajectory in read_dataset(folder)]


def steps_of(archive):
    return Archive.read(archive, "SACAgent").counters["num_timesteps"]


def test_a_run(tmp_path):
    agent = train(recipe(tmp_path, snapshot_interval=30), command="aime-gym train expert ...")
    run = tmp_path / "run"
    assert evaluated(run) == [20, 40, 60]
    assert (run / "figures" / "learning_curve.png").exists()
    assert (run / "evaluation.json").exists()
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == [
        "00000030.zip",
        "00000060.zip",
    ]
    for name in ("checkpoint.zip", "final.zip"):
        assert steps_of(run / name) == 60
    best = SACAgent.load(run / "best.zip", device="cpu")
    assert aime_gym.evaluate(best, CARTPOLE, episodes=1).returns.shape == (1,)
    np.testing.assert_array_equal(act(SACAgent.load(run, device="cpu")), act(agent))
    assert isinstance(agent.action_space, spaces.Box)

    dataset = read_dataset(tmp_path / "episodes")
    assert starts(tmp_path / "episodes") == [0, 10, 20, 30, 40, 50]
    assert {len(trajectory) for trajectory in dataset} == {11}
    assert all(trajectory.physics_states is not None for trajectory in dataset)
    assert dataset.card.name == "cartpole-balance-training"
    assert dataset.card.env_id == CARTPOLE
    assert dataset.card.command == "aime-gym train expert ..."
    assert len(dataset.card.sha256) == 6


def test_the_default_folder():
    assert RECIPE.run_folder.as_posix() == "runs/expert-cartpole-balance-seed0"
    assert ExpertRecipe(env="Hopper-v5", seed=3).run_folder.name == "expert-Hopper-v5-seed3"


def test_any_gymnasium_environment(tmp_path):
    changes = {"env": "Pendulum-v1", "total_timesteps": 400, "evaluation_interval": 400}
    train(recipe(tmp_path, **changes))
    dataset = read_dataset(tmp_path / "episodes")
    assert starts(tmp_path / "episodes") == [0, 200]
    assert dataset[0].sensors["observation"].shape == (201, 3)
    assert dataset.card.name == "Pendulum-v1-training"


@pytest.mark.parametrize("at", [5, 20, 37, 59])
def test_a_killed_run_keeps_its_recordings_whole(tmp_path, at, kill):
    killed(recipe(tmp_path), at, kill)
    train(recipe(tmp_path))
    assert starts(tmp_path / "episodes") == [0, 10, 20, 30, 40, 50]
    dataset = read_dataset(tmp_path / "episodes")
    assert len({trajectory.actions.tobytes() for trajectory in dataset}) == 6
    assert len(dataset.card.sha256) == 6
    assert evaluated(tmp_path / "run") == [20, 40, 60]


def test_an_episode_in_progress_at_the_checkpoint_is_dropped(tmp_path, kill):
    killed(recipe(tmp_path, checkpoint_interval=15), 28, kill)
    train(recipe(tmp_path))
    dataset = read_dataset(tmp_path / "episodes")
    assert starts(tmp_path / "episodes") == [0, 15, 25, 35, 45]
    assert {len(trajectory) for trajectory in dataset} == {11}


@needs_sbx
def test_a_killed_run_of_simba(tmp_path, kill):
    config = dataclasses.replace(NARROW, algorithm="simba")
    killed(recipe(tmp_path, config=config), 50, kill)
    agent = train(recipe(tmp_path, config=config))
    assert agent.training.state_dict()["updates"] == 55  # As many as without a kill.
    assert starts(tmp_path / "episodes") == [0, 10, 20, 30, 40, 50]


def test_a_run_may_be_prolonged_and_not_changed(tmp_path):
    train(recipe(tmp_path, total_timesteps=20))
    train(recipe(tmp_path, total_timesteps=30))
    assert starts(tmp_path / "episodes") == [0, 10, 20]
    train(recipe(tmp_path, total_timesteps=30))
    assert starts(tmp_path / "episodes") == [0, 10, 20]
    with pytest.raises(ValueError, match=r"another configuration \(seed 0, not 1\)"):
        train(recipe(tmp_path, seed=1))


def test_a_recording_goes_on_or_never_began(tmp_path):
    train(recipe(tmp_path, total_timesteps=20))
    longer = recipe(tmp_path, total_timesteps=40)
    with pytest.raises(ValueError, match=r"was recorded: go on with --record"):
        train(dataclasses.replace(longer, record=None))
    with pytest.raises(ValueError, match=r"has 0 of the 2 episodes"):
        train(dataclasses.replace(longer, record=tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "episodes").rename(tmp_path / "moved")
    train(dataclasses.replace(longer, record=tmp_path / "moved"))
    assert starts(tmp_path / "moved") == [0, 10, 20, 30]

    (tmp_path / "plain").mkdir()
    train(recipe(tmp_path / "plain", record=False, total_timesteps=20))
    with pytest.raises(ValueError, match=r"was not recorded: go on without --record"):
        train(recipe(tmp_path / "plain"))


def test_a_new_run_does_not_replace_the_episodes_of_another(tmp_path):
    train(recipe(tmp_path, total_timesteps=20))
    before = {path.name: path.read_bytes() for path in (tmp_path / "episodes").iterdir()}
    again = dataclasses.replace(recipe(tmp_path), folder=tmp_path / "another")
    with pytest.raises(ValueError, match=r"already has episodes.*record into another folder"):
        train(again)
    assert {path.name: path.read_bytes() for path in (tmp_path / "episodes").iterdir()} == before
    assert not (tmp_path / "another").exists()


def test_evaluating_the_trained_agent_records_nothing(tmp_path):
    agent = train(recipe(tmp_path, total_timesteps=20))
    evaluate_policy(agent, agent.get_env(), 1)
    assert starts(tmp_path / "episodes") == [0, 10]


def test_an_expert_of_version_0_1_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.json").write_text("{}")
    with pytest.raises(ValueError, match=r"version 0\.1.*another folder"):
        train(recipe(tmp_path))
    assert not (tmp_path / "episodes").exists()


def test_the_best_agent_is_kept(tmp_path, monkeypatch, kill):
    from agents.runs import callbacks

    means = iter([1.0, 3.0, 2.0, 2.5, 4.0])
    evaluation = aime_gym.evaluate(make(env=CARTPOLE), CARTPOLE, episodes=1)
    monkeypatch.setattr(
        callbacks,
        "evaluate",
        lambda *args, **kwargs: dataclasses.replace(evaluation, returns=np.array([next(means)])),
    )
    best, full = (tmp_path / "run" / name for name in ("best.zip", "best-full.zip"))
    killed(recipe(tmp_path, record=False), 59, kill)
    assert steps_of(best) == steps_of(full) == 40
    train(recipe(tmp_path, record=False))
    assert steps_of(best) == steps_of(full) == 40
    loaded = [SACAgent.load(path, device="cpu") for path in (best, full)]
    np.testing.assert_allclose(act(loaded[0]), act(loaded[1]), atol=0.01)
    assert (loaded[0].training.empty, loaded[1].training.empty) == (True, False)
    train(recipe(tmp_path, record=False, total_timesteps=100))
    assert steps_of(best) == steps_of(full) == 100


def test_a_run_that_ends_within_an_episode_has_a_model(tmp_path):
    train(recipe(tmp_path, record=False, total_timesteps=25, evaluation_interval=1_000))
    assert steps_of(tmp_path / "run" / "best.zip") == 25


def test_it_logs_losses_and_returns(tmp_path):
    train(recipe(tmp_path, record=False, evaluation_interval=1_000))
    rows = read_curve(tmp_path / "run" / "progress.csv")
    assert any("train/actor_loss" in row and "rollout/ep_rew_mean" in row for row in rows)


def test_a_mistake_claims_no_folder(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cartpol"):
        train(recipe(tmp_path, env="AIME/cartpol-balance-mdp"))
    monkeypatch.setitem(sys.modules, "sbx", None)
    with pytest.raises(ModuleNotFoundError, match=r"aime-gym\[expert\].*--algorithm sac"):
        train(recipe(tmp_path, config=SACConfig("simba")))
    assert not any((tmp_path / name).exists() for name in ("run", "episodes"))
