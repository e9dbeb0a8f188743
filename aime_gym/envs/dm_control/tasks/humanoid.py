"""Humanoid: a three-dimensional body with 21 joints."""

from aime_gym.envs.dm_control.tasks.body import Body, Sensor, Task

HUMANOID = Body(
    name="humanoid",
    action_repeat=2,
    sensors=(
        Sensor("joint_angles", 21),
        Sensor("head_height", 1),
        Sensor("extremities", 12),
        Sensor("torso_vertical", 3),
        Sensor("com_velocity", 3, "second"),
        Sensor("velocity", 27, "second"),
    ),
    tasks={"stand": Task("stand"), "walk": Task("walk"), "run": Task("run")},
)
