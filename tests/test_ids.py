import gymnasium as gym
import pytest

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.ids import (
    EnvId,
    body_of,
    check_env_id,
    did_you_mean,
    find_env_id,
    list_environments,
    parse_env_id,
    plain_id,
    task_name,
    what_exists,
)


@pytest.mark.parametrize(
    ("env_id", "match"),
    [
        ("walker-run-mdp", "AIME/<body>-<task>-<setup>"),
        ("Hopper-v5", "AIME/<body>-<task>-<setup>"),
        ("AIME/walker-mdp", "AIME/<body>-<task>-<setup>"),
        ("AIME/wolker-run-mdp", "did you mean 'walker'"),
        ("AIME/walker-fly-mdp", "stand, walk, run, walkbackward, runbackward, flip"),
        ("AIME/walker-run-pomdp", "did you mean 'lpomdp'.*mdp, lpomdp, visual"),
    ],
)
def test_wrong_ids_list_what_exists(env_id, match):
    with pytest.raises(ValueError, match=match):
        parse_env_id(env_id)


def test_right_ids_are_parsed():
    for prefix in ("", "aime_gym:"):
        parsed = parse_env_id(f"{prefix}AIME/ball_in_cup-catch-visual")
        assert parsed == EnvId("ball_in_cup", "catch", "visual")
        assert str(parsed) == "AIME/ball_in_cup-catch-visual"


def test_every_registered_id_is_parsed_and_formatted():
    registered = [env_id for env_id in gym.registry if env_id.startswith("AIME/")]
    assert registered
    assert [str(parse_env_id(env_id)) for env_id in registered] == registered
    assert list_environments() == registered


def test_environments_of_one_body():
    assert len(list_environments("pendulum")) == 3
    with pytest.raises(ValueError, match="did you mean 'pendulum'"):
        list_environments("pendulun")


def test_any_registered_id_is_checked():
    assert check_env_id("aime_gym:AIME/walker-run-mdp") == "AIME/walker-run-mdp"
    assert check_env_id("Hopper-v5") == "Hopper-v5"
    with pytest.raises(ValueError, match="walker has no task 'runn': did you mean 'run'"):
        check_env_id("AIME/walker-runn-mdp")
    with pytest.raises(ValueError, match="did you mean 'Pendulum-v1'"):
        check_env_id("Pendulun-v1")
    with pytest.raises(ValueError, match=r"there are .*AIME/cheetah-flip, .*-mdp or -lpomdp"):
        check_env_id("nothing")


def test_parts_body_and_name_of_an_id():
    assert find_env_id("aime_gym:AIME/walker-run-mdp") == EnvId("walker", "run", "mdp")
    assert body_of("aime_gym:AIME/walker-run-visual") == "walker"
    assert task_name("aime_gym:AIME/walker-run-visual") == "walker-run"


@pytest.mark.parametrize(
    ("env_id", "body", "name"),
    [
        ("Hopper-v5", "Hopper", "Hopper-v5"),
        ("Pendulum-v1", "Pendulum", "Pendulum-v1"),
        ("phys2d/CartPole-v1", "CartPole", "phys2d-CartPole-v1"),
    ],
)
def test_ids_of_others_have_a_body_and_a_name(env_id, body, name):
    assert find_env_id(env_id) is None
    assert body_of(env_id) == body
    assert task_name(env_id) == name


@pytest.mark.parametrize("function", [find_env_id, body_of, task_name])
def test_ids_that_are_not_registered_are_refused(function):
    with pytest.raises(ValueError, match="walker has no task 'fly'"):
        function("AIME/walker-fly-mdp")


def test_an_id_of_another_form_in_the_namespace_has_no_parts():
    gym.register("AIME/toy-v0", "toy:Toy")
    try:
        assert find_env_id("AIME/toy-v0") is None
        assert body_of("AIME/toy-v0") == "toy"
        assert "AIME/toy-v0" not in list_environments()
    finally:
        del gym.registry["AIME/toy-v0"]


def test_suggestions():
    assert did_you_mean("wolker", ["cheetah", "walker"]) == "did you mean 'walker'? "
    assert did_you_mean("zebra", ["cheetah", "walker"]) == ""
    assert what_exists("zebra", iter(["cheetah", "walker"])) == "there are cheetah, walker"


def test_plain_id():
    assert plain_id("aime_gym:AIME/walker-run-mdp") == plain_id("AIME/walker-run-mdp")
