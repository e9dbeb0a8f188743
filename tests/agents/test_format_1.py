"""Archives that version 0.1 wrote load and go on, to the same weights as there.

The archives hold small learners of a toy pendulum after 7 updates, and after 6 more.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents import AIMEAgent, BCAgent, WorldModel

ARCHIVES = Path(__file__).parent / "format_1"
KINDS = {"world-model": WorldModel, "aime": AIMEAgent, "bc": BCAgent}


@pytest.mark.parametrize("name", KINDS)
def test_it_goes_on(name, pendulum, weights):
    learner = KINDS[name].load(ARCHIVES / f"{name}.zip", device="cpu")
    assert learner.num_timesteps == 7
    learner.learn(pendulum, 6, reset_num_timesteps=False)
    later = KINDS[name].load(ARCHIVES / f"{name}-later.zip", device="cpu")
    expected = weights(later)
    for part, weight in weights(learner).items():
        torch.testing.assert_close(weight, expected[part], rtol=1e-4, atol=1e-6, msg=part)
    assert learner.num_timesteps == later.num_timesteps == 13
    assert torch.equal(learner.generator.get_state(), later.generator.get_state())


def test_a_compact_one_acts_with_its_best_weights():
    agent = BCAgent.load(ARCHIVES / "bc-compact.zip", device="cpu")
    assert agent.supervised.epochs.count > 0
    assert agent.policy is agent.supervised.best
    action, _ = agent.predict(np.zeros(2, np.float32))
    assert agent.action_space.contains(action)


def test_one_that_sees_images():
    agent = BCAgent.load(ARCHIVES / "bc-visual.zip", device="cpu")
    action, _ = agent.predict(np.zeros((64, 64, 3), np.uint8))
    assert agent.action_space.contains(action)


def test_the_bundled_model():
    model = WorldModel.load("walker-mix-mdp", device="cpu")
    assert model.env_info.visible == {"orientations": 14, "height": 1, "velocity": 9}
    assert model.env_info.env_id == "AIME/walker-run-mdp"
