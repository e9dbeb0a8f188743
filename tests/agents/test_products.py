"""Faster products are used only where they are exact, and never against the user's will."""

import pytest
import torch

from agents import products

MATMUL = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    """PyTorch's usual products before and after, and leave to choose."""
    monkeypatch.delenv(products.VARIABLE, raising=False)
    before = MATMUL.fp32_precision
    MATMUL.fp32_precision = "none"
    yield
    MATMUL.fp32_precision = before


def test_they_are_exact_where_they_are_used():
    used = products.use_fast_products()
    assert used == (MATMUL.fp32_precision == "bf16")
    left, right = torch.randn(64, 512), torch.randn(512, 64)
    exact = left.double() @ right.double()
    assert ((left @ right) - exact).abs().max() / exact.std() < products.TOLERANCE


def test_choosing_again_keeps_the_choice(monkeypatch):
    monkeypatch.setattr(products, "GAIN", 0.0)  # However fast, if exact.
    used = products.use_fast_products()
    monkeypatch.setattr(products, "GAIN", 1e6)
    assert products.use_fast_products() == used


def test_they_can_be_forbidden(monkeypatch):
    monkeypatch.setenv(products.VARIABLE, "0")
    before = MATMUL.fp32_precision
    assert not products.use_fast_products()
    assert MATMUL.fp32_precision == before


@pytest.mark.parametrize(("name", "value"), [("TOLERANCE", 0.0), ("GAIN", 1e6)])
def test_they_are_left_where_they_are_not_exact_or_not_faster(monkeypatch, name, value):
    monkeypatch.setattr(products, name, value)
    before = MATMUL.fp32_precision
    assert not products.use_fast_products()
    assert MATMUL.fp32_precision == before
