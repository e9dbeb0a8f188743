import dataclasses
import json
import os
import warnings
from pathlib import Path

import pytest

import aime_gym
from aime_gym.card import (
    CARD,
    Card,
    Origin,
    card_of_env,
    installed_versions,
    read_card,
    renew_card,
    write_card,
)

ASSETS = Path(aime_gym.__file__).parent / "assets"
OLD_DATASET = {
    "name": "walker-mix",
    "body": "walker",
    "env_id": None,
    "source": "aime-gym",
    "licence": "CC0-1.0",
    "seed": 0,
    "evaluation_returns": [1.5, 2.0],
    "sha256": {"000000.npz": "ab"},
    "parts": ["walker-random"],
}
OLD_MODEL = {
    "name": "walker-mix-mdp",
    "env_id": "AIME/walker-run-mdp",
    "command": "aime-gym train world-model",
    "seed": 0,
    "dataset": "walker-mix",
    "dataset_checksum": "0123",
    "updates": 10,
    "metrics": {"train/elbo": 1.0},
    "versions": {"numpy": "2"},
    "source": "aime-gym",
    "licence": "MIT",
    "sha256": {"model.zip": "4567"},
}
FULL = Card(
    name="walker-mix-mdp",
    body="walker",
    kind="model",
    env_id="AIME/walker-run-mdp",
    description="A model.",
    source="aime-gym",
    license="MIT",
    command="aime-gym train world-model",
    seed=0,
    versions={"numpy": "2"},
    sha256={"model.zip": "4567"},
    parts=("a", "b"),
    evaluation_returns=(1.0, 2.5),
    gl_vendor="Mesa",
    action_repeat=2,
    learned_from=(Origin("walker-mix", "aime-gym", "0123"), Origin("other")),
    updates=0,
    metrics={"train/elbo": 1.0},
)


def write_old(folder, values):
    (folder / CARD).write_text(json.dumps(values))
    return folder


def test_round_trip(tmp_path):
    for card in (FULL, Card("walker-toy", "walker")):
        write_card(tmp_path / card.name, card)
        assert read_card(tmp_path / card.name) == card


def test_empty_fields_are_left_out():
    assert set(Card("walker-toy", "walker").to_json()) == {
        "name",
        "body",
        "kind",
        "source",
        "license",
    }
    assert {each.name for each in dataclasses.fields(Card)} == set(FULL.to_json())


def test_checksums():
    assert Card("a", "walker").checksum is None
    one = Card("a", "walker", sha256={"model.zip": "4567"})
    assert len(one.checksum) == 64
    assert dataclasses.replace(one, kind="model").checksum == "4567"
    assert one.checksum != dataclasses.replace(one, sha256={"model.zip": "4568"}).checksum


def test_origins():
    assert FULL.origin == Origin("walker-mix-mdp", "aime-gym", "4567")
    assert str(Origin("walker-mix", "aime-gym", "0123456789")) == "walker-mix (aime-gym, 01234567)"
    assert str(Origin("mine")) == "mine (user)"


@pytest.mark.parametrize(
    ("env_id", "body"),
    [("AIME/walker-run-mdp", "walker"), ("Hopper-v5", "Hopper"), ("CartPole-v1", "CartPole")],
)
def test_card_of_any_environment(env_id, body):
    card = card_of_env(env_id, "x", seed=3, kind="model")
    assert (card.body, card.env_id, card.seed, card.kind) == (body, env_id, 3, "model")
    assert card.source == "aime-gym"
    assert card.versions == installed_versions()
    assert card_of_env(env_id, "x", source="user").source == "user"
    assert card_of_env(f"aime_gym:{env_id}", "x").env_id == env_id


def test_card_of_no_environment():
    with pytest.raises(ValueError, match="no environment 'Hoper-v5'"):
        card_of_env("Hoper-v5", "x")


def test_an_old_card_of_a_dataset(tmp_path):
    write_old(tmp_path, OLD_DATASET)
    with pytest.warns(UserWarning, match="old form") as caught:
        card = read_card(tmp_path)
    assert [str(warning.message) for warning in caught] == [
        f"The card of {tmp_path} is of an old form. To renew it: aime-gym renew {tmp_path}"
    ]
    assert (card.kind, card.license, card.parts) == ("dataset", "CC0-1.0", ("walker-random",))
    assert card.evaluation_returns == (1.5, 2.0)


def test_an_old_card_of_a_model(tmp_path):
    write_old(tmp_path, OLD_MODEL)
    with pytest.warns(UserWarning, match="old form"):
        card = read_card(tmp_path)
    assert (card.kind, card.body, card.updates) == ("model", "walker", 10)
    assert card.learned_from == (Origin("walker-mix", "aime-gym", "0123"),)
    assert card.checksum == "4567"


@pytest.mark.parametrize("values", [OLD_DATASET, OLD_MODEL])
def test_renewing(tmp_path, values):
    write_old(tmp_path, values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        renewed = renew_card(tmp_path)
        assert read_card(tmp_path) == renewed
        assert renew_card(tmp_path) == renewed
    assert renewed.sha256 == values["sha256"]


@pytest.mark.parametrize("folder", sorted(path.parent for path in ASSETS.glob(f"*/*/{CARD}")))
def test_bundled_cards_are_of_the_present_form(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        card = read_card(folder)
    assert card.name == folder.name
    assert json.loads((folder / CARD).read_text()) == json.loads(json.dumps(card.to_json()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"card\.json is no card: Expecting"),
        ("\x00\xff", r"card\.json is no card"),
        ("[]", "it holds list, not an object"),
        ("{}", "has name and body.*has nothing"),
        ('{"name": "a", "body": "b", "colour": 1}', "has name and body, and may have.*colour"),
        ('{"name": 1, "body": "b"}', "The name of a card is str, not 1"),
        ('{"name": "a", "body": "b", "kind": "policy"}', r"kind of a card is .*'model'.*'policy'"),
        ('{"name": "a", "body": "b", "source": "me"}', "source of a card is .*'user'.*'me'"),
        ('{"name": "a", "body": "b", "seed": "0"}', "seed of a card is int.*None, not '0'"),
        ('{"name": "a", "body": "b", "parts": [1]}', "parts of a card is tuple"),
        ('{"name": "a", "body": "b", "sha256": {"x": 1}}', "sha256 of a card is dict"),
        ('{"name": "a", "body": "b", "evaluation_returns": 1}', "is no card"),
        ('{"name": "a", "body": "b", "learned_from": [{"nam": "x"}]}', "is no card"),
        ('{"name": "a", "licence": "MIT"}', "has name and body"),
        ('{"name": "a", "dataset": "x", "env_id": "No-v0"}', "no environment 'No-v0'"),
    ],
)
def test_damaged_cards(tmp_path, text, message):
    (tmp_path / CARD).write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=message) as caught:
            read_card(tmp_path)
    assert str(tmp_path / CARD) in str(caught.value)


def test_no_card(tmp_path):
    for function in (read_card, renew_card):
        with pytest.raises(FileNotFoundError, match=r"no dataset or model.*it has no card\.json"):
            function(tmp_path)


def test_a_failed_write_leaves_the_card(tmp_path, monkeypatch):
    write_card(tmp_path, FULL)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_card(tmp_path, Card("x", "walker"))
    assert read_card(tmp_path) == FULL
    assert [path.name for path in tmp_path.iterdir()] == [CARD]
