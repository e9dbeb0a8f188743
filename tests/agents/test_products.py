"""Faster products are used only where they are exact or users allow rounding, never else."""

import pytest
import torch

from agents import products

MATMUL = torch.backends.mkldnn.matmul
SETTINGS = (MATMUL, torch.backends.mkldnn.conv, torch.backends.cuda.matmul)


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    """PyTorch's usual products before and after, and leave to choose."""
    monkeypatch.delenv(products.VARIABLE, raising=False)
    before = [setting.fp32_precision for setting in SETTINGS]
    for setting in SETTINGS:
        setting.fp32_precision = "none"
    yield
    for setting, precision in zip(SETTINGS, before, strict=True):
        setting.fp32_precision = precision


def precisions():
    return [setting.fp32_precision for setting in SETTINGS]


def test_they_are_exact_where_they_are_used():
    used = products.use_fast_products()
    assert used == (MATMUL.fp32_precision == "bf16")
    left, right = torch.randn(64, 512), torch.randn(512, 64)
    exact = left.double() @ right.double()
    assert ((left @ right) - exact).abs().max() / exact.std() < products.TOLERANCES["1"]
    assert precisions()[1:] == ["none", "none"]


def test_rounded_ones_are_used_on_request(monkeypatch):
    """Convolutions follow what products do, and TF32 waits for a GPU."""
    monkeypatch.setenv(products.VARIABLE, "rounded")
    monkeypatch.setattr(products, "GAIN", 0.0)  # However slow.
    assert products.use_fast_products()
    assert precisions() == ["bf16", "bf16", "tf32"]
    left, right = torch.randn(64, 512), torch.randn(512, 64)
    exact = left.double() @ right.double()
    assert ((left @ right) - exact).abs().max() / exact.std() < products.TOLERANCES["rounded"]


def test_another_wish_is_an_error(monkeypatch):
    monkeypatch.setenv(products.VARIABLE, "bf16")
    with pytest.raises(ValueError, match="is 0, 1 or rounded, not 'bf16'"):
        products.use_fast_products()
    assert precisions() == ["none", "none", "none"]


def test_choosing_again_keeps_the_choice(monkeypatch):
    monkeypatch.setattr(products, "GAIN", 0.0)  # However fast, if exact.
    used = products.use_fast_products()
    monkeypatch.setattr(products, "GAIN", 1e6)
    assert products.use_fast_products() == used


def test_they_can_be_forbidden(monkeypatch):
    monkeypatch.setenv(products.VARIABLE, "0")
    assert not products.use_fast_products()
    assert precisions() == ["none", "none", "none"]


@pytest.mark.parametrize("allowed", ["1", "rounded"])
@pytest.mark.parametrize(("tolerance", "gain"), [(0.0, 0.0), (1.0, 1e6)])
def test_they_are_left_where_they_are_not_exact_or_not_faster(
    allowed, tolerance, gain, monkeypatch
):
    monkeypatch.setenv(products.VARIABLE, allowed)
    monkeypatch.setitem(products.TOLERANCES, allowed, tolerance)
    monkeypatch.setattr(products, "GAIN", gain)
    assert not products.use_fast_products()
    assert precisions()[:2] == ["none", "none"]
