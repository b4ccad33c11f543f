"""The five-conv network against Table 1 of nguyen2020: parameter counts, map shapes, and a transcription of its own."""

import numpy as np
import pytest
import torch
from torch import nn

from ascmodels.families.five_conv import FiveConv
from ascmodels.testing.stores import layout
from ascschemas.problems import RecipeError

PAPER = layout(bands=256, frames=862)
MAPS = [(16, 254, 860), (32, 126, 429), (32, 124, 427), (64, 61, 213), (64, 59, 211)]


@pytest.fixture(scope="module")
def network():
    return FiveConv().build((PAPER,), 10).eval()


def test_it_has_the_published_number_of_parameters(network):
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    running = sum(b.numel() for name, b in network.named_buffers() if name.endswith(("running_mean", "running_var")))
    assert trainable == 70_538
    assert trainable + running == 70_954


def test_its_maps_have_the_shapes_of_table_1(network):
    shapes = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        assert network(torch.zeros(1, *PAPER.shape)).shape == (1, 10)
    assert shapes == MAPS


def test_every_block_is_convolution_then_relu_then_norm_as_keras_sets_them(network):
    for block in network.blocks:
        assert [type(layer) for layer in block] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
        assert block[0].padding == (0, 0)
        assert block[0].kernel_size == (3, 3)
        assert (block[2].eps, block[2].momentum) == (1e-3, 0.01)
    assert [block[0].stride for block in network.blocks] == [(1, 1), (2, 2), (1, 1), (2, 2), (1, 1)]


def test_its_weights_are_glorot_uniform_and_its_biases_zero(network):
    for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        weight = layer.weight.detach()
        fan_in, fan_out = weight[0].numel(), weight.numel() // weight.shape[1]
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.95 * bound < float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.15)
        assert not layer.bias.any()


def test_its_outputs_are_those_of_the_layers_written_out_in_numpy():
    family = FiveConv(widths=(2, 3), strides=(1, 2))
    network = family.build((layout(bands=9, frames=8),), 4).double().eval()
    draw = torch.Generator().manual_seed(1)
    for tensor in (*network.parameters(), *(b for b in network.buffers() if b.dtype.is_floating_point)):
        tensor.data = 0.5 + 0.2 * torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
    x = torch.randn((2, 1, 9, 8), generator=draw, dtype=torch.float64)
    with torch.inference_mode():
        np.testing.assert_allclose(network(x).numpy(), by_hand(network, x.numpy(), (1, 2)), rtol=1e-12)


def by_hand(network, x, strides):
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for i, stride in enumerate(strides):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
        x = np.einsum("bcftkl,ockl->boft", windows, state[f"blocks.{i}.0.weight"])
        x = np.maximum(x + state[f"blocks.{i}.0.bias"][:, None, None], 0)
        norm = [state[f"blocks.{i}.2.{n}"][:, None, None] for n in ("running_mean", "running_var", "weight", "bias")]
        x = (x - norm[0]) / np.sqrt(norm[1] + 1e-3) * norm[2] + norm[3]
    return x.mean(axis=(2, 3)) @ state["dense.weight"].T + state["dense.bias"]


def test_the_smallest_input_works_and_one_band_less_is_refused_with_both_numbers():
    assert FiveConv().smallest_extent() == 21
    assert FiveConv().build((layout(21, 21),), 3).eval()(torch.zeros(2, 1, 21, 21)).shape == (2, 3)
    with pytest.raises(RecipeError) as refused:
        FiveConv().build((layout(20, 12),), 3)
    assert [(d.field, d.expected, d.found) for d in refused.value.differences] == [
        ("frequency", "at least 21", "20"),
        ("time", "at least 21", "12"),
    ]
