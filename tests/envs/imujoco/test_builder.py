"""What each edit changes in the compiled model, and what it leaves as it was."""

import functools

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aime_gym.envs.imujoco.builder import (
    base_file,
    build,
    lowest_point,
    to_xml,
    write_xml,
)
from aime_gym.imujoco_ids import ROBOTS, Variant, catalogue

EXACT = 1e-9
MODELS = ("body_mass", "body_inertia", "body_pos", "geom_pos", "geom_size", "jnt_range", "qpos0")


@functools.cache
def compiled(name):
    return build(name).compile()


def names(category, robots=tuple(ROBOTS)):
    return [
        n
        for n, e in catalogue().items()
        if e.status != "base" and e.robot in robots and Variant.parse(n).category == category
    ]


def variants(category):
    """Any variant of a category."""
    return st.builds(
        lambda robot, index, direction, percent: Variant(
            robot,
            category,
            direction,
            percent,
            sorted(ROBOTS[robot].parts(category))[index % len(ROBOTS[robot].parts(category))],
        ),
        st.sampled_from(sorted(ROBOTS)),
        st.integers(0, 6),
        st.sampled_from(["inc", "dec"]),
        st.integers(1, 99),
    )


def body_of_geom(model, name):
    return int(model.geom_bodyid[model.geom(name).id])


def others(values, index):
    return np.delete(np.asarray(values), index, axis=0)


def differing(model, base, but=()):
    """The arrays in which two models differ."""
    arrays = (*MODELS, "geom_quat", "geom_friction", "geom_priority", "jnt_pos", "actuator_gear")
    return [
        name
        for name in arrays
        if name not in but and np.abs(getattr(model, name) - getattr(base, name)).max() > EXACT
    ]


# Masses


def check_mass(variant):
    base, model = compiled(variant.robot), build(variant).compile()
    body = body_of_geom(base, variant.mjcf_name)
    assert model.body_mass[body] == pytest.approx(base.body_mass[body] * variant.factor, rel=EXACT)
    inertia = base.body_inertia[body] * variant.factor
    assert model.body_inertia[body] == pytest.approx(inertia, rel=1e-7)
    assert np.abs(others(model.body_mass, body) - others(base.body_mass, body)).max() < EXACT
    assert not differing(model, base, but=("body_mass", "body_inertia"))


@pytest.mark.parametrize("name", names("mass"))
def test_masses(name):
    check_mass(Variant.parse(name))


@settings(max_examples=15, deadline=None)
@given(variants("mass"))
def test_masses_by_any_percentage(variant):
    check_mass(variant)


