"""The pure parts of AMIGo: returns, rewards, t*, networks, buffers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from agents.amigo import AMIGoConfig
from agents.amigo.buffers import GoalBuffer, GoalMap, Goals, Visits
from agents.amigo.config import OFFICIAL_BUDGET, VARIANTS, Schedule, check_variant
from agents.amigo.goals import (
    Difficulty,
    goal_reached,
    goal_reward,
    student_reward,
    teacher_reward,
)
from agents.amigo.losses import (
    actor_critic_loss,
    novelty_rewards,
    prediction_error,
    prediction_loss,
)
from agents.amigo.networks import Embedding, NoveltyNetwork, Student, Teacher, Trunk, agent_cell
from agents.returns import vtrace

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# V-trace


@pytest.mark.parametrize(("max_rho", "max_c"), [(1.0, 1.0), (2.0, 0.5)])
def test_vtrace_is_its_equation(max_rho, max_c):
    """The sum of Eq. 1 in Espeholt et al., written out."""
    steps, batch = 6, 3
    log_ratios, rewards = draw(steps, batch), draw(steps, batch, seed=1)
    values = draw(steps + 1, batch, seed=2)
    discounts = torch.full((steps, batch), 0.9, dtype=torch.float64)
    discounts[2, 0] = discounts[4, 1] = 0.0
    found = vtrace(log_ratios, discounts, rewards, values, max_rho, max_c)
    for b in range(batch):
        ratio = [min(float(log_ratios[t, b].exp()), 1e9) for t in range(steps)]
        rho, c = [min(r, max_rho) for r in ratio], [min(r, max_c) for r in ratio]
        target = [float(value) for value in values[:, b]]
        for s in range(steps):
            factor = 1.0
            for t in range(s, steps):
                after = float(discounts[t, b] * values[t + 1, b])
                target[s] += factor * rho[t] * float(rewards[t, b] + after - values[t, b])
                factor *= float(discounts[t, b]) * c[t]
        for s in range(steps):
            after = float(discounts[s, b]) * target[s + 1]
            advantage = rho[s] * (float(rewards[s, b]) + after - float(values[s, b]))
            assert float(found.values[s, b]) == pytest.approx(target[s])
            assert float(found.advantages[s, b]) == pytest.approx(advantage)


def test_vtrace_on_policy_is_the_discounted_return():
    rewards, values = draw(5, 2), draw(6, 2, seed=1)
    discounts = torch.full((5, 2), 0.9, dtype=torch.float64)
    discounts[3, 1] = 0.0
    found = vtrace(torch.zeros(5, 2), discounts, rewards, values)
    first = sum(0.9**t * rewards[t, 0] for t in range(5)) + 0.9**5 * values[5, 0]
    ended = sum(0.9**t * rewards[t, 1] for t in range(4))
    torch.testing.assert_close(found.values[0], torch.stack([first, ended]))
    torch.testing.assert_close(found.advantages[4], rewards[4] + 0.9 * values[5] - values[4])


def test_actor_critic_loss_is_its_equation():
    logits, values = draw(4, 3, 7).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    choices = torch.arange(12).view(4, 3) % 7
    log_probs, rewards = draw(4, 3, seed=2) - 2, draw(4, 3, seed=3)
    discounts = torch.full((4, 3), 0.9, dtype=torch.float64)
    inputs = logits, values, choices, log_probs, rewards, discounts
    loss, metrics = actor_critic_loss(*inputs, 0.5, 0.01)
    chosen = torch.distributions.Categorical(logits=logits)
    targets = vtrace(chosen.log_prob(choices) - log_probs, discounts, rewards, values)
    policy = -(chosen.log_prob(choices) * targets.advantages.detach())
    squares = 0.5 * (targets.values.detach() - values[:-1]) ** 2
    expected = (policy + 0.5 * squares - 0.01 * chosen.entropy()).mean(1).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(metrics["entropy"], chosen.entropy().mean())
    torch.testing.assert_close(metrics["value_loss"], squares.mean())
    got = torch.autograd.grad(loss, (logits, values), retain_graph=True)
    torch.testing.assert_close(got, torch.autograd.grad(expected, (logits, values)))


# Goals


def grid(*cells: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor([list(itertools.chain(*cells))], dtype=torch.uint8)


EMPTY, AGENT, CLOSED, OPEN, KEY = (1, 0, 0), (10, 0, 2), (4, 4, 1), (4, 4, 0), (5, 4, 0)


@pytest.mark.parametrize(
    ("before", "after", "changed", "arrived"),
    [
        ((AGENT, EMPTY), (AGENT, EMPTY), False, False),
        ((AGENT, EMPTY), (EMPTY, AGENT), True, True),  # The agent stands there now.
        ((EMPTY, AGENT), (AGENT, EMPTY), True, False),  # It stood there, and left.
        ((EMPTY, AGENT), (EMPTY, (10, 0, 3)), True, True),  # It turned there.
        ((AGENT, CLOSED), (AGENT, OPEN), True, False),
        ((AGENT, KEY), (AGENT, EMPTY), True, False),
        ((AGENT, KEY), (AGENT, (5, 2, 0)), True, False),  # Another colour.
    ],
)
@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("aware", [False, True])
def test_when_a_goal_is_reached(before, after, changed, arrived, over, aware):
    """The goal is the second cell."""
    for modify, expected in ((True, changed), (False, arrived)):
        config = AMIGoConfig(modify=modify, boundary_awareness=aware)
        ended = torch.tensor([over])
        reached = goal_reached(grid(*before), grid(*after), torch.tensor([1]), ended, config)
        assert reached.tolist() == [expected and (aware or not over)]


def test_agent_is_found_in_every_cell():
    cells = torch.tensor([EMPTY, AGENT, EMPTY, (9, 0, 10)], dtype=torch.uint8).flatten()
    assert agent_cell(cells[None]).tolist() == [1]


def test_rewards_of_the_student():
    worth = goal_reward(torch.tensor([True, True, False]), torch.tensor([10, 100, 10]), 100)
    torch.testing.assert_close(worth, torch.tensor([0.91, 0.1, 0.0]))
    paid = torch.tensor([False, True, True])
    torch.testing.assert_close(student_reward(worth, paid, 1.0, True), torch.tensor([0.91, 1.1, 1]))
    torch.testing.assert_close(student_reward(worth, paid, 2.0, False), torch.tensor([1, 0.2, 0]))


def test_rewards_of_the_teacher():
    reached = torch.tensor([True, True, True, False, True, False])
    steps = torch.tensor([6, 7, 200, 7, 6, 9])
    paid = torch.tensor([False, False, False, False, True, True])
    config = AMIGoConfig()
    default = teacher_reward(reached, steps, paid, 7, "default", config)
    torch.testing.assert_close(default, torch.tensor([-0.3, 0.7, 0.7, -0.3, 0.7, 0.7]))
    steps = torch.tensor([20, 19, 121, 70, 120, 70])
    window = teacher_reward(reached, steps, paid, 70, "window_adaptive", config)
    torch.testing.assert_close(window, torch.tensor([0.7, -0.3, -0.3, -0.3, 1.7, 0.7]))
    other = replace(config, reached_reward=1.0, missed_reward=0.0, paid_reward=0.5)
    changed = teacher_reward(reached, torch.tensor([6, 7, 200, 7, 6, 9]), paid, 7, "default", other)
    torch.testing.assert_close(changed, torch.tensor([0.0, 1.0, 1.0, 0.0, 0.5, 0.5]))


# The target


def trace(variant, schedule, config, batches):
    """The targets after each of the batches, (mean reward, mean return)."""
    difficulty, targets = Difficulty(schedule.first_target), []
    for batch in batches:
        difficulty.update(*batch, variant, schedule, config)
        targets.append(difficulty.target)
    return targets


GOOD, BAD, SOLVED = (-0.1, 0.0), (-0.11, 0.0), (-0.3, 0.8)


def test_target_grows_after_ten_good_batches_in_a_row():
    config = AMIGoConfig()
    schedule = Schedule.of(config, "default", OFFICIAL_BUDGET)
    batches = [GOOD] * 9 + [BAD] + [GOOD] * 10 + [BAD] + [GOOD] * 9
    targets = trace("default", schedule, config, batches)
    assert targets == [7] * 19 + [8] * 11
    assert trace("default", schedule, config, [SOLVED] * 30)[-1] == 7  # Bad, whatever was paid.
    assert trace("default", schedule, config, [GOOD] * 2_000)[-1] == 100
    lower = replace(config, threshold=-0.5)
    assert trace("default", schedule, lower, [BAD] * 10)[-1] == 8


def test_threshold_can_be_missed():
    """The worst mean reward is below it: goals that are never reached do not move the target."""
    config = AMIGoConfig()
    never = torch.zeros(150, dtype=torch.bool)
    worst = teacher_reward(never, torch.ones(150), never, 7, "default", config).mean()
    assert float(worst) < config.threshold
    schedule = Schedule.of(config, "default", OFFICIAL_BUDGET)
    assert trace("default", schedule, config, [(float(worst), 0.0)] * 500)[-1] == 7


def test_target_of_the_window_moves_both_ways():
    config = AMIGoConfig()
    schedule = Schedule.of(config, "window_adaptive", OFFICIAL_BUDGET)
    up = trace("window_adaptive", schedule, config, [BAD] * 25)
    assert up == [20] * 9 + [21] * 10 + [22] * 6
    mixed = [BAD] * 5 + [GOOD] * 4 + [BAD] * 9 + [GOOD] * 10
    assert trace("window_adaptive", schedule, config, mixed) == [20] * 17 + [21] * 10 + [20]
    assert trace("window_adaptive", schedule, config, [GOOD] * 30)[-1] == 20
    assert trace("window_adaptive", schedule, config, [BAD] * 3_000)[-1] == 270
    solved = [BAD] * 10 + [SOLVED] * 10
    assert trace("window_adaptive", schedule, config, solved)[-1] == 20
    harder = replace(config, solved_return=0.9)
    assert trace("window_adaptive", schedule, harder, solved)[-1] == 22


def test_schedules_scale_with_the_budget():
    config = AMIGoConfig()
    official = Schedule.of(config, "default", OFFICIAL_BUDGET)
    assert (official.teacher_batch_size, official.counts) == (150, 10)
    assert Schedule.of(config, "default", 10 * OFFICIAL_BUDGET).counts == 10
    third = Schedule.of(config, "default", OFFICIAL_BUDGET // 3)
    assert (third.teacher_batch_size, third.counts) == (50, 10)
    sixth = Schedule.of(config, "default", OFFICIAL_BUDGET // 6)
    assert (sixth.teacher_batch_size, sixth.counts) == (32, 8)  # As many goals in all.
    small = Schedule.of(config, "window_adaptive", 100_000)
    assert (small.teacher_batch_size, small.counts) == (32, 2)
    assert (small.first_target, small.max_target) == (20, 270)
    assert Schedule.of(config, "novelty_based", 1).intrinsic_coef == 0.1
    chosen = AMIGoConfig(
        teacher_batch_size=9, counts=4, first_target=3, max_target=5, intrinsic_coef=2.0
    )
    assert Schedule.of(chosen, "default", 100) == Schedule(100, 9, 4, 3, 5, 2.0)
    assert [small.remaining(n) for n in (0, 25_000, 100_000, 200_000)] == [1, 0.75, 0, 0]


# Novelty


def test_novelty_pays_for_more_of_it_at_first_visits():
    novelty = torch.tensor([[1.0, 3.0], [3.0, 1.0], [4.0, 2.0], [6.0, 5.0]])
    new = torch.tensor([[True, True], [False, True], [True, True]])
    over = torch.tensor([[False, False], [False, False], [False, True]])
    expected = torch.tensor([[2.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    torch.testing.assert_close(novelty_rewards(novelty, new, over), expected)


def test_prediction():
    predicted, target = draw(3, 2, 4).requires_grad_(), draw(3, 2, 4, seed=1)
    distance = (predicted - target).pow(2).sum(-1)
    torch.testing.assert_close(prediction_error(predicted, target), distance.sqrt())
    torch.testing.assert_close(prediction_loss(predicted, target), distance.mean(1).sum())


def test_visits_are_told_apart_by_episode():
    seen = torch.tensor([[1, 2, 3], [1, 2, 3]], dtype=torch.uint8)
    other = torch.tensor([[3, 2, 1], [1, 2, 3]], dtype=torch.uint8)
    visits = Visits(2, 5, 3, CPU)
    visits.start(seen, torch.tensor([True, True]))
    assert visits.visit(other).tolist() == [True, False]
    assert visits.visit(other).tolist() == [False, False]
    visits.start(other, torch.tensor([False, True]))
    kept = Visits(2, 5, 3, CPU)
    kept.load_state_dict(visits.state_dict())
    for one in (visits, kept):
        assert one.visit(torch.tensor([[3, 2, 1], [9, 9, 9]]).byte()).tolist() == [False, True]


# Networks


def test_sizes_are_those_of_the_paper():
    count = sum(p.numel() for p in Student((7, 7), True, 1, False).parameters())
    assert count == 118_617
    plain = sum(p.numel() for p in Student((7, 7), False, 1, False).parameters())
    assert count - plain == 9 * 32  # The goal's channel.
    assert NoveltyNetwork((7, 7))(torch.ones(2, 147), torch.ones(2, 2)).shape == (2, 128)


@pytest.mark.parametrize("shape", [(3, 7), (7, 7), (8, 8), (11, 6), (16, 16), (32, 5)])
def test_trunk_is_five_convolutions(shape):
    trunk = Trunk(4, shape)
    for layer in trunk.layers:
        nn.init.uniform_(layer.bias)
    cells = torch.randn(3, shape[0] * shape[1], 4)
    values = cells.view(3, *shape, 4).permute(0, 3, 1, 2)
    for layer in trunk.layers:
        values = functional.elu(functional.conv2d(values, layer.weight, layer.bias, 2, 1))
    assert values.shape == (3, 32, 1, 1)
    torch.testing.assert_close(trunk(cells), values.flatten(1))


def test_cells_are_three_embeddings():
    embedding = Embedding()
    cells = torch.tensor([[10, 0, 3, 4, 5, 2]], dtype=torch.uint8)
    first = torch.cat([embedding.objects[10], embedding.colours[0], embedding.states[3]])
    second = torch.cat([embedding.objects[4], embedding.colours[5], embedding.states[2]])
    torch.testing.assert_close(embedding.cells(cells), torch.stack([first, second])[None])
    carried = torch.cat([embedding.objects[5], embedding.colours[2]])
    torch.testing.assert_close(embedding.carried(torch.tensor([[5, 2]])), carried[None])


def test_goal_and_frames_change_what_the_student_does():
    student = Student((4, 4), True, 2, True)
    frames = torch.randint(0, 4, (1, 2, 48), dtype=torch.uint8)
    carried, memory = torch.tensor([[1, 5]]), student.initial_memory(1)

    def logits(frames, goal, memory):
        features = student.features(frames, carried, torch.tensor([goal]))
        features, after = student.remember(features, memory)
        return student.heads(features)[0], after

    base, after = logits(frames, 3, memory)
    older = frames.clone()
    older[:, 0] = 1
    for other in (logits(frames, 4, memory), logits(older, 3, memory), logits(frames, 3, after)):
        assert not torch.allclose(base, other[0])


def test_inner_goals_leave_out_the_wall():
    grids = torch.randint(0, 4, (5, 60), dtype=torch.uint8)
    inside = Teacher((4, 5), inner=True)(grids).logits.softmax(-1).view(5, 4, 5)
    torch.testing.assert_close(inside[:, 1:-1, 1:-1].sum((1, 2)), torch.ones(5))
    everywhere = Teacher((4, 5), inner=False)(grids).logits.softmax(-1)
    assert (everywhere > 0).all()


# Buffers


def some_goals(*steps: int) -> Goals:
    count = len(steps)
    flags = torch.tensor([step > 5 for step in steps])
    return Goals(
        torch.zeros(count, 6, dtype=torch.uint8),
        torch.arange(count),
        torch.zeros(count),
        torch.tensor(steps),
        flags,
        flags,
        flags,
        torch.tensor(steps, dtype=torch.float64),
    )


def test_buffer_gives_the_oldest_first():
    buffer = GoalBuffer()
    assert buffer.state_dict() == {}
    buffer.add(some_goals(1, 2, 3))
    buffer.add(some_goals(4, 5))
    assert buffer.pop(2).steps.tolist() == [1, 2]
    kept = GoalBuffer()
    kept.load_state_dict(buffer.state_dict())
    assert kept.pop(3).steps.tolist() == [3, 4, 5]
    assert len(kept) == 0
    assert len(buffer) == 3


def test_return_of_a_batch_is_that_of_the_episodes_that_ended():
    assert some_goals(1, 2).mean_return == 0.0
    assert some_goals(1, 6, 8).mean_return == 7.0


def test_map_counts_by_stage():
    goals = GoalMap(4)
    for done in (0.0, 0.09, 0.1, 1.0):
        goals.add(torch.tensor([0, 3, 3]), done)
    assert goals.counts[:, 3].tolist() == [4, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert goals.counts.sum() == 12


# Bad settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 12}, "batch_size divides num_envs"),
        ({"unroll_length": 0}, "unroll_length is at least 1"),
        ({"discount": 1.5}, "discount is a share"),
        ({"learning_rate": 0}, "learning_rate is greater than 0"),
        ({"teacher_learning_rate": -1}, "teacher_learning_rate is greater than 0"),
        ({"entropy_cost": -1}, "entropy_cost is at least 0"),
        ({"counts": 0}, "counts is at least 1"),
        ({"window": -1}, "window is at least 0"),
        ({"num_frames": 0}, "num_frames is at least 1"),
    ],
)
def test_wrong_numbers(settings, message):
    with pytest.raises(ValueError, match=message):
        AMIGoConfig(**settings)


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("none", {"modify": False}),
        ("none", {"intrinsic_coef": 0.5}),
        ("novelty_based", {"restart_at_goal": True}),
        ("default", {"window": 5}),
        ("default", {"novelty_learning_rate": 1e-3}),
        ("window_adaptive", {"novelty_learning_rate": 1e-3}),
    ],
)
def test_settings_that_would_do_nothing(variant, settings):
    with pytest.raises(ValueError, match=f"{variant} has nothing that {next(iter(settings))}"):
        check_variant(variant, AMIGoConfig(**settings))


def test_unknown_variant():
    with pytest.raises(ValueError, match=f"no variant 'amigo': there are {', '.join(VARIANTS)}"):
        check_variant("amigo", AMIGoConfig())


@pytest.mark.parametrize("shape", [(33, 5), (5, 33)])
def test_grid_that_is_too_large(shape):
    with pytest.raises(ValueError, match=f"up to 32 x 32 cells; this one has {shape[0]} x"):
        Student(shape, True, 1, False)
