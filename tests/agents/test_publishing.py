"""World models in the published layout, and out of the runs of agents."""

import dataclasses

import gymnasium as gym
import pytest
import torch

from agents import AIMEAgent, AIMEConfig, BCAgent, DreamerAgent, DreamerConfig, WorldModel
from agents import WorldModelConfig as Config
from agents.nets import MLPConfig
from agents.runs.export import export_world_model, load_world_model
from agents.world_models.config import TrainingConfig
from agents.world_models.publishing import write_published
from aime_gym.card import read_card
from aime_gym.catalogue import list_models
from aime_gym.datasets import collect
from aime_gym.rendering import render_states

ENV = "AIME/walker-walk-{}"
CELLS = ["rssm", "rssmo"]
DREAMER = DreamerConfig(
    random_episodes=1,
    pretrain_updates=0,
    round_updates=1,
    policy=MLPConfig(8),
    value=MLPConfig(8),
    world_model=dataclasses.replace(Config.rssmo().narrow(8), idm="none"),
    training=TrainingConfig(5, 4),
)


CELLS = {"rssm": Config(), "rssmo": Config.rssmo()}


@pytest.fixture(scope="module")
def walk():
    """The start of a random walk, whose sensors differ in scale."""
    walked = collect("random", ENV.format("mdp"), 1, seed=0, name="walk")
    with gym.make(ENV.format("mdp")) as env:
        return walked.map(lambda t: drawn(env, t.window(0, 50)))


def drawn(env, trajectory):
    return trajectory.with_images(render_states(env, trajectory.physics_states, 64, 64))


@pytest.fixture(scope="module")
def make_learnt(walk):
    """A function that makes a small world model of the walker, which has learnt a little."""

    def make(cell="rssm", setup="mdp", **options):
        config = dataclasses.replace(CELLS[cell].narrow(8), num_ensembles=2, reward=True, **options)
        training = TrainingConfig(5, 4, 1e-2, burn_ins=(0,))
        model = WorldModel(ENV.format(setup), config, training, seed=1, device="cpu")
        return model.learn(walk, 20)

    return make


