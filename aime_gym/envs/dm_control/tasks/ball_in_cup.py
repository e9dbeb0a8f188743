"""Ball in cup: a planar cup, and a ball on a string to be caught."""

from aime_gym.envs.dm_control.tasks.body import Body, Pose, Sensor, Task

BALL_IN_CUP = Body(
    name="ball_in_cup",
    action_repeat=4,
    sensors=(Sensor("position", 4), Sensor("velocity", 4, "second")),
    tasks={"catch": Task("catch")},
    pose=Pose(tuple(range(4)), lambda sensors: sensors["position"]),
)
