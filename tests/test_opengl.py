import pytest

from aime_gym import opengl
from aime_gym.opengl import RenderingUnavailable, chosen_backends, make_gl_context


def test_no_working_backend_says_what_to_install(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(opengl.importlib, "import_module", lambda name: 1 / 0)
    with pytest.raises(RenderingUnavailable, match=r"division by zero.*apt-get install") as error:
        make_gl_context(8, 8)
    for package in ("libegl1", "libopengl0", "libgl1-mesa-dri"):
        assert package in str(error.value)


def test_osmesa_has_to_be_asked_for(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert "osmesa" not in chosen_backends()
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert chosen_backends() == ("osmesa",)


@pytest.mark.parametrize("setting", ["disabled", "vulkan"])
def test_rendering_can_be_switched_off(monkeypatch, setting):
    monkeypatch.setenv("MUJOCO_GL", setting)
    with pytest.raises(RenderingUnavailable, match=f"MUJOCO_GL is '{setting}'.*egl, osmesa, glfw"):
        chosen_backends()
