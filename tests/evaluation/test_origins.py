import numpy as np
import pytest

from aime_gym.card import Card, Origin, write_card
from aime_gym.evaluation.origins import known_results, origins_of
from aime_gym.evaluation.reference import published_scores


def test_known_results_of_a_task():
    evaluations, origins = known_results("AIME/walker-run-mdp")
    assert (
        list(evaluations) == list(origins) == ["expert", "AIME, the paper's", "BCO(0), the paper's"]
    )
    (expert,) = origins["expert"]
    assert (expert.name, expert.source, len(expert.sha256)) == ("walker-run-expert", "aime-gym", 64)
    assert len(evaluations["expert"].returns) == 100
    published = evaluations["AIME, the paper's"]
    expected = published_scores("walker", "mix", "run", "AIME", "mdp")
    np.testing.assert_allclose(published.scores, expected)
    assert published.env_id == "AIME/walker-run-mdp"
    assert origins["AIME, the paper's"] == [Origin("walker-mix", "aime")]


@pytest.mark.parametrize("env_id", ["AIME/hopper-hop-mdp", "Hopper-v5"])
def test_nothing_is_known_of_some(env_id):
    assert known_results(env_id) == ({}, {})


def test_of_the_cheetah_the_expert_alone_is_known():
    """The paper has scores, but none from a mix."""
    evaluations, _ = known_results("AIME/cheetah-run-mdp")
    assert [name for name in evaluations if "paper" in name] == []
    (expert,) = evaluations.values()
    assert expert.score == pytest.approx(82, abs=0.1)


def test_the_expert_of_another_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AIME_GYM_DATA", str(tmp_path))
    folder = tmp_path / "Hopper-v5-expert"
    folder.mkdir()
    card = Card(folder.name, "Hopper", env_id="Hopper-v5", evaluation_returns=(200.0, 400.0))
    write_card(folder, card)
    evaluations, origins = known_results("Hopper-v5")
    assert evaluations["expert"].mean == 300.0
    assert origins == {"expert": [card.origin]}


def test_an_experts_dataset_without_a_card_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("AIME_GYM_DATA", str(tmp_path))
    (tmp_path / "Hopper-v5-expert").mkdir()
    (tmp_path / "Hopper-v5-expert" / "0.npz").touch()
    assert known_results("Hopper-v5") == ({}, {})


def test_wrong_ids_are_refused():
    with pytest.raises(ValueError, match="walker has no task 'fly'"):
        known_results("AIME/walker-fly-mdp")


def test_origins_of_a_run():
    config = {"world_model": "walker-mix-mdp", "demos": "walker-run-expert", "seed": 3}
    model, demos = origins_of(config)
    assert (model.name, model.source) == ("walker-mix-mdp", "aime-gym")
    assert (demos.name, demos.source) == ("walker-run-expert", "aime-gym")
    assert origins_of({"dataset": "walker-run-expert"}) == [demos]
    assert origins_of({"world_model": None}) == origins_of({}) == []


def test_origins_that_are_gone_keep_their_name():
    assert origins_of({"demos": "gone", "world_model": "lost"}) == [Origin("lost"), Origin("gone")]
