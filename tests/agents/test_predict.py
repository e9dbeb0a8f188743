"""Acting, as Stable-Baselines3's policies do; and what else its users expect of an agent."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from agents import AIMEAgent, BCAgent
from agents.vec_env import GymnasiumVecEnv
from agents.world_models.acting import filter_and_act
from aime_gym import evaluate

SHORT = {"max_episode_steps": 10}


@pytest.fixture(
    params=["aime mdp", "aime lpomdp", "bc mdp", "bc lpomdp", "aime visual", "bc visual"]
)
def agent(request, make_aime, make_bc):
    kind, setup = request.param.split()
    return {"aime": make_aime, "bc": make_bc}[kind](setup)


@pytest.fixture(params=["aime", "bc"])
def make(request, make_aime, make_bc):
    return {"aime": make_aime, "bc": make_bc}[request.param]


def observe(agent, batch, seed=0):
    space = agent.observation_space
    generator = np.random.default_rng(seed)
    if space.dtype == np.uint8:
        return generator.integers(0, 256, (batch, *space.shape), dtype=np.uint8)
    return generator.normal(size=(batch, *space.shape)).astype(np.float32)


def test_single_and_batch(agent):
    batch = observe(agent, 3)
    actions, state = agent.predict(batch, deterministic=True)
    assert actions.shape == (3, 1)
    assert actions.dtype == np.float32
    assert all(agent.action_space.contains(action) for action in actions)
    for index in range(3):
        action, own = agent.predict(batch[index], deterministic=True)
        assert action.shape == (1,)
        np.testing.assert_allclose(action, actions[index], rtol=1e-4, atol=1e-6)
        if state is not None:
            for part, whole in zip(own, state, strict=True):
                assert part.shape == (1, *whole.shape[1:])
                np.testing.assert_allclose(part[0], whole[index], rtol=1e-4, atol=1e-5)


def test_the_state_is_carried(agent):
    stateful = isinstance(agent, AIMEAgent) or agent.stack > 1
    first, second = observe(agent, 2, 0), observe(agent, 2, 1)
    _, state = agent.predict(first, deterministic=True)
    assert (state is not None) == stateful
    carried, _ = agent.predict(second, state, np.zeros(2, bool), deterministic=True)
    default, _ = agent.predict(second, state, deterministic=True)
    fresh, _ = agent.predict(second, deterministic=True)
    np.testing.assert_array_equal(carried, default)
    assert (carried != fresh).any() == stateful


def test_an_episode_start_makes_its_rows_fresh(agent):
    first, second = observe(agent, 3, 0), observe(agent, 3, 1)
    _, state = agent.predict(first, deterministic=True)
    for starts in ([False, True, False], np.array([0.0, 1.0, 0.0])):
        mixed, mixed_state = agent.predict(second, state, np.array(starts), deterministic=True)
        carried, carried_state = agent.predict(second, state, np.zeros(3, bool), deterministic=True)
        fresh, fresh_state = agent.predict(second, deterministic=True)
        np.testing.assert_array_equal(mixed, np.where([[False], [True], [False]], fresh, carried))
        if state is None:
            continue
        for part, one, other in zip(mixed_state, fresh_state, carried_state, strict=True):
            np.testing.assert_array_equal(part[1], one[1])
            np.testing.assert_array_equal(part[[0, 2]], other[[0, 2]])


def test_states_are_new_arrays_batch_first(agent):
    observation = observe(agent, 3)
    _, state = agent.predict(observation)
    if state is None:
        return
    copies = [part.copy() for part in state]
    _, after = agent.predict(observation, state)
    for part, copy, new in zip(state, copies, after, strict=True):
        assert isinstance(new, np.ndarray)
        assert len(new) == 3
        assert not np.shares_memory(part, new)
        np.testing.assert_array_equal(part, copy)


def test_actions_and_state_do_not_share_memory(make_aime):
    agent = make_aime()
    actions, state = agent.predict(observe(agent, 2))
    before = [part.copy() for part in state]
    actions += 1
    for part, copy in zip(state, before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_the_best_action_is_repeatable(agent):
    observation = observe(agent, 2)
    first, _ = agent.predict(observation, deterministic=True)
    second, _ = agent.predict(observation, deterministic=True)
    np.testing.assert_array_equal(first, second)


def test_samples_come_from_the_agents_own_generator(make_aime):
    agent, twin, other = make_aime(), make_aime(), make_aime(seed=1, model=None)
    observation = observe(agent, 2)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (agent.predict(observation)[0] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert (first != second).any()
    torch.manual_seed(123)
    np.testing.assert_array_equal(twin.predict(observation)[0], first)
    assert (other.predict(observation)[0] != first).any()


def test_acting_does_not_change_what_is_learnt(make_aime, pendulum, weights, same):
    plain, watched = make_aime().learn(pendulum, 4), make_aime()
    observation = observe(watched, 1)
    watched.learn(pendulum, 4, callback=lambda *_: len(watched.predict(observation)) == 2)
    assert same(weights(plain), weights(watched))


def test_the_filter_may_be_sampled_while_the_action_is_the_best(make_aime):
    agent = make_aime(sample_filter=True)
    observation = observe(agent, 2)
    first, second = (agent.predict(observation, deterministic=True)[0] for _ in range(2))
    assert (first != second).any()


def test_the_filter_starts_with_a_full_step_and_keeps_the_action(make_aime, pendulum):
    """Acting is the filter of phase 2, one row at a time."""
    agent = make_aime()
    sensors = pendulum[0].sensors
    rows = np.concatenate([sensors["orientation"], sensors["velocity"]], axis=1)
    state, actions = None, []
    for row in rows:
        action, state = agent.predict(row, state, deterministic=True)
        actions.append(action)
    embeds = torch.from_numpy(rows)[:, None]
    prev_actions = torch.from_numpy(np.stack([np.zeros_like(actions[0]), *actions[:-1]]))[:, None]
    noise = torch.zeros(len(rows), 1, 4)
    with torch.no_grad():
        latents = agent.world_model.filter(embeds, noise, prev_actions).latents
        expected = torch.tanh(agent.policy(latents.feature[:, 0]).mean).numpy()
    np.testing.assert_allclose(np.stack(actions), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state[0], latents.deter[-1], rtol=1e-4, atol=1e-6)


def test_images_may_come_channel_first(make):
    agent = make("visual")
    images = observe(agent, 2)
    expected, _ = agent.predict(images, deterministic=True)
    first = np.moveaxis(images, -1, 1)
    np.testing.assert_array_equal(agent.predict(first, deterministic=True)[0], expected)
    single, _ = agent.predict(first[0], deterministic=True)
    np.testing.assert_allclose(single, expected[0], rtol=1e-4, atol=1e-6)


def test_doubles_are_accepted(make):
    agent = make()
    observation = observe(agent, 2)
    expected, _ = agent.predict(observation, deterministic=True)
    actual, _ = agent.predict(observation.astype(np.float64), deterministic=True)
    np.testing.assert_array_equal(actual, expected)


def test_what_reset_returns_is_refused(make):
    agent = make()
    with pytest.raises(ValueError, match=r"\(observation, info\)"):
        agent.predict((observe(agent, 1)[0], {}))


@pytest.mark.parametrize("shape", [(), (4,), (2, 4), (2, 2, 3)])
def test_another_shape_is_refused(make, shape):
    with pytest.raises(ValueError, match=r"has shape \[3\], a batch has \[B, 3\]; got \["):
        make().predict(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(84, 84, 3), (3,), (1, 64, 64)])
def test_other_images_are_refused(make, shape):
    with pytest.raises(ValueError, match=r"has shape \[64, 64, 3\], a batch"):
        make("visual").predict(np.zeros(shape, np.uint8))


def test_a_box_that_is_not_symmetric():
    agent = BCAgent("AIME/quadruped-walk-lpomdp", device="cpu")
    actions, _ = agent.predict(observe(agent, 5), deterministic=True)
    assert all(agent.action_space.contains(action) for action in actions)
    np.testing.assert_array_equal(agent.env_info.action_space.high, agent.action_space.high)
    assert not (agent.action_space.high == 1).all()


# Environments


def short_env(setup="mdp", **kwargs):
    return gym.make(f"AIME/pendulum-swingup-{setup}", **SHORT, **kwargs)


def test_get_env_is_watched(make):
    assert make().get_env().env_is_wrapped(Monitor) == [True]


@pytest.mark.parametrize(
    "env",
    [
        short_env,
        lambda: Monitor(short_env()),
        lambda: DummyVecEnv([short_env, short_env]),
        lambda: VecMonitor(DummyVecEnv([short_env])),
        lambda: VecNormalize(DummyVecEnv([lambda: Monitor(short_env())]), norm_obs=False),
        lambda: GymnasiumVecEnv(gym.make_vec("AIME/pendulum-swingup-mdp", num_envs=3, **SHORT)),
    ],
)
def test_every_kind_of_environment(make, env):
    agent = make()
    agent.set_env(env())
    vec_env = agent.get_env()
    returns, lengths = evaluate_policy(agent, vec_env, 2, return_episode_rewards=True)
    assert len(returns) == 2
    assert lengths == [10, 10]
    assert (agent.get_vec_normalize_env() is not None) == isinstance(vec_env, VecNormalize)
    assert type(agent)(env(), **given(agent)).env_info == agent.env_info


def given(agent):
    return {"world_model": agent.world_model} if isinstance(agent, AIMEAgent) else {}


def test_another_body_is_refused(make):
    agent = make()
    for other in ("AIME/cartpole-balance-mdp", "AIME/pendulum-swingup-lpomdp"):
        with pytest.raises(ValueError, match=f"does not fit {other}. It is of pendulum, mdp"):
            agent.set_env(other)
    assert agent.get_env().get_attr("env_id")[0].body == "pendulum"


def test_evaluate_policy_and_evaluate_agree(make):
    agent = make("lpomdp")
    envs = gym.make_vec("AIME/pendulum-swingup-lpomdp", num_envs=2, **SHORT)
    ours = evaluate(agent, envs, 2, seed=5).returns
    vec_env = DummyVecEnv([lambda: Monitor(short_env("lpomdp"))] * 2)
    vec_env.seed(5)
    theirs, _ = evaluate_policy(agent, vec_env, 2, return_episode_rewards=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


# Learning, as Stable-Baselines3 users do it


class Count(BaseCallback):
    def __init__(self, stop_at=None):
        super().__init__()
        self.steps, self.stop_at, self.events = [], stop_at, []

    def _on_training_start(self):
        self.events.append(("start", self.locals["total_timesteps"]))

    def _on_step(self):
        self.steps.append(self.num_timesteps)
        return self.num_timesteps != self.stop_at

    def _on_training_end(self):
        self.events.append(("end", self.num_timesteps))


def test_one_update_is_one_step(make, pendulum):
    agent, count = make(), Count()
    assert agent.learn(pendulum, 4, callback=count) is agent
    assert count.steps == [1, 2, 3, 4]
    assert count.events == [("start", 4), ("end", 4)]
    agent.learn(pendulum, 2, callback=count, reset_num_timesteps=False)
    assert agent.num_timesteps == 6
    assert count.events[2:] == [("start", 6), ("end", 6)]
    agent.learn(pendulum, 2)
    assert agent.num_timesteps == 2


def test_a_callback_stops_learning(make, pendulum):
    agent = make().learn(pendulum, 10, callback=Count(stop_at=3))
    assert agent.num_timesteps == 3


def test_a_list_or_a_function_of_callbacks(make, pendulum):
    first, second, seen = Count(), Count(), []
    make().learn(pendulum, 3, callback=[first, second])
    assert first.steps == second.steps == [1, 2, 3]
    agent = make().learn(
        pendulum, 5, callback=lambda values, _: seen.append(set(values)) or len(seen) < 2
    )
    assert agent.num_timesteps == 2
    assert {"self", "metrics", "total_timesteps"} <= seen[0]


def test_stable_baselines_callbacks(make, pendulum, tmp_path):
    agent, every = make(), Count()
    evaluation = EvalCallback(
        DummyVecEnv([lambda: Monitor(short_env())]),
        n_eval_episodes=1,
        eval_freq=2,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        callback_after_eval=StopTrainingOnNoModelImprovement(10),
        verbose=0,
    )
    agent.learn(
        pendulum,
        6,
        callback=[
            CheckpointCallback(3, str(tmp_path), name_prefix="agent", save_vecnormalize=True),
            evaluation,
            EveryNTimesteps(2, every),
        ],
    )
    assert every.steps == [2, 4, 6]
    assert evaluation.evaluations_timesteps == [2, 4, 6]
    saved = type(agent).load(tmp_path / "agent_3_steps.zip", device="cpu")
    assert saved.num_timesteps == 3
    assert (tmp_path / "best_model.zip").exists()
    assert (tmp_path / "evaluations.npz").exists()


def test_a_good_enough_evaluation_stops_learning(make, pendulum):
    enough = EvalCallback(
        DummyVecEnv([lambda: Monitor(short_env())]),
        callback_on_new_best=StopTrainingOnRewardThreshold(-1.0, verbose=0),
        n_eval_episodes=1,
        eval_freq=3,
        verbose=0,
    )
    assert make().learn(pendulum, 9, callback=enough).num_timesteps == 3


def test_progress_bars(make, pendulum, capfd):
    make().learn(pendulum, 3, progress_bar=True)
    assert "3/3" in capfd.readouterr().err
    make().learn(pendulum, 3, callback=ProgressBarCallback())


def test_a_state_of_another_batch_is_refused(make_aime):
    agent = make_aime()
    observation = np.zeros((3, 3), np.float32)
    _, state = agent.predict(observation)
    with pytest.raises(ValueError, match="needed for 2 observations"):
        agent.predict(observation[:2], state)


def test_a_logger(make, pendulum, tmp_path):
    agent = make()
    agent.set_logger(configure(str(tmp_path), ["csv", "tensorboard"]))
    agent.learn(pendulum, 4, log_interval=2)
    rows = (tmp_path / "progress.csv").read_text().splitlines()
    assert len(rows) == 3
    assert "time/total_timesteps" in rows[0]
    assert any("tfevents" in path.name for path in tmp_path.iterdir())


def test_tensorboard(make_aime, make_bc, pendulum, tmp_path):
    agent = BCAgent("AIME/pendulum-swingup-mdp", device="cpu", tensorboard_log=str(tmp_path))
    agent.learn(pendulum, 2, log_interval=1)
    agent.learn(pendulum, 2, log_interval=1, tb_log_name="other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BCAgent_1", "other_1"]


def test_logged_values_are_means_over_the_interval(make_bc, pendulum, tmp_path):
    agent, losses = make_bc(), []
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(
        pendulum,
        6,
        log_interval=3,
        callback=lambda values, _: losses.append(values["metrics"]["loss"].item()) is None,
    )
    header, *rows = (line.split(",") for line in (tmp_path / "progress.csv").open())
    column = [name.strip() for name in header].index("train/loss")
    means = [np.mean(losses[:3]), np.mean(losses[3:])]
    np.testing.assert_allclose([float(row[column]) for row in rows], means, rtol=1e-5)


def test_verbose(make_bc, pendulum, capsys):
    BCAgent("AIME/pendulum-swingup-mdp", device="cpu").learn(pendulum, 1, log_interval=1)
    assert capsys.readouterr().out == ""
    BCAgent("AIME/pendulum-swingup-mdp", device="cpu", verbose=1).learn(pendulum, 1, log_interval=1)
    assert "total_timesteps" in capsys.readouterr().out


@pytest.mark.parametrize("cell", ["rssm", "rssmo", "residual"])
@pytest.mark.parametrize("see_observation", [False, True])
def test_acting_without_noise_equals_noise_of_zero(make_model, make_aime, cell, see_observation):
    """To the bit, though the networks of standard deviations are left out."""
    options = {"see_observation": see_observation, "standardize": True}
    agent = make_aime(model=make_model(cell=cell), **options)
    agent.policy.standardizer.fit(torch.randn(50, len(agent.policy.standardizer.mean)))
    state = tuple(torch.randn_like(part) for part in agent._initial_state(4))
    observations = agent.env_info.split(observe(agent, 4), agent.device)
    zeros = [torch.zeros_like(part) for part in state[1:]]
    arguments = (agent.world_model, agent.policy, observations, state)
    with torch.no_grad():
        action, after = filter_and_act(*arguments, None, None, see_observation)
        expected, expected_after = filter_and_act(*arguments, *zeros, see_observation)
    assert torch.equal(action, expected)
    assert all(map(torch.equal, after, expected_after))


def test_rows_that_start_have_a_new_state_and_others_keep_theirs(make_aime):
    agent = make_aime()
    batch = observe(agent, 3)
    _, state = agent.predict(batch, deterministic=True)
    kept = [part.copy() for part in state]
    whole, _ = agent.predict(batch, state, np.zeros(3, bool), deterministic=True)
    mixed, _ = agent.predict(batch, state, np.array([False, True, False]), deterministic=True)
    fresh, _ = agent.predict(batch, deterministic=True)
    np.testing.assert_array_equal(mixed[[0, 2]], whole[[0, 2]])
    np.testing.assert_array_equal(mixed[1], fresh[1])
    assert (whole[1] != fresh[1]).all()
    for before, part in zip(kept, state, strict=True):
        np.testing.assert_array_equal(before, part)
