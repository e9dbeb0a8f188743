"""Faster matrix products: those that are as exact as before, and on request those that round.

On AMD processors, PyTorch's float32 products do not use AVX-512; oneDNN's do. oneDNN is reached by
a setting that allows it to round factors to bfloat16, which it does on processors with units for
that, such as Intel's with AMX. So it is tried out first: it is used only where one product shows
that it is as exact as before, and faster.

Where `VARIABLE` is ``rounded``, factors may be rounded: to bfloat16 on such processors, and to TF32
on CUDA, whose convolutions PyTorch rounds in any case. Sums, and all that is no product, stay in
float32: states, standard deviations, divergences, weights and their gradients.
"""

from __future__ import annotations

import os
import time

import torch

VARIABLE = "AIME_GYM_FAST_PRODUCTS"
NONE, EXACT, ROUNDED = "0", "1", "rounded"  # Its values.
# Largest error of an entry of about sqrt(512): rounding to bfloat16 gives 1e-2.
TOLERANCES = {EXACT: 1e-5, ROUNDED: 5e-2}
GAIN = 1.15  # Times as fast as before, at least.


def use_fast_products() -> bool:
    """Switches to faster float32 products, as far as the environment variable allows.

    This is a setting of the whole process; the command line calls it, and Python users may. The
    environment variable AIME_GYM_FAST_PRODUCTS is 1 unless it is set, for oneDNN's products where
    these are exact and faster; ``rounded`` also takes those that round factors to bfloat16, or on
    CUDA to TF32; 0 forbids both.

    Returns:
        Whether oneDNN's products are in use from now on.

    Raises:
        ValueError: The environment variable has another value.
    """
    allowed = os.environ.get(VARIABLE, EXACT)
    if allowed not in (NONE, *TOLERANCES):
        raise ValueError(
            f"The environment variable {VARIABLE} is 0, 1 or rounded, not {allowed!r}."
        )
    if allowed == NONE:
        return False
    if allowed == ROUNDED:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    return torch.backends.mkldnn.is_available() and _use_onednn(allowed)


def _use_onednn(allowed: str) -> bool:
    """Tries out one product."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    if before == "bf16":
        return True  # Chosen by an earlier call, or by the user.
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 512, generator=generator) for n in (800, 512))
    exact = left.double() @ right.double().T
    usual = _seconds(left, right)
    matmul.fp32_precision = "bf16"
    error = ((left @ right.T) - exact).abs().max().item() / exact.std().item()
    if error < TOLERANCES[allowed] and GAIN * _seconds(left, right) < usual:
        if allowed == ROUNDED:
            torch.backends.mkldnn.conv.fp32_precision = "bf16"  # type: ignore[attr-defined]
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
