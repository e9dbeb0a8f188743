"""Reports: one HTML file that shows everything and fetches nothing."""

import base64
from html.parser import HTMLParser

import numpy as np
import pytest

from aime_gym.evaluation.benchmark import BenchmarkTable, CellScore, tabulate
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.evaluation.report import Report, ReportedRun, write_report

RETURNS = np.array([50.0, 60.0, 70.0])
TABLE = tabulate(
    [
        CellScore(method, Evaluation(f"AIME/{task}-mdp", RETURNS, expert_return=100.0), "mix", 60.0)
        for task in ("walker-run", "cheetah-run")
        for method in ("AIME", "B<C>")
    ]
)
DONE = ReportedRun(
    "AIME walker-run-mdp", "aime-gym train aime --seed 0", "score 60.0", 90.0, "x86", ("w (user)",),
    {"numpy": "2.4", "torch": "2.13"},
)  # fmt: skip
FAILED = ReportedRun(
    "B<C> walker-run-mdp", "aime-gym train bc", error="Traceback\nValueError: <no>"
)


class Page(HTMLParser):
    """The text of a page, its addresses, and whether its tags fit."""

    def __init__(self, html):
        super().__init__()
        self.text, self.addresses, self.open, self.seen = "", [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.addresses += [(tag, value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page(tmp_path, **changes):
    values = {"title": "grid", "table": TABLE, "runs": [DONE, FAILED], **changes}
    html = write_report(Report(**values), tmp_path / "out" / "report.html").read_text()
    assert "http" not in html.replace("data:", "").split("<body>")[0]
    found = Page(html)
    assert not found.open
    assert all(address.startswith("data:") for _, address in found.addresses)
    return found


def test_it_shows_everything(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"not really a video")
    curves = {"AIME/walker-run-mdp": {"AIME": [(0, 1.0, 0.5, 1.5), (10, 2.0, 1.5, 2.5)]}}
    found = page(tmp_path, curves=curves, videos={"walker-run": tmp_path / "v.mp4"})
    assert [tag for tag, _ in found.addresses] == ["img", "video", "img"]
    kind, content = found.addresses[1][1].split(";base64,")
    assert (kind, base64.b64decode(content)) == ("data:video/mp4", b"not really a video")
    assert b"<svg" in base64.b64decode(found.addresses[0][1].split(",")[1])
    for expected in (
        "2 runs: 1 finished, 1 failed",
        "60.0", "All environments", "Walker", "Cheetah",
        DONE.command, "w (user)", "1.5 min on x86", "ValueError: <no>", "B<C>", "2.13",
    ):  # fmt: skip
        assert expected in found.text
    assert found.seen.count("tr") == 3 * 4 + 5 + 2  # Aggregates, environments, versions.
    assert found.seen.count("details") == 2


def test_it_leaves_out_what_is_not_there(tmp_path):
    waiting = ReportedRun("BC cheetah-run-mdp", "aime-gym train bc")
    found = page(tmp_path, table=BenchmarkTable(()), runs=[waiting])
    assert found.addresses == []
    assert "1 runs: 1 not run yet" in found.text
    assert "Learning curves" not in found.text
    assert "table" in found.seen


def test_runs_of_several_versions_are_told_apart():
    other = ReportedRun("x", "y", versions={"numpy": "2.5"})
    assert Report("t", TABLE, [DONE, other]).versions == {"numpy": "2.4, 2.5", "torch": "2.13"}


def test_a_table_without_an_expert_has_no_figure(tmp_path):
    table = tabulate([CellScore("A", Evaluation("Pendulum-v1", RETURNS))])
    found = page(tmp_path, table=table)
    assert found.addresses == []
    assert "Pendulum-v1" in found.text


@pytest.mark.parametrize(("run", "status"), [(DONE, "finished"), (FAILED, "failed")])
def test_status(run, status):
    assert run.status == status
