"""Networks of AMIGo: what student, teacher and novelty see in a grid.

B batch; W x H = C cells; F frames; grids are bytes [B, F, 3 C], what is carried bytes [B, 2].
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aime_gym.envs.minigrid.cells import ACTIONS, AGENT, COLOURS, OBJECTS, STATES, VISIBLE

OBJECT_SIZE, COLOUR_SIZE, STATE_SIZE, POSITION_SIZE = 5, 3, 2, 10
CELL_SIZE, CARRIED_SIZE = OBJECT_SIZE + COLOUR_SIZE + STATE_SIZE, OBJECT_SIZE + COLOUR_SIZE
CHANNELS, TEACHER_CHANNELS, HIDDEN, NOVELTY_SIZE = 32, 16, 256, 128
TRUNK_LAYERS, TEACHER_LAYERS = 5, 4
LARGEST = 2**TRUNK_LAYERS  # Cells along one side.
Memory = tuple[Tensor, ...]


def check_grid(shape: tuple[int, int]) -> None:
    """Checks that a grid comes down to one cell in the convolutions.

    Raises:
        ValueError: It is too large.
    """
    if max(shape) > LARGEST:
        raise ValueError(
            f"The networks take grids of up to {LARGEST} x {LARGEST} cells; this one has "
            f"{shape[0]} x {shape[1]}."
        )


def orthogonal(layer: nn.Linear | nn.Conv2d, gain: float = 2**0.5) -> nn.Linear | nn.Conv2d:
    """The layer with orthogonal weights, and biases of zero."""
    nn.init.orthogonal_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Embedding(nn.Module):
    """Objects, colours and states as vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.objects = nn.Parameter(torch.randn(OBJECTS, OBJECT_SIZE))
        self.colours = nn.Parameter(torch.randn(COLOURS, COLOUR_SIZE))
        self.states = nn.Parameter(torch.randn(STATES, STATE_SIZE))

    def cells(self, grid: Tensor) -> Tensor:
        """Grids [.., 3 C] -> [.., C, 10]: one lookup in the table of all that a cell may be."""
        seen = grid.long().unflatten(-1, (-1, VISIBLE))
        code = (seen[..., 0] * COLOURS + seen[..., 1]) * STATES + seen[..., 2]
        all_of = (OBJECTS, COLOURS, STATES, -1)
        table = torch.cat(
            [
                self.objects[:, None, None].expand(all_of),
                self.colours[None, :, None].expand(all_of),
                self.states[None, None].expand(all_of),
            ],
            -1,
        )
        return F.embedding(code, table.flatten(0, 2))

    def carried(self, carried: Tensor) -> Tensor:
        """What is carried [.., 2] -> [.., 8]."""
        thing = carried.long()
        return torch.cat([self.objects[thing[..., 0]], self.colours[thing[..., 1]]], -1)


class Trunk(nn.Module):
    """Five 3x3 convolutions of stride 2, with ELUs, down to one cell."""

    def __init__(self, inputs: int, shape: tuple[int, int]) -> None:
        super().__init__()
        check_grid(shape)
        self.shape = shape
        sizes = [inputs] + [CHANNELS] * TRUNK_LAYERS
        self.layers = nn.ModuleList(
            orthogonal(nn.Conv2d(before, after, 3, 2, 1)) for before, after in pairwise(sizes)
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, cells: Tensor) -> Tensor:
        """Cells [B, C, n] -> features [B, 32]."""
        values: Tensor = cells.unflatten(1, self.shape).permute(0, 3, 1, 2)  # [B, n, W, H]
        for layer in self.layers:
            width, height = values.shape[2:]
            if max(width, height) > 2:
                values = F.elu(layer(values))
            else:  # One cell is left, and of the kernel what lies within the grid.
                kernel = layer.weight[:, :, 1 : 1 + width, 1 : 1 + height]
                flat = F.linear(values.flatten(1), kernel.flatten(1), layer.bias)
                values = F.elu(flat)[:, :, None, None]
        return values.flatten(1)


