"""``aime-gym evaluate``: the score of a policy, beside the expert's and the published ones."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import tyro

from aime_gym.cli.console import is_watched, print_table
from aime_gym.cli.outputs import writes
from aime_gym.cli.policies import Acting
from aime_gym.evaluation.evaluate import EPISODES, EVAL_SEED
from aime_gym.evaluation.evaluate import evaluate as evaluate_policy
from aime_gym.evaluation.origins import known_results, origins_of
from aime_gym.evaluation.table import compare
from aime_gym.files import atomic_write


@writes(json="file")
def evaluate(
    acting: Annotated[Acting, tyro.conf.arg(name="")],
    *,
    episodes: int = EPISODES,
    seed: int = EVAL_SEED,
    num_envs: int | None = None,
    json: Path | None = None,
) -> None:
    """Run whole episodes of a policy and score them against the expert.

    Args:
        acting: What acts, and where.
        episodes: The number of episodes.
        seed: Episode i starts from seed + i.
        num_envs: Environments at once; by default as many as episodes, at most 50.
        json: Write returns and statistics to this file.
    """
    result = evaluate_policy(
        acting.load(seed),
        acting.env,
        episodes,
        seed=seed,
        num_envs=num_envs,
        deterministic=not acting.sampled,
        progress_bar=is_watched(),
    )
    if json is not None:
        with atomic_write(json, "w") as file:
            file.write(dumps(result.to_json(), indent=1))
    print(result)
    known, origins = known_results(acting.env)
    if known:
        origins[acting.name] = origins_of(acting.run_config)
        print_table(compare({acting.name: result, **known}, origins).to_rich())
