"""The bodies, one file each."""

from aime_gym.envs.dm_control.tasks.ball_in_cup import BALL_IN_CUP
from aime_gym.envs.dm_control.tasks.body import Body, EpisodeValues, Pose, Reader, Sensor, Task
from aime_gym.envs.dm_control.tasks.cartpole import CARTPOLE
from aime_gym.envs.dm_control.tasks.cheetah import CHEETAH
from aime_gym.envs.dm_control.tasks.finger import FINGER
from aime_gym.envs.dm_control.tasks.hopper import HOPPER
from aime_gym.envs.dm_control.tasks.humanoid import HUMANOID
from aime_gym.envs.dm_control.tasks.pendulum import PENDULUM
from aime_gym.envs.dm_control.tasks.quadruped import QUADRUPED
from aime_gym.envs.dm_control.tasks.reacher import REACHER
from aime_gym.envs.dm_control.tasks.walker import WALKER

BODIES: dict[str, Body] = {
    body.name: body
    for body in (
        WALKER,
        CHEETAH,
        HOPPER,
        FINGER,
        HUMANOID,
        PENDULUM,
        QUADRUPED,
        REACHER,
        BALL_IN_CUP,
        CARTPOLE,
    )
}

__all__ = ["BODIES", "Body", "EpisodeValues", "Pose", "Reader", "Sensor", "Task"]