def test_the_cheetahs_masses_are_gymnasiums(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a warning about settotalmass there.
    base = compiled("halfcheetah")
    by_name = {base.body(i).name: base.body_mass[i] for i in range(1, base.nbody)}
    assert by_name == pytest.approx(
        {
            "torso": 6.250,
            "bthigh": 1.543,
            "bshin": 1.587,
            "bfoot": 1.095,
            "fthigh": 1.438,
            "fshin": 1.201,
            "ffoot": 0.885,
        },
        abs=1e-3,
    )
    own = mujoco.MjModel.from_xml_path(str(base_file("halfcheetah")))
    assert base.body_mass == pytest.approx(own.body_mass, rel=EXACT)
    assert base.body_inertia == pytest.approx(own.body_inertia, rel=EXACT)


# Joints


def check_joint(variant):
    base, model = compiled(variant.robot), build(variant).compile()
    joint = base.joint(variant.mjcf_name).id
    expected = base.jnt_range[joint] * variant.factor
    assert model.jnt_range[joint] == pytest.approx(expected, rel=EXACT)
    assert np.array_equal(others(model.jnt_range, joint), others(base.jnt_range, joint))
    assert not differing(model, base, but=("jnt_range",))


@pytest.mark.parametrize("name", names("joint"))
def test_joints(name):
    check_joint(Variant.parse(name))


@settings(max_examples=15, deadline=None)
@given(variants("joint"))
def test_joints_by_any_percentage(variant):
    check_joint(variant)


def test_a_joint_stops_at_its_new_limit():
    model = compiled("hopper-jointdec_75_legjoint")
    data = mujoco.MjData(model)
    data.qpos[1] = 5.0
    motor = [model.actuator(i).trnid[0] for i in range(model.nu)].index(model.joint("leg_joint").id)
    data.ctrl[motor] = -1.0
    mujoco.mj_step(model, data, nstep=100)
    assert np.degrees(data.joint("leg_joint").qpos[0]) == pytest.approx(-37.5, abs=5)


# Friction


def slide(model, foot, speed=10.0):
    """Tangential by normal force of a foot that slides over the floor."""
    data = mujoco.MjData(model)
    data.qpos[1] -= 0.045
    data.qvel[0] = speed
    mujoco.mj_step(model, data)
    force, tangential, normal = np.zeros(6), 0.0, 0.0
    for index, contact in enumerate(data.contact):
        if model.geom(foot).id in contact.geom:
            mujoco.mj_contactForce(model, data, index, force)
            normal += force[0]
            tangential += np.hypot(force[1], force[2])
    assert normal > 0
    return tangential / normal


@pytest.mark.parametrize(
    ("name", "foot", "expected"),
    [
        ("hopper-frictiondec_50_footgeom", "foot_geom", 1.0),
        ("hopper-frictiondec_75_footgeom", "foot_geom", 0.5),
        ("walker2d", "foot_geom", 0.9),
        ("walker2d-frictiondec_50_footgeom", "foot_geom", 0.45),
        ("walker2d-frictioninc_100_footgeom", "foot_geom", 1.8),
        ("walker2d-frictiondec_50_footleftgeom", "foot_left_geom", 0.95),
        ("walker2d-frictiondec_50_footleftgeom", "foot_geom", 0.9),
    ],
)
def test_a_foot_slides_with_its_friction(name, foot, expected):
    assert slide(compiled(name), foot) == pytest.approx(expected, rel=0.02)


@settings(max_examples=15, deadline=None)
@given(variants("friction"))
def test_friction_by_any_percentage(variant):
    base, model = compiled(variant.robot), build(variant).compile()
    geom = base.geom(variant.mjcf_name).id
    expected = base.geom_friction[geom, 0] * variant.factor
    assert model.geom_friction[geom, 0] == pytest.approx(expected, rel=EXACT)
    assert model.geom_priority[geom] == 1
    assert np.array_equal(others(model.geom_friction, geom), others(base.geom_friction, geom))
    assert not differing(model, base, but=("geom_friction", "geom_priority"))


# Lengths


def segment(model, data, geom):
    """The ends of a capsule's axis in the world, and its half-length."""
    half = model.geom(geom).size[1]
    axis = data.geom(geom).xmat.reshape(3, 3)[:, 2] * half
    return data.geom(geom).xpos - axis, data.geom(geom).xpos + axis, half


def distance(point, ends):
    start, stop, _ = ends
    along = np.clip((point - start) @ (stop - start) / np.sum((stop - start) ** 2), 0, 1)
    return np.linalg.norm(point - start - along * (stop - start))


def standing(model):
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data


def check_length(variant):
    base, model = compiled(variant.robot), build(variant).compile()
    before, after = standing(base), standing(model)
    geom, body = base.geom(variant.mjcf_name), body_of_geom(base, variant.mjcf_name)
    old, new = (segment(m, d, geom.name) for m, d in ((base, before), (model, after)))
    assert new[2] == pytest.approx(old[2] * variant.factor, rel=EXACT)
    assert model.geom(geom.name).size[0] == base.geom(geom.name).size[0]
    unchanged = others(base.geom_size, geom.id)
    assert np.array_equal(others(model.geom_size, geom.id), unchanged)
    for joint in range(3, base.njnt):
        owner = int(base.jnt_bodyid[joint])
        if body in (owner, int(base.body_parentid[owner])):
            was, now = (distance(d.xanchor[joint], s) for d, s in ((before, old), (after, new)))
            assert now == pytest.approx(was, abs=EXACT)
    assert np.array_equal(others(model.body_mass, body), others(base.body_mass, body))
    radius, half = base.geom(geom.name).size[:2]
    volume = [4 / 3 * radius**3 + 2 * radius**2 * h for h in (half, half * variant.factor)]
    if (variant.robot, variant.part) != ("halfcheetah", "torso"):  # Its head keeps its mass.
        ratio = model.body_mass[body] / base.body_mass[body]
        assert ratio == pytest.approx(volume[1] / volume[0], rel=1e-6)
    assert lowest_point(model) == pytest.approx(lowest_point(base), abs=EXACT)
    height = after.body("torso").xpos[2] - before.body("torso").xpos[2]
    assert after.qpos[1] - before.qpos[1] == pytest.approx(height, abs=EXACT)
    assert not differing(model, base, but=(*MODELS, "geom_quat"))
    assert np.abs(after.geom_xmat - before.geom_xmat).max() < EXACT


@pytest.mark.parametrize("name", names("length"))
def test_lengths(name):
    check_length(Variant.parse(name))


@settings(max_examples=25, deadline=None)
@given(variants("length"))
def test_lengths_by_any_percentage(variant):
    check_length(variant)


def test_joints_move_by_the_change_of_length():
    base, model = (
        standing(compiled("walker2d")),
        standing(build("walker2d-lengthinc_50_leggeom").compile()),
    )
    ankle = base.joint("foot_joint").xanchor - base.joint("leg_joint").xanchor
    longer = model.joint("foot_joint").xanchor - model.joint("leg_joint").xanchor
    assert longer == pytest.approx(1.5 * ankle)
    assert model.qpos[1] == pytest.approx(1.25 + 0.25)
    assert model.joint("foot_left_joint").xanchor[2] == pytest.approx(0.1 + 0.25)


def test_the_cheetahs_head_keeps_its_place_on_the_torso():
    base, model = compiled("halfcheetah"), compiled("halfcheetah-lengthdec_50_torso")
    assert model.geom("head").pos - base.geom("head").pos == pytest.approx([-0.25, 0, 0])
    assert model.geom("head").size == pytest.approx(base.geom("head").size)
    assert model.body("fthigh").pos == pytest.approx([0.25, 0, 0])
    assert model.body("bthigh").pos == pytest.approx([-0.25, 0, 0])


# Files


@pytest.mark.parametrize(
    "name", [*ROBOTS, "halfcheetah-lengthdec_50_bthigh", "hopper-frictioninc_33_footgeom"]
)
def test_files_have_the_same_model(name):
    model, read = compiled(name), mujoco.MjModel.from_xml_string(to_xml(build(name)))
    arrays = [
        a for a in dir(model) if a.startswith(("body_", "geom_", "jnt_", "dof_", "actuator_"))
    ]
    for array in arrays:
        values = getattr(model, array)
        if isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.size:
            assert np.abs(values - getattr(read, array)).max() < 1e-12, array
    assert np.array_equal(model.qpos0, read.qpos0)
    assert model.opt.timestep == read.opt.timestep
    assert model.opt.integrator == read.opt.integrator


def test_a_file_is_never_replaced(tmp_path):
    path = write_xml("hopper-massdec_25_leggeom", tmp_path / "new" / "hopper.xml")
    before = path.read_text()
    with pytest.raises(FileExistsError, match="already"):
        write_xml("hopper", path)
    assert path.read_text() == before


def test_wrong_names_are_told():
    with pytest.raises(ValueError, match="did you mean"):
        build("hopper-massdec_25_leggeo")