def outputs(model, walk):
    """What a model makes of a walk, in the sensors' own units; decoders' deviations aside."""
    observations, actions = model.tensors(walk[0].window(0, 40))
    net = model.net
    embeds = net.embed(observations)
    noise = torch.randn(40, 1, model.config.stoch_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        filtered = net.filter(embeds, noise, actions)
        features = filtered.latents.feature
        prior = net.cell.prior(filtered.latents.deter)
        idm = net.idm(torch.cat([features[:-1], embeds[1:]], dim=-1))
        inputs = torch.cat([features, actions], dim=-1)
        ahead = torch.stack([head(inputs) for head in net.emb_prediction_heads])
        probes = [net.unstandardize(n, probe(features).mean) for n, probe in net.probes.items()]
        return [
            *(features, *filtered.posterior, *prior, *idm),
            *net.read(features).values(),
            *probes,
            ahead if "tabular" in net.encoders or net.info.image else in_own_units(net, ahead),
        ]


def in_own_units(net, embeds):
    """Embeddings that are sensors, as they are."""
    parts = embeds.split([*net.info.visible.values()], dim=-1)
    return torch.cat(
        [net.unstandardize(n, part) for n, part in zip(net.info.visible, parts, strict=True)], -1
    )


def assert_same(first, second, walk):
    for one, other in zip(outputs(first, walk), outputs(second, walk), strict=True):
        scale = one.abs().max().clamp(min=1)
        torch.testing.assert_close(one / scale, other / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("setup", ["mdp", "lpomdp", "visual"])
def test_there_and_back(make_learnt, walk, tmp_path, cell, setup):
    model = make_learnt(cell, setup)
    assert all(s.fitted for s in model.net.standardizers.values())
    write_published(model, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.yaml", "model.pt"}
    again = WorldModel.load(tmp_path / "model", device="cpu")
    kept = dataclasses.replace(model.config, standardize=False)
    if not kept.encoder.hidden_layers:
        kept = dataclasses.replace(kept, encoder=MLPConfig(hidden_layers=0))
    assert again.config == kept
    assert again.env_info.env_id == model.env_info.env_id
    assert_same(model, again, walk)


@pytest.mark.parametrize("cell", CELLS)
def test_unstandardised_models_come_back_whole(make_learnt, walk, tmp_path, cell):
    model = make_learnt(cell, standardize=False)
    write_published(model, tmp_path / "model")
    again = WorldModel.load(tmp_path / "model", device="cpu").net.state_dict()
    for name, weight in model.net.state_dict().items():
        assert torch.equal(weight, again[name]), name


def test_constant_deviations_are_folded_exactly(make_learnt, walk, tmp_path):
    model = make_learnt(decoder_kind="constant_std")
    write_published(model, tmp_path / "model")
    again = WorldModel.load(tmp_path / "model", device="cpu")
    features = torch.zeros(1, model.net.feature_dim)
    for name, standardizer in model.net.standardizers.items():
        expected = standardizer.std * model.net.decoders[name](features).std[0]
        torch.testing.assert_close(again.net.decoders[name](features).std[0], expected)


def test_small_deviations_are_about_the_same(make_learnt, walk, tmp_path):
    model = make_learnt()
    decoders = {name: model.net.decoders[name] for name in model.net.standardizers}
    with torch.no_grad():
        for decoder in decoders.values():
            decoder.std_net.net[-1].bias.fill_(-5)
    write_published(model, tmp_path / "model")
    again = WorldModel.load(tmp_path / "model", device="cpu")
    features = torch.randn(100, model.net.feature_dim)
    for name, decoder in decoders.items():
        expected = model.net.standardizers[name].std * decoder(features).std
        ratio = again.net.decoders[name](features).std / expected
        assert 0.85 < ratio.min() <= ratio.max() < 1.05


@pytest.mark.parametrize(
    "options",
    [{"idm_net": MLPConfig(3)}, {"idm_sees_both": True}, {"idm_sees_state": False}],
    ids=str,
)
def test_inverse_dynamics_of_another_kind_is_left_out(make_learnt, tmp_path, options):
    model = make_learnt(**options)
    write_published(model, tmp_path / "model")
    again = WorldModel.load(tmp_path / "model", device="cpu")
    assert model.net.idm is not None
    assert again.net.idm is None
    assert again.config.idm == "none"


def test_what_the_layout_has_no_place_for(make_learnt, make_model, tmp_path):
    residual = WorldModel(ENV.format("mdp"), Config.residual().narrow(8), device="cpu")
    with pytest.raises(
        ValueError, match=r"no place for a cell 'residual' \(it has rssm, rssmo\), n"
    ):
        write_published(residual, tmp_path / "model")
    other = WorldModel("Pendulum-v1", Config().narrow(8), device="cpu")
    with pytest.raises(ValueError, match="no place for Pendulum-v1"):
        write_published(other, tmp_path / "model")
    rewarded = dataclasses.replace(Config().narrow(8), reward=True, reward_net=MLPConfig(4, 1))
    with pytest.raises(ValueError, match="no place for a reward network of its own"):
        write_published(WorldModel(ENV.format("mdp"), rewarded, device="cpu"), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        write_published(make_model(), tmp_path / "taken")


# Out of runs


@pytest.fixture(scope="module")
def dreamer():
    return DreamerAgent("AIME/walker-walk-lpomdp", DREAMER, seed=3, device="cpu").learn(500)


def test_the_model_of_a_dreamer_serves_aime(dreamer, walk, tmp_path):
    dreamer.save(tmp_path / "run" / "final.zip")
    model, origin = load_world_model(tmp_path / "run", device="cpu")
    assert origin == "a DreamerAgent after 500 timesteps"
    folder = tmp_path / "models" / "walker-walk-lpomdp"
    export_world_model(model, folder, folder.name, "A test.", "command")
    assert list_models()["walker-walk-lpomdp"] == read_card(folder)
    again = WorldModel.load("walker-walk-lpomdp", device="cpu")
    for name, weight in dreamer.world_model.state_dict().items():
        torch.testing.assert_close(again.net.state_dict()[name], weight, atol=1e-3, rtol=1e-3)
    assert not again.net.probes
    with pytest.raises(ValueError, match=r"needs a world model with inverse dynamics.*paper\(\)"):
        AIMEAgent("AIME/walker-run-lpomdp", again)
    config = AIMEConfig.paper(sequence_length=5, batch_size=4)
    agent = AIMEAgent("AIME/walker-run-lpomdp", "walker-walk-lpomdp", config, device="cpu")
    assert agent.learn(walk, 1).num_timesteps == 1
    agent.save(tmp_path / "agent.zip")
    loaded = AIMEAgent.load(tmp_path / "agent.zip", "AIME/walker-run-lpomdp", device="cpu")
    assert loaded.env_info.hidden == {}
    of_aime, _ = load_world_model(tmp_path / "agent.zip", device="cpu")
    assert "reward" not in of_aime.net.decoders


def test_a_dreamer_starts_from_the_model_of_another(dreamer):
    config = dataclasses.replace(DREAMER, frozen=True)
    model = WorldModel(dreamer.env_info, dreamer.world_model.config, device="cpu")
    model.net.load_state_dict(dreamer.world_model.state_dict())
    agent = DreamerAgent("AIME/walker-run-lpomdp", config, model, device="cpu")
    for name, weight in dreamer.world_model.state_dict().items():
        assert torch.equal(agent.world_model.state_dict()[name], weight)


def test_what_has_no_world_model(tmp_path, make_bc):
    make_bc().save(tmp_path / "bc.zip")
    with pytest.raises(ValueError, match="holds a BCAgent, which has no world model"):
        load_world_model(tmp_path / "bc.zip")
    with pytest.raises(FileNotFoundError, match="There is no model"):
        load_world_model("nowhere")
    (tmp_path / "torn.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="truncated, or no archive"):
        load_world_model(tmp_path / "torn.zip")


def test_a_published_model_is_one_of_the_sources(make_model, tmp_path):
    write_published(make_model(), tmp_path / "model")
    model, origin = load_world_model(tmp_path / "model", device="cpu")
    assert origin == "a published world model"
    assert isinstance(model, WorldModel)
    assert not isinstance(model, BCAgent)
