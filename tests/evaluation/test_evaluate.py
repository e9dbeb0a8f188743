import json

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from aime_gym.card import Card, write_card
from aime_gym.evaluation.evaluate import (
    EVAL_SEED,
    Evaluation,
    evaluate,
    expert_evaluation,
)
from aime_gym.evaluation.statistics import bootstrap_interval, interquartile_mean

ID = "AIME/walker-run-mdp"
REPEAT = 50  # Episodes of 20 steps.
SEED = 77


def short(num_envs=2, env_id=ID):
    return gym.make_vec(env_id, num_envs=num_envs, action_repeat=REPEAT)


class Swing:
    """A linear policy with memory: it counts the steps of every episode."""

    def __init__(self, size=24, actions=6):
        self.weights = np.random.default_rng(0).normal(size=(size, actions))
        self.starts = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        count = np.zeros(len(observation)) if state is None else state[0].copy()
        count[episode_start] = 0
        noise = 0 if deterministic else np.random.default_rng(len(self.starts)).normal()
        self.starts.append(observation.copy())
        action = np.tanh(observation @ self.weights + np.sin(count)[:, None] + noise)
        return action.astype(np.float32), (count + 1,)


@pytest.fixture(scope="module")
def sac():
    env = gym.make(ID, action_repeat=REPEAT)
    model = SAC("MlpPolicy", env, learning_starts=20, batch_size=16, seed=0)
    return model.learn(40)


def single(index, prefix=""):
    return lambda: Monitor(gym.make(prefix + ID, action_repeat=REPEAT))


