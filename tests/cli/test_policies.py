import json
import sys
import zipfile

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents import (
    AIMEAgent,
    BCAgent,
    BCOAgent,
    BodyModelConfig,
    DreamerAgent,
    DreamerConfig,
    IIDMAgent,
    Plan2ExploreAgent,
    Plan2ExploreConfig,
    SACAgent,
    WorldModel,
    WorldModelConfig,
)
from aime_gym.catalogue import model_folders
from aime_gym.cli.policies import Acting
from aime_gym.datasets import load_dataset, save_dataset
from aime_gym.files import sha256

ENV_ID = "AIME/cartpole-balance-mdp"
OTHER_ID = "AIME/pendulum-swingup-mdp"


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Everything that acts, untrained, and a world model, which does not."""
    root = tmp_path_factory.mktemp("policies")
    model = WorldModel(ENV_ID, WorldModelConfig().narrow())
    model.save(root / "model.zip")
    AIMEAgent(ENV_ID, model).save(root / "aime.zip")
    BCAgent(ENV_ID).save(root / "bc-run" / "final.zip")
    PPO("MlpPolicy", ENV_ID, device="cpu", seed=0).save(root / "ppo.zip")
    for name, seed in (("best", 1), ("final", 2)):
        SACAgent(ENV_ID, seed=seed).save(root / "expert-run" / f"{name}.zip", compact=True)
    tiny = WorldModelConfig.rssmo().narrow(8)
    DreamerAgent(ENV_ID, DreamerConfig(world_model=tiny)).save(root / "dreamer" / "final.zip")
    Plan2ExploreAgent(ENV_ID, Plan2ExploreConfig(world_model=tiny)).save(
        root / "plan2explore" / "checkpoint.zip"
    )
    for name, agent_class in (("bco", BCOAgent), ("iidm", IIDMAgent)):
        agent_class(ENV_ID, BodyModelConfig()).save(root / name / "final.zip", compact=True)
    (root / "empty").mkdir()
    (root / "begun").mkdir()
    (root / "begun" / "config.json").write_text("{}")
    (root / "published").mkdir()
    (root / "published" / "config.yaml").touch()
    (root / "published" / "model.pt").touch()
    (root / "torn.zip").write_bytes(b"PK")
    (root / "old-expert" / "best").mkdir(parents=True)
    (root / "old-expert" / "config.json").write_text("{}")
    (root / "old-expert" / "best" / "model.zip").touch()
    with zipfile.ZipFile(root / "newer.zip", "w") as archive:
        archive.writestr("config.json", '{"kind": "FutureAgent"}')
    return root


def load(spec, env_id=ENV_ID, sb3=None, seed=0):
    trust = sb3 is not None
    return Acting(env=env_id, policy=str(spec), sb3=sb3, trust_pickle=trust).load(seed)


@pytest.mark.parametrize(
    ("spec", "sb3"),
    [
        ("aime.zip", None),
        ("aime", None),
        ("bc-run", None),
        ("bc-run/final.zip", None),
        ("ppo.zip", "ppo"),
        ("expert-run", None),
        ("dreamer", None),
        ("plan2explore/checkpoint.zip", None),
        ("bco", None),
        ("iidm/final.zip", None),
    ],
)
def test_whatever_acts_is_loaded(policies, spec, sb3):
    policy = load(policies / spec, sb3=sb3)
    actions, _ = policy.predict(np.zeros((3, 5), np.float32), deterministic=True)
    assert actions.shape == (3, 1)


def test_a_name_is_loaded(policies, places):
    BCAgent(ENV_ID).save(places / "models" / "cloner" / "model.zip")
    assert places / "models" in model_folders()
    assert isinstance(load("cloner"), BCAgent)


def test_the_best_agent_of_a_run_acts(policies):
    observation = np.ones((1, 5), np.float32)
    best, of_run, final = (
        load(policies / "expert-run" / name).predict(observation, deterministic=True)[0]
        for name in ("best.zip", "", "final.zip")
    )
    np.testing.assert_array_equal(best, of_run)
    assert not np.array_equal(best, final)


def test_random_actions_depend_on_the_seed():
    first, again, other = (load("random", seed=seed) for seed in (0, 0, 1))
    actions = [policy.predict(np.zeros((4, 5)))[0] for policy in (first, again, other)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])


def test_random_actions_may_be_discrete():
    actions, _ = load("random", "CartPole-v1").predict(np.zeros((50, 4)))
    assert actions.shape == (50,)
    assert set(actions) == {0, 1}


@pytest.mark.parametrize(
    ("spec", "env_id", "sb3", "message"),
    [
        ("nowhere", ENV_ID, None, "There is no model.*A policy is 'random'"),
        ("nowhere.zip", ENV_ID, "ppo", "There is no .*A policy is 'random'"),
        ("empty", ENV_ID, None, "is no model: it has neither.*A policy is 'random'"),
        ("begun", ENV_ID, None, "no result yet"),
        ("published", ENV_ID, None, "nothing that acts"),
        ("torn.zip", ENV_ID, None, "truncated, or no archive"),
        ("model.zip", ENV_ID, None, "holds a WorldModel, which does not act"),
        ("newer.zip", ENV_ID, None, "FutureAgent, which this version does not know; it knows"),
        ("old-expert", ENV_ID, None, r"an expert of version 0\.1.*train it anew"),
        ("ppo.zip", ENV_ID, None, "--sb3"),
        ("ppo.zip", ENV_ID, "sac", "no model of Stable-Baselines3's SAC"),
        ("ppo.zip", OTHER_ID, "ppo", "PPO for .*pendulum.*spaces do not match"),
        ("expert-run", OTHER_ID, None, "is of cartpole.* is of pendulum"),
        ("bc-run", "AIME/walker-run-mdp", None, "is of cartpole.* is of walker"),
        ("random", "AIME/walker-jog-mdp", None, "no task 'jog'"),
    ],
)
def test_what_does_not_act_there_is_refused(policies, spec, env_id, sb3, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(spec if spec == "random" else policies / spec, env_id, sb3)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("random", "random"),
        ("a/aime.zip", "aime"),
        ("a/run", "run"),
        ("a/run/final.zip", "run"),
        ("a/run/best.zip", "run"),
    ],
)
def test_names(spec, name):
    assert Acting(env=ENV_ID, policy=spec).name == name


def test_collect_and_evaluate_agree(run, policies):
    code, out, _ = run(
        f"collect --env {ENV_ID} --episodes 2 --seed 5 --evaluate 2 --name ours --out data/ours",
        *("--device", "cpu", "--policy"),
        policies / "expert-run",
    )
    assert code == 0
    assert "2 trajectories" in out
    dataset = load_dataset("ours")
    card = dataset.card
    assert (card.env_id, card.seed, card.source) == (ENV_ID, 5, "aime-gym")
    assert card.versions["aime-gym"]
    assert card.command.startswith(f"aime-gym collect --env {ENV_ID} --policy ")
    assert "--device" not in card.command
    assert card.description == "Whole episodes of a policy's best actions."
    assert "--seed 5" in card.command
    line = f"evaluate --env {ENV_ID} --episodes 2 --json result.json --policy"
    assert run(line, policies / "expert-run")[0] == 0
    with open("result.json") as file:
        assert json.load(file)["returns"] == list(card.evaluation_returns)


@pytest.mark.parametrize("name", ["dreamer", "plan2explore", "bco", "iidm/final.zip"])
def test_every_agent_makes_a_dataset(run, policies, places, name):
    line = f"collect --env {ENV_ID} --episodes 1 --name cartpole-balance-expert --out data/made"
    assert run(f"{line} --device cpu --policy", policies / name)[0] == 0
    assert load_dataset("made").num_steps == 125
    pendulum = f"collect --env {OTHER_ID} --episodes 1 --name n --out data/other"
    code, _, err = run(f"{pendulum} --device cpu --policy", policies / name)
    assert (code, "is of cartpole" in err) == (2, True)
    assert not (places / "data" / "other").exists()


def test_evaluating_does_not_change_what_is_collected(run):
    for name, more in (("plain", ""), ("evaluated", "--evaluate 1")):
        line = (
            f"collect --env {ENV_ID} --policy random --episodes 2 --name {name} --out data/{name}"
        )
        assert run(f"{line} {more}")[0] == 0
    plain, evaluated = load_dataset("plain"), load_dataset("evaluated")
    for first, second in zip(plain, evaluated, strict=True):
        np.testing.assert_array_equal(first.actions, second.actions)


def test_storage_of_physics_states(run, places):
    line = f"collect --env {ENV_ID} --policy random --episodes 1 --name p --out p"
    assert run(f"{line} --physics-dtype float32")[0] == 0
    with np.load(places / "p" / "000000.npz") as file:
        assert file["physics_states"].dtype == np.float32


@pytest.mark.parametrize("flag", ["--sampled", "--stochastic"])
def test_sampling_changes_the_returns(run, policies, flag):
    policy = f"--policy {policies / 'ppo.zip'} --sb3 ppo --trust-pickle"
    line = f"evaluate --env {ENV_ID} --episodes 1 {policy}"
    assert run(f"{line} --json best.json")[0] == 0
    assert run(f"{line} --json sampled.json {flag}")[0] == 0
    with open("best.json") as best, open("sampled.json") as sampled:
        assert json.load(best)["returns"] != json.load(sampled)["returns"]


@pytest.mark.usefixtures("short_episodes")
def test_table_beside_the_paper(run):
    code, out, _ = run("evaluate --env AIME/walker-run-mdp --policy random --episodes 2")
    assert code == 0
    assert "the paper's" in out
    assert "77.4" in out


@pytest.mark.usefixtures("short_episodes")
def test_tables_say_what_a_run_learned_from(run, policies, stored, places):
    config = {"world_model": str(policies / "model.zip"), "demos": "walker-run-expert"}
    AIMEAgent("AIME/walker-run-mdp", WorldModelConfig().narrow()).save(places / "run" / "final.zip")
    (places / "run" / "config.json").write_text(json.dumps(config))
    for spec in ("run", "run/final.zip"):
        code, out, _ = run(
            f"evaluate --env AIME/walker-run-mdp --policy {spec} --episodes 1 --device cpu"
        )
        assert code == 0
        row = next(line for line in out.splitlines() if " run " in line)
        assert sha256(config["world_model"])[:8] in row
        assert load_dataset("walker-run-expert").checksum[:8] in row
    assert Acting(env=ENV_ID, policy="random").run_config == {}


@pytest.mark.usefixtures("opengl", "short_episodes")
def test_video(run, collected, places):
    short = collected.map(lambda trajectory: trajectory.window(0, 4))
    save_dataset(short, places / "data" / "short")
    line = f"video --env {ENV_ID} --policy random --demos short --size 32 --out v/film.mp4"
    code, out, _ = run(line)
    assert code == 0
    assert "return" in out
    assert (places / "v" / "film.mp4").stat().st_size > 1000
    code, _, err = run(f"{line} --demonstration 2")
    assert code == 2
    assert "0 to 1" in err


@pytest.fixture
def short():
    """A function that registers an environment of Gymnasium with episodes of 5 steps."""
    added = []

    def register(env_id):
        added.append(f"Short{env_id}")
        gym.register(added[-1], gym.spec(env_id).entry_point, max_episode_steps=5)
        return added[-1]

    yield register
    for env_id in added:
        del gym.registry[env_id]


def test_any_environment(run, short):
    env_id = short("Pendulum-v1")
    base = f"--env {env_id} --policy random --episodes 2"
    code, out, err = run(f"collect {base} --name swing --out data/swing --evaluate 2")
    assert (code, err) == (0, "")
    dataset = load_dataset("swing")
    assert dataset.sensor_shapes == {"observation": (3,)}
    assert dataset.card.env_id == env_id
    assert len(dataset.card.evaluation_returns) == 2
    code, out, _ = run(f"evaluate {base}")
    assert code == 0
    assert "no score: no expert is known" in out


def test_discrete_actions(run, places):
    base = "--env CartPole-v1 --policy random --episodes 2"
    assert run(f"collect {base} --name pole --out data/pole")[0] == 0
    dataset = load_dataset("pole")
    assert dataset[0].actions.dtype == np.int64
    assert dataset[0].terminated
    assert run(f"evaluate {base} --json r.json")[0] == 0
    assert json.loads((places / "r.json").read_text())["score"] is None


@pytest.mark.usefixtures("opengl")
def test_video_of_any_environment(run, places, short):
    base = f"--env {short('InvertedPendulum-v5')} --policy random"
    assert run(f"collect {base} --episodes 1 --name d --out data/d")[0] == 0
    assert run(f"video {base} --demos d --size 32 --out v.mp4")[0] == 0
    assert (places / "v.mp4").stat().st_size > 1000


def test_video_says_what_to_install(run, places, short, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    base = f"--env {short('Pendulum-v1')} --policy random"
    assert run(f"collect {base} --episodes 1 --name d --out data/d")[0] == 0
    code, _, err = run(f"video {base} --demos d --out v.mp4")
    assert code == 2
    assert "aime-gym[human]" in err
    assert not (places / "v.mp4").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"collect --env {ENV_ID} --policy random --name n --out data", "not empty"),
        (f"collect --env {ENV_ID} --policy random --name n --out o --episodes 0", "at least 1"),
        (
            f"collect --env {ENV_ID} --policy nowhere --name n --out o",
            "There is no model 'nowhere'",
        ),
        ("collect --env AIME/walkr-run-mdp --policy random --name n --out o", "'walker'"),
        (f"evaluate --env {ENV_ID} --policy nowhere", "There is no model 'nowhere'"),
        ("evaluate --env walker-run --policy random", "no environment 'walker-run'"),
        (f"evaluate --env {ENV_ID} --policy random --episodes 0", "at least one episode"),
        (f"video --env {ENV_ID} --policy random --demos nothing --out o.mp4", "no dataset"),
        (f"video --env {ENV_ID} --policy random --demos nothing --out o.gif", ".mp4"),
    ],
)
def test_wrong_input(run, stored, places, line, message):
    code, _, err = run(line)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (places / "o").exists()


def test_video_without_opengl_says_what_to_install(run, stored, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    code, _, err = run(f"video --env {ENV_ID} --policy random --demos {stored} --out v.mp4")
    assert code == 2
    assert "MUJOCO_GL is 'disabled'" in err


def test_the_normaliser_of_a_model_is_a_pickle(tmp_path):
    env = VecNormalize(DummyVecEnv([lambda: gym.make(ENV_ID)]))
    env.obs_rms.update(np.random.default_rng(0).normal(3.0, 2.0, (50, 5)))
    model, saved = PPO("MlpPolicy", env, device="cpu", seed=0), tmp_path / "normalizer.pkl"
    model.save(tmp_path / "ppo.zip")
    env.save(str(saved))
    given = {"env": ENV_ID, "policy": str(tmp_path / "ppo.zip"), "normalizer": saved}
    policy = Acting(**given, sb3="ppo", trust_pickle=True).load(0)
    observation = np.ones((2, 5), np.float32)
    actions, _ = policy.predict(observation, deterministic=True)
    expected, _ = model.predict(env.normalize_obs(observation), deterministic=True)
    np.testing.assert_allclose(actions, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"normalizer.pkl is a pickle.* --trust-pickle"):
        Acting(**given, sb3="ppo").load(0)
    with pytest.raises(ValueError, match="--normalizer is for models of Stable-Baselines3"):
        Acting(**given, trust_pickle=True).load(0)
    with pytest.raises(FileNotFoundError, match="There is no normalizer"):
        Acting(**{**given, "normalizer": tmp_path / "none"}, sb3="ppo", trust_pickle=True).load(0)
    saved.write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"normalizer.pkl is no VecNormalize for"):
        Acting(**given, sb3="ppo", trust_pickle=True).load(0)
