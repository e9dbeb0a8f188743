"""``aime-gym doctor``: what works on this machine, and how to repair what does not."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import gymnasium as gym
from packaging.requirements import Requirement

from aime_gym.catalogue import cache_folder, dataset_folders, model_folders
from aime_gym.cli.console import show_table
from aime_gym.opengl import RenderingUnavailable

PACKAGE = "aime-gym"
MISSING = "missing"
STATE_ENV = "AIME/cartpole-balance-mdp"

Rows = list[tuple[str, str]]


def doctor() -> int:
    """Report versions, devices, OpenGL and folders, and how to repair what does not work."""
    missing, versions = _versions()
    problem = _try_physics()
    rows: Rows = [("Python", platform.python_version()), *versions]
    rows += [("state-based environments", problem or "work")]
    rows += [("torch devices", _devices())]
    rows += [("OpenGL", _opengl()), ("ffmpeg", _ffmpeg())]
    rows += [*_extras(), *_folders()]
    show_table(("", ""), rows)
    if not missing and problem is None:
        print("All that state-based work needs is there.")
        return 0
    print(f"State-based work needs: {', '.join(missing) or 'working environments'}.")
    return 1


def _required(extra: str | None = None) -> list[str]:
    """The packages that are needed in any case; or those that an extra adds."""
    requirements = [Requirement(line) for line in importlib.metadata.requires(PACKAGE) or []]
    always = _applying(requirements, "")
    if extra is None:
        return always
    return [name for name in _applying(requirements, extra) if name not in always]


def _applying(requirements: list[Requirement], extra: str) -> list[str]:
    return [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def _versions() -> tuple[list[str], Rows]:
    """Needed packages that are missing, and the versions of all."""
    rows = [(name, _version(name)) for name in (PACKAGE, *_required())]
    return [name for name, version in rows if version == MISSING], rows


def _extras() -> Rows:
    """Each extra, and what of it is not installed."""
    rows = []
    for extra in importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []:
        lacking = ", ".join(name for name in _required(extra) if _version(name) == MISSING)
        how = f"lacks {lacking}: pip install '{PACKAGE}[{extra}]'" if lacking else "there"
        rows.append((f"extra [{extra}]", how))
    return rows


def _try_physics() -> str | None:
    """What is wrong with state-based environments, if anything."""
    try:
        env: gym.Env[Any, Any] = gym.make(STATE_ENV)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    except Exception as error:  # Whatever it is, it is to be reported.
        return f"{type(error).__name__}: {error}"
    return None


def _devices() -> str:
    try:
        import torch
    except Exception as error:  # A broken installation fails in many ways.
        return f"{type(error).__name__}: {error}"
    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return ", ".join(found)


def _opengl() -> str:
    """The backend and vendor, or what to do about it."""
    try:
        env: Any = gym.make(STATE_ENV).unwrapped
        env.reset(seed=0)
        text = f"{env.renderer.backend}: {env.renderer.vendor}"
        env.close()
    except RenderingUnavailable as error:
        return f"not needed for state-based work. {error}"
    except Exception as error:  # Whatever it is, it is to be reported.
        return f"{type(error).__name__}: {error}"
    return text


def _ffmpeg() -> str:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe, get_ffmpeg_version

        return f"{get_ffmpeg_version()}, {get_ffmpeg_exe()}"
    except (ImportError, RuntimeError) as error:
        return f"{error}. Videos need it: pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE."


def _folders() -> Rows:
    """Where things are looked for."""
    rows = [("datasets", str(folder)) for folder in dataset_folders()]
    rows += [("models", str(folder)) for folder in model_folders()]
    return [*rows, ("cache", str(cache_folder()))]
