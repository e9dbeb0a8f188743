import json

import numpy as np
import pytest
from stable_baselines3 import PPO

from agents import AIMEAgent, BCAgent, ExpertConfig, WorldModel, WorldModelConfig, train_expert
from aime_gym.cli.evaluate import known_evaluations, policy_origins
from aime_gym.cli.policies import load_policy, policy_name
from aime_gym.datasets import load_dataset, save_dataset
from aime_gym.envs import dm_control
from aime_gym.evaluation.table import Origin
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
    train_expert(ExpertConfig(ENV_ID, 125, "sac"), root / "expert-run")
    (root / "empty").mkdir()
    (root / "torn.zip").write_bytes(b"PK")
    return root


@pytest.mark.parametrize(
    ("spec", "sb3"),
    [("aime.zip", None), ("bc-run", None), ("ppo.zip", "ppo"), ("expert-run", None)],
)
def test_whatever_acts_is_loaded(policies, spec, sb3):
    policy = load_policy(str(policies / spec), ENV_ID, sb3)
    actions, _ = policy.predict(np.zeros((3, 5), np.float32), deterministic=True)
    assert actions.shape == (3, 1)


def test_random_actions_depend_on_the_seed():
    first, again, other = (load_policy("random", ENV_ID, seed=seed) for seed in (0, 0, 1))
    actions = [policy.predict(np.zeros((4, 5)))[0] for policy in (first, again, other)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])


@pytest.mark.parametrize(
    ("spec", "env_id", "sb3", "message"),
    [
        ("nowhere", ENV_ID, None, "There is no"),
        ("empty", ENV_ID, None, "nothing that acts, yet"),
        ("torn.zip", ENV_ID, None, "truncated, or no archive"),
        ("model.zip", ENV_ID, None, "holds a WorldModel, which does not act"),
        ("ppo.zip", ENV_ID, None, "--sb3"),
        ("ppo.zip", ENV_ID, "sac", "no model of Stable-Baselines3's SAC"),
        ("expert-run", OTHER_ID, None, "shape"),
        ("bc-run", "AIME/walker-run-mdp", None, "shape"),
        ("random", "AIME/walker-jog-mdp", None, "no task 'jog'"),
    ],
)
def test_what_does_not_act_there_is_refused(policies, spec, env_id, sb3, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_policy(spec if spec == "random" else str(policies / spec), env_id, sb3)


@pytest.mark.parametrize(
    ("spec", "name"),
    [("random", "random"), ("a/aime.zip", "aime"), ("a/run", "run"), ("a/run/final.zip", "run")],
)
def test_names(spec, name):
    assert policy_name(spec) == name


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
    line = f"evaluate --env {ENV_ID} --episodes 1 --sb3 ppo --policy {policies / 'ppo.zip'}"
    assert run(f"{line} --json best.json")[0] == 0
    assert run(f"{line} --json sampled.json {flag}")[0] == 0
    with open("best.json") as best, open("sampled.json") as sampled:
        assert json.load(best)["returns"] != json.load(sampled)["returns"]


def test_table_beside_the_paper(run, monkeypatch):
    monkeypatch.setattr(dm_control, "CONTROL_STEPS", 12)
    code, out, _ = run("evaluate --env AIME/walker-run-mdp --policy random --episodes 2")
    assert code == 0
    assert "2 episodes from seed 2000000" in out
    assert "AIME, the paper's" in out
    assert "77.4" in out


def test_tables_say_what_a_run_learned_from(policies, stored, places):
    config = {"world_model": str(policies / "model.zip"), "demos": stored}
    (places / "run").mkdir()
    (places / "run" / "config.json").write_text(json.dumps(config))
    for spec in ("run", "run/final.zip"):
        model, demos = policy_origins(spec)
        assert (model.name, model.sha256) == (config["world_model"], sha256(config["world_model"]))
        assert (demos.name, demos.sha256) == (stored, load_dataset(stored).checksum)
    config = {"world_model": "gone", "demos": "gone, too"}
    (places / "run" / "config.json").write_text(json.dumps(config))
    assert policy_origins("run") == [Origin("gone"), Origin("gone, too")]
    assert policy_origins("random") == []


def test_the_experts_row_has_a_checksum():
    _, origins = known_evaluations("AIME/walker-run-mdp")
    assert origins["expert"][0].sha256 == load_dataset("walker-run-expert").checksum


@pytest.mark.usefixtures("opengl")
def test_video(run, collected, places, monkeypatch):
    monkeypatch.setattr(dm_control, "CONTROL_STEPS", 40)  # 5 steps.
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"collect --env {ENV_ID} --policy random --name n --out data", "not empty"),
        (f"collect --env {ENV_ID} --policy random --name n --out o --episodes 0", "at least 1"),
        (f"collect --env {ENV_ID} --policy nowhere --name n --out o", "There is no 'nowhere'"),
        ("collect --env AIME/walkr-run-mdp --policy random --name n --out o", "'walker'"),
        (f"evaluate --env {ENV_ID} --policy nowhere", "There is no 'nowhere'"),
        ("evaluate --env walker-run --policy random", "no environment id"),
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
