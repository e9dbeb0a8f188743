from aime_gym.cli import doctor


def test_healthy(run, places):
    code, out, _ = run("doctor")
    assert code == 0
    assert "All that state-based work needs is there." in out
    for word in ("Python", "torch", "mujoco", "OpenGL", "ffmpeg", "extra [expert]", "cpu"):
        assert word in out
    for name in ("cache", "data", "models"):
        assert str(places / name) in out


def test_missing_opengl_is_reported_and_not_fatal(run, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    code, out, _ = run("doctor")
    assert code == 0
    assert "not needed for state-based work. No pictures: MUJOCO_GL is 'disabled'. Unset it" in out


def test_missing_packages_are_fatal_where_needed(run, monkeypatch):
    versions = {"mujoco": doctor.MISSING, "sbx-rl": doctor.MISSING}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name) or real(name))
    code, out, _ = run("doctor")
    assert code == 1
    assert "State-based work needs: mujoco." in out
    assert "lacks sbx-rl: pip install 'aime-gym[expert]'" in out


def test_broken_physics_is_fatal(run, monkeypatch):
    monkeypatch.setattr(doctor, "_try_physics", lambda: "ImportError: no mujoco")
    code, out, _ = run("doctor")
    assert code == 1
    assert "ImportError: no mujoco" in out
