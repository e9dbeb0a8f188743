import json

import imageio_ffmpeg
import pytest

from agents import BCAgent, DreamerAgent, DreamerConfig, WorldModel, WorldModelConfig
from aime_gym.card import read_card
from aime_gym.datasets import collect, save_dataset

ENV_ID = "AIME/cartpole-balance-mdp"


@pytest.fixture
def model(places):
    """The name of an untrained world model."""
    config = WorldModelConfig().narrow()
    WorldModel(ENV_ID, config, device="cpu").save(places / "models" / "cart" / "model.zip")
    return "cart"


@pytest.mark.usefixtures("opengl")
def test_a_video_of_predictions(run, model, stored, places):
    line = f"predict --world-model {model} --dataset {stored} --size 32 --rows 9 --seen 4"
    code, out, err = run(f"{line} --trajectory 1 --first 3 --out p.mp4")
    assert (code, err) == (0, "")
    assert "p.mp4: 4 rows are seen, 5 imagined." in out
    frames = imageio_ffmpeg.read_frames(str(places / "p.mp4"))
    assert next(frames)["size"][0] == 3 * 32 + 2 * 4
    assert len(list(frames)) == 9


@pytest.mark.usefixtures("opengl")
def test_a_video_of_predicted_images(run, stored, places):
    config = WorldModelConfig().narrow()
    visual = WorldModel("AIME/cartpole-balance-visual", config, device="cpu")
    visual.save(places / "visual.zip")
    line = f"predict --world-model visual.zip --dataset {stored} --rows 5 --seen 2 --size 64"
    assert run(f"{line} --out p.mp4")[0] == 0
    assert (places / "p.mp4").stat().st_size > 1_000
    assert run(f"{line} --out p.png")[0] == 0  # Of what the probes read.


def test_curves_of_predictions(run, model, stored, places):
    line = f"predict --world-model {model} --dataset {stored}"
    for name in ("p.svg", "q.png"):
        code, out, _ = run(f"{line} --out {name}")
        assert code == 0
        assert "20 rows are seen, 80 imagined" in out
    assert (places / "p.svg").read_text().count('id="axes_') == 5
    assert run(f"{line} --out all.png --rows 1000 --seen 1")[1].endswith(
        "1 rows are seen, 125 imagined.\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--out p.gif", "an .mp4, .png, .pdf, .svg file"),
        ("--out p.mp4 --size 0", "pictures of 1 pixel"),
        (
            "--out p.mp4 --trajectory 2",
            "There is no trajectory 2: cartpole-balance-random has 0 to 1.",
        ),
        ("--out p.mp4 --first 126", "does not fit a trajectory of 126"),
        ("--out p.mp4 --seen 0", "1 to 99 can be seen"),
        ("--out p.mp4 --seen 100", "1 to 99 can be seen"),
    ],
)
def test_wrong_options(run, model, stored, places, options, message):
    code, _, err = run(f"predict --world-model {model} --dataset {stored} {options}")
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(places.glob("p.*"))


def test_data_and_models_that_do_not_fit(run, model, stored, places, collected):
    save_dataset(collected.observations_only(), places / "data" / "seen-alone")
    code, _, err = run(f"predict --world-model {model} --dataset seen-alone --out p.mp4")
    assert (code, "Actions are needed" in err) == (2, True)
    save_dataset(
        collect("random", "AIME/pendulum-swingup-mdp", 1, seed=0, name="p"), places / "data" / "p"
    )
    code, _, err = run(f"predict --world-model {model} --dataset p --out p.mp4")
    assert (code, "is of body 'pendulum'; needed is 'cartpole'" in err) == (2, True)
    BCAgent(ENV_ID).save(places / "bc.zip")
    code, _, err = run(f"predict --world-model bc.zip --dataset {stored} --out p.mp4")
    assert (code, "BCAgent, which has no world model" in err) == (2, True)


def test_a_body_whose_sensors_do_not_tell_how_it_stands(run, places):
    env_id = "AIME/finger-spin-mdp"
    WorldModel(env_id, WorldModelConfig().narrow(), device="cpu").save(places / "finger.zip")
    save_dataset(collect("random", env_id, 1, seed=0, name="f"), places / "data" / "f")
    line = "predict --world-model finger.zip --dataset f --rows 5 --seen 2"
    code, _, err = run(f"{line} --out p.mp4")
    assert (code, "a .png file shows them as curves" in err) == (2, True)
    assert run(f"{line} --out p.png")[0] == 0


# aime-gym models export


@pytest.fixture
def dreamer(places):
    """The run folder of a Dreamer that has not learnt."""
    small = WorldModelConfig.rssmo().narrow(8)
    config = DreamerConfig(world_model=small)
    DreamerAgent(ENV_ID, config, device="cpu").save(places / "run" / "final.zip")
    return "run"


def test_export_of_a_run(run, dreamer, places, stored):
    code, out, err = run(f"models export {dreamer} --out models/cartpole-balance-mdp")
    assert (code, err) == (0, "")
    assert "cartpole-balance-mdp, the world model of a DreamerAgent after 0 timesteps" in out
    card = read_card(places / "models" / "cartpole-balance-mdp")
    assert (card.name, card.body, card.env_id) == ("cartpole-balance-mdp", "cartpole", ENV_ID)
    assert card.command == (
        "aime-gym models export --name cartpole-balance-mdp --out models/cartpole-balance-mdp run"
    )
    assert "cartpole-balance-mdp" in run("models list")[1]
    line = f"train aime --env {ENV_ID} --demos {stored} --world-model cartpole-balance-mdp"
    options = "--sequence-length 4 --batch-size 3 --total-timesteps 1 --episodes 1"
    assert run(f"{line} --start-updates 0 --action-prior 0 {options} --folder a")[0] == 0


def test_export_in_the_published_layout(run, dreamer, places):
    code, out, _ = run(f"models export {dreamer} --out models/cart --published")
    assert code == 0
    assert "scales are folded in" in out
    assert {p.name for p in (places / "models" / "cart").iterdir()} == {"config.yaml", "model.pt"}
    assert WorldModel.load("cart").env_info.env_id == ENV_ID
    code, _, err = run(f"models export {dreamer} --out models/cart")
    assert (code, "not empty" in err) == (2, True)


def test_export_of_a_model_without_inverse_dynamics(run, places):
    config = WorldModelConfig(idm="none").narrow(8)
    WorldModel(ENV_ID, config, device="cpu").save(places / "bare.zip")
    out = run("models export bare.zip --name other --out models/m")[1]
    assert "needs --start-updates 0 --action-prior 0" in out
    assert json.loads((places / "models" / "m" / "card.json").read_text())["name"] == "other"
