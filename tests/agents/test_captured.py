"""Captured updates: the same update, whether it is called, captured or replayed.

CUDA is played by the processor where there is none: the operations of a capture are taken down, and
undone; a replay computes them again, on the same tensors, without the update's own code. Where
there is a GPU, the first tests run on it too.
"""

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents import (
    AIMEAgent,
    TrainingConfig,
    WorldModel,
    WorldModelConfig,
    captured,
    learn_together,
)
from agents.action_inference import FeaturePolicy, Terms, Windows, action_inference_loss
from agents.captured import WARM_UP, Captured, prepare_optimizer, set_learning_rate, uses_graphs
from agents.nets import MLPConfig
from agents.parts import weights_of
from agents.runs.logs import make_logger, read_curve
from agents.world_models.network import WorldModelNet

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TRAINING = TrainingConfig(5, 4, decay_timesteps=9)
START = WARM_UP + 2
DEFAULTS = {
    "start_updates": START,
    "refresh_interval": 1,
    "action_prior": 1.0,
    "initial_std": 0.1,
    "sample_states": False,
    "see_observation": True,
    "standardize": True,
    "learning_rate": 1e-3,
    "decay_timesteps": 9,
}
AIME = {
    "published": {},
    "defaults": DEFAULTS,
    "guidance": {"guidance": True, "see_observation": True},
    "finetune": {"finetune": True, "refresh_interval": 1},
    "KL alone": {"objective": "kl_only"},
}
LEARNERS = ["phase 1", *AIME]
UPDATES = {"phase 1": WARM_UP + 5, "defaults": START + WARM_UP + 3}
FEW = WARM_UP + 3  # Updates of the other learners.


class Tape(TorchDispatchMode):
    """Takes down operations with their tensors, as a CUDA graph does with their memory."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.namespace != "profiler":
            self.operations.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        """Computes all operations again; results go where they were."""
        for function, args, kwargs, result in self.operations:
            again = function(*args, **kwargs)
            for place, value in zip(tensors_in(result), tensors_in(again), strict=True):
                if place.untyped_storage().data_ptr() != value.untyped_storage().data_ptr():
                    place.copy_(value)


def tensors_in(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class Played:
    """What the processor makes of CUDA's streams and graphs; `events` has what was asked for."""

    def __init__(self, learners):
        self.events = []
        self.learners = learners  # Whose state a capture leaves as it was.
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
        before, self.on = self.on, f"capture on {stream.name}"
        with contextlib.ExitStack() as undone:
            for learner in self.learners:
                undone.callback(self.undo(learner))
            with Waits(), Reads(), graph.tape:
                yield
        self.on = before

    def undo(self, learner):
        """What brings a learner's tensors back to their present values, where they are."""
        moments = [value for state in learner.optimizer.state.values() for value in state.values()]
        states = getattr(learner, "_states", None) or ()
        places = [*weights_of(learner._parts).values(), *moments, *states]
        values = [place.clone() for place in places]
        noise = learner.generator.get_state()

        def restore():
            for place, value in zip(places, values, strict=True):
                place.copy_(value)
            learner.generator.set_state(noise)

        return restore

    def cuda_graph(self):
        played = self

        class Graph:
            def __init__(self):
                self.tape = Tape()

            def register_generator_state(self, generator):
                assert any(generator is learner.generator for learner in played.learners)
                played.events.append("register")

            def replay(self):
                played.events.append("replay")
                self.tape.replay()

        return Graph()


@pytest.fixture
def play(monkeypatch):
    """A function that gives learners played CUDA; it returns what was asked for."""
    make = Captured.__init__

    def start(*learners):
        played = Played(learners)

        def made(self, update, *others):
            def watched(**sizes):
                played.events.append(f"update: {played.on}")
                return update(**sizes)

            make(self, watched, *others)

        monkeypatch.setattr(Captured, "__init__", made)
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


