"""What an environment shows: its observation, its sensors by name, and its physics state.

python examples/02_look_at_an_environment.py    # about 3 seconds
"""

import gymnasium as gym
import numpy as np

import aime_gym

print(len(aime_gym.list_environments()), "environments, of the walker:")
print(*aime_gym.list_environments("walker"), sep="\n")

env = gym.make("AIME/walker-run-lpomdp")
observation, info = env.reset(seed=0)
print("observation", observation.shape, "action", env.action_space.shape)
for name, sensor in env.unwrapped.sensors.items():
    place = "hidden" if sensor.slice is None else f"[{sensor.slice.start}:{sensor.slice.stop}]"
    print(f"{name:14} {sensor.size:3} values, {sensor.order}-order, {place}")

# A physics state restores every sensor and every picture.
state = env.unwrapped.get_physics_state()
env.step(env.action_space.sample())
env.unwrapped.set_physics_state(state)
assert np.array_equal(env.unwrapped.read_sensors()["height"], info["sensors"]["height"])
