"""Bundled policies: exported from a queue, loaded by name, unpacked into a queue's folder."""

import json

import numpy as np
import pytest

from agents.imujoco import (
    PolicyQueue,
    bundled_bodies,
    export_policies,
    load_bundled_policy,
    read_results,
    select_bodies,
    unpack_policies,
)
from agents.imujoco.bundle import policy_name
from agents.sac import SACAgent, SACConfig
from aime_gym import catalogue
from aime_gym.card import check_files, read_card
from aime_gym.catalogue import find_model
from aime_gym.cli import main
from aime_gym.datasets import load_dataset
from aime_gym.evaluation.evaluate import evaluate
from aime_gym.imujoco_ids import ROBOTS, Variant

VARIANT = "hopper-massdec_30_leggeom"  # With no bundled policy.
BODIES = ("hopper", VARIANT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A queue's folder with two tiny policies."""
    folder = tmp_path_factory.mktemp("trained") / "queue"
    queue = PolicyQueue(
        folder=folder,
        total_timesteps=40,
        warm_timesteps=10,
        trajectories=1,
        episodes=2,
        seed=3,
        config=SACConfig(batch_size=4, learning_starts=20, hidden_dim=8),
    )
    assert queue.run(select_bodies([VARIANT]), say=lambda line: None) == {}
    return folder


@pytest.fixture
def models(trained, tmp_path, monkeypatch):
    """A folder of models with what was exported from it, where alone models are looked for."""
    monkeypatch.setattr(catalogue, "_ASSETS", tmp_path / "nothing bundled")
    export_policies(trained, tmp_path / "models")
    monkeypatch.setenv("AIME_GYM_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_exported_policies_load_by_name_and_act_as_before(trained, models):
    assert set(BODIES) <= set(bundled_bodies())
    card = read_card(models / policy_name(VARIANT))
    result = read_results(trained)[VARIANT]
    assert card.evaluation_returns == result.returns
    assert card.metrics["return"] == pytest.approx(result.mean)
    assert card.metrics["zero-shot return"] == pytest.approx(result.zero_shot_mean)
    assert card.command == (
        f"aime-gym imujoco train --variants {VARIANT} --seed 3 --warm-timesteps 10"
    )
    check_files(models / policy_name(VARIANT), card)
    agent = SACAgent.load(find_model(policy_name(VARIANT)))
    again = evaluate(agent, f"iMuJoCo/{VARIANT}", 2)
    assert tuple(again.returns) == pytest.approx(result.returns)


def test_what_is_exported_already_stays(trained, models):
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    assert export_policies(trained, models) == []
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*")} == before


def test_unpacking_makes_a_finished_queue(trained, models, tmp_path, capsys):
    target = tmp_path / "unpacked"
    assert main(["imujoco", "unpack", "--variants", *BODIES, "--folder", str(target),
                 "--trajectories", "1"]) == 0  # fmt: skip
    assert "hopper: unpacked" in capsys.readouterr().out
    results, before = read_results(target), read_results(trained)
    assert results[VARIANT].returns == before[VARIANT].returns
    assert results[VARIANT].timesteps == 10
    assert len(results[VARIANT].zero_shot) == 10
    assert results["hopper"].zero_shot == ()
    for name in BODIES:
        datasets = [load_dataset(f / "datasets" / f"iMuJoCo-{name}-expert")
                    for f in (trained, target)]  # fmt: skip
        assert np.array_equal(datasets[0][0].actions, datasets[1][0].actions)
    # Again: all is there.
    said = []
    unpack_policies(select_bodies(BODIES), PolicyQueue(folder=target), say=said.append)
    assert said == []


def test_variants_do_not_start_from_an_unpacked_policy(models, tmp_path):
    queue = PolicyQueue(folder=tmp_path / "unpacked", trajectories=1, config=SACConfig())
    unpack_policies(select_bodies(["hopper"]), queue, say=lambda line: None)
    with pytest.raises(ValueError, match="was unpacked"):
        queue.run(select_bodies([VARIANT]))
    assert not (queue.folder / VARIANT).exists()


def test_a_training_that_has_begun_is_left_alone(models, tmp_path):
    begun = tmp_path / "queue" / "hopper"
    begun.mkdir(parents=True)
    (begun / "config.json").write_text(json.dumps({}))
    with pytest.raises(FileExistsError, match="not finished"):
        unpack_policies(select_bodies(BODIES), PolicyQueue(folder=tmp_path / "queue"))
    assert [path.name for path in (tmp_path / "queue").iterdir()] == ["hopper"]


def test_a_folder_of_something_else_is_left_alone(models, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="no folder of policies"):
        unpack_policies(select_bodies(BODIES), PolicyQueue(folder=tmp_path / "run"))
    with pytest.raises(ValueError, match="device"):
        unpack_policies(
            select_bodies(BODIES), PolicyQueue(folder=tmp_path / "queue", device="nonsense")
        )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    assert not (tmp_path / "queue").exists()


def test_bodies_without_a_policy_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="hopper-massdec_31_leggeom"):
        unpack_policies(
            select_bodies(["hopper-massdec_31_leggeom"]), PolicyQueue(folder=tmp_path / "queue")
        )
    with pytest.raises(FileNotFoundError, match="finished"):
        export_policies(tmp_path, tmp_path / "models")
    assert not (tmp_path / "queue").exists()


def test_the_bundled_policies_are_what_their_cards_say():
    bodies = bundled_bodies()
    variants = [Variant.parse(body) for body in bodies if body not in ROBOTS]
    assert {*ROBOTS} <= {*bodies}
    assert len(variants) >= 12
    assert {v.category for v in variants} == {"mass", "joint", "length", "friction"}
    for body in bodies:
        card = read_card(find_model(policy_name(body)).parent)
        check_files(find_model(policy_name(body)).parent, card)
        assert card.metrics["return"] == pytest.approx(np.mean(card.evaluation_returns))
        assert card.env_id == f"iMuJoCo/{body}"
        assert body in ROBOTS or card.metrics["return"] > card.metrics["zero-shot return"]
    some = "halfcheetah-massinc_100_torso"
    card = read_card(find_model(policy_name(some)).parent)
    again = evaluate(load_bundled_policy(some), f"iMuJoCo/{some}", 1)
    assert again.mean > 0.5 * card.metrics["return"] > 0
