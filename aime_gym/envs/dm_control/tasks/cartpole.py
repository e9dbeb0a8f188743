"""Cartpole: a cart on a rail and a pole hinged to it."""

from aime_gym.envs.dm_control.tasks.body import Body, Sensor, Task

CARTPOLE = Body(
    name="cartpole",
    action_repeat=8,
    sensors=(Sensor("position", 3), Sensor("velocity", 2, "second")),
    tasks={"swingup": Task("swingup"), "balance": Task("balance")},
)
