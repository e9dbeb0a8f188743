import subprocess
from collections.abc import Iterator
from pathlib import Path

import glfw  # noqa: F401 - While it is imported, no warning may be given, as any test may cause.
import pytest

from agents.products import VARIABLE
from aime_gym.envs.dm_control import environment
from aime_gym.opengl import RenderingUnavailable, make_gl_context


@pytest.fixture(scope="session", autouse=True)
def usual_products() -> Iterator[None]:
    """The same matrix products in every test, whatever this machine would choose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "0")
        yield


@pytest.fixture(scope="session")
def opengl() -> None:
    """Fails a test of pictures where the machine cannot draw, and says what to install."""
    try:
        context, _ = make_gl_context(8, 8)
    except RenderingUnavailable as error:
        pytest.fail(str(error))
    context.free()


@pytest.fixture
def short_episodes(monkeypatch: pytest.MonkeyPatch) -> int:
    """Episodes of 12 control steps."""
    monkeypatch.setattr(environment, "CONTROL_STEPS", 12)
    return 12


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """The files that git knows and that are there."""
    root = Path(__file__).parents[1]
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [root / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file()]
