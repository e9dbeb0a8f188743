"""Faster products are used only where they are exact, and never against the user's will."""

import pytest
import torch

from agents import products

MATMUL = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def restored():
    before = MATMUL.fp32_precision
    yield
    MATMUL.fp32_precision = before


def test_they_are_exact_where_they_are_used():
    used = products.use_fast_products()
    assert used == (MATMUL.fp32_precision == "bf16")
    left, right = torch.randn(64, 512), torch.randn(512, 64)
    exact = left.double() @ right.double()
    assert ((left @ right) - exact).abs().max() / exact.std() < products.TOLERANCE


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
