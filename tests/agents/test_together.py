"""Agents that learn together become what each would have become alone."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents import AIMEAgent, learn_together
from agents.nets import MLPConfig

DEFAULTS = {
    "start_updates": 3,
    "refresh_interval": 2,
    "action_prior": 1.0,
    "initial_std": 0.1,
    "sample_states": False,
    "see_observation": True,
    "standardize": True,
}
VARIANTS = {
    "published": ("mdp", {}),
    "defaults": ("mdp", DEFAULTS),
    "defaults, lpomdp": ("lpomdp", DEFAULTS),
    "guidance": ("mdp", {"guidance": True, "see_observation": True}),
    "KL alone": ("mdp", {"objective": "kl_only"}),
    "tight clip": ("mdp", {"grad_clip": 1e-2}),
    "layer norm, skip": ("mdp", {"policy": MLPConfig(8, 2, "swish", True, True)}),
}


@pytest.fixture
def assert_alike(weights):
    """A function that compares all weights, whose updates change them by up to 1e-2 each."""

    def compare(agent, other, differs_from=None):
        others = weights(other)
        for name, weight in weights(agent).items():
            torch.testing.assert_close(weight, others[name], atol=1e-5, rtol=1e-5)
        if differs_from is not None:
            third = weights(differs_from)
            assert any((others[name] - third[name]).abs().max() > 1e-3 for name in third)

    return compare


@pytest.mark.parametrize(("setup", "options"), VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("apart", [False, True], ids=["one dataset", "a dataset each"])
def test_each_agent_becomes_what_it_would_alone(
    make_model, make_aime, pendulum_data, assert_alike, setup, options, apart
):
    model = make_model(setup)
    data = [pendulum_data(3, 12, seed=n if apart else 0) for n in range(3)]
    if apart:  # Demonstrations of other lengths are filtered apart.
        data[2] = pendulum_data(2, 9, seed=2)
    options = {"learning_rate": 1e-2, **options}
    alone, together = (
        [make_aime(setup, model, seed=seed, **options) for seed in range(3)] for _ in range(2)
    )
    for agent, its in zip(alone, data, strict=True):
        agent.learn(its, 8)
    learn_together(together, data if apart else data[0], 8)
    for number, (agent, other) in enumerate(zip(together, alone, strict=True)):
        assert_alike(agent, other, differs_from=alone[number - 1])
        assert agent.num_timesteps == agent.progress.updates == 8
        assert torch.equal(agent.generator.get_state(), other.generator.get_state())


@pytest.mark.parametrize("seeds", [[5], [5, 6]])
def test_images(make_model, make_aime, pendulum_data, assert_alike, seeds):
    model = make_model("visual")
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    data = pendulum_data(2).map(lambda trajectory: trajectory.with_images(images))
    alone, together = (
        [make_aime("visual", model, seed=seed, **DEFAULTS) for seed in seeds] for _ in range(2)
    )
    learn_together(together, data, 5)
    for agent, other in zip(together, alone, strict=True):
        assert_alike(agent, other.learn(data, 5))


def test_they_go_on_where_they_were_saved(make_model, make_aime, pendulum, assert_alike, tmp_path):
    """Between two filterings of the demonstrations; optimisers and random numbers go on, too."""
    model, options = make_model(), {**DEFAULTS, "refresh_interval": 4}
    agents = [make_aime(model=model, seed=seed, **options) for seed in range(2)]
    learn_together(agents, pendulum, 5)
    resumed = []
    for number, agent in enumerate(agents):
        agent.save(tmp_path / f"{number}.zip")
        resumed.append(AIMEAgent.load(tmp_path / f"{number}.zip", device="cpu"))
    learn_together(agents, pendulum, 3, reset_num_timesteps=False)
    learn_together(resumed, pendulum, 3, reset_num_timesteps=False)
    for number, agent in enumerate(agents):
        whole = make_aime(model=model, seed=number, **options).learn(pendulum, 8)
        assert_alike(agent, whole)
        assert_alike(resumed[number], whole)
        assert agent.num_timesteps == resumed[number].num_timesteps == 8


def test_each_has_its_own_callbacks_metrics_and_end(make_model, make_aime, pendulum, assert_alike):
    seen = {0: [], 1: []}

    class Watch(BaseCallback):
        def _on_step(self):
            number = self.model.seed
            seen[number].append(self.locals["metrics"]["evidence_loss"].item())
            return number == 0 or self.num_timesteps < 3

    model = make_model()
    agents = [make_aime(model=model, seed=seed) for seed in range(2)]
    learn_together(agents, pendulum, 5, callbacks=[Watch(), Watch()])
    alone = [make_aime(model=model, seed=seed).learn(pendulum, n) for seed, n in ((0, 5), (1, 3))]
    for agent, other in zip(agents, alone, strict=True):
        assert_alike(agent, other)
        assert agent.num_timesteps == other.num_timesteps
    again = []
    make_aime(model=model).learn(
        pendulum,
        5,
        callback=lambda values, _: again.append(values["metrics"]["evidence_loss"].item()) is None,
    )
    assert [len(values) for values in seen.values()] == [5, 3]
    assert seen[0] == pytest.approx(again, rel=1e-5)
    assert seen[0][:3] != pytest.approx(seen[1], rel=1e-3)


# What does not go together


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "different settings"),
        ({"finetune": True}, "different settings"),
        ({"model": True}, "different world models"),
    ],
    ids=str,
)
def test_agents_that_differ(make_model, make_aime, pendulum, change, message):
    model = make_model()
    options = {"model": make_model(seed=1) if "model" in change else model}
    options |= {name: value for name, value in change.items() if name != "model"}
    with pytest.raises(ValueError, match=message):
        learn_together([make_aime(model=model), make_aime(seed=1, **options)], pendulum, 1)


def test_agents_that_are_not_equally_far(make_model, make_aime, pendulum):
    model = make_model()
    agents = [make_aime(model=model).learn(pendulum, 1), make_aime(model=model, seed=1)]
    with pytest.raises(ValueError, match="different numbers of updates"):
        learn_together(agents, pendulum, 1, reset_num_timesteps=False)
    learn_together(agents, pendulum, 1)  # Begins anew.


def test_what_is_missing_or_too_much(make_aime, make_bc, pendulum):
    agent = make_aime()
    with pytest.raises(TypeError, match="AIME agents, not BCAgent"):
        learn_together([make_bc()], pendulum, 1)
    with pytest.raises(TypeError, match="takes a dataset first"):
        learn_together([agent], [None], 1)
    for agents in ([], [agent, agent]):
        with pytest.raises(ValueError, match="no two of them the same"):
            learn_together(agents, pendulum, 1)
    with pytest.raises(ValueError, match="1 agents, and datasets: 2"):
        learn_together([agent], [pendulum, pendulum], 1)
    with pytest.raises(ValueError, match="1 agents, and callbacks: 0"):
        learn_together([agent], pendulum, 1, callbacks=[])
    with pytest.raises(ValueError, match="needs finetune=False"):
        learn_together([make_aime(finetune=True)], pendulum, 1)


def test_datasets_with_other_hidden_sensors(make_model, make_aime, pendulum):
    model = make_model("lpomdp")
    agents = [make_aime("lpomdp", model, seed=seed) for seed in range(2)]
    seen = pendulum.map(
        lambda t: type(t)({"orientation": t.sensors["orientation"]}, t.actions, t.rewards)
    )
    with pytest.raises(ValueError, match="of velocity, those given have velocity; none"):
        learn_together(agents, [pendulum, seen], 1)
    learn_together(agents, seen, 1)
