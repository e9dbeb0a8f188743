"""Layers inside a time loop equal plain ones, values and gradients."""

import pytest
import torch

from agents import nets
from agents.nets import MLP, ImageDecoder, ImageEncoder, MLPConfig, NormalHead
from agents.world_models.loop import LoopMLP, LoopNormalHead, split_linear

STEPS, BATCH, SIZE, KNOWN = 4, 3, 5, 2
CLOSE = {"atol": 1e-10, "rtol": 1e-10}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def known_inputs(known):
    return torch.randn(STEPS, BATCH, KNOWN, requires_grad=True) if known else None


def run(call, start, fold):
    """A recurrence: each output gives the next input."""
    inputs, outputs = start, []
    for step in range(STEPS):
        outputs.append(call(step, inputs))
        inputs = fold(outputs[-1])
    return torch.stack(outputs)


def assert_equal(plain, loop, leaves):
    """Both outputs are the same, and so are the gradients of the leaves."""
    torch.testing.assert_close(loop, plain, **CLOSE)
    weight = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weight).sum(), leaves, allow_unused=True)
    actual = torch.autograd.grad((loop * weight).sum(), leaves, allow_unused=True)
    for one, other in zip(expected, actual, strict=True):
        assert one is not None
        torch.testing.assert_close(other, one, **CLOSE)


def join(inputs, known, step):
    return inputs if known is None else torch.cat([inputs, known[step]], dim=-1)


@pytest.mark.parametrize("known", [False, True])
def test_linear(known):
    known = known_inputs(known)
    linear = torch.nn.Linear(SIZE + (0 if known is None else KNOWN), SIZE)
    start = torch.randn(BATCH, SIZE, requires_grad=True)
    leaves = [start, *linear.parameters()] + ([] if known is None else [known])
    loop = split_linear(linear.weight, linear.bias, STEPS, BATCH, known)
    assert_equal(
        run(lambda step, x: linear(join(x, known, step)), start, torch.tanh),
        run(lambda step, x: loop(x), start, torch.tanh),
        leaves,
    )


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("count", "activation", "norm"),
    [(1, "elu", False), (1, "swish", True), (2, "elu", False), (3, "relu", True)],
)
def test_one_network_or_several_side_by_side(known, layers, skip, count, activation, norm):
    known = known_inputs(known)
    config = MLPConfig(6, layers, activation, norm, skip)
    nets = [MLP(SIZE + (0 if known is None else KNOWN), 4, config) for _ in range(count)]
    start = torch.randn(BATCH, SIZE, requires_grad=True)
    fold = torch.randn(4 * count, SIZE)
    loop = LoopMLP(nets, STEPS, BATCH, known)
    leaves = [start, *(p for net in nets for p in net.parameters())]
    leaves += [] if known is None else [known]
    assert_equal(
        run(
            lambda step, x: torch.cat([net(join(x, known, step)) for net in nets], dim=-1),
            start,
            lambda y: torch.tanh(y @ fold),
        ),
        run(lambda step, x: loop(x), start, lambda y: torch.tanh(y @ fold)),
        leaves,
    )


def test_a_network_without_head():
    net = MLP(SIZE, None, MLPConfig(SIZE, 1, "swish", layer_norm=True))
    start = torch.randn(BATCH, SIZE, requires_grad=True)
    loop = LoopMLP([net], STEPS, BATCH)
    assert_equal(
        run(lambda step, x: net(x), start, torch.tanh),
        run(lambda step, x: loop(x), start, torch.tanh),
        [start, *net.parameters()],
    )


def test_a_head():
    head = NormalHead(SIZE + KNOWN, SIZE, MLPConfig(6))
    known = known_inputs(True)
    loop = LoopNormalHead(head, STEPS, BATCH, known)
    start = torch.randn(BATCH, SIZE, requires_grad=True)
    assert_equal(
        run(lambda step, x: sum(head(join(x, known, step))), start, torch.tanh),
        run(lambda step, x: sum(loop(x)), start, torch.tanh),
        [start, known, *head.parameters()],
    )


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_heads_for_batches_of_their_own(count, known, norm, skip):
    given = torch.randn(STEPS, count, BATCH, KNOWN, requires_grad=True) if known else None
    config = MLPConfig(6, 2, "elu", norm, skip)
    heads = [NormalHead(SIZE + known * KNOWN, SIZE, config) for _ in range(count)]
    start = torch.randn(count, BATCH, SIZE, requires_grad=True)
    loop = LoopNormalHead(heads, STEPS, BATCH, given)
    leaves = [start, *(weight for head in heads for weight in head.parameters())]
    assert_equal(
        run(
            lambda step, x: torch.stack(
                [sum(head(row)) for head, row in zip(heads, join(x, given, step), strict=True)]
            ),
            start,
            torch.tanh,
        ),
        run(lambda step, x: sum(loop(x)), start, torch.tanh),
        leaves + ([given] if known else []),
    )


def test_frozen_weights_pass_gradients_and_get_none():
    nets = [MLP(SIZE + KNOWN, 4, MLPConfig(6)).requires_grad_(False) for _ in range(2)]
    known = known_inputs(True)
    start = torch.randn(BATCH, SIZE, requires_grad=True)
    fold = torch.randn(8, SIZE)
    loop = LoopMLP(nets, STEPS, BATCH, known)
    assert_equal(
        run(
            lambda step, x: torch.cat([net(join(x, known, step)) for net in nets], dim=-1),
            start,
            lambda y: torch.tanh(y @ fold),
        ),
        run(lambda step, x: loop(x), start, lambda y: torch.tanh(y @ fold)),
        [start, known],
    )
    assert all(p.grad is None for net in nets for p in net.parameters())


def test_weights_get_no_gradient_where_none_is_wanted():
    linear = torch.nn.Linear(SIZE, SIZE)
    with torch.no_grad():
        loop = split_linear(linear.weight, linear.bias, STEPS, BATCH)
        x = torch.randn(BATCH, SIZE)
        torch.testing.assert_close(loop(x), linear(x), **CLOSE)
        assert not loop(x).requires_grad


def test_an_image_decoder_equals_its_layers_in_turn(monkeypatch):
    decoder, features = ImageDecoder(SIZE, width=2), torch.randn(2, 3, SIZE)
    plain = decoder.net(features.flatten(0, 1)).unflatten(0, (2, 3))
    leaves = list(decoder.parameters())
    assert_equal(plain, decoder(features).mean, leaves)
    monkeypatch.setattr(nets, "CACHED_IMAGES", 4)
    plain = decoder.net(features.flatten(0, 1)).unflatten(0, (2, 3))
    assert_equal(plain, decoder(features).mean, leaves)


def test_an_image_encoder_equals_its_layers_in_turn(monkeypatch):
    monkeypatch.setattr(nets, "CACHED_IMAGES", 4)
    encoder, images = ImageEncoder(width=2), torch.rand(2, 3, 3, 64, 64)
    plain = encoder.net(images.flatten(0, 1)).reshape(2, 3, -1)
    assert_equal(plain, encoder(images), list(encoder.parameters()))