@pytest.mark.parametrize("num_envs", [1, 8])
def test_evaluate_policy_gives_the_same_returns(sac, num_envs):
    vec_env = DummyVecEnv([single(index) for index in range(num_envs)])
    vec_env.seed(SEED)
    theirs, _ = evaluate_policy(sac, vec_env, num_envs, return_episode_rewards=True)
    vec_env.close()
    ours = evaluate(sac, short(num_envs), num_envs, seed=SEED)
    np.testing.assert_allclose(ours.returns, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_envs", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_evaluate_policy_gives_the_same_returns_in_processes(sac, num_envs):
    vec_env = SubprocVecEnv([single(index, "aime_gym:") for index in range(num_envs)])
    vec_env.seed(SEED)
    theirs, _ = evaluate_policy(sac, vec_env, num_envs, return_episode_rewards=True)
    vec_env.close()
    ours = evaluate(sac, short(num_envs), num_envs, seed=SEED)
    np.testing.assert_allclose(ours.returns, theirs, rtol=0, atol=1e-6)


def test_episode_i_starts_from_seed_plus_i():
    policy = Swing()
    result = evaluate(policy, short(2), 3, seed=SEED)
    assert result.returns.shape == (3,)
    starts = np.concatenate([policy.starts[0], policy.starts[20]])
    env = gym.make(ID)
    expected = [env.reset(seed=SEED + index)[0] for index in range(4)]
    np.testing.assert_array_equal(starts, expected)


def test_the_number_of_environments_leaves_the_result_alone():
    results = [evaluate(Swing(), short(n), 6, seed=SEED) for n in (1, 4)]
    assert results[0].num_envs == 1
    np.testing.assert_allclose(results[0].returns, results[1].returns, rtol=0.05)
    low, high = results[0].interval
    assert low <= results[1].mean <= high


def test_deterministic_reaches_the_policy():
    best, sampled = (
        evaluate(Swing(), short(), 2, seed=SEED, deterministic=flag) for flag in (True, False)
    )
    assert best.deterministic
    assert not sampled.deterministic
    assert (best.returns != sampled.returns).all()


def test_record_keeps_the_trajectories():
    assert evaluate(Swing(), short(), 2).trajectories == ()
    result = evaluate(Swing(), short(), 3, record=True)
    assert len(result.trajectories) == 3
    assert all(t.physics_states is not None for t in result.trajectories)
    assert [t.episode_return for t in result.trajectories] == result.returns.tolist()


def test_the_bar_counts_episodes(capsys):
    evaluate(Swing(), short(2), 3, progress_bar=True)
    assert "3/3" in capsys.readouterr().err
    evaluate(Swing(), short(2), 3)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_an_id_is_enough():
    result = evaluate(Swing(), "aime_gym:" + ID, 2)
    assert (result.env_id, result.seed, result.num_envs) == (ID, EVAL_SEED, 2)
    assert evaluate(Swing(), ID, 2, num_envs=1).num_envs == 1


def test_an_image_policy_of_stable_baselines3():
    env_id = "AIME/walker-run-visual"
    env = gym.make(env_id, action_repeat=REPEAT)
    model = PPO("CnnPolicy", env, n_steps=8, batch_size=4, n_epochs=1).learn(8)
    assert model.observation_space.shape == (3, 64, 64)
    result = evaluate(model, short(2, env_id), 2)
    vec_env = DummyVecEnv([lambda: Monitor(gym.make(env_id, action_repeat=REPEAT))] * 2)
    vec_env.seed(EVAL_SEED)
    theirs, _ = evaluate_policy(model, vec_env, 2, return_episode_rewards=True)
    np.testing.assert_allclose(result.returns, theirs, rtol=0, atol=1e-6)


# What an evaluation says


def test_score_of_the_published_expert():
    result = evaluate(Swing(), short(), 2)
    assert result.normalisation == "published expert"
    assert result.expert_return == pytest.approx(604.1, abs=0.01)
    np.testing.assert_allclose(result.scores, 100 * result.returns / result.expert_return)


def test_score_of_a_given_expert():
    result = evaluate(Swing(), short(), 2, expert_return=50.0)
    assert result.normalisation == "given expert return"
    np.testing.assert_allclose(result.scores, 2 * result.returns)
    with pytest.raises(ValueError, match="above 0"):
        evaluate(Swing(), short(), 2, expert_return=0.0)


@pytest.fixture
def expert_returns(tmp_path, monkeypatch):
    """Writes the card of an expert's dataset in a folder of AIME_GYM_DATA."""
    monkeypatch.setenv("AIME_GYM_DATA", str(tmp_path))

    def write(name, env_id, returns):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        write_card(folder, Card(name, "body", env_id=env_id, evaluation_returns=returns))

    return write


def test_score_of_the_recorded_expert(expert_returns):
    expert_returns("hopper-hop-expert", "AIME/hopper-hop-mdp", (10.0, 30.0))
    card = Card("x", "hopper", env_id="AIME/hopper-hop-mdp", evaluation_returns=(5.0, 15.0))
    result = expert_evaluation(card)
    assert result.normalisation == "recorded expert episodes"
    assert result.scores.tolist() == [25.0, 75.0]
    expert_returns("hopper-hop-expert", "AIME/hopper-hop-mdp", ())
    assert expert_evaluation(card).scores is None


def test_score_in_an_environment_of_gymnasium(expert_returns):
    result = evaluate(Swing(11, 3), "Hopper-v5", 3, seed=SEED)
    assert (result.env_id, result.num_envs) == ("Hopper-v5", 3)
    assert result.scores is None
    assert "no expert is known" in str(result)
    expert_returns("Hopper-v5-expert", "Hopper-v5", (100.0, 300.0))
    scored = evaluate(Swing(11, 3), "Hopper-v5", 3, seed=SEED)
    np.testing.assert_allclose(scored.scores, result.returns / 2)
    expert_returns("Hopper-v5-expert", "Hopper-v5", (-100.0,))
    assert evaluate(Swing(11, 3), "Hopper-v5", 1).scores is None


@pytest.mark.parametrize("num_envs", [1, 4])
def test_terminating_episodes_give_the_returns_of_evaluate_policy(num_envs):
    model = SAC("MlpPolicy", gym.make("Hopper-v5"), seed=0, policy_kwargs={"net_arch": [8]})
    vec_env = DummyVecEnv([lambda: Monitor(gym.make("Hopper-v5"))] * num_envs)
    vec_env.seed(SEED)
    theirs, _ = evaluate_policy(model, vec_env, num_envs, return_episode_rewards=True)
    ours = evaluate(model, "Hopper-v5", num_envs, seed=SEED)
    # Theirs come in the order in which the episodes end, rounded to six digits.
    np.testing.assert_allclose(sorted(ours.returns), sorted(theirs), atol=1e-5)


def test_a_truncated_environment_of_gymnasium():
    result = evaluate(Swing(3, 1), "Pendulum-v1", 2, seed=SEED, record=True)
    assert [t.num_steps for t in result.trajectories] == [200, 200]
    assert all(t.truncated and not t.terminated for t in result.trajectories)
    assert result.trajectories[0].physics_states.shape == (201, 2)


def test_discrete_actions():
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=4, n_epochs=1, seed=0)
    result = evaluate(model, "CartPole-v1", 3, seed=SEED, record=True)
    (single,) = evaluate(model, "CartPole-v1", 1, seed=SEED + 2, record=True).trajectories
    np.testing.assert_array_equal(result.trajectories[2].actions, single.actions)
    assert result.returns[2] == single.num_steps
    other = Swing()
    other.action_space = gym.spaces.Discrete(2)
    with pytest.raises(ValueError, match=r"actions are Discrete\(2\), those of Acrobot-v1"):
        evaluate(other, "Acrobot-v1", 1)


