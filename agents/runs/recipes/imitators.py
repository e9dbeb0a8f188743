"""Recipes of agents that learn from demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from stable_baselines3.common.callbacks import BaseCallback

from agents.aime import AIMEAgent, AIMEConfig
from agents.archive import Archive
from agents.base import Learner
from agents.bc import BCAgent, BCConfig
from agents.bco import BCOAgent, BCOConfig
from agents.iidm import IIDMAgent, IIDMConfig
from agents.replay import make_replay
from agents.reptile import ReptileAgent, ReptileConfig
from agents.runs.callbacks import ScoreBeforeCallback
from agents.runs.export import load_world_model
from agents.runs.figures import joint_names, plot_inferred_actions
from agents.runs.recipe import FLAT, Run, train
from agents.runs.recipes.agent import AgentRecipe
from agents.runs.recipes.models import BodyModelRecipe, ForwardModelRecipe, InverseModelRecipe
from agents.spaces import EnvInfo, to_vec_env
from agents.stacked import StackPolicy, default_stack
from aime_gym.catalogue import FINAL, find_model
from aime_gym.datasets import Dataset, load_dataset
from aime_gym.files import locked

BEFORE = "before.json"
L = TypeVar("L", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class ImitationRecipe(AgentRecipe[L]):
    """What a run of an imitator learns, and how.

    Attributes:
        demos: Demonstrations: a name of `aime-gym datasets list`, or a folder.
    """

    may_change = AgentRecipe.may_change | {"evaluation_interval"}

    demos: str

    def data(self, progress_bar: bool) -> Dataset:
        """The demonstrations."""
        return load_dataset(self.demos, progress_bar=progress_bar)


@dataclass(frozen=True, kw_only=True)
class AIMERecipe(ImitationRecipe[AIMEAgent]):
    """Imitate demonstrations, observations only, with a world model (AIME's phase 2).

    Attributes:
        world_model: A name of `aime-gym models list`; or an archive, a run or a published folder
            of a world model, or of an agent that has one.
        score_before: Score random actions and the start, too, before the evidence is learned from.
        config: Settings of phase 2.
    """

    learner_class = AIMEAgent
    kind = "aime"
    may_change = ImitationRecipe.may_change | {"score_before"}

    world_model: str
    score_before: bool = False
    config: Annotated[AIMEConfig, FLAT] = field(default_factory=AIMEConfig)

    def make(self) -> AIMEAgent:
        """A new agent."""
        model, _ = load_world_model(self.world_model, self.device)
        return AIMEAgent(self.env, model, self.config, seed=self.seed, device=self.device)

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations on the way, and before the evidence."""
        before = [ScoreBeforeCallback(run.folder / BEFORE, self.episodes)]
        return [*super().callbacks(run), *(before if self.score_before else [])]

    def finish(self, learner: AIMEAgent, data: Dataset | None, run: Run) -> None:
        """Scores the agent, and draws inferred beside true actions, where these are known."""
        super().finish(learner, data, run)
        assert data is not None
        if data[0].actions is not None:
            figure = self.figure(run, "inferred_actions")
            scores = plot_inferred_actions(learner, data, figure)
            named = zip(joint_names(learner), scores, strict=True)
            listed = ", ".join(f"{name} {score:.2f}" for name, score in named)
            print(f"R2 of the inferred actions: {listed}. They are drawn in {figure}.")


@dataclass(frozen=True, kw_only=True)
class BCRecipe(ImitationRecipe[BCAgent]):
    """Clone the actions of demonstrations (behavioural cloning).

    Attributes:
        pretrained: Start from the policy of another BC or Reptile agent: an archive or a run.
        config: Settings of behavioural cloning.
    """

    learner_class = BCAgent
    kind = "bc"

    pretrained: str | None = None
    config: Annotated[BCConfig, FLAT] = field(default_factory=BCConfig)

    def make(self) -> BCAgent:
        """A new agent."""
        agent = BCAgent(self.env, self.config, seed=self.seed, device=self.device)
        if self.pretrained is not None:
            agent.start_from(_stack_policy(self.pretrained, agent))
        return agent


@dataclass(frozen=True, kw_only=True)
class ReptileRecipe(ImitationRecipe[ReptileAgent]):
    """Meta-learn a start for cloning from the demonstrations of many tasks (Reptile).

    Attributes:
        config: Settings of meta-learning.
    """

    learner_class = ReptileAgent
    kind = "reptile"

    config: Annotated[ReptileConfig, FLAT] = field(default_factory=ReptileConfig)

    def make(self) -> ReptileAgent:
        """A new agent."""
        return ReptileAgent(self.env, self.config, seed=self.seed, device=self.device)


def _stack_policy(name: str, like: BCAgent) -> StackPolicy:
    """The policy of a BC or Reptile agent that sees what another one sees.

    Raises:
        FileNotFoundError: There is no such agent.
        ValueError: It is another agent's, or of another body.
    """
    kinds: dict[str, type[BCAgent] | type[ReptileAgent]] = {
        kind.__name__: kind for kind in (BCAgent, ReptileAgent)
    }
    found = Archive.read_kind(find_model(name))
    if found not in kinds:
        raise ValueError(f"BC starts from one of {', '.join(kinds)}, and {name} is a {found}.")
    pretrained = kinds[found].load(name, device=like.device)
    pretrained.env_info.adapted_to(like.env_info, f"The {found} to start from")
    return pretrained.policy


@dataclass(frozen=True, kw_only=True)
class EmbodiedRecipe(ImitationRecipe[L]):
    """What a run of an imitator with a model of its body learns, and how.

    The model is learnt first, in a run folder that all tasks of the body share. Of several runs at
    once one learns it, and the others wait.

    Attributes:
        dataset: Embodiment data: a name of `aime-gym datasets list`, or a folder.
        body_model_timesteps: Updates of the model; by default its own number.
        body_model_folder: The model's run folder; by default
            runs/<inverse-model or forward-model>-<dataset>-<setup>-seed<seed>.
    """

    body_model_recipe: ClassVar[type[BodyModelRecipe]]
    may_change = ImitationRecipe.may_change | {"body_model_folder"}

    dataset: str
    body_model_timesteps: int | None = None
    body_model_folder: Path | None = None

    @property
    def body_model(self) -> BodyModelRecipe:
        """How the model of the body is made."""
        return self.body_model_recipe(
            env=self.env,
            dataset=self.dataset,
            total_timesteps=self.body_model_timesteps,
            seed=self.seed,
            device=self.device,
            folder=self.body_model_folder,
            config=self.config.body_model,  # type: ignore[attr-defined]
        )

    def data(self, progress_bar: bool) -> Dataset:
        """The demonstrations, which are checked before the model of the body is learnt."""
        demonstrations = super().data(progress_bar)
        info = EnvInfo.of(to_vec_env(self.env))
        stack = self.config.stack or default_stack(info)  # type: ignore[attr-defined]
        make_replay(
            demonstrations.observations_only(),
            info,
            info.visible,
            stack + 1,
            actions=False,
            progress_bar=progress_bar,
        )
        return demonstrations

    def prepare(self, run: Run) -> None:
        """Learns the model of the body, or goes on where that stopped; a learnt one stays as it is.

        Raises:
            ValueError: The folder has a model of other settings.
        """
        model = self.body_model
        with locked(model.run_folder / ".shared.lock"):
            if not model.is_learnt:
                train(model, progress_bar=run.progress_bar)

    def make(self) -> Any:
        """A new agent."""
        model = self.body_model.run_folder / FINAL
        learner_class: Any = self.learner_class
        config = self.config  # type: ignore[attr-defined]
        return learner_class(self.env, model, config, seed=self.seed, device=self.device)


@dataclass(frozen=True, kw_only=True)
class BCORecipe(EmbodiedRecipe[BCOAgent]):
    """Clone the actions that an inverse model finds behind demonstrations (BCO).

    Attributes:
        config: Settings of both stages.
    """

    learner_class = BCOAgent
    kind = "bco"
    body_model_recipe = InverseModelRecipe

    config: Annotated[BCOConfig, FLAT] = field(default_factory=BCOConfig)


@dataclass(frozen=True, kw_only=True)
class IIDMRecipe(EmbodiedRecipe[IIDMAgent]):
    """Imitate demonstrations through a forward model (IIDM).

    Attributes:
        config: Settings of both stages.
    """

    learner_class = IIDMAgent
    kind = "iidm"
    body_model_recipe = ForwardModelRecipe

    config: Annotated[IIDMConfig, FLAT] = field(default_factory=IIDMConfig)
