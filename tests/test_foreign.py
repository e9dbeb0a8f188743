"""Foreign files: limits, names, and what is never printed or run."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

from aime_gym.card import CARD, Card, check_files, read_card, write_card
from aime_gym.datasets.npz import open_npz
from aime_gym.files import sha256, write_json
from aime_gym.foreign import check_contents, check_name, is_name, parse_json, printable, read_json


@pytest.mark.parametrize(
    "name", ["walker-run-expert", "aime/walker-mix", "hub/user/repo/folder", "a + b (:5)", "x.zip"]
)
def test_names(name):
    assert check_name(name, "a dataset") == name


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../b", "a//b", "a\\b", ".x", "x\n", "a..b"])
def test_no_names(name):
    assert not is_name(name)
    with pytest.raises(ValueError, match="The name of a model has letters"):
        Card(name, "walker", kind="model")
    with pytest.raises(ValueError, match="The name of a file of 'x' has letters"):
        Card("x", "walker", sha256={name: "0"})


def test_what_terminals_obey_is_spelled_out():
    assert printable("a\x1b[2Jé\n") == "a\\x1b[2Jé\n"
    with pytest.raises(ValueError, match=r"no control characters; got '\\x1b\[2J'"):
        Card("x", "walker", description="\x1b[2J")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ("[1e999]", "1e999 is too large"),
        ('{"a": 1, "a": 2}', "a key twice"),
        ("[" * 100_000, "recursion"),
        ("[" + "9" * 9_999 + "]", "digits"),
        (b"\xff\xfe\xfa", "x is damaged, or no JSON"),
    ],
)
def test_json_that_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text, "x")


def test_json_is_written_without_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON has no value"):
        write_json(tmp_path / "nan.json", {"a": float("nan")})
    assert not (tmp_path / "nan.json").exists()
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="more than 64 MiB"):
        read_json(tmp_path / "huge.json")
    with pytest.raises(ValueError, match="metrics of a card"):
        Card("x", "walker", metrics={"loss": float("nan")})


def _open(path):
    with open_npz(path):
        pass


def test_arrays_that_declare_more_than_they_have(tmp_path):
    header = io.BytesIO()
    values = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, values)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as file:
        file.writestr("a.npy", header.getvalue() + b"\0" * 8)
    with pytest.raises(ValueError, match=r"huge\.npz.*declares \[1000000000000\].*has 8 bytes"):
        _open(tmp_path / "huge.npz")


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="pickled objects, which are never read"):
        _open(tmp_path / "x.npz")


def test_a_flipped_bit_in_weights_is_noticed(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(1_000)}, path)
    check_contents(path)
    content = bytearray(path.read_bytes())
    content[content.find(np.ones(4, np.float32).tobytes()) + 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match=r"model\.pt is damaged.*member .* is damaged"):
        check_contents(path)


def test_files_that_a_card_does_not_name(tmp_path):
    (tmp_path / "000000.npz").write_bytes(b"x")
    card = Card("x", "walker", sha256={"000000.npz": sha256(tmp_path / "000000.npz")})
    write_card(tmp_path, card)
    (tmp_path / ".lock").touch()
    check_files(tmp_path, card)
    (tmp_path / "000001.npz").touch()
    with pytest.raises(ValueError, match=r"card\.json does not name.*000001\.npz"):
        check_files(tmp_path, card)


def test_a_card_cannot_lead_out_of_its_folder(tmp_path):
    (tmp_path / CARD).write_text(json.dumps({"name": "../../y", "body": "walker"}))
    with pytest.raises(ValueError, match=r"card\.json is no card.*'\.\./\.\./y'"):
        read_card(tmp_path)


def test_models_of_stable_baselines3_are_not_unpickled(tmp_path):
    from aime_gym.cli.policies import Acting

    with zipfile.ZipFile(tmp_path / "sb3.zip", "w") as file:
        fields = {"policy_class": {":type:": "x", ":serialized:": "gASVAAAA"}}
        file.writestr("data", json.dumps(fields))
        file.writestr("policy.pth", pickle.dumps({}))
    acting = Acting(env="CartPole-v1", policy=str(tmp_path / "sb3.zip"), sb3="ppo")
    with pytest.raises(ValueError, match=r"holds pickles \(policy_class.*--trust-pickle"):
        acting.load(0)
