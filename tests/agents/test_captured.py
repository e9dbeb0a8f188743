"""Captured updates: the same update, whether it is called, captured or replayed.

CUDA is played by the processor where there is none: what is captured is undone, and a replay calls
the update once more. Where there is a GPU, the first tests run on it too.
"""

import contextlib
import copy

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents import TrainingConfig, WorldModel, WorldModelConfig, captured
from agents.captured import WARM_UP, Captured, prepare_optimizer, set_learning_rate, uses_graphs
from agents.runs.logs import make_logger, read_curve
from agents.world_models.network import WorldModelNet

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TRAINING = TrainingConfig(5, 4, decay_timesteps=9)
UPDATES = 8


class Played:
    """What the processor makes of CUDA's streams and graphs; `events` has what was asked for."""

    def __init__(self):
        self.events = []
        self.learner = None  # Whose state a capture leaves as it was.
        self.on = "main"

    def stream(self, name):
        played = self

        class Stream:
            def wait_stream(self, other):
                played.events.append(f"{name} waits for {other.name}")

        Stream.name = name
        return Stream()

    @contextlib.contextmanager
    def inside(self, stream):
        before, self.on = self.on, stream.name
        yield
        self.on = before

    @contextlib.contextmanager
    def graph(self, graph, stream):
        learner, before = self.learner, self.on
        kept = copy.deepcopy((learner.net.state_dict(), learner.optimizer.state_dict()))
        noise = learner.generator.get_state()
        self.on = f"capture on {stream.name}"
        yield
        self.on = before
        learner.net.load_state_dict(kept[0])
        learner.optimizer.load_state_dict(kept[1])
        learner.generator.set_state(noise)

    def cuda_graph(self):
        played = self

        class Graph:
            def register_generator_state(self, generator):
                assert generator is played.learner.generator
                played.events.append("register")

            def replay(self):
                played.events.append("replay")
                capture = played.learner._captured[0]
                self.values = getattr(self, "values", capture._values)
                assert self.values is capture._values  # What was captured stays where it is.
                with played.inside(played.stream("replay")):
                    metrics = capture._update()
                self.values.copy_(torch.stack([*metrics.values()]))

        return Graph()


@pytest.fixture
def play(monkeypatch):
    """A function that gives a learner played CUDA; it returns what was asked for."""

    def start(learner):
        played = Played()
        played.learner = learner
        update = learner._learn_from_windows

        def watched(burn_in):
            played.events.append(f"update: {played.on}")
            return update(burn_in)

        learner._learn_from_windows = watched
        monkeypatch.setattr(captured, "uses_graphs", lambda device: True)
        for name, fake in {
            "Stream": lambda device: played.stream("side"),
            "current_stream": lambda device: played.stream("main"),
            "stream": played.inside,
            "CUDAGraph": played.cuda_graph,
            "graph": played.graph,
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        return played.events

    return start


def close(first, second):
    return first.keys() == second.keys() and all(
        torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-6) for name in first
    )


