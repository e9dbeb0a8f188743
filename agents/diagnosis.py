"""What holds an imitator back: its data, its world model or its policy?

Four measurements on demonstrations whose actions are known, and a verdict that follows from them:

    one-step error    E[ (o_t expected by the prior, given a_{t-1} - o_t)^2 ], on both data
    phase-2 loss      -ELBO of the demonstrations, with actions put in by hand
    R2 of actions     of inverse dynamics and of the policy, per joint
    score             of the policy, and of one that was regressed onto the true actions

The last is the ceiling: what a perfect inference of the actions would score with this model.
Axes are [T, B, ..]: T time, B batch.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from agents.action_inference import FILTERED_TOGETHER
from agents.aime import FEATURE_FLOOR, REGRESSION_ROWS, AIMEAgent, AIMEConfig
from agents.codec import decode, encode
from agents.distributions import Normal
from agents.nets import Standardizer
from agents.replay import Batch, Replay, make_replay
from agents.runs.figures import determination
from agents.world_models.network import Filtered, WorldModelNet
from agents.world_models.one_step import one_step_errors
from agents.world_models.rssm import Latent
from agents.world_models.world_model import WorldModel, hold_out
from aime_gym.datasets import Dataset
from aime_gym.evaluation.evaluate import Evaluation, evaluate
from aime_gym.files import atomic_write

Culprit = Literal["data", "model", "policy", "nothing", "unknown"]
Row = tuple[str, str, str]
HEADER: Row = ("measure", "of", "value")
LOSS = "phase-2 loss (nats per window)"

EPISODES = 20
WINDOWS, WINDOW_ROWS = 64, 50  # As many steps as AIME's windows have.
HELD_OUT_SHARE = 0.05  # What training holds out by default.
NOISE = 0.3  # Deviation of what is added to actions in -1 .. 1.
CEILING_UPDATES = 10_000
CEILING_RATE = 2e-3

GOOD_SCORE = 85.0
"""Percent of the expert from which nothing is held back: the paper's own level, 77 to 88."""
LARGE_ERROR = 0.3
"""Squared deviations. Always expecting the mean gives 1, a trained model of the walker 0.05 to 0.2;
at 0.3, it does not know a third of what happens from one step to the next."""
SMALL_ERROR = 0.1
"""Squared deviations on demonstrations, up to which their ratio to embodiment data says nothing:
with as much, running has been imitated."""
SEVERAL = 3.0
"""Ratio of the errors on demonstrations and on embodiment data. The walker's bundled model has 0.5
(walking, standing) to 2.2 (running, which is new to it and twice as fast)."""
CLEARLY = 0.75
"""Share of windows in which the true actions explain more than wrong ones. A model that ignores
actions has a half, give or take 0.06 with 64 windows; a good one has 0.9 or more."""
FAR_BELOW = 0.75
"""Share of the ceiling's score."""
BEYOND_CHANCE = 10.0
"""Percentage points. Scores over 20 episodes differ by less than this for no reason."""


@dataclass(frozen=True)
class OneStep:
    """One-step errors of the prior, in squared deviations of the embodiment data.

    Attributes:
        sensors: Visible vector sensor -> mean error.
        mean: The mean over all values of all sensors.
    """

    sensors: dict[str, float]
    mean: float


@dataclass(frozen=True)
class Score:
    """How well a policy acts.

    Attributes:
        mean_return: Mean return of the episodes.
        percent: Mean score, percent of the expert; None where no expert is known.
        interval: 95% interval of the mean score; None where there is no score.
    """

    mean_return: float
    percent: float | None = None
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        if self.percent is None or self.interval is None:
            return f"return {self.mean_return:.1f}"
        low, high = self.interval
        return f"{self.percent:.1f}% ({low:.1f} to {high:.1f})"


