"""The table and the figure of a benchmark."""

import numpy as np
import pytest
from PIL import Image

from aime_gym.evaluation.benchmark import HEADER, BenchmarkTable, CellScore, tabulate
from aime_gym.evaluation.benchmark_figure import THRESHOLDS
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.evaluation.reference import published_scores
from aime_gym.evaluation.statistics import (
    bootstrap_interval,
    interquartile_mean,
    optimality_gap,
    performance_profile,
    stratified_interval,
)

WALKER, CHEETAH = "AIME/walker-run-mdp", "AIME/cheetah-run-mdp"


def score(method, env_id=WALKER, mean=50.0, embodiment="mix", expert=200.0, **options):
    returns = np.random.default_rng(int(mean)).normal(2 * mean, 10.0, size=20)
    evaluation = Evaluation(env_id, returns, expert_return=expert)
    return CellScore(method, evaluation, embodiment, **{"seconds": 90.0, **options})


def test_rows_pool_the_seeds_of_a_cell():
    runs = [score("A", mean=40), score("B", mean=30), score("A", mean=60, seconds=150.0)]
    first, second = tabulate(runs).rows
    assert (first.scores.method, second.scores.method) == ("A", "B")
    assert first.scores.num_episodes == 40
    assert first.minutes == "2.5"
    apart = tabulate([score("A"), score("A", embodiment="p2e"), score("A", CHEETAH)])
    assert [row.embodiment for row in apart.rows] == ["mix", "p2e", "mix"]


def test_environments_stay_together_in_the_order_of_the_runs():
    order = [score("A", CHEETAH), score("A"), score("B", CHEETAH), score("B")]
    rows = tabulate(order).rows
    assert [row.scores.env_id for row in rows] == [CHEETAH, CHEETAH, WALKER, WALKER]


def test_a_row_stands_beside_the_papers():
    row = tabulate([score("A", paper="AIME", budget=120.0)]).rows[0]
    published = published_scores("walker", "mix", "run", "AIME", "mdp")
    low, high = bootstrap_interval(published)
    assert dict(zip(HEADER, row.cells(), strict=True)) == {
        "environment": WALKER,
        "method": "A",
        "data": "mix",
        "n": "20",
        "return": f"{row.scores.mean:.1f}",
        "score": f"{row.scores.score:.1f}",
        "95% interval": "{:.1f} to {:.1f}".format(*row.scores.interval),
        "IQM": f"{row.scores.iqm:.1f}",
        "the paper's": f"{published.mean():.1f} ({low:.1f} to {high:.1f})",
        "minutes": "1.5 of 2",
    }
    assert row.to_json()["published_score"] == pytest.approx(published.mean())


@pytest.mark.parametrize(
    "cell",
    [
        score("A"),
        score("A", embodiment=None, paper="AIME"),
        score("A", embodiment="other", paper="AIME"),
        score("A", env_id="Pendulum-v1", paper="AIME"),
    ],
)
def test_a_row_without_the_papers(cell):
    assert tabulate([cell]).rows[0].published is None


def test_aggregates_by_hand():
    table = tabulate([score("A", mean=40), score("A", CHEETAH, mean=80), score("B", mean=30)])
    values = [row.scores.evaluations[0].scores for row in table.rows[:1] + table.rows[2:]]
    found = table.aggregates()
    assert found["IQM"]["A"][0] == float(interquartile_mean(np.concatenate(values)))
    assert found["IQM"]["A"][1:] == stratified_interval(values, interquartile_mean)
    assert found["optimality gap"]["A"][0] == float(optimality_gap(np.concatenate(values)))
    walker = table.aggregates("walker")
    assert walker["mean"]["A"][0] == pytest.approx(table.rows[0].scores.score)
    assert "B" not in table.aggregates("cheetah")["mean"]
    text = table.to_markdown()
    assert all(f"| {title} | A |" in text for title in ("all environments", "walker", "cheetah"))
    assert "walker" not in tabulate([score("A")]).aggregate_tables()


def test_the_papers_aggregate_needs_all_its_rows():
    known, unknown = score("A", paper="AIME"), score("A", CHEETAH, paper="AIME")
    table = tabulate([known, unknown])
    assert [*table.samples()] == ["A"]
    assert [*table.samples("walker")] == ["A", "A, the paper's"]
    published = table.aggregates("walker")["mean"]["A, the paper's"][0]
    assert published == pytest.approx(
        published_scores("walker", "mix", "run", "AIME", "mdp").mean()
    )


def test_samples_are_seeds_where_every_environment_has_several():
    two = [score("A", mean=40), score("A", mean=60)]
    assert [len(sample) for sample in tabulate(two).samples()["A"]] == [2]
    more = tabulate([*two, score("A", CHEETAH)])
    assert [len(sample) for sample in more.samples()["A"]] == [40, 20]


def test_without_scores():
    table = tabulate([score("A", expert=None)])
    assert (table.samples(), table.rows[0].cells()[5]) == ({}, "-")
    assert table.to_markdown().count("\n") == 3
    with pytest.raises(ValueError, match="no scores to draw"):
        table.plot("x.png")
    assert BenchmarkTable(()).to_markdown().count("\n") == 2


def drawn(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_figure_shows_scores_and_the_papers(tmp_path):
    plain = [score("A"), score("B", embodiment=None, mean=70), score("A", CHEETAH, mean=20)]
    tabulate(plain).plot(tmp_path / "a.png")
    tabulate([score("A", paper="AIME"), *plain[1:]]).plot(tmp_path / "b.png")
    tabulate([score("A", mean=51), *plain[1:]]).plot(tmp_path / "c.png")
    first, papers, other = (drawn(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert first.std() > 10
    assert first.shape == papers.shape == other.shape
    assert (first != papers).any()
    assert (first != other).any()


def test_a_profile_is_the_share_above():
    strata = [[10.0, 30.0], [50.0, 50.0, 70.0, 90.0]]
    share, low, high = performance_profile(strata, [0.0, 20.0, 50.0, 95.0])
    assert share.tolist() == pytest.approx([1.0, 5 / 6, 2 / 6, 0.0])
    assert (low <= share).all()
    assert (share <= high).all()
    assert (low[[0, 3]] == high[[0, 3]]).all()
    assert low[1] == pytest.approx(4 / 6)  # The stratum of two has 0, 1 or 2 above 20.
    assert THRESHOLDS[-1] > 100
