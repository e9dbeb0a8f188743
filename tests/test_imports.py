"""Who may import whom, read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("envs", "datasets", "evaluation", "rendering")
LAYERS = (  # Below the parts.
    ("aime_gym.suggest",),
    ("aime_gym.imujoco_ids", "aime_gym.grid_ids"),
    ("aime_gym.foreign",),
    ("aime_gym.ids", "aime_gym.files", "aime_gym.trajectory", "aime_gym.opengl"),
    ("aime_gym.wrappers",),
    ("aime_gym.card", "aime_gym.physics", "aime_gym.places", "aime_gym.download.transfer"),
    ("aime_gym.minari_folders",),
    ("aime_gym.catalogue", "aime_gym.rollout", "aime_gym.download.archives"),
    ("aime_gym.download.contents", "aime_gym.normalized"),
    ("aime_gym.download.hub",),
    ("aime_gym.download.named",),
)
LOWER = {module for layer in LAYERS for module in layer}
SETUPS = "aime_gym.envs.dm_control.setups"
SIMULATION = "aime_gym.envs.dm_control.simulation"
AGENT_LAYERS = (
    {
        "checks",
        "codec",
        "distributions",
        "fused",
        "nets",
        "parts",
        "products",
        "returns",
        "running",
    },
    {"vec_env", "wrapping"},
    {"archive", "spaces"},
    {"actor", "base", "captured", "replay", "stacked", "supervised"},
    {"body_models", "world_models"},
    {"action_inference"},
    ALGORITHMS := {
        "aime",
        "amigo",
        "bc",
        "bco",
        "dreamer",
        "iidm",
        "plan2explore",
        "reptile",
        "sac",
    },
    {"diagnosis", "imujoco", "runs", "together"},
)


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
    assert "aime_gym.envs.dm_control.tasks.BODIES" in imports_of(SETUPS)
    assert "mujoco" in imports_of(SIMULATION) - top_level_imports_of(SIMULATION)


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, "aime_gym")])
def test_aime_gym_never_imports_agents_or_torch(name):
    if inside(name, "aime_gym.cli"):
        return  # Its modules are imported when their command is chosen.
    for imported in imports_of(name):
        assert imported.split(".")[0] not in ("torch", "stable_baselines3", "agents"), imported


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, "aime_gym")])
def test_the_parts_of_aime_gym_do_not_import_each_other(name):
    own = [part for part in PARTS if inside(name, f"aime_gym.{part}")]
    if not own and name not in LOWER:
        return  # The package itself and the command line.
    for imported in imports_of(name):
        for part in set(PARTS) - set(own):
            assert not inside(imported, f"aime_gym.{part}"), imported


@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_the_lower_layers_of_aime_gym_import_nothing_above_them(layer):
    above = {module for modules in LAYERS[layer + 1 :] for module in modules}
    for name in LAYERS[layer]:
        found = {module for module in above for i in imports_of(name) if inside(i, module)}
        assert not found, name


def agent_layer(name: str) -> int | None:
    """The layer of a module of agents; None for the package itself."""
    part = name.split(".")[1] if "." in name else ""
    found = [index for index, layer in enumerate(AGENT_LAYERS) if part in layer]
    return found[0] if found else None


def test_every_module_of_agents_has_a_layer():
    without = [n for n in MODULES if inside(n, "agents") and agent_layer(n) is None]
    assert without == ["agents"]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("agents.")])
def test_agents_are_layered(name):
    own = agent_layer(name)
    for imported in (i for i in imports_of(name) if inside(i, "agents")):
        layer = agent_layer(imported)
        assert layer is not None, imported
        assert layer <= own, imported
        if layer == own and AGENT_LAYERS[own] is ALGORITHMS:
            assert imported.split(".")[1] == name.split(".")[1], imported


def test_importing_the_package_is_light():
    heavy = "torch", "stable_baselines3", "dm_control", "mujoco", "shimmy", "agents"
    code = f"import sys, aime_gym; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
