"""Who may import whom, read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("envs", "datasets", "evaluation", "rendering")
MATHEMATICS = {"nets", "distributions", "returns"}
ALGORITHMS = {"aime", "bc", "bco", "iidm", "dreamer", "plan2explore", "amigo", "expert"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for package in ("aime_gym", "agents")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """The dotted names that a piece of source imports, ``from x import y`` giving ``x.y``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            keep = len(parts) - node.level + (1 if is_package else 0)
            base = ".".join(parts[:keep]) if node.level else ""
            start = ".".join(filter(None, [base, node.module or ""]))
            yield from (f"{start}.{alias.name}" for alias in node.names)


def imports_of(name: str) -> set[str]:
    path = MODULES[name]
    return set(imports(ast.parse(path.read_text()), name, path.stem == "__init__"))


def top_level_imports_of(name: str) -> set[str]:
    """Those which run when the module is imported."""
    path = MODULES[name]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            node.body = [ast.Pass()]
    return set(imports(tree, name, path.stem == "__init__"))


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_the_walk_sees_imports():
    source = "from . import a\nfrom ..b import c\nimport d.e\ndef f():\n    from g import h"
    assert set(imports(ast.parse(source), "p.q.r", False)) == {"p.q.a", "p.b.c", "d.e", "g.h"}
    assert set(imports(ast.parse("from .a import b"), "p.q", True)) == {"p.q.a.b"}
    assert "aime_gym.envs.tasks.BODIES" in imports_of("aime_gym.envs.setups")
    assert "mujoco" in imports_of("aime_gym.envs.suite") - top_level_imports_of(
        "aime_gym.envs.suite"
    )


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, "aime_gym")])
def test_aime_gym_never_imports_agents_or_torch(name):
    found = top_level_imports_of(name) if inside(name, "aime_gym.cli") else imports_of(name)
    for imported in found:
        assert imported.split(".")[0] not in ("torch", "stable_baselines3", "agents"), imported


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, "aime_gym")])
def test_the_parts_of_aime_gym_do_not_import_each_other(name):
    if name in ("aime_gym.trajectory", "aime_gym.rollout"):
        forbidden = set(PARTS)
    else:
        own = [part for part in PARTS if inside(name, f"aime_gym.{part}")]
        forbidden = set(PARTS) - set(own) if own else set()
    for imported in imports_of(name):
        for part in forbidden:
            assert not inside(imported, f"aime_gym.{part}"), imported


def test_trajectory_stands_below_rollout():
    assert not any(inside(i, "aime_gym.rollout") for i in imports_of("aime_gym.trajectory"))


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, "agents")])
def test_agents_are_layered(name):
    layer = name.split(".")[1] if "." in name else ""
    parts = {i.split(".")[1] for i in imports_of(name) if inside(i, "agents") and "." in i}
    if layer in MATHEMATICS:
        assert parts <= MATHEMATICS
    elif layer == "world_models":
        assert not parts & ALGORITHMS
    elif layer in ALGORITHMS:
        assert not parts & (ALGORITHMS - {layer})


def test_importing_the_package_is_light():
    heavy = "torch", "stable_baselines3", "dm_control", "mujoco", "shimmy", "agents"
    code = f"import sys, aime_gym; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