@dataclass(frozen=True)
class Diagnosis:
    """What was measured, and what follows from it.

    Attributes:
        on_demonstrations: One-step errors on the demonstrations.
        on_embodiment: One-step errors on embodiment data.
        losses: Actions put in by hand (true, noisy, zero, shuffled) -> phase-2 loss, nats per
            window.
        separated: Actions put in by hand, but the true ones -> share of the windows that the true
            actions, with another sample of the states, explain better.
        r2: "inverse dynamics" and "policy" -> R2 of the inferred actions, per joint.
        score: The policy's score.
        ceiling: The score of a policy that was regressed onto the true actions.
        has_policy: Whether there is a policy to judge.
        left_out: What could not be measured, and why.
    """

    on_demonstrations: OneStep | None = None
    on_embodiment: OneStep | None = None
    losses: dict[str, float] = field(default_factory=dict)
    separated: dict[str, float] = field(default_factory=dict)
    r2: dict[str, list[float]] = field(default_factory=dict)
    score: Score | None = None
    ceiling: Score | None = None
    has_policy: bool = True
    left_out: tuple[str, ...] = ()

    @property
    def culprit(self) -> Culprit:
        """What holds the imitation back."""
        return self._judgement[0]

    @property
    def verdict(self) -> str:
        """The same in one sentence, with the numbers that it follows from."""
        return self._judgement[1]

    @functools.cached_property
    def _judgement(self) -> tuple[Culprit, str]:
        judgements = (judge(self) for judge in _JUDGES)
        return next(found for found in judgements if found is not None)

    def rows(self) -> list[Row]:
        """All measurements as a table under `HEADER`."""
        rows: list[Row] = []
        for name, errors in self._one_steps.items():
            measure = f"one-step error, {name} (squared deviations)"
            rows += [(measure, sensor, f"{e:.3f}") for sensor, e in errors.sensors.items()]
            rows.append((measure, "all sensors", f"{errors.mean:.3f}"))
        for name, loss in self.losses.items():
            share = self.separated.get(name)
            beside = "" if share is None else f"; above the true in {share:.0%} of the windows"
            rows.append(
                ("phase-2 loss (nats per window)", f"{name} actions", f"{loss:.1f}{beside}")
            )
        for name, scores in self.r2.items():
            rows += [(f"R2, {name}", f"joint {i}", f"{r2:.2f}") for i, r2 in enumerate(scores)]
            rows.append((f"R2, {name}", "all joints", f"{np.mean(scores):.2f}"))
        for name, score in self._scores.items():
            rows.append(("score (of the expert)", name, str(score)))
        return rows

    @property
    def _one_steps(self) -> dict[str, OneStep]:
        both = {"demonstrations": self.on_demonstrations, "embodiment data": self.on_embodiment}
        return {name: errors for name, errors in both.items() if errors is not None}

    @property
    def _scores(self) -> dict[str, Score]:
        both = {"policy": self.score, "ceiling (from true actions)": self.ceiling}
        return {name: score for name, score in both.items() if score is not None}

    def to_json(self) -> dict[str, Any]:
        """Plain values, the verdict among them."""
        return {"culprit": self.culprit, "verdict": self.verdict, **encode(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Diagnosis:
        """The inverse of `to_json`."""
        measured = {n: v for n, v in values.items() if n not in ("culprit", "verdict")}
        found: Diagnosis = decode(cls, measured)
        return found


# The verdict: the first of these that finds something


def _scores_well(found: Diagnosis) -> tuple[Culprit, str] | None:
    percent = None if found.score is None else found.score.percent
    if percent is None or percent < GOOD_SCORE:
        return None
    return "nothing", f"Nothing holds it back: the policy scores {percent:.0f}% of the expert."


def _model_knows_little(found: Diagnosis) -> tuple[Culprit, str] | None:
    errors = found.on_embodiment
    if errors is None or errors.mean <= LARGE_ERROR:
        return None
    return "model", (
        f"It is the model: even on embodiment data its one-step error is {errors.mean:.2f} squared "
        f"deviations, where up to {LARGE_ERROR} is usual; train it longer."
    )


def _data_lie_elsewhere(found: Diagnosis) -> tuple[Culprit, str] | None:
    seen, shown = found.on_embodiment, found.on_demonstrations
    if shown is None:
        return None
    if seen is None and shown.mean > LARGE_ERROR:
        return "unknown", (
            f"It is the model or the data: the one-step error on the demonstrations is "
            f"{shown.mean:.2f} squared deviations, and embodiment data would tell which."
        )
    if seen is None or shown.mean <= max(SMALL_ERROR, SEVERAL * seen.mean):
        return None
    return "data", (
        f"It is the data: the one-step error on the demonstrations, {shown.mean:.2f}, is "
        f"{shown.mean / seen.mean:.1f} times that on embodiment data, {seen.mean:.2f}; the body "
        "has not yet been where the demonstrations go."
    )


def _actions_do_not_matter(found: Diagnosis) -> tuple[Culprit, str] | None:
    shares = [found.separated[n] for n in ("noisy", "shuffled") if n in found.separated]
    if not shares or max(shares) >= CLEARLY:
        return None
    return "model", (
        f"It is the model: true actions explain no more than {max(shares):.0%} of the windows "
        "better than noisy or shuffled ones, and half would be chance; train it longer, or let it "
        "see more varied actions."
    )


def _policy_is_behind(found: Diagnosis) -> tuple[Culprit, str] | None:
    percent, ceiling = (None if s is None else s.percent for s in (found.score, found.ceiling))
    if percent is None or ceiling is None or not _far_below(percent, ceiling):
        return None
    return "policy", (
        f"It is the policy: it scores {percent:.0f}%, and one that was told the true actions "
        f"scores {ceiling:.0f}% with the same model; train it longer, or otherwise."
    )


def _ceiling_is_low(found: Diagnosis) -> tuple[Culprit, str] | None:
    ceiling = None if found.ceiling is None else found.ceiling.percent
    if ceiling is None or not _far_below(ceiling, 100.0):
        return None
    return "unknown", (
        f"Nothing else stands out, but even a policy that was told the true actions "
        f"scores {ceiling:.0f}%: too few demonstrations, or states that lack something."
    )


def _nothing_is_found(found: Diagnosis) -> tuple[Culprit, str]:
    if not found.losses and found.on_embodiment is None:
        return "unknown", "Too little could be measured to tell what holds it back."
    if found.has_policy and (found.score is None or found.ceiling is None):
        return "unknown", "It is not the model, as far as could be measured; the policy is unknown."
    if found.has_policy and found.score is not None and found.score.percent is None:
        return "unknown", "It is not the model; without an expert, returns alone judge no policy."
    if not found.has_policy:
        return "nothing", "Neither model nor data hold imitation back, as far as was measured."
    return "nothing", "Nothing holds it back: the policy acts about as well as true actions allow."


def _far_below(percent: float, ceiling: float) -> bool:
    return percent < FAR_BELOW * ceiling and percent < ceiling - BEYOND_CHANCE


_JUDGES: tuple[Callable[[Diagnosis], tuple[Culprit, str] | None], ...] = (
    _scores_well,
    _model_knows_little,
    _data_lie_elsewhere,
    _actions_do_not_matter,
    _policy_is_behind,
    _ceiling_is_low,
    _nothing_is_found,
)


# The measurements


def diagnose(
    agent_or_model: AIMEAgent | WorldModel,
    demonstrations: Dataset,
    embodiment: Dataset | None = None,
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    updates: int = CEILING_UPDATES,
    progress_bar: bool = False,
) -> Diagnosis:
    """Finds out whether data, world model or policy hold imitation back.

    Args:
        agent_or_model: An AIME agent, or a world model that has no policy yet.
        demonstrations: Demonstrations, with their actions; without, little can be measured.
        embodiment: What the world model learned from, or better, more of its kind. The trajectories
            that training holds out by default are used, where there are enough.
        episodes: Episodes of a score.
        seed: Seed of windows, noise and regression.
        updates: Updates of the regression that gives the ceiling.
        progress_bar: Show one.

    Raises:
        TypeError: There is neither an AIME agent nor a world model.
        ValueError: The data do not fit the world model, or there are no episodes.

    Example:
        >>> model = WorldModel.load("walker-mix-mdp")  # doctest: +SKIP
        >>> demonstrations = aime_gym.load_dataset("walker-run-expert")  # doctest: +SKIP
        >>> print(diagnose(model, demonstrations).verdict)  # doctest: +SKIP
    """
    if not isinstance(agent_or_model, AIMEAgent | WorldModel):
        raise TypeError(
            "diagnose takes an AIMEAgent or a WorldModel first, not "
            f"{type(agent_or_model).__name__}."
        )
    if episodes < 1 or updates < 1:
        raise ValueError(f"At least one episode and one update; got {episodes} and {updates}.")
    agent = agent_or_model if isinstance(agent_or_model, AIMEAgent) else None
    told = _new_agent(agent_or_model, seed)  # Its policy will be told the true actions.
    found = _Findings(agent, told, demonstrations, embodiment, seed)
    found.predict()
    if found.with_actions:
        found.put_in_actions()
        found.infer_actions()
        if told.env_info.env_id is not None:
            imitate_true_actions(told, demonstrations, updates, progress_bar)
    found.act(episodes, progress_bar)
    return Diagnosis(**found.parts, has_policy=agent is not None, left_out=tuple(found.left_out))


def _new_agent(agent_or_model: AIMEAgent | WorldModel, seed: int) -> AIMEAgent:
    """An agent with the same world model, and a fresh policy of the same size."""
    if isinstance(agent_or_model, AIMEAgent):
        given, net = agent_or_model.config, agent_or_model.world_model
    else:
        given, net = AIMEConfig(), agent_or_model.net
    config = AIMEConfig.paper(
        standardize=True, policy=given.policy, see_observation=given.see_observation
    )
    return AIMEAgent(agent_or_model.env_info, net, config, seed=seed, device=agent_or_model.device)


class _Findings:
    """Measures one part after the other.

    Args:
        agent: The agent to judge; None where there is a world model alone.
        told: An agent with the same world model.
        demonstrations: Demonstrations.
        embodiment: Embodiment data, where there are some.
        seed: Seed of windows and noise.

    Attributes:
        parts: Fields of the `Diagnosis`.
        left_out: What could not be measured, and why.
        with_actions: Whether the demonstrations have actions.
    """

    def __init__(
        self,
        agent: AIMEAgent | None,
        told: AIMEAgent,
        demonstrations: Dataset,
        embodiment: Dataset | None,
        seed: int,
    ) -> None:
        self.parts: dict[str, Any] = {}
        self.left_out: list[str] = []
        self.with_actions = all(t.actions is not None for t in demonstrations)
        self._agent, self._told, self._net = agent, told, told.world_model
        self._demonstrations, self._embodiment = demonstrations, embodiment
        self._generator = torch.Generator(told.device).manual_seed(seed)
        if not self.with_actions:
            self.left_out.append(
                f"{demonstrations.card.name!r} has demonstrations without actions: no one-step "
                "error on them, no phase-2 losses, no R2 and no ceiling."
            )
        if agent is None:
            self.left_out.append("There is a world model alone: neither R2 nor score of a policy.")

    def predict(self) -> None:
        """One-step errors on both data."""
        scales = self._scales()
        if scales is None:
            return
        if self.with_actions:
            self.parts["on_demonstrations"] = self._one_step(self._demonstrations, scales)
        if self._embodiment is not None:
            held_out = hold_out(self._embodiment, HELD_OUT_SHARE, 2)[1]
            self.parts["on_embodiment"] = self._one_step(held_out or self._embodiment, scales)

    def _scales(self) -> dict[str, Tensor] | None:
        """The deviations that are the errors' unit; None where there are none."""
        visible = self._told.env_info.visible
        if not visible:
            self.left_out.append("The world model sees images alone: no one-step errors.")
            return None
        if self._embodiment is not None:
            columns = _make_replay(self._told, self._embodiment).columns
            standardizers = {n: Standardizer(size) for n, size in visible.items()}
            for name, standardizer in standardizers.items():
                standardizer.to(self._told.device).fit(columns[name])
            return {name: standardizer.std for name, standardizer in standardizers.items()}
        if not self._net.deviations:
            self.left_out.append(
                "There are no embodiment data, and the world model does not standardise its "
                "sensors: no one-step errors."
            )
            return None
        self.left_out.append("There are no embodiment data: no one-step error on them.")
        return self._net.deviations

    def _one_step(self, dataset: Dataset, scales: Mapping[str, Tensor]) -> OneStep:
        _, batch = _draw_windows(_make_replay(self._told, dataset), self._generator)
        assert batch.prev_actions is not None
        errors = one_step_errors(self._net, batch.observations, batch.prev_actions, scales)
        every = torch.cat([error.flatten() for error in errors.values()])
        means = {name: float(error.mean()) for name, error in errors.items()}
        return OneStep(means, float(every.mean()))

    def put_in_actions(self) -> None:
        """Phase-2 losses of true and wrong actions: the same windows, the same noise of states.

        The true actions are compared window by window with another draw of the noise, so that a
        difference counts where it is larger than what sampling the states makes anyway.
        """
        replay, batch = _draw_windows(
            _make_replay(self._told, self._demonstrations), self._generator
        )
        losses = losses_of_actions(self._net, replay, batch, self._generator)
        again = losses_of_actions(self._net, replay, batch, self._generator, ("true",))["true"]
        self.parts["losses"] = {name: float(loss.mean()) for name, loss in losses.items()}
        self.parts["separated"] = {
            name: float((loss > again).float().mean())
            for name, loss in losses.items()
            if name != "true"
        }

    def infer_actions(self) -> None:
        """R2 of the actions that inverse dynamics and the policy infer."""
        demonstrations, r2 = self._demonstrations, dict[str, list[float]]()
        true = np.concatenate([t.prev_actions[1:] for t in demonstrations]).astype(np.float64)

        def score(inferred: Sequence[NDArray[np.float32]]) -> list[float]:
            found: list[float] = determination(true, np.concatenate(inferred)).tolist()
            return found

        if self._net.idm is None:
            self.left_out.append("The world model has no inverse dynamics: no R2 of these.")
        else:
            inferred = self._told.infer_actions_by_inverse_dynamics(demonstrations)
            r2["inverse dynamics"] = score(inferred)
        if self._agent is not None:
            r2["policy"] = score(self._agent.infer_actions(demonstrations))
        self.parts["r2"] = r2

    def act(self, episodes: int, progress_bar: bool) -> None:
        """Scores of the policy, and of the one that was told the true actions."""
        if self._told.env_info.env_id is None:
            self.left_out.append("The environment has no id under which to make it: no scores.")
            return
        acting = {"score": self._agent, "ceiling": self._told if self.with_actions else None}
        for name, agent in acting.items():
            if agent is not None:
                self.parts[name] = self._act(agent, episodes, progress_bar)
        if any(name in self.parts and self.parts[name].percent is None for name in acting):
            self.left_out.append("No expert's return is known that is above 0: no scores, returns.")

    def _act(self, agent: AIMEAgent, episodes: int, progress_bar: bool) -> Score:
        env_id = self._told.env_info.env_id
        assert env_id is not None
        result = evaluate(agent, env_id, episodes, progress_bar=progress_bar)
        if result.expert_return is None:
            result = _beside(result, self._demonstrations)
        return Score(result.mean, result.score, result.score_interval)


def _beside(result: Evaluation, demonstrations: Dataset) -> Evaluation:
    """The same, scored beside the demonstrations' own returns where these are above 0."""
    if any(trajectory.rewards is None for trajectory in demonstrations):
        return result
    mean = float(demonstrations.episode_returns.mean())
    return dataclasses.replace(result, expert_return=mean) if mean > 0 else result


def _make_replay(agent: AIMEAgent, dataset: Dataset, rows: int = 1) -> Replay:
    """What the world model observes, with the actions."""
    info, present = agent.env_info, dataset.sensor_shapes
    probed = {name: size for name, size in info.hidden.items() if name in present}
    return make_replay(dataset, info, {**info.visible, **probed}, rows, device=agent.device)


def _draw_windows(replay: Replay, generator: torch.Generator) -> tuple[Replay, Batch]:
    """Some windows, no two the same; shorter ones where all trajectories are short."""
    length = min(WINDOW_ROWS, max(replay.lengths))
    order = torch.randperm(replay.num_windows(length), generator=generator, device=generator.device)
    return replay, replay.gather(order[:WINDOWS], length)


@torch.no_grad()
def losses_of_actions(
    net: WorldModelNet,
    replay: Replay,
    batch: Batch,
    generator: torch.Generator,
    kinds: Sequence[str] = ("true", "noisy", "zero", "shuffled"),
) -> dict[str, Tensor]:
    """The negative evidence lower bound of windows, under true and under wrong actions.

    Args:
        net: The world model, which filters from the zero state, as `action_inference_loss` does.
        replay: Where the windows are from.
        batch: The windows, with their true actions.
        generator: Draws the noise of states, which all actions share, and that of actions.
        kinds: The actions to put in. Shuffled ones are those of another window.

    Returns:
        Kind of actions -> loss of each window [B], in (weighted) nats. No action leads to an
        episode's first row, whoever chooses.
    """
    true = batch.prev_actions
    assert true is not None
    noise = functools.partial(torch.randn, generator=generator, device=true.device)
    state_noise = noise((*true.shape[:2], net.config.stoch_dim))
    actions = {
        "true": true,
        "noisy": (true + NOISE * noise(true.shape)).clamp(-1, 1),
        "zero": torch.zeros_like(true),
        "shuffled": true.roll(1, dims=1),
    }
    led = ~torch.isin(batch.rows, replay.firsts)[..., None]
    embeds = net.embed(batch.observations)
    return {
        kind: _window_losses(net, net.filter(embeds, state_noise, actions[kind] * led), batch)
        for kind in kinds
    }


def _window_losses(net: WorldModelNet, filtered: Filtered, batch: Batch) -> Tensor:
    """The negative evidence of each window [B]."""
    losses = []
    for index in range(filtered.actions.shape[1]):
        one = slice(index, index + 1)
        window = Filtered(
            Latent(*(part[:, one] for part in filtered.latents)),
            Normal(*(part[:, one] for part in filtered.posterior)),
            filtered.actions[:, one],
        )
        seen = {name: values[:, one] for name, values in batch.observations.items()}
        reconstruction, kl, _ = net.evidence(window, window.latents.feature, seen)
        losses.append(reconstruction + net.config.kl_scale * kl)
    return torch.stack(losses)


# The ceiling


def imitate_true_actions(
    agent: AIMEAgent,
    demonstrations: Dataset,
    updates: int = CEILING_UPDATES,
    progress_bar: bool = False,
) -> float:
    """Regresses the modes of an agent's policy onto the true actions, in latent space.

    The demonstrations are filtered with their true actions and posterior means; the policy's inputs
    are standardised with the features found there.

    Returns:
        The mean squared error of the last update.
    """
    inputs, actions = _explained_by_true_actions(agent, demonstrations)
    policy = agent.policy
    policy.standardizer.fit(inputs, FEATURE_FLOOR)
    optimizer = torch.optim.Adam(policy.mean_net.parameters(), lr=CEILING_RATE)
    loss = inputs.new_zeros(())
    for update in tqdm(range(updates), disable=not progress_bar, unit="update"):
        chosen = torch.randint(
            len(inputs), (REGRESSION_ROWS,), generator=agent.generator, device=agent.device
        )
        loss = (torch.tanh(policy(inputs[chosen]).mean) - actions[chosen]).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = CEILING_RATE * max(0.05, 1 - update / updates)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _explained_by_true_actions(agent: AIMEAgent, demonstrations: Dataset) -> tuple[Tensor, Tensor]:
    """What the policy sees in all rows but the last [N, ..], and the true actions there [N, A]."""
    net, inputs, actions = agent.world_model, [], []
    for batch in _whole(agent, demonstrations):
        assert batch.prev_actions is not None
        embeds = net.embed(batch.observations)
        noise = embeds.new_zeros(*embeds.shape[:2], net.config.stoch_dim)
        feature = net.filter(embeds, noise, batch.prev_actions).latents.feature
        inputs.append(agent.policy.inputs(feature, embeds)[:-1].flatten(0, 1))
        actions.append(batch.prev_actions[1:].flatten(0, 1))
    return torch.cat(inputs), torch.cat(actions)


def _whole(agent: AIMEAgent, demonstrations: Dataset) -> Iterator[Batch]:
    """Whole demonstrations, those of the same length together."""
    for length in sorted({len(trajectory) for trajectory in demonstrations}):
        alike = [trajectory for trajectory in demonstrations if len(trajectory) == length]
        replay = _make_replay(agent, Dataset(alike, demonstrations.card), length)
        for chosen in torch.arange(len(alike), device=agent.device).split(FILTERED_TOGETHER):
            yield replay.gather(chosen, length)


# The figure


def plot_diagnosis(diagnosis: Diagnosis, path: str | os.PathLike[str]) -> Path:
    """Draws all that was measured, one panel per part, under the verdict.

    Args:
        diagnosis: What `diagnose` found.
        path: Where the picture goes; the ending chooses the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    one_steps = {n: {**e.sensors, "all": e.mean} for n, e in diagnosis._one_steps.items()}
    r2 = {
        name: {
            **{f"joint {i}": value for i, value in enumerate(values)},
            "all": float(np.mean(values)),
        }
        for name, values in diagnosis.r2.items()
    }
    percents = [score.percent for score in diagnosis._scores.values()]
    unit = "score (% of the expert)" if None not in percents else "return"
    scores = {
        name: score.mean_return if score.percent is None else score.percent
        for name, score in diagnosis._scores.items()
    }
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2).flat
    _draw_bars(panels[0], one_steps, "one-step error (squared deviations)")
    _draw_bars(panels[1], {"": diagnosis.losses}, LOSS)
    _draw_bars(panels[2], r2, "R2 of the actions")
    panels[2].set_ylim(-1.05, 1.05)
    _draw_bars(panels[3], {"": scores}, unit)
    figure.suptitle(textwrap.fill(diagnosis.verdict, 100), fontsize=10)
    target = Path(path)
    with atomic_write(target) as file:
        figure.savefig(file, format=target.suffix.removeprefix(".") or "png", dpi=120)
    return target


def _draw_bars(axes: Any, groups: Mapping[str, Mapping[str, float]], ylabel: str) -> None:
    """Groups of bars side by side: group -> label -> height."""
    labels = list(dict.fromkeys(label for bars in groups.values() for label in bars))
    width = 0.8 / max(1, len(groups))
    for index, (group, bars) in enumerate(groups.items()):
        offset = (index - (len(groups) - 1) / 2) * width
        places = [labels.index(label) + offset for label in bars]
        axes.bar(places, list(bars.values()), width=0.95 * width, label=group)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.6, max(3, len(labels)) - 0.4)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel(ylabel)
    if not labels:
        axes.text(0.5, 0.5, "left out", ha="center", transform=axes.transAxes)
    elif any(groups):
        axes.legend(fontsize=8)
