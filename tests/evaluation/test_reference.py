import numpy as np
import pytest

from aime_gym.evaluation.reference import published_expert_return, published_scores


def test_expert_returns():
    assert published_expert_return("walker", "run") == pytest.approx(604.1, abs=0.01)
    assert published_expert_return("cheetah", "runb") == pytest.approx(218.5027, abs=1e-4)
    assert published_expert_return("cheetah", "flipbackward") == pytest.approx(379.9083, abs=1e-4)
    assert published_expert_return("hopper", "hop") is None


@pytest.mark.parametrize(
    ("cell", "mean"),
    [
        (("walker", "mix", "run", "AIME", "visual"), 61.11),
        (("walker", "mix", "run", "BCO(0)", "mdp"), 59.79),
        (("walker", "p2e", "run", "AIME", "lpomdp"), 55.28),
        (("cheetah", "runb", "flipbackward", "AIME", "visual"), 11.18),
    ],
)
def test_mean_scores(cell, mean):
    scores = published_scores(*cell)
    assert scores.shape == (100,)
    assert scores.mean() == pytest.approx(mean, abs=0.01)


@pytest.mark.parametrize(
    ("body", "method", "means"),
    [
        ("walker", "AIME", (64, 72, 73)),
        ("walker", "BCO(0)", (27, 41, 64)),
        ("cheetah", "AIME", (37, 40, 39)),
        ("cheetah", "BCO(0)", (17, 34, 42)),
    ],
)
def test_averages_over_all_cells_are_the_published_ones(body, method, means):
    tasks = {
        "walker": ("stand", "walk", "run"),
        "cheetah": ("run", "runbackward", "flip", "flipbackward"),
    }[body]
    embodiments = ("random", "p2e", *tasks, *(("mix",) if body == "walker" else ()))
    for setup, mean in zip(("visual", "lpomdp", "mdp"), means, strict=True):
        cells = [
            published_scores(body, embodiment, task, method, setup).mean()
            for embodiment in embodiments
            for task in tasks
        ]
        assert np.mean(cells) == pytest.approx(mean, abs=0.6)


def test_errors_list_what_exists():
    with pytest.raises(ValueError, match="body 'hopper': there are walker, cheetah"):
        published_scores("hopper", "mix", "run", "AIME", "mdp")
    with pytest.raises(ValueError, match="embodiment 'mix' of cheetah: there are random, p2e"):
        published_scores("cheetah", "mix", "run", "AIME", "mdp")
    with pytest.raises(ValueError, match=r"method 'BC' .*: there are BCO\(0\), AIME"):
        published_scores("walker", "mix", "run", "BC", "mdp")
    with pytest.raises(ValueError, match="there are visual, lpomdp, mdp"):
        published_scores("walker", "mix", "run", "AIME", "MDP")
