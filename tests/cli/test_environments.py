import pytest

import aime_gym
from aime_gym.cli import environments


def test_list_has_every_id(run):
    code, out, _ = run("environments list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == aime_gym.list_environments()


def test_list_tells_what_is_observed(run):
    lines = run("environments list --body walker")[1].splitlines()
    assert len(lines) == 1 + len(aime_gym.list_environments("walker"))
    observed = {line.split()[0]: line.split()[1:] for line in lines}
    assert observed["AIME/walker-run-mdp"] == ["24", "2"]
    assert observed["AIME/walker-run-lpomdp"] == ["15", "2"]
    assert observed["AIME/walker-run-visual"] == ["64", "x", "64", "x", "3", "2"]


def test_check_passes(run):
    code, out, _ = run("environments check AIME/pendulum-swingup-mdp")
    assert code == 0
    assert "1 of 1 pass." in out


def test_check_of_a_body_is_of_all_its_ids(run, monkeypatch):
    monkeypatch.setattr(environments, "_check", lambda env_id: (environments.FINE, "a fault"))
    code, out, _ = run("environments check --body pendulum")
    assert code == 1
    assert out.count("a fault") == 3
    assert "0 of 3 pass." in out


def test_what_checkers_find_is_shown():
    def warn():
        import warnings

        warnings.warn("\x1b[33mWARN: the\n reward\x1b[0m", stacklevel=1)

    def fail():
        raise AssertionError

    assert environments._verdict(warn) == "WARN: the reward"
    assert environments._verdict(fail) == "AssertionError"
    assert environments._verdict(lambda: None) == environments.FINE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("environments list --body walkr", "did you mean 'walker'"),
        ("environments check AIME/walker-jog-mdp", "there are stand, walk, run"),
        ("environments check AIME/walker-run-mdp --body walker", "not both"),
    ],
)
def test_wrong_names(run, line, message):
    code, _, err = run(line)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
