import pytest

from aime_gym.catalogue import find_dataset, find_model
from aime_gym.cli import main
from aime_gym.datasets import save_dataset, write_aime_npz


@pytest.fixture
def run(capsys):
    """A function that runs a command line: its exit code, and what it printed."""

    def call(line):
        capsys.readouterr()
        code = main(line.split())
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def releases(web, monkeypatch):
    """A server in the place of the published releases."""
    monkeypatch.setenv("AIME_GYM_RELEASES", web.url)
    return web


def test_a_dataset_that_was_published(run, releases, toys, tmp_path, packed_folder):
    made = write_aime_npz(toys, tmp_path / "made")
    releases.files["/walker-run-expert.tgz"] = packed_folder(made)
    code, _, err = run("datasets show aime/walker-run-expert")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "`aime-gym datasets download aime/walker-run-expert`" in err
    code, out, err = run("datasets download aime/walker-run-expert")
    assert (code, err) == (0, "")
    first, last = out.splitlines()
    assert first.endswith("/walker-run-expert.tgz; license: CC-BY-4.0.")
    assert last == f"aime/walker-run-expert is in {find_dataset('aime/walker-run-expert')}."
    assert "CC-BY-4.0" in run("datasets show aime/walker-run-expert")[1]


def test_a_model_that_was_published(run, releases, tgz):
    files = {f"walker-mix-mdp/{name}": b"" for name in ("config.yaml", "model.pt")}
    releases.files["/pretrained-models.tgz"] = tgz(files)
    code, out, _ = run("models download aime/walker-mix-mdp")
    assert code == 0
    assert f"is in {find_model('aime/walker-mix-mdp')}." in out
    assert "aime/walker-mix-mdp" in run("models list")[1]


@pytest.mark.parametrize("kind", ["datasets", "models"])
def test_what_went_wrong_is_one_line(run, releases, kind):
    assert "64 hexadecimal digits" in run(f"{kind} download aime/walker-toy --sha256 1234")[2]
    assert not releases.requests
    for files, options, message in (
        ({}, "", "HTTP status 404"),
        ({"/walker-toy.tgz": b"?", "/pretrained-models.tgz": b"?"}, "", "damaged or truncated"),
        (releases.files, f" --sha256 {64 * '1'}", "1111 as it should"),
    ):
        releases.files.update(files)
        code, _, err = run(f"{kind} download aime/walker-toy{options}")
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err


def test_datasets_go_to_the_hub_and_come_back(run, hub, toys, places):
    save_dataset(toys, places / "data" / "walker-toy")
    code, out, _ = run("datasets push walker-toy --repo me/walker-toy --private")
    assert code == 0
    assert f"{hub.url}/datasets/me/walker-toy: aime-gym datasets download hub/me/walker-toy" in out
    assert len(hub.created) == 1
    assert "private" in str(hub.created)
    code, _, err = run("datasets push walker-toy --repo me/walker-toy")
    assert code == 2
    assert "card.json" in err
    assert run("datasets push walker-toy --repo me/walker-toy --replace")[0] == 0
    assert run("datasets download hub/me/walker-toy")[0] == 0
    assert "hub/me/walker-toy" in run("datasets list")[1]


def test_models_go_to_the_hub_and_come_back(run, hub):
    assert run("models push walker-mix-mdp --repo me/mix")[0] == 0
    code, out, _ = run("models download hub/me/mix")
    assert code == 0
    assert f"hub/me/mix is in {find_model('hub/me/mix')}." in out
    assert "hub/me/mix" in run("models list")[1]


def test_a_hub_that_refuses_is_one_line(run, hub):
    code, _, err = run("models download hub/they/nothing")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "Repository Not Found" in err
