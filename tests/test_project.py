"""The repository as a whole: sizes, cards, versions, and what its files may say."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path

import pytest

from aime_gym.envs.renderer import make_gl_context

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "aime_gym" / "assets"
MIB = 2**20
TEXT = {".py", ".md", ".cfg", ".toml", ".txt", ".yml", ".yaml", ".sh", ".json", ".csv", ""}
MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|work|workspace|mnt|opt|srv)/\w")
HOSTS = {  # Where links may lead.
    "arxiv.org",
    "creativecommons.org",
    "dm-control.readthedocs.io",
    "docs.ray.io",
    "doi.org",
    "github.com",
    "gymnasium.farama.org",
    "huggingface.co",
    "keepachangelog.com",
    "minari.farama.org",
    "mujoco.readthedocs.io",
    "pytorch.org",
    "semver.org",
    "stable-baselines3.readthedocs.io",
    "zenodo.org",
}


@pytest.fixture
def texts(tracked: list[Path]) -> list[tuple[str, str]]:
    """Name and content of every text file."""
    return [
        (path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in tracked
        if path.suffix in TEXT
    ]


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirement_name(line: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", line.strip())
    assert name is not None, line
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_no_file_names_a_machine(texts: list[tuple[str, str]]) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_links_lead_to_known_places(texts: list[tuple[str, str]]) -> None:
    found = {
        f"{name}: {host}"
        for name, text in texts
        for host in re.findall(r"https?://([\w.-]+)", text)
        if host not in HOSTS
    }
    assert not found, f"Known are {', '.join(sorted(HOSTS))}; not {sorted(found)}"


def test_links_between_pages_lead_somewhere(tracked: list[Path]) -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in tracked
        if page.suffix == ".md"
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not broken, "\n".join(broken)


def test_version_is_the_newest_in_the_changelog() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == setup_cfg()["metadata"]["version"]


def test_files_stay_small(tracked: list[Path]) -> None:
    sizes = {path: path.stat().st_size for path in tracked}
    large = [str(path.relative_to(ROOT)) for path, size in sizes.items() if size >= 16 * MIB]
    assert not large, f"16 MiB or more: {large}"
    assert sum(sizes.values()) <= 80 * MIB


@pytest.mark.parametrize("kind", ["datasets", "models", "snapshots"])
def test_bundled_data_and_models_have_cards(kind: str) -> None:
    entries = sorted(path for path in (ASSETS / kind).iterdir() if path.name != "README.md")
    assert entries, f"{ASSETS / kind} is empty"
    for entry in entries:
        assert entry.is_dir(), f"{entry} belongs into a folder with a card"
        card = json.loads((entry / "card.json").read_text(encoding="utf-8"))
        assert card["name"] == entry.name
        assert card["source"] == "aime-gym"
        assert card["command"], "A card says which command made it."
        listed = set(card["sha256"])
        assert listed == {path.name for path in entry.iterdir()} - {"card.json"}


def test_setup_cfg_holds_the_package_alone() -> None:
    sections = set(setup_cfg().sections())
    assert all(name == "metadata" or name.split(".")[0] == "options" for name in sections)


def test_pyproject_holds_the_build_and_the_tools_alone() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(settings) == {"build-system", "tool"}


def test_every_dependency_is_pinned_and_none_is_for_gpus() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    names = {requirement_name(pin) for pin in pins}
    assert not {name for name in names if re.match(r"nvidia|cuda|triton|.*-cu\d\d", name)}
    config = setup_cfg()
    wanted = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    required = {requirement_name(line) for text in wanted for line in text.split("\n") if line}
    assert not required - names


def test_packages_and_tests_are_laid_out_as_the_tools_expect() -> None:
    for package in ("aime_gym", "agents"):
        folders = {path.parent for path in (ROOT / package).rglob("*.py")}
        missing = [str(folder) for folder in folders if not (folder / "__init__.py").exists()]
        assert not missing, f"setuptools passes over folders without __init__.py: {missing}"
    # With one, tests/agents would hide the package agents.
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_pictures_can_be_drawn_here() -> None:
    """Without OpenGL the tests of pictures would test nothing: the message says what to install."""
    context, _ = make_gl_context(8, 8)
    context.free()