def make_learner(make_model, device, training=TRAINING):
    model = make_model(training=training)
    return WorldModel(model.env_info, model.config, training, device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_numbers_as_direct_calls(
    make_model, pendulum, weights, device, monkeypatch, tmp_path
):
    learners, curves = [], []
    for setting in ("0", "1"):
        monkeypatch.setenv(captured.VARIABLE, setting)
        learner = make_learner(make_model, device)
        learner.set_logger(make_logger(tmp_path / setting, verbose=0))
        learners.append(learner.learn(pendulum, UPDATES, log_interval=3))
        curves.append(read_curve(tmp_path / setting / "progress.csv"))
    first, second = map(weights, learners)
    if device == "cpu":
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert curves[0] == curves[1]
    assert close(first, second)
    for row, other in zip(*curves, strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert torch.equal(*(learner.generator.get_state() for learner in learners))


@pytest.mark.parametrize("device", DEVICES)
def test_checkpoints_go_on(make_model, pendulum, weights, device, tmp_path):
    whole = make_learner(make_model, device).learn(pendulum, UPDATES)
    cut = make_learner(make_model, device).learn(pendulum, 5)
    cut.save(tmp_path / "checkpoint.zip")
    again = WorldModel.load(tmp_path / "checkpoint.zip", device=device)
    again.learn(pendulum, UPDATES - 5, reset_num_timesteps=False)
    assert close(weights(whole), weights(again))


def test_warm_up_then_capture_then_replays(make_model, pendulum, play):
    learner = make_model(training=TRAINING)
    events = play(learner)
    learner.learn(pendulum, WARM_UP + 2)
    warm_up = ["side waits for main", "update: side", "main waits for side"]
    assert events == [
        *(WARM_UP * warm_up),
        "register",
        "update: capture on side",
        *(2 * ["replay", "update: replay"]),
    ]


def test_played_cuda_learns_as_direct_calls_do(make_model, pendulum, weights, play, tmp_path):
    """With the learning rate as a tensor, which the schedule fills."""
    curves = []
    for name in ("direct", "played"):
        learner = make_model(training=TRAINING)
        if name == "played":
            play(learner)
        learner.set_logger(make_logger(tmp_path / name, verbose=0))
        learner.learn(pendulum, UPDATES, log_interval=3)
        curves.append(read_curve(tmp_path / name / "progress.csv"))
        if name == "direct":
            expected = weights(learner)
    assert close(expected, weights(learner))
    for row, other in zip(*curves, strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
    rate = learner.optimizer.param_groups[0]["lr"]
    assert float(rate) == pytest.approx(TRAINING.learning_rate_at(UPDATES - 1))


def test_a_new_capture_for_other_data_and_after_loading(make_model, pendulum, play, tmp_path):
    learner = make_model(training=TRAINING)
    events = play(learner)
    learner.learn(pendulum, WARM_UP + 1)
    learner.learn(pendulum, WARM_UP + 1)
    assert events.count("register") == 2
    learner.save(tmp_path / "model.zip")
    loaded = WorldModel.load(tmp_path / "model.zip", device="cpu")
    events = play(loaded)
    loaded.learn(pendulum, WARM_UP + 1, reset_num_timesteps=False)
    assert events[-3:] == ["update: capture on side", "replay", "update: replay"]


def test_a_checkpoint_of_a_captured_run_goes_on_without_graphs(
    make_model, pendulum, weights, play, tmp_path, monkeypatch
):
    whole = make_model(training=TRAINING).learn(pendulum, UPDATES)
    with monkeypatch.context():
        learner = make_model(training=TRAINING)
        play(learner)
        learner.learn(pendulum, 5).save(tmp_path / "model.zip")
    monkeypatch.undo()
    loaded = WorldModel.load(tmp_path / "model.zip", device="cpu")
    loaded.learn(pendulum, UPDATES - 5, reset_num_timesteps=False)
    group = loaded.optimizer.param_groups[0]
    assert isinstance(group["lr"], float)
    assert not group["capturable"]
    assert close(weights(whole), weights(loaded))


def test_metrics_are_not_overwritten_by_later_updates(make_model, pendulum, play):
    learner = make_model(training=TRAINING)
    play(learner)
    learner.learn(pendulum, WARM_UP)
    first, second = learner._update(), learner._update()
    assert first.keys() == second.keys()
    assert first["total_loss"] != second["total_loss"]


def test_a_failing_capture_says_what_helps(make_model, pendulum, play, monkeypatch):
    learner = make_model(training=TRAINING)
    play(learner)

    @contextlib.contextmanager
    def broken(graph, stream):
        raise RuntimeError("operation not permitted")
        yield

    monkeypatch.setattr(torch.cuda, "graph", broken)
    with pytest.raises(RuntimeError, match=r"not permitted\); AIME_GYM_CUDA_GRAPHS=0"):
        learner.learn(pendulum, WARM_UP + 1)
    assert learner.num_timesteps == WARM_UP


def test_graphs_are_for_cuda_and_can_be_forbidden(monkeypatch):
    monkeypatch.delenv(captured.VARIABLE, raising=False)
    assert uses_graphs(torch.device("cuda"))
    assert not uses_graphs(torch.device("cpu"))
    monkeypatch.setenv(captured.VARIABLE, "0")
    assert not uses_graphs(torch.device("cuda"))


def test_on_the_processor_the_update_is_called():
    calls = []

    def update():
        calls.append(len(calls))
        return {"calls": torch.tensor(float(len(calls)))}

    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True)
    direct = Captured(update, optimizer, torch.Generator())
    assert [float(direct()["calls"]) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert len(calls) == 6


def test_the_learning_rate_as_a_tensor_and_as_a_number():
    """Steps are the same but for the rounding of the rate to single precision."""
    results = []
    for as_tensor in (False, True):
        weight = torch.linspace(-1, 1, 7).requires_grad_()
        optimizer = torch.optim.Adam([weight], lr=1.0, fused=True)
        prepare_optimizer(optimizer, weight.device, as_tensor)
        kept = optimizer.param_groups[0]["lr"]
        for step in range(20):
            set_learning_rate(optimizer, 0.1 / (1 + step))
            optimizer.zero_grad()
            (weight - 2).square().sum().backward()
            optimizer.step()
        rate = optimizer.param_groups[0]["lr"]
        assert isinstance(rate, torch.Tensor) == as_tensor
        assert (rate is kept) == as_tensor
        results.append(weight.detach())
    assert torch.allclose(*results, rtol=1e-6, atol=1e-7)
    assert not torch.equal(results[0], torch.linspace(-1, 1, 7))


class Copies(TorchDispatchMode):
    """Collects operations that bring values from the processor's memory to the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))

        def devices(values):
            return {v.device.type for v in tree_leaves(values) if isinstance(v, torch.Tensor)}

        if "cpu" in devices([args, kwargs]) and "meta" in devices(result):
            self.found.append(function)
        return result


class Constants(TorchFunctionMode):
    """Collects functions that make tensors of Python's numbers, which are copied to the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor):
            self.found.append(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(WorldModelConfig().narrow(8), id="rssm"),
        pytest.param(WorldModelConfig.rssmo().narrow(8), id="rssmo"),
    ],
)
@pytest.mark.parametrize("setup", ["mdp", "visual"])
def test_an_update_neither_waits_for_the_device_nor_copies_to_it(make_info, config, setup):
    """On tensors without values: to read one, or to wait for it, is an error."""
    info = make_info({"a": 3, "b": 2}, {"c": 1}, setup=setup)
    with torch.device("meta"):
        net = WorldModelNet(info, config)
        optimizer = torch.optim.Adam(net.parameters())
        observations = {name: torch.empty(5, 4, n) for name, n in (("a", 3), ("b", 2), ("c", 1))}
        observations["image"] = torch.empty(5, 4, 64, 64, 3, dtype=torch.uint8)
        actions, noise = torch.empty(5, 4, 2), torch.empty(5, 4, config.stoch_dim)
        with Copies() as copies, Constants() as constants:
            loss, metrics = net.loss(observations, actions, noise)
            optimizer.zero_grad()
            loss.backward()
            metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    assert not copies.found + constants.found
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    torch.stack([*metrics.values()])
