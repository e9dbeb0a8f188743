"""What long work survives: other folders, other data, fewer steps, signals, and divergence."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents import BCConfig, SACConfig
from agents.archive import Archive
from agents.bco import BCOAgent, BCOConfig
from agents.body_models import BodyModelConfig, InverseModel
from agents.dreamer import DreamerAgent, DreamerConfig
from agents.iidm import ForwardModel, IIDMAgent, IIDMConfig
from agents.plan2explore import Plan2ExploreAgent, Plan2ExploreConfig
from agents.running import DivergedError, Divergence
from agents.runs.callbacks import ScoreCallback
from agents.runs.folder import read_about, train_in_folder
from agents.runs.logs import read_curve
from agents.runs.recipe import train
from agents.runs.recipes import BCRecipe, DreamerRecipe, ExpertRecipe, WorldModelRecipe
from agents.runs.stopping import ECHO, StoppedError
from agents.sac import SACAgent
from aime_gym.datasets import save_dataset
from aime_gym.envs.dm_control import environment

ENV = "AIME/pendulum-swingup-mdp"
SMALL = BCConfig(batch_size=4)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Episodes of 10 steps."""
    monkeypatch.setattr(environment, "CONTROL_STEPS", 20)
    monkeypatch.setattr("agents.runs.recipes.online.EXPERT_EPISODES", 1)


