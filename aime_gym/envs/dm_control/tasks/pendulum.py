"""Pendulum: one hinge, to be swung up."""

from aime_gym.envs.dm_control.tasks.body import Body, Sensor, Task

PENDULUM = Body(
    name="pendulum",
    action_repeat=2,
    sensors=(Sensor("orientation", 2), Sensor("velocity", 1, "second")),
    tasks={"swingup": Task("swingup")},
)
