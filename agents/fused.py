"""Functions element by element that may be compiled, each into one kernel or a few.

A step of a recurrent model is a few products and many small functions between them. On a GPU each
of these is a kernel of its own, unless `torch.compile` fuses them. That takes a minute once, and
makes them slower on a processor, so it is done only where the environment variable AIME_GYM_COMPILE
is 1. Compiled functions are not equal to the bit, as additions may come in another order.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

VARIABLE = "AIME_GYM_COMPILE"
P = ParamSpec("P")
R = TypeVar("R")


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """A pure function of tensors, which is compiled at its first call where users ask for it.

    Args:
        function: What it computes; it is compiled anew for other shapes.

    Returns:
        The function, which looks at AIME_GYM_COMPILE at every call.
    """

    @functools.lru_cache(maxsize=1)
    def compiled() -> Callable[P, R]:
        return cast(Callable[P, R], torch.compile(function, dynamic=False))

    @functools.wraps(function)
    def either(*args: P.args, **kwargs: P.kwargs) -> R:
        called = compiled() if os.environ.get(VARIABLE) == "1" else function
        return called(*args, **kwargs)

    return either