@pytest.fixture
def recipe(tmp_path, pendulum):
    save_dataset(pendulum, tmp_path / "data" / "toy")
    return BCRecipe(
        env=ENV,
        demos="toy",
        folder=tmp_path / "run",
        total_timesteps=6,
        checkpoint_interval=2,
        episodes=1,
        config=SMALL,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def steps_of(archive):
    return Archive.read(archive).counters["num_timesteps"]


def test_a_finished_run_is_not_cut(recipe):
    train(recipe)
    before = contents(recipe.run_folder)
    with pytest.raises(ValueError, match=r"has come to 6 timesteps, and is not cut to 4"):
        train(dataclasses.replace(recipe, total_timesteps=4))
    assert contents(recipe.run_folder) == before
    train(recipe)
    final = "final.zip"
    assert contents(recipe.run_folder)[final] == before[final]
    train(dataclasses.replace(recipe, total_timesteps=8))
    assert steps_of(recipe.run_folder / final) == 8


def test_a_run_that_is_not_finished_is_not_cut_either(recipe, kill):
    with pytest.raises(kill.Error):
        train(recipe, [kill(5)])
    with pytest.raises(ValueError, match="come to 4 timesteps, and is not cut to 2"):
        train(dataclasses.replace(recipe, total_timesteps=2))
    assert not (recipe.run_folder / "final.zip").exists()
    train(dataclasses.replace(recipe, total_timesteps=4))
    assert steps_of(recipe.run_folder / "final.zip") == 4


def test_other_data_at_the_same_path(recipe, pendulum_data, tmp_path):
    train(recipe)
    before = contents(recipe.run_folder)
    shutil.rmtree(tmp_path / "data" / "toy")
    save_dataset(pendulum_data(seed=1), tmp_path / "data" / "toy")
    with pytest.raises(ValueError, match=r"is not what the run in .* has learned from so far"):
        train(dataclasses.replace(recipe, total_timesteps=8))
    assert contents(recipe.run_folder) == before


@pytest.mark.parametrize("name", ["thesis.txt", "config.json", "card.json"])
def test_a_folder_that_is_not_ours(recipe, name):
    recipe.run_folder.mkdir()
    (recipe.run_folder / name).write_text("{}")
    with pytest.raises(FileExistsError, match=f"is no run folder and not empty .{name}"):
        train(recipe)
    assert contents(recipe.run_folder) == {name: b"{}"}
    (recipe.run_folder / name).unlink()
    train(recipe)


def test_a_file_in_place_of_the_folder(recipe):
    recipe.run_folder.touch()
    with pytest.raises(FileExistsError, match="no run folder"):
        train(recipe)


def test_a_mistake_leaves_no_folder(recipe):
    with pytest.raises(FileNotFoundError):
        train(dataclasses.replace(recipe, demos="toys"))
    assert not recipe.run_folder.exists()


def test_what_a_run_says_of_itself(recipe):
    train(recipe, command="aime-gym train bc")
    about = read_about(recipe.run_folder)
    assert about["total_timesteps"] == 6
    assert about["command"] == "aime-gym train bc"
    assert about["versions"]["torch"] == torch.__version__


EXPERT = ExpertRecipe(
    env=ENV,
    total_timesteps=40,
    evaluation_interval=20,
    checkpoint_interval=20,
    episodes=1,
    config=SACConfig(learning_starts=10, hidden_dim=8),
)


def test_a_recording_whose_checkpoint_is_lost(tmp_path, kill):
    record = tmp_path / "episodes"
    expert = dataclasses.replace(EXPERT, folder=tmp_path / "run", record=record)
    with pytest.raises(kill.Error):
        train(expert, [kill(25)])
    before = contents(record)
    assert len([name for name in before if name.endswith(".npz")]) == 2
    (tmp_path / "run" / "checkpoint.zip").unlink()
    with pytest.raises(ValueError, match=r"lost its checkpoint: record into another folder"):
        train(expert)
    assert contents(record) == before


def test_a_recording_is_killed_before_the_first_checkpoint_is_due(tmp_path, kill):
    record = tmp_path / "episodes"
    expert = dataclasses.replace(EXPERT, folder=tmp_path / "run", record=record)
    with pytest.raises(kill.Error):
        train(expert, [kill(15)])
    assert steps_of(tmp_path / "run" / "checkpoint.zip") == 0
    train(expert)
    assert len(list(record.glob("*.npz"))) == 4


def test_a_recording_over_something_else(tmp_path):
    record = tmp_path / "thesis"
    record.mkdir()
    (record / "chapter.txt").touch()
    with pytest.raises(FileExistsError, match="no dataset: record into a new folder"):
        train(dataclasses.replace(EXPERT, folder=tmp_path / "run", record=record))
    assert [path.name for path in record.iterdir() if path.name[0] != "."] == ["chapter.txt"]
    assert not (tmp_path / "run").exists()


class Signal(BaseCallback):
    """Sends this process a signal after so many timesteps, and again after a pause in seconds."""

    def __init__(self, at, number, pause=None):
        super().__init__()
        self.at, self.number, self.pause = at, number, pause

    def _on_step(self):
        if self.num_timesteps == self.at:
            os.kill(os.getpid(), self.number)
            if self.pause is not None:
                time.sleep(self.pause)
                os.kill(os.getpid(), self.number)
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_checkpoint(recipe, tmp_path, weights, same, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    rare = dataclasses.replace(recipe, checkpoint_interval=100)
    with pytest.raises(StoppedError, match=r"Stopped at 3 timesteps.*same command goes on"):
        train(rare, [Signal(3, number)])
    assert steps_of(recipe.run_folder / "checkpoint.zip") == 3
    assert not (recipe.run_folder / "final.zip").exists()
    again = train(rare)
    whole = train(dataclasses.replace(rare, folder=tmp_path / "whole"))
    assert same(weights(again), weights(whole))
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("callbacks", [[], [Signal(3, signal.SIGTERM)]], ids=["whole", "stopped"])
def test_the_curve_is_closed_in_the_end(recipe, tmp_path, callbacks):
    with contextlib.suppress(StoppedError):
        train(recipe, callbacks)
    curve = tmp_path / "run" / "progress.csv"
    opened = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    assert read_curve(curve)
    assert str(curve) not in opened


def test_a_signal_at_the_last_update(recipe):
    with pytest.raises(StoppedError):
        train(recipe, [Signal(6, signal.SIGTERM)])
    assert not (recipe.run_folder / "final.zip").exists()
    train(recipe)


def test_the_second_signal_stops_at_once(recipe):
    with pytest.raises(KeyboardInterrupt) as caught:
        train(recipe, [Signal(3, signal.SIGINT, pause=1.1 * ECHO)])
    assert caught.type is KeyboardInterrupt
    assert steps_of(recipe.run_folder / "checkpoint.zip") == 2


def test_a_signal_that_comes_twice_is_one(recipe):
    """As from a scheduler that tells every process, and from a parent that passes it on."""
    with pytest.raises(StoppedError):
        train(recipe, [Signal(3, signal.SIGTERM, pause=0.0)])
    assert steps_of(recipe.run_folder / "checkpoint.zip") == 3


def test_a_signal_while_an_agent_acts(tmp_path):
    """It is saved at the end of its round: an expert's is a step."""
    expert = dataclasses.replace(EXPERT, folder=tmp_path / "run", checkpoint_interval=1_000)
    with pytest.raises(StoppedError):
        train(expert, [Signal(13, signal.SIGTERM)])
    assert steps_of(tmp_path / "run" / "checkpoint.zip") == 13
    assert train(expert).num_timesteps == 40


SCRIPT = """
import os, signal, sys
from agents.runs.stopping import StoppedError
from aime_gym.cli import main

def stopped(*words, **options):
    raise StoppedError("Stopped at 3 timesteps, which are saved in run.")

import aime_gym.cli.train
aime_gym.cli.train.train = stopped
sys.exit(main(["train", "bc", "--env", "AIME/pendulum-swingup-mdp", "--demos", "toy"]))
"""


def test_the_command_says_where_it_stopped():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "aime-gym: Stopped at 3 timesteps, which are saved in run."


class KilledAtTheEnd(BaseCallback):
    """Kills a run after its last update, before other callbacks do what they do at the end."""

    class Error(Exception):
        """What it raises."""

    def _on_step(self):
        return True

    def _on_training_end(self):
        raise self.Error


def test_the_score_at_the_end_survives_a_kill_before_it(tmp_path, make_bc, pendulum):
    def run(folder, *callbacks):
        def learn(learner, steps, chosen):
            learner.learn(pendulum, steps, chosen, reset_num_timesteps=False)

        scoring = ScoreCallback(4, episodes=1)
        callbacks = [*callbacks, scoring]
        train_in_folder(folder, {}, make_bc, learn, 6, callbacks, checkpoint_interval=2)
        return read_curve(folder / "progress.csv")

    with pytest.raises(KilledAtTheEnd.Error):
        run(tmp_path / "cut", KilledAtTheEnd())
    assert run(tmp_path / "cut") == run(tmp_path / "whole")


# Divergence: a network is broken between two updates


BROKEN_AT = 3


class Break(BaseCallback):
    """Breaks the weights of a network after so many timesteps."""

    def __init__(self, network, at=BROKEN_AT):
        super().__init__()
        self.network, self.at = network, at

    def _on_step(self):
        if self.num_timesteps == self.at:
            with torch.no_grad():
                for parameter in self.network(self.model).parameters():
                    parameter.fill_(float("nan"))
        return True


def small(config_class, **changes):
    """Few short windows and small networks, from Dreamer's and Plan2Explore's small presets."""
    config = config_class.small()
    network = config.world_model.narrow(8)
    training = dataclasses.replace(config.training, sequence_length=5, batch_size=3)
    chosen = {"pretrain_updates": 2, "round_updates": 3, "random_episodes": 1, "horizon": 3}
    return dataclasses.replace(
        config, world_model=network, training=training, **{**chosen, **changes}
    )


@pytest.fixture
def offline(request, make_model, make_aime, make_bc):
    """An agent that learns from data, and its network."""
    small_body = BodyModelConfig(batch_size=4)

    def with_model(agent_class, config_class, model_class):
        model = model_class(ENV, small_body, device="cpu")
        return agent_class(ENV, model, config_class(body_model=small_body), device="cpu")

    return {
        "world model": lambda: (make_model(), lambda model: model.net),
        "aime": lambda: (make_aime(), lambda agent: agent.policy),
        "bc": lambda: (make_bc(), lambda agent: agent.supervised.network),
        "bco": lambda: (
            with_model(BCOAgent, BCOConfig, InverseModel),
            lambda agent: agent.supervised.network,
        ),
        "iidm": lambda: (
            with_model(IIDMAgent, IIDMConfig, ForwardModel),
            lambda agent: agent.supervised.network,
        ),
        "inverse": lambda: (
            InverseModel(ENV, small_body, device="cpu"),
            lambda model: model.supervised.network,
        ),
        "forward": lambda: (
            ForwardModel(ENV, small_body, device="cpu"),
            lambda model: model.supervised.network,
        ),
    }[request.param]()


OFFLINE = ["world model", "aime", "bc", "bco", "iidm", "inverse", "forward"]


@pytest.mark.parametrize("offline", OFFLINE, indirect=True)
def test_learning_stops_at_the_first_loss_that_is_no_number(offline, pendulum, tmp_path):
    learner, network = offline
    with contextlib.suppress(ValueError):
        learner.save(tmp_path / "good.zip")
    good = (tmp_path / "good.zip").read_bytes()
    with pytest.raises(DivergedError, match=f"in update {BROKEN_AT + 1} .*no finite number"):
        learner.learn(pendulum, 9, Break(network))
    assert learner.num_timesteps == BROKEN_AT
    with torch.no_grad():
        next(network(learner).parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"no finite numbers, and is not saved"):
        learner.save(tmp_path / "good.zip")
    assert (tmp_path / "good.zip").read_bytes() == good


@pytest.mark.parametrize(
    ("agent_class", "config"),
    [(DreamerAgent, DreamerConfig), (Plan2ExploreAgent, Plan2ExploreConfig)],
)
def test_dreaming_stops_at_the_first_loss_that_is_no_number(agent_class, config):
    agent = agent_class(ENV, small(config), device="cpu")
    with pytest.raises(DivergedError, match="in update 1 "):
        agent.learn(100, Break(lambda agent: agent.world_model, at=10))


def test_an_expert_stops_at_the_first_loss_that_is_no_number(tmp_path):
    config = SACConfig(learning_starts=5, hidden_dim=8)
    agent = SACAgent(ENV, config, device="cpu")
    critic = Break(lambda agent: agent.training.algorithm.model.critic, at=12)
    with pytest.raises(DivergedError, match=r"in update 7 .*critic_loss"):
        agent.learn(40, critic)


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(recipe):
    broken = Break(lambda agent: agent.supervised.network, at=5)
    with pytest.raises(DivergedError, match="in update 6"):
        train(recipe, [broken])
    assert steps_of(recipe.run_folder / "checkpoint.zip") == 4
    assert not (recipe.run_folder / "final.zip").exists()
    assert train(recipe).num_timesteps == 6


def test_a_learning_rate_that_is_too_high(recipe, tmp_path):
    model = WorldModelRecipe(
        env=ENV,
        dataset="toy",
        folder=tmp_path / "model",
        total_timesteps=50,
        config=WorldModelRecipe(env=ENV, dataset="toy").config.narrow(8),
    )
    training = dataclasses.replace(
        model.training, learning_rate=1e30, sequence_length=4, batch_size=3
    )
    with pytest.raises(DivergedError):
        train(dataclasses.replace(model, training=training))
    assert not list(tmp_path.glob("model/**/*.zip"))


def test_divergence_that_is_noted_on_the_device_is_told_at_the_next_look():
    """As on a GPU, whose values are not waited for; 'meta' stands for none that is read here."""
    divergence = Divergence()
    divergence.watch({"loss": torch.tensor(1.0)}, 1)
    divergence.check()
    divergence._first = torch.minimum(torch.tensor(7.0), torch.tensor(float("inf")))
    with pytest.raises(DivergedError, match="in update 7 a loss"):
        divergence.check()
    divergence.check()


def test_dreamers_run_stops_at_the_end_of_its_round(tmp_path):
    dreamer = DreamerRecipe(
        env=ENV, folder=tmp_path / "run", total_timesteps=50, evaluation_interval=100, episodes=1
    )
    agent = dataclasses.replace(dreamer, seed=1)

    def make():
        return DreamerAgent(ENV, small(DreamerConfig), device="cpu")

    object.__setattr__(agent, "make", make)
    with pytest.raises(StoppedError, match="Stopped at 20 timesteps"):
        train(agent, [Signal(13, signal.SIGINT)])
    assert steps_of(tmp_path / "run" / "checkpoint.zip") == 20
