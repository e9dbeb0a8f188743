"""Hopper: a planar one-legged hopper with toe and heel touch sensors."""

from aime_gym.envs.dm_control.tasks.body import Body, Pose, Sensor, Task

HOPPER = Body(
    name="hopper",
    action_repeat=2,
    sensors=(Sensor("position", 6), Sensor("velocity", 7, "second"), Sensor("touch", 2)),
    tasks={"stand": Task("stand"), "hop": Task("hop")},
    pose=Pose(tuple(range(1, 7)), lambda sensors: sensors["position"]),
)
