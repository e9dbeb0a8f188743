"""Faster matrix products on processors where PyTorch's usual library leaves half of them idle.

On AMD processors, PyTorch's float32 products do not use AVX-512; oneDNN's do. oneDNN is reached by
a setting that allows it to round to bfloat16, which it does on some processors. So it is tried out
first: it is used only where one product shows that it is as exact as before, and faster.
"""

from __future__ import annotations

import os
import time

import torch

VARIABLE = "AIME_GYM_FAST_PRODUCTS"
TOLERANCE = 1e-5  # Largest error of an entry of about sqrt(512); rounding to bfloat16 gives 1e-2.
GAIN = 1.15  # Times as fast as before, at least.


def use_fast_products() -> bool:
    """Switches to oneDNN's float32 products where these are exact and faster.

    This is a setting of the whole process; the command line calls it, and Python users may. Setting
    the environment variable AIME_GYM_FAST_PRODUCTS to 0 forbids it.

    Returns:
        Whether they are in use from now on.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    if os.environ.get(VARIABLE, "1") == "0" or not torch.backends.mkldnn.is_available():
        return False
    before = matmul.fp32_precision
    if before == "bf16":
        return True  # Chosen by an earlier call, or by the user.
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 512, generator=generator) for n in (800, 512))
    exact = left.double() @ right.double().T
    usual = _seconds(left, right)
    matmul.fp32_precision = "bf16"
    error = ((left @ right.T) - exact).abs().max().item() / exact.std().item()
    if error < TOLERANCE and GAIN * _seconds(left, right) < usual:
        return True
    matmul.fp32_precision = before
    return False


def _seconds(left: torch.Tensor, right: torch.Tensor, repetitions: int = 8) -> float:
    """The least time of a product, after one to warm up."""
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        left @ right.T
        times.append(time.perf_counter() - start)
    return min(times[1:])