def close(first, second, atol=1e-6):
    return first.keys() == second.keys() and all(
        torch.allclose(first[name], second[name], rtol=1e-4, atol=atol) for name in first
    )


@pytest.fixture
def make_learner(make_model, make_aime):
    """A function that makes a learner of `LEARNERS`."""

    def make(name, device="cpu", seed=0, **changes):
        if name == "phase 1":
            model = make_model(training=TRAINING)
            return WorldModel(model.env_info, model.config, TRAINING, seed=seed, device=device)
        agent = make_aime(**{**AIME[name], **changes})
        return AIMEAgent(agent.env_info, agent.world_model, agent.config, seed=seed, device=device)

    return make


def updates_of(name):
    """So many that whatever is captured is replayed twice or more."""
    return UPDATES.get(name, FEW)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("device", DEVICES)
def test_the_same_numbers_as_direct_calls(
    make_learner, pendulum, weights, name, device, monkeypatch, tmp_path
):
    learners, curves = [], []
    for setting in ("0", "1"):
        monkeypatch.setenv(captured.VARIABLE, setting)
        learner = make_learner(name, device)
        learner.set_logger(make_logger(tmp_path / setting, verbose=0))
        learners.append(learner.learn(pendulum, updates_of(name), log_interval=3))
        curves.append(read_curve(tmp_path / setting / "progress.csv"))
    first, second = map(weights, learners)
    if device == "cpu":
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert curves[0] == curves[1]
    assert close(first, second)
    for row, other in zip(*curves, strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert torch.equal(*(learner.generator.get_state() for learner in learners))


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("device", DEVICES)
def test_checkpoints_go_on(make_learner, pendulum, weights, name, device, tmp_path):
    total = updates_of(name)
    whole = make_learner(name, device).learn(pendulum, total)
    cut = make_learner(name, device).learn(pendulum, total - 3)
    cut.save(tmp_path / "checkpoint.zip")
    again = type(cut).load(tmp_path / "checkpoint.zip", device=device)
    again.learn(pendulum, 3, reset_num_timesteps=False)
    assert close(weights(whole), weights(again))


@pytest.mark.parametrize("name", ["published", "defaults"])
@pytest.mark.parametrize("device", DEVICES)
def test_several_agents_at_once(make_learner, pendulum, weights, name, device):
    """Captured together where there are graphs; each becomes what it would have become alone.

    Products of a larger batch are rounded otherwise.
    """
    agents = [make_learner(name, device, seed) for seed in range(2)]
    learn_together(agents, pendulum, updates_of(name))
    for seed, agent in enumerate(agents):
        alone = make_learner(name, device, seed).learn(pendulum, updates_of(name))
        assert close(weights(alone), weights(agent), atol=1e-5)


def test_warm_up_then_capture_then_replays(make_model, pendulum, play):
    learner = make_model(training=TRAINING)
    events = play(learner)
    learner.learn(pendulum, WARM_UP + 2)
    warm_up = ["side waits for main", "update: side", "main waits for side"]
    assert events == [
        *(WARM_UP * warm_up),
        "register",
        "update: capture on side",
        *(2 * ["replay"]),
    ]


@pytest.mark.parametrize("name", LEARNERS)
def test_played_cuda_learns_as_direct_calls_do(
    make_learner, pendulum, weights, name, play, tmp_path
):
    """With the learning rate as a tensor, which the schedule fills."""
    curves = []
    for kind in ("direct", "played"):
        learner = make_learner(name)
        if kind == "played":
            events = play(learner)
        learner.set_logger(make_logger(tmp_path / kind, verbose=0))
        learner.learn(pendulum, updates_of(name), log_interval=3)
        curves.append(read_curve(tmp_path / kind / "progress.csv"))
        if kind == "direct":
            expected, rate = weights(learner), learner.optimizer.param_groups[0]["lr"]
    assert close(expected, weights(learner))
    for row, other in zip(*curves, strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert events.count("replay") > events.count("register") > 0
    played_rate = learner.optimizer.param_groups[0]["lr"]
    assert isinstance(played_rate, torch.Tensor)
    assert float(played_rate) == pytest.approx(rate)


def test_the_start_the_evidence_and_the_filtering_are_captured_apart(make_learner, pendulum, play):
    """Three graphs of their own, of which the last is replayed before every update."""
    agent = make_learner("defaults")
    events = play(agent)
    agent.learn(pendulum, START)
    assert events.count("register") == 1
    assert events.count("replay") == START - WARM_UP
    agent.learn(pendulum, WARM_UP + 2, reset_num_timesteps=False)
    assert events.count("register") == 3
    assert events[-2:] == 2 * ["replay"]
    assert events.count("replay") == START - WARM_UP + 2 + 2


def test_resumed_between_two_filterings(make_learner, pendulum, weights, play, tmp_path):
    """The states that windows start from are found again, and stay where the graph reads them.

    Of the evidence's updates, resumed at number 1, number 4 is the first replay, and the
    demonstrations are filtered anew before number 8.
    """
    total = 2 + WARM_UP + 6
    options = {"start_updates": 1, "refresh_interval": 4, "learning_rate": 0.03}
    whole, cut = (make_learner("defaults", decay_timesteps=None, **options) for _ in range(2))
    whole.learn(pendulum, total)
    cut.learn(pendulum, 2).save(tmp_path / "cut.zip")
    again = AIMEAgent.load(tmp_path / "cut.zip", device="cpu")
    play(again)
    again.learn(pendulum, total - 2, reset_num_timesteps=False)
    assert close(weights(whole), weights(again))


def test_played_cuda_for_several_agents(make_learner, pendulum, weights, play):
    """The noise of each comes from its own generator; one that has ended leaves the others."""
    total = updates_of("defaults")
    alone = [make_learner("defaults", seed=seed).learn(pendulum, total) for seed in range(2)]
    short = make_learner("defaults", seed=2).learn(pendulum, START + 1)
    agents = [make_learner("defaults", seed=seed) for seed in range(3)]
    events = play(*agents)
    ends = [None, None, lambda values, _: values["self"].num_timesteps <= START]
    learn_together(agents, pendulum, total, ends)
    for agent, other in zip(agents, [*alone, short], strict=True):
        assert close(weights(other), weights(agent))
        assert agent.num_timesteps == other.num_timesteps
    graphs = {"start": 3, "evidence": 2, "filtering": 2}  # Generators that each knows.
    assert events.count("register") == sum(graphs.values())


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
    assert events[-2:] == ["update: capture on side", "replay"]


def test_a_checkpoint_of_a_captured_run_goes_on_without_graphs(
    make_model, pendulum, weights, play, tmp_path, monkeypatch
):
    total = updates_of("phase 1")
    whole = make_model(training=TRAINING).learn(pendulum, total)
    with monkeypatch.context():
        learner = make_model(training=TRAINING)
        play(learner)
        learner.learn(pendulum, 5).save(tmp_path / "model.zip")
    monkeypatch.undo()
    loaded = WorldModel.load(tmp_path / "model.zip", device="cpu")
    loaded.learn(pendulum, total - 5, reset_num_timesteps=False)
    group = loaded.optimizer.param_groups[0]
    assert isinstance(group["lr"], float)
    assert not group["capturable"]
    assert close(weights(whole), weights(loaded))


def test_played_replays_do_not_see_what_the_processor_changes(play):
    """As on CUDA: a number is what it was at the capture, a tensor what it is."""
    weight, rate, tensor = torch.zeros(1, requires_grad=True), [1.0], torch.ones(())

    def update():
        with torch.no_grad():
            weight.add_(rate[0] * tensor)
        return {"weight": weight.detach().sum()}

    optimizer = torch.optim.Adam([weight])
    learner = SimpleNamespace(_parts={}, optimizer=optimizer, generator=torch.Generator())
    play(learner)
    played = Captured(update, [optimizer], [learner.generator])
    for _ in range(WARM_UP + 1):
        played()
    before = weight.item()
    rate[0] = 5.0
    assert float(played()["weight"]) == before + 1
    tensor.fill_(3.0)
    assert float(played()["weight"]) == before + 4


@pytest.mark.parametrize("name", ["phase 1", "published"])
def test_metrics_are_not_overwritten_by_later_updates(make_learner, pendulum, name, play):
    learner = make_learner(name)
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


@pytest.mark.parametrize("name", ["phase 1", "published"])
def test_another_batch_size_needs_another_capture(make_learner, pendulum, name, play):
    learner = make_learner(name)
    play(learner)
    learner.learn(pendulum, WARM_UP + 1)
    where = "training" if name == "phase 1" else "config"
    setattr(learner, where, dataclasses.replace(getattr(learner, where), batch_size=3))
    before = weights_of(learner._parts)
    with pytest.raises(ValueError, match=r"for batch_size=4, seq.* for batch_size=3.*captures"):
        learner._update()
    assert all(torch.equal(w, before[n]) for n, w in weights_of(learner._parts).items())
    learner.learn(pendulum, WARM_UP + 1, reset_num_timesteps=False)  # Captured anew.


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
    direct = Captured(update, [optimizer], [torch.Generator()])
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


class Waits(TorchDispatchMode):
    """Refuses operations for whose result, or for its size, the processor waits for the device."""

    NAMES = (
        "_local_scalar_dense", "bincount", "equal", "isin", "masked_select", "nonzero", "unique",
    )  # fmt: skip

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masked = name.startswith("index") and any(
            value.dtype in (torch.bool, torch.uint8) for value in tensors_in(args[1:2])
        )
        if masked or name.lstrip("_").startswith(tuple(n.lstrip("_") for n in self.NAMES)):
            raise RuntimeError(f"{function} waits for the device")
        return function(*args, **(kwargs or {}))


class Reads(TorchFunctionMode):
    """Refuses functions that bring values from the device, or to it."""

    NAMES = (
        "__array__", "as_tensor", "cpu", "from_numpy", "item", "new_tensor", "numpy", "tensor",
        "tolist",
    )  # fmt: skip

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in self.NAMES:
            raise RuntimeError(f"{function} copies between processor and device")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda values: float(values.sum()),
        lambda values: values.sum().item(),
        lambda values: values.sum() > 2 or None,
        lambda values: values.tolist(),
        lambda values: values.cpu(),
        lambda values: np.asarray(values),
        lambda values: values + torch.tensor(1.0),
        lambda values: values[values > 1],
        lambda values: values.masked_fill_(values > 1, 0).nonzero(),
        lambda values: torch.isin(values, values),
        lambda values: torch.equal(values, values),
        lambda values: values.unique(),
    ],
)
def test_what_a_capture_forbids_is_refused_while_it_is_played(forbidden):
    values = torch.arange(3.0)
    with (
        pytest.raises(RuntimeError, match=r"waits for the device|copies between"),
        Waits(),
        Reads(),
    ):
        forbidden(values)
    with Waits(), Reads():
        assert values[torch.arange(2)].add(1).shape == (2,)


class Copies(TorchDispatchMode):
    """Collects operations that bring values from the processor's memory to the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))

        def devices(values):
            return {value.device.type for value in tensors_in(values)}

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
            policy = FeaturePolicy(net, MLPConfig(8), sees_observation=True)
            for terms in (Terms(guidance=True), Terms("kl_only", action_prior=1.0)):
                windows = Windows(observations, net.embed(observations), actions, noise)
                loss, more, _ = action_inference_loss(net, policy, windows, terms)
                loss.backward()
                metrics |= more
    assert not copies.found + constants.found
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    torch.stack([*metrics.values()])
