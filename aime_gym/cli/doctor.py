"""``aime-gym doctor``: what works on this machine, and how to mend what does not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from typing import Any

from aime_gym.cli.words import show_table

PACKAGE = "aime-gym"
MISSING = "missing"
STATE_ENV = "AIME/cartpole-balance-mdp"
REQUIREMENT = re.compile(r"([\w.-]+)[^;]*(?:;.*extra == ['\"]([\w-]+)['\"])?")

Rows = list[tuple[str, str]]


def doctor() -> int:
    """Report versions, devices, OpenGL and places, and how to mend what does not work."""
    missing, versions = _versions()
    problem = _try_physics()
    rows: Rows = [("Python", platform.python_version()), *versions]
    rows += [("state-based environments", problem or "work")]
    rows += [("torch devices", _devices())]
    rows += [("OpenGL", _opengl()), ("ffmpeg", _ffmpeg())]
    rows += [*_extras(), *_places()]
    show_table(("", ""), rows)
    if not missing and problem is None:
        print("All that state-based work needs is there.")
        return 0
    print(f"State-based work needs: {', '.join(missing) or 'working environments'}.")
    return 1


def _requirements() -> Iterator[tuple[str, str | None]]:
    """(package, the extra that asks for it or None) of all that this package names."""
    for line in importlib.metadata.requires(PACKAGE) or []:
        found = REQUIREMENT.match(line)
        if found is not None:
            yield found[1], found[2]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def _versions() -> tuple[list[str], Rows]:
    """Needed packages that are missing, and the versions of all."""
    needed = [name for name, extra in _requirements() if extra is None]
    rows = [(name, _version(name)) for name in (PACKAGE, *needed)]
    return [name for name, version in rows if version == MISSING], rows


def _extras() -> Rows:
    """Each extra, and what of it is not installed."""
    extras: dict[str, list[str]] = {}
    for name, extra in _requirements():
        if extra is not None:
            extras.setdefault(extra, []).extend([name] if _version(name) == MISSING else [])
    return [
        (
            f"extra [{extra}]",
            f"lacks {', '.join(lacking)}: pip install '{PACKAGE}[{extra}]'" if lacking else "there",
        )
        for extra, lacking in extras.items()
    ]


def _try_physics() -> str | None:
    """What is wrong with state-based environments, if anything."""
    try:
        import gymnasium as gym

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
    """The backend and vendor, or how to mend it."""
    import gymnasium as gym

    from aime_gym.envs.renderer import RenderingUnavailable

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


def _places() -> Rows:
    """Where things are looked for."""
    from aime_gym.datasets.places import cache_folder, dataset_folders

    rows = [("datasets", str(folder)) for folder in dataset_folders()]
    try:
        from agents.world_models.catalogue import BUNDLED, MODELS_VARIABLE

        added = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
        rows += [("models", str(folder)) for folder in (*added, BUNDLED) if str(folder)]
    except ImportError as error:
        rows += [("models", f"unknown: {error}")]
    return [*rows, ("cache", str(cache_folder()))]
