"""What a world model predicts in open loop, and imagines under a policy."""

import dataclasses

import numpy as np
import pytest
import torch

from agents.nets import MLPConfig, NormalHead
from agents.world_models.prediction import imagination, open_loop
from aime_gym.evaluation.plots import plot_predictions


@pytest.fixture(scope="module")
def learnt(make_model, pendulum_data):
    """A world model that has learnt how the toy swings."""
    model = make_model(cell="residual", stoch_dim=8, deter_dim=32, hidden_dim=32)
    return model.learn(pendulum_data(30, 20), 400)


def test_rows_are_filtered_then_imagined(learnt, pendulum):
    observations, actions = learnt.tensors(pendulum[0])
    predicted = learnt.open_loop(pendulum[0], 4)
    states = learnt.filter({n: v[:4] for n, v in observations.items()}, actions[:4])
    seen = learnt.net.read(states.feature)
    last = type(states)(*(part[-1] for part in states))
    _, imagined = learnt.imagine(last, actions[4:])
    for name, values in predicted.items():
        expected = torch.cat([seen[name], imagined[name]])[:, 0].detach().numpy()
        np.testing.assert_allclose(values, expected, atol=1e-6)


def test_what_is_not_seen_is_not_used(learnt, pendulum):
    truth = pendulum[0]
    sensors = {name: values.copy() for name, values in truth.sensors.items()}
    for values in sensors.values():
        values[5:] = 100.0
    spoiled = dataclasses.replace(truth, sensors=sensors)
    for seen, alike in ((5, True), (6, False)):
        first, second = (open_loop(learnt.net, t, seen) for t in (truth, spoiled))
        assert all(np.array_equal(first[n], second[n]) for n in first) == alike


def test_actions_are_what_it_is_told(learnt, pendulum):
    truth = pendulum[0]
    other = dataclasses.replace(truth, actions=-truth.actions)
    first, second = (open_loop(learnt.net, t, 4)["velocity"] for t in (truth, other))
    assert np.abs(first[4:] - second[4:]).max() > 0.1
    error = np.abs(first - truth.sensors["velocity"])[4:8].mean()
    assert error < 0.7 * np.abs(second - truth.sensors["velocity"])[4:8].mean()


def test_hidden_sensors_are_read_by_probes(make_model, pendulum):
    model = make_model("lpomdp", standardize=True).learn(pendulum, 2)
    predicted = model.open_loop(pendulum[0], 3)
    assert predicted["velocity"].shape == (12, 1)
    visible = pendulum[0].sensors["orientation"]
    alone = dataclasses.replace(pendulum[0], sensors={"orientation": visible})
    assert set(model.open_loop(alone, 3)) == {"orientation"}


def test_images_are_pictures(make_model, pendulum):
    truth = pendulum[0].with_images(np.full((12, 64, 64, 3), 200, np.uint8))
    image = make_model("visual").open_loop(truth, 3)["image"]
    assert (image.shape, image.dtype) == ((12, 64, 64, 3), np.uint8)
    assert 100 < image.mean() < 150  # A decoder that has not learnt is grey.


def test_a_policy_acts_in_imagination(learnt, pendulum):
    policy = NormalHead(learnt.net.feature_dim, 1, MLPConfig(8))
    with torch.no_grad():
        policy.mean_net.net[-1].bias.fill_(3.0)  # Tanh of it is nearly the limit.
    start = pendulum[0].window(0, 4)
    predicted = imagination(learnt.net, policy, start, 5)
    assert {len(values) for values in predicted.values()} == {5}
    pushed = dataclasses.replace(
        pendulum[0].window(0, 9),
        actions=np.concatenate([pendulum[0].actions[:3], np.full((5, 1), np.tanh(3.0))]),
    )
    told = open_loop(learnt.net, pushed, 4)["velocity"][4:]
    np.testing.assert_allclose(predicted["velocity"], told, atol=0.05)


@pytest.mark.parametrize("seen", [0, 12])
def test_too_few_or_too_many_rows_are_seen(learnt, pendulum, seen):
    with pytest.raises(ValueError, match=f"12 rows, 1 to 11 can be seen .* got {seen}"):
        learnt.open_loop(pendulum[0], seen)


def test_trajectories_that_do_not_fit(learnt, pendulum):
    with pytest.raises(ValueError, match="has no actions"):
        learnt.open_loop(pendulum[0].observations_only(), 3)
    sensors = {"velocity": pendulum[0].sensors["velocity"]}
    with pytest.raises(ValueError, match="sees orientation, velocity; the trajectory lacks orient"):
        learnt.open_loop(dataclasses.replace(pendulum[0], sensors=sensors), 3)


def test_a_figure_of_predictions(learnt, pendulum, tmp_path):
    predicted = learnt.open_loop(pendulum[0], 4)
    path = plot_predictions(pendulum[0].sensors, predicted, 4, tmp_path / "curves.svg")
    drawn = path.read_text()
    plain = plot_predictions(pendulum[0].sensors, predicted, 8, tmp_path / "other.svg")
    assert drawn.count('id="axes_') == 3
    assert drawn != plain.read_text()
    with pytest.raises(ValueError, match="both predicted and known"):
        plot_predictions({}, predicted, 4, tmp_path / "none.svg")
