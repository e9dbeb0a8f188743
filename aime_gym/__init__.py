from aime_gym.envs.registration import register_environments
from aime_gym.envs.setups import list_environments
register_environments()
