import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from aime_gym.datasets import (
    cached_images,
    images,
    load_dataset,
    mix,
    read_dataset,
    render_images,
    save_dataset,
    verify_images,
)


@pytest.fixture(scope="module", autouse=True)
def drawn(collected):
    """The short windows with images; where there is no OpenGL, nothing here runs."""
    try:
        return render_images(collected.map(lambda trajectory: trajectory.window(0, 4)))
    except RuntimeError as error:
        pytest.fail(str(error))


def test_cache_equals_the_environment(collected, short, drawn):
    env = gym.make("AIME/cartpole-balance-visual")
    seen = [env.reset(seed=3)[0]]
    seen += [env.step(action)[0] for action in collected[0].actions[:3]]
    cached = cached_images(short, progress_bar=False)
    for dataset in (cached, drawn):
        np.testing.assert_array_equal(dataset[0].sensors["image"], np.stack(seen))
        assert dataset.card.gl_vendor
    assert isinstance(cached[1].sensors["image"], np.memmap)
    assert cached[1].sensors["image"].dtype == drawn[1].sensors["image"].dtype == np.uint8


def test_drawn_once(short, monkeypatch):
    first = cached_images(short, progress_bar=False)
    monkeypatch.setattr(images, "_Painter", None)
    again = cached_images(short, progress_bar=False)
    np.testing.assert_array_equal(first[1].sensors["image"], again[1].sensors["image"])
    assert cached_images(again) is again


def test_killed_drawing_goes_on(short, drawn, data_folder, monkeypatch):
    draw, states = images._Painter.draw, []

    def killed(painter, state):
        if len(states) == 6:
            raise KeyboardInterrupt
        states.append(state)
        return draw(painter, state)

    with monkeypatch.context() as patch:
        patch.setattr(images._Painter, "draw", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_images(short, progress_bar=False)
    assert not list((data_folder.parent / "cache" / "images").glob("*.npy"))
    states.clear()
    with monkeypatch.context() as patch:
        patch.setattr(images._Painter, "draw", lambda p, s: states.append(s) or draw(p, s))
        cached = cached_images(short, progress_bar=False)
    assert len(states) == 4
    np.testing.assert_array_equal(cached[0].sensors["image"], drawn[0].sensors["image"])


def test_by_name(short, data_folder):
    save_dataset(short, data_folder / "cartpole-short")
    assert not load_dataset("cartpole-short").has_images
    assert load_dataset("cartpole-short", images="render", progress_bar=False).has_images


def test_verify(short, drawn, tmp_path):
    stored = read_dataset(save_dataset(drawn, tmp_path / "new"))
    assert verify_images(stored, sample=5) == 0
    faulty = stored.map(lambda t: t.with_images(255 - t.sensors["image"]))
    assert verify_images(faulty, sample=5) > 100
    with pytest.raises(ValueError, match="no images to verify"):
        verify_images(short)


def test_mix_finds_an_environment_of_the_body(short):
    other = short.map(lambda t: t, name="other", env_id=None)
    mixed = mix([short, other], "cartpole-mix")
    assert mixed.card.env_id is None
    assert render_images(mixed[:1]).has_images


def test_refuses(short):
    bare = short.map(lambda t: dataclasses.replace(t, physics_states=None))
    for function in (render_images, cached_images):
        with pytest.raises(ValueError, match="physics states"):
            function(bare)
    for fields in ({"env_id": "Hopper-v5"}, {"env_id": None, "body": "Hopper"}):
        foreign = short.map(lambda t: t, **fields)
        for function in (render_images, cached_images):
            with pytest.raises(ValueError, match=r"is of (Hopper-v5|body 'Hopper'), and images"):
                function(foreign)
    longer = short.map(lambda t: dataclasses.replace(t, physics_states=np.zeros((len(t), 40))))
    with pytest.raises(ValueError, match="cartpole-balance-mdp has 4"):
        render_images(longer)