class Student(nn.Module):
    """The policy and its value, given a goal.

    Args:
        shape: Width and height of the grid, cells.
        goals: Whether there are goals.
        num_frames: Frames F that it sees.
        lstm: Whether it has a memory.
    """

    def __init__(self, shape: tuple[int, int], goals: bool, num_frames: int, lstm: bool) -> None:
        super().__init__()
        self.shape, self.goals = shape, goals
        self.embedding = Embedding()
        self.trunk = Trunk(CELL_SIZE * num_frames + goals, shape)
        self.first = orthogonal(nn.Linear(CHANNELS + CARRIED_SIZE, HIDDEN))
        self.second = orthogonal(nn.Linear(HIDDEN, HIDDEN))
        self.lstm = nn.LSTMCell(HIDDEN, HIDDEN) if lstm else None
        self.policy = orthogonal(nn.Linear(HIDDEN, ACTIONS), gain=1.0)
        self.value = orthogonal(nn.Linear(HIDDEN, 1), gain=1.0)

    def features(self, grid: Tensor, carried: Tensor, goal: Tensor) -> Tensor:
        """Grids [B, F, 3 C], carried [B, 2] and goals [B] -> [B, 256]."""
        cells = self.embedding.cells(grid).movedim(1, 2).flatten(2)  # [B, C, 10 F]
        if self.goals:
            one_hot = F.one_hot(goal, cells.shape[1]).to(cells.dtype)
            cells = torch.cat([cells, one_hot[..., None]], -1)
        seen = torch.cat([self.trunk(cells), self.embedding.carried(carried)], -1)
        return F.relu(self.second(F.relu(self.first(seen))))

    def initial_memory(self, batch: int) -> Memory:
        """The memory at an episode's start; empty without one."""
        if self.lstm is None:
            return ()
        return (self.value.weight.new_zeros(batch, HIDDEN),) * 2

    def remember(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One step of the memory: features [B, 256] -> what the heads see, and the memory."""
        if self.lstm is None:
            return features, memory
        after: Memory = self.lstm(features, memory)
        return after[0], after

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [.., 256] -> logits [.., 7] and values [..]."""
        return self.policy(features), self.value(features).squeeze(-1)


class Proposals(NamedTuple):
    """What a teacher thinks of the cells of a grid.

    Attributes:
        logits: How much each cell is a goal [B, C].
        value: The reward it expects [B].
    """

    logits: Tensor
    value: Tensor


class Teacher(nn.Module):
    """A policy over the cells of a grid, and its value.

    Args:
        shape: Width and height of the grid, cells.
        inner: Whether cells of the outer wall are no goals.
    """

    allowed: Tensor

    def __init__(self, shape: tuple[int, int], inner: bool) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = Embedding()
        sizes = [CELL_SIZE, *[TEACHER_CHANNELS] * (TEACHER_LAYERS - 1), 1]
        self.layers = nn.ModuleList(
            orthogonal(nn.Conv2d(before, after, 3, 1, 1)) for before, after in pairwise(sizes)
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.value = orthogonal(nn.Linear(shape[0] * shape[1], 1), gain=1.0)
        allowed = torch.ones(shape, dtype=torch.bool)
        if inner:
            allowed[[0, -1]] = allowed[:, [0, -1]] = False
        self.register_buffer("allowed", allowed.flatten(), persistent=False)

    def forward(self, grid: Tensor) -> Proposals:
        """Grids [B, 3 C] -> logits [B, C] and values [B]."""
        values = self.embedding.cells(grid).unflatten(1, self.shape).permute(0, 3, 1, 2)
        for layer in self.layers[:-1]:
            values = F.elu(layer(values))
        logits = self.layers[-1](values).flatten(1)
        value = self.value(logits).squeeze(-1)
        return Proposals(logits.masked_fill(~self.allowed, -1e9), value)


class NoveltyNetwork(nn.Module):
    """A description of what is seen: a fixed random one is predicted by another.

    Args:
        shape: Width and height of the grid, cells.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.embedding = Embedding()
        self.trunk = Trunk(CELL_SIZE, shape)
        self.position = nn.Embedding(shape[0] * shape[1], POSITION_SIZE)
        self.first = orthogonal(nn.Linear(CHANNELS + CARRIED_SIZE + POSITION_SIZE, HIDDEN))
        self.second = orthogonal(nn.Linear(HIDDEN, NOVELTY_SIZE))

    def forward(self, grid: Tensor, carried: Tensor) -> Tensor:
        """Grids [B, 3 C] and what is carried [B, 2] -> [B, 128]."""
        seen = [
            self.trunk(self.embedding.cells(grid)),
            self.embedding.carried(carried),
            self.position(agent_cell(grid)),
        ]
        result: Tensor = self.second(F.relu(self.first(torch.cat(seen, -1))))
        return result


def agent_cell(grid: Tensor) -> Tensor:
    """Grids [.., 3 C] -> the cell in which the agent is [..]."""
    return (grid[..., ::VISIBLE] == AGENT).to(torch.uint8).argmax(-1)
