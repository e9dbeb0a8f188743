import pytest

from agents import WorldModel, WorldModelConfig
from aime_gym import catalogue
from aime_gym.card import CARD, Card, Origin, card_of_env, read_card, write_card
from aime_gym.catalogue import list_models

ENV_ID = "AIME/cartpole-balance-mdp"


@pytest.fixture
def nothing_bundled(places, monkeypatch):
    monkeypatch.setattr(catalogue, "_ASSETS", places / "none")


@pytest.mark.usefixtures("nothing_bundled")
def test_list_of_nothing_says_what_adds_models(run):
    assert "AIME_GYM_MODELS adds folders" in run("models list")[1]


@pytest.mark.usefixtures("nothing_bundled")
def test_list_shows_cards(run, places):
    folder = places / "models"
    model = WorldModel(ENV_ID, WorldModelConfig().narrow())
    for name in ("bare", "described"):
        model.save(folder / name / "model.zip")
    card = card_of_env(
        ENV_ID,
        "described",
        kind="model",
        description="A test.",
        updates=2_000,
        learned_from=(Origin("some-data", "aime", "0123456789"),),
    )
    write_card(folder / "described", card)
    code, out, _ = run("models list")
    assert code == 0
    _, bare, described = out.splitlines()
    assert bare.split()[:2] == ["bare", "user"]
    assert described.split() == [
        *("described", "aime-gym", "cartpole", "2,000"),
        *("some-data", "(aime,", "01234567)", "A", "test."),
    ]


def test_list_has_the_bundled_model(run):
    line = next(line for line in run("models list")[1].splitlines() if "walker-mix-mdp" in line)
    name, source, body, updates, data, *_ = line.split()
    assert (name, source, body, data) == ("walker-mix-mdp", "aime-gym", "walker", "walker-mix")
    assert int(updates.replace(",", "")) == list_models()["walker-mix-mdp"].updates


def test_renew(run, places):
    folder = places / "old"
    folder.mkdir()
    (folder / CARD).write_text('{"name": "n", "body": "walker", "licence": "CC0-1.0"}')
    with pytest.warns(UserWarning, match="aime-gym renew"):
        before = read_card(folder)
    code, out, _ = run("renew old")
    assert code == 0
    assert "the card of the dataset n" in out
    assert read_card(folder) == before == Card("n", "walker", license="CC0-1.0")


@pytest.mark.parametrize("content", [None, "[]"])
def test_nothing_to_renew(run, places, content):
    (places / "f").mkdir()
    if content is not None:
        (places / "f" / CARD).write_text(content)
    code, _, err = run("renew f")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert CARD in err
