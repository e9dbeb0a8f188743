import pytest
from stable_baselines3.common.logger import HParam

from agents.running import STEP
from agents.runs.logs import make_logger, read_curve, resume_csv


def write(folder, resumed_at, steps, extra=()):
    logger = make_logger(folder, resumed_at, verbose=0)
    for step in steps:
        logger.record(STEP, step)
        logger.record("train/loss", step / 3)
        if step in extra:
            logger.record("eval/score", 10.0 * step)
        logger.dump(step)
    logger.close()


def test_rows_without_empty_cells(tmp_path):
    write(tmp_path, 0, [1, 2, 3], extra=[2])
    curve = read_curve(tmp_path / "progress.csv")
    assert [row[STEP] for row in curve] == [1, 2, 3]
    assert ["eval/score" in row for row in curve] == [False, True, False]
    assert curve[1] == {STEP: 2, "train/loss": 2 / 3, "eval/score": 20}


def test_no_file_is_an_empty_curve(tmp_path):
    assert read_curve(tmp_path / "progress.csv") == []


def test_a_resumed_curve_keeps_earlier_rows_and_drops_later_ones(tmp_path):
    write(tmp_path / "whole", 0, range(1, 7), extra=[2, 6])
    write(tmp_path / "cut", 0, range(1, 5), extra=[2])
    write(tmp_path / "cut", 3, range(4, 7), extra=[6])
    whole, cut = (read_curve(tmp_path / name / "progress.csv") for name in ("whole", "cut"))
    assert whole == cut
    assert not list(tmp_path.rglob("*.partial"))


def test_a_new_run_starts_a_new_curve(tmp_path):
    write(tmp_path, 0, [1, 2])
    write(tmp_path, 0, [1])
    assert len(read_curve(tmp_path / "progress.csv")) == 1


def test_a_run_that_begins_anew_has_one_row_of_its_start(tmp_path):
    for _ in range(2):  # Killed before its first checkpoint.
        write(tmp_path, 0, [0, 1])
    assert [row[STEP] for row in read_curve(tmp_path / "progress.csv")] == [0, 1]


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_row_cut_short_is_left_out(tmp_path, cut):
    write(tmp_path, 0, [1, 2, 3])
    path = tmp_path / "progress.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row[STEP] for row in read_curve(path)] == [1, 2]
    write(tmp_path, 2, [3])
    assert [row[STEP] for row in read_curve(path)] == [1, 2, 3]


def test_rows_without_a_step_do_not_survive(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text(f"train/loss,{STEP}\n0.5,1\n0.25,\n")
    resume_csv(path, 10).close()
    assert read_curve(path) == [{"train/loss": 0.5, STEP: 1}]


def test_the_file_is_never_without_its_rows(tmp_path, monkeypatch):
    """Killed while the earlier rows are written again, none of them is lost."""
    write(tmp_path, 0, [1, 2, 3])
    before = read_curve(tmp_path / "progress.csv")

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("stable_baselines3.common.logger.CSVOutputFormat.write", killed)
    with pytest.raises(KeyboardInterrupt):
        make_logger(tmp_path, 3, verbose=0)
    assert read_curve(tmp_path / "progress.csv") == before


def test_a_new_column_never_leaves_the_file_without_its_rows(tmp_path, monkeypatch):
    logger = make_logger(tmp_path, verbose=0)
    for step in (1, 2):
        logger.record(STEP, step)
        logger.dump(step)
    before = read_curve(tmp_path / "progress.csv")

    def killed(*args):
        raise KeyboardInterrupt

    logger.record("eval/score", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("agents.runs.logs.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            logger.dump(3)
    assert read_curve(tmp_path / "progress.csv") == before
    logger.close()
    write(tmp_path, 2, [3], extra=[3])
    assert [row[STEP] for row in read_curve(tmp_path / "progress.csv")] == [1, 2, 3]


def test_terminal_and_tensorboard(tmp_path, capsys):
    logger = make_logger(tmp_path, tensorboard=True)
    logger.record("train/loss", 1.0)
    logger.record("parameters", HParam({"seed": 0}, {"train/loss": 0}), exclude=("stdout", "csv"))
    logger.dump(1)
    assert "loss" in capsys.readouterr().out
    assert any("tfevents" in path.name for path in tmp_path.iterdir())


def test_no_folder_no_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    logger = make_logger(None, verbose=0)
    logger.record("train/loss", 1.0)
    logger.dump(1)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""
