"""Functions that may be compiled: only on request, whole, and to the same numbers."""

from functools import partial

import pytest
import torch

from agents import fused
from agents.world_models import loop

compiler = torch.compile


@pytest.fixture
def traced(monkeypatch):
    """Compilation without a compiler: what a function was called for, in PyTorch's operations."""
    found = []

    def backend(graph, examples):
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(compiler, backend=backend, fullgraph=True))
    yield found
    torch.compiler.reset()


def test_only_where_users_ask_for_it(traced, monkeypatch):
    doubled = fused.fused(lambda values: 2 * values)
    for value in (None, "0"):
        monkeypatch.delenv(fused.VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(fused.VARIABLE, value)
        assert doubled(torch.ones(3)).tolist() == [2, 2, 2]
    assert not traced
    monkeypatch.setenv(fused.VARIABLE, "1")
    for _ in range(3):
        assert doubled(torch.ones(3)).tolist() == [2, 2, 2]
    assert len(traced) == 1


@pytest.fixture
def compiled_beside_called(make_model, pendulum, weights, monkeypatch):
    """A function that gives weights after some updates of phase 1, called and compiled."""
    monkeypatch.setattr(loop, "gated", fused.fused(loop.gated.__wrapped__))  # Not compiled yet.

    def learn(way):
        monkeypatch.setenv(fused.VARIABLE, way)
        return weights(make_model().learn(pendulum, 3))

    return lambda: (learn("0"), learn("1"))


def test_compiled_gates_are_the_same_and_compiled_but_twice(traced, compiled_beside_called):
    called, compiled = compiled_beside_called()
    assert len(traced) == 2  # Before the first step, nothing is remembered that has a gradient.
    for name, weight in called.items():
        torch.testing.assert_close(compiled[name], weight, msg=name)


@pytest.mark.slow
def test_a_compiler_gives_the_same(compiled_beside_called):
    """This needs a compiler of C++."""
    called, compiled = compiled_beside_called()
    torch.compiler.reset()
    for name, weight in called.items():
        torch.testing.assert_close(compiled[name], weight, rtol=1e-4, atol=1e-5, msg=name)