def test_an_experts_card():
    card = Card("walker-run-expert", "walker", env_id=ID, evaluation_returns=(604.0, 302.0))
    result = expert_evaluation(card)
    assert result.score == pytest.approx(75.0, abs=0.05)
    assert result.seed is None
    with pytest.raises(ValueError, match=r"'mine' has no evaluation_returns"):
        expert_evaluation(Card("mine", "walker", env_id=ID))


def test_statistics_and_text():
    returns = np.random.default_rng(0).uniform(100, 500, size=20)
    result = Evaluation(ID, returns, SEED, 4, True, 250.0, "published expert")
    assert result.mean == pytest.approx(returns.mean())
    assert result.iqm == pytest.approx(float(interquartile_mean(returns)))
    assert result.interval == bootstrap_interval(returns)
    assert result.score == pytest.approx(0.4 * result.mean)
    assert result.score_interval == pytest.approx(tuple(0.4 * end for end in result.interval))
    assert result.score_iqm == pytest.approx(0.4 * result.iqm)
    text = str(result)
    assert f"{result.score:.1f}% of the published expert, 250.0" in text
    assert "20 episodes from seed 77" in text
    assert "no expert is known" in str(Evaluation(ID, returns))
    values = json.loads(json.dumps(result.to_json()))
    assert Evaluation.from_json(values).to_json() == values
    assert values["returns"] == returns.tolist()
    assert values["score_interval"] == list(result.score_interval)
    with pytest.raises(ValueError, match="read-only"):
        result.returns[0] = 0.0


@pytest.mark.parametrize("wrong", [[], [[1.0]], [np.nan]])
def test_wrong_returns(wrong):
    with pytest.raises(ValueError, match="one row of finite numbers"):
        Evaluation(ID, np.array(wrong))


# Wrong input


def test_wrong_ids():
    with pytest.raises(ValueError, match="no task 'runn': did you mean 'run'"):
        evaluate(Swing(), "AIME/walker-runn-mdp")
    with pytest.raises(ValueError, match=r"there are .*AIME/cheetah-flip, "):
        evaluate(Swing(), "nothing")


def test_wrong_policies(sac):
    with pytest.raises(TypeError, match="function has not"):
        evaluate(lambda observation: observation, short(), 1)
    with pytest.raises(ValueError, match=r"observations are Box.*\(24,\).*lpomdp are Box"):
        evaluate(sac, short(1, "AIME/walker-run-lpomdp"), 1)
    with pytest.raises(ValueError, match=r"actions are Box.*\(6,\).*hopper-hop-mdp are Box"):
        evaluate(sac, short(1, "AIME/hopper-hop-mdp"), 1)
    with pytest.raises(ValueError, match=r"shape \(2, 5\); these environments take \(2, 6\)"):
        evaluate(Swing(actions=5), short(), 1)


def test_wrong_environments_and_numbers():
    with pytest.raises(TypeError, match="vector environment"):
        evaluate(Swing(), gym.make(ID))
    with pytest.raises(ValueError, match="at least one episode"):
        evaluate(Swing(), ID, 0)
    with pytest.raises(ValueError, match="num_envs is 3, but env has 2"):
        evaluate(Swing(), short(), num_envs=3)
