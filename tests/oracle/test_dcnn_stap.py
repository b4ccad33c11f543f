"""The network of huang2019 against its Table 1: counts, map shapes, and transcriptions in plain torch and NumPy."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d, pad

from ascfeat.recipes import load_recipe
from ascmodels.families.dcnn_stap import AttentionPooling, DcnnStap, SameConv, SamePool
from ascmodels.inputs import Input, examples
from ascmodels.testing.stores import layout
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError

MAP = layout(bands=128, frames=128)
TWO = {"time_stride": 1, "widths": (64, 128, 256, 256)}
ONE_MAP = [(64, 32, 64), (128, 16, 64), (256, 8, 64), (512, 4, 64)]
TWO_MAPS = [(64, 32, 128), (128, 16, 128), (256, 8, 128), (256, 4, 128)]


@pytest.mark.parametrize(
    ("values", "stores", "count"),
    [
        ({}, 1, 5_037_962),
        ({"conv_bias": True}, 1, 5_040_650),
        ({"attention": False}, 1, 6_326_090),
        (TWO, 2, 2_469_898),
        ({**TWO, "attention": False}, 2, 3_769_226),
    ],
)
def test_it_has_as_many_parameters_as_the_table_gives(values, stores, count):
    with torch.device("meta"):
        network = DcnnStap(**values).build((MAP,) * stores, 10)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("values", "stores", "first", "blocks", "pooled"),
    [
        ({}, 1, (64, 64, 64), ONE_MAP, 2048),
        ({"attention": False}, 1, (64, 64, 64), ONE_MAP, 131_072),
        (TWO, 2, (64, 64, 128), TWO_MAPS, 1024),
        ({**TWO, "attention": False}, 2, (64, 64, 128), TWO_MAPS, 131_072),
    ],
)
def test_its_maps_have_the_shapes_of_table_1(values, stores, first, blocks, pooled):
    shapes = []
    network = DcnnStap(**values).build((MAP,) * stores, 10).eval()
    for layer in (network.blocks[0][0], *network.blocks, network.pooling):
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        assert network(*[torch.zeros(1, *MAP.shape)] * stores).shape == (1, 10)
    assert shapes == [first, *blocks, (pooled,)]


@pytest.mark.parametrize(("final_relu", "stores"), [(False, 1), (True, 2)])
def test_its_outputs_are_those_of_plain_layers_with_the_same_weights(final_relu, stores):
    values = {"widths": (3, 4, 5, 6), "time_stride": 3 - stores, "final_relu": final_relu, "norm_eps": 1e-3}
    family = DcnnStap(**values, attention=False, conv_bias=True)
    shape = (1, 22, 13)  # odd numbers of bands and frames on the way: 22, 11, 6, 3, 2, 1
    network = family.build((layout(*shape[1:]),) * stores, 4).double().eval()
    draw = torch.Generator().manual_seed(1)
    for tensor in (*network.parameters(), *(b for b in network.buffers() if b.dtype.is_floating_point)):
        tensor.data = 0.1 + 0.5 * torch.rand(tensor.shape, generator=draw, dtype=torch.float64)
    network.blocks[0][0].weight.data -= 0.3
    maps = [torch.randn((2, *shape), generator=draw, dtype=torch.float64) for _ in range(stores)]
    with torch.inference_mode():
        found, expected = network(*maps), by_hand(network, torch.cat(maps, 1), 3 - stores, final_relu)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def by_hand(network, x, time_stride, final_relu):
    """Table 1 line by line: zeros and minus infinity put around by hand, plain convolutions and pools."""
    weights = list(network.state_dict().items())
    weights = iter([tensor for name, tensor in weights if not name.endswith("num_batches_tracked")])
    for block, kernels in enumerate([(3, 3), (3, 3), (3, 3, 1), (3, 3, 1)]):
        for i, kernel in enumerate(kernels):
            kernels_of, bias, scale, offset, mean, variance = (next(weights) for _ in range(6))
            stride = (2, time_stride) if block == i == 0 else (1, 1)
            assert kernels_of.shape[2:] == (kernel, kernel)
            x = conv2d(around(x, kernel, stride, 0.0), kernels_of, bias, stride)
            scaled = (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-3)
            x = torch.relu(scaled * scale[:, None, None] + offset[:, None, None])
        x = max_pool2d(around(x, 2, (2, 1), float("-inf")), 2, (2, 1))
    logits = x.flatten(1) @ next(weights).T + next(weights)
    assert next(weights, None) is None
    return torch.relu(logits) if final_relu else logits


def around(x, kernel, stride, value):
    """``padding="same"`` of TensorFlow: the smaller half before, by its documentation."""
    sides = []
    for n, s in ((x.shape[3], stride[1]), (x.shape[2], stride[0])):
        total = max(kernel - s, 0) if n % s == 0 else max(kernel - n % s, 0)
        sides += [total // 2, total - total // 2]
    return pad(x, sides, value=value)


def test_padding_is_tensorflows_where_it_is_uneven():
    x = torch.arange(1.0, 9).view(1, 1, 2, 4)
    conv = SameConv(1, 1, 3, (2, 2), bias=False)
    nn.init.ones_(conv.weight)
    assert conv(x).tolist() == [[[[1 + 2 + 3 + 5 + 6 + 7, 3 + 4 + 7 + 8]]]]  # no zero before, one behind
    assert conv(x[..., :3]).tolist() == [[[[1 + 2 + 5 + 6, 2 + 3 + 6 + 7]]]]  # an odd number: one on each side
    assert SamePool()(-x).tolist() == [[[[-1, -2, -3, -4]]]]  # nothing past the end, and no zero either
    assert SamePool()(-x[:, :, :1, :3]).tolist() == [[[[-1, -2, -3]]]]


@pytest.mark.parametrize("gain", [1.0, 5.0])
def test_attention_pooling_is_the_papers_formula_in_loops(gain):
    draw = np.random.default_rng(3)
    pooling = AttentionPooling(5, 7, gain).double()
    maps, w, u = draw.normal(size=(2, 5, 7)), draw.normal(size=5), draw.normal(size=7)
    pooling.over_frames.data, pooling.over_rows.data = torch.from_numpy(w), torch.from_numpy(u)
    with torch.inference_mode():
        found = pooling(torch.from_numpy(maps)).numpy()
    for o, x in zip(maps, found, strict=True):
        over_time = np.exp([sum(o[s, t] * w[s] for s in range(5)) for t in range(7)])
        over_space = np.exp([sum(o[s, t] * u[t] for t in range(7)) for s in range(5)])
        over_time, over_space = over_time / over_time.sum(), over_space / over_space.sum()
        expected = [sum(np.tanh(gain * over_space[s] * over_time[t] * o[s, t]) for t in range(7)) for s in range(5)]
        np.testing.assert_allclose(x, expected, rtol=1e-12)


def test_the_mask_is_positive_and_sums_to_one_and_starts_even():
    pooling = AttentionPooling(2048, 64).double()
    maps = torch.randn((3, 2048, 64), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(pooling.mask(maps), torch.full_like(maps, 1 / (2048 * 64)))
    nn.init.normal_(pooling.over_rows)
    nn.init.normal_(pooling.over_frames, std=0.1)
    mask = pooling.mask(maps)
    assert (mask > 0).all()
    assert mask.max() > 100 / (2048 * 64)
    torch.testing.assert_close(mask.sum(dim=(1, 2)), torch.ones(3, dtype=torch.float64))


def test_a_gain_of_the_rows_makes_the_first_pooled_values_averages():
    maps = torch.rand((2, 2048, 64), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    network = DcnnStap(mask_gain="rows").build((MAP,), 2)
    assert network.pooling.gain == 2048
    torch.testing.assert_close(network.pooling.double()(maps), maps.mean(dim=2), rtol=1e-4, atol=0)
    assert DcnnStap(mask_gain=3).build((MAP,), 2).pooling.gain == 3


def test_half_precision_keeps_the_small_differences_between_clips():
    family = DcnnStap(widths=(8, 8, 16, 512))
    network = family.build((layout(32, 32),), 10).eval()
    clips = torch.randn((8, 1, 32, 32), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        exact = network(clips)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(clips)
    apart, rounding = (exact - exact.mean(0)).abs().mean(), (half - exact).abs().mean()
    assert half.dtype == torch.float32
    assert apart < 1e-3
    assert rounding < 0.1 * apart


def test_first_weights_are_he_normal_and_glorot_uniform():
    network = DcnnStap(conv_bias=True).build((MAP,), 10)
    for conv in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        assert float(conv.weight.detach().std()) == pytest.approx((2 / conv.weight[0].numel()) ** 0.5, rel=0.15)
        assert not conv.bias.any()
    dense = network.head[0]
    bound = (6 / (2048 + 10)) ** 0.5
    assert 0.99 * bound < float(dense.weight.detach().abs().max()) <= bound
    assert not dense.bias.any()
    assert not network.pooling.over_rows.any()
    assert not network.pooling.over_frames.any()


@pytest.mark.parametrize(
    ("names", "seconds", "segments"),
    [
        (("mfcc_patches",), (469,), 33),
        (("cqt_patches", "mfcc_patches_fine"), (938, 938), 39),
        (("hpss_mfcc_patches",), (469,), 66),
    ],
)
def test_the_papers_features_give_it_its_maps_and_segments(names, seconds, segments):
    seen = [clips(load_recipe(name), frames) for name, frames in zip(names, seconds, strict=True)]
    assert [i.seen.shape for i in seen] == [(1, 128, 128)] * len(names)
    assert examples(tuple(seen)) == segments
    values = TWO if len(names) == 2 else {}
    with torch.device("meta"):
        DcnnStap(**values).build(tuple(i.seen for i in seen), 10)


def clips(recipe, frames):
    components = (Axis(name="component", size=2),) * (recipe.representation.kind == "hpss_mfcc")
    rows = 110 if recipe.representation.kind == "cqt" else 128
    axes = (Axis(name="channel", size=3), *components, Axis(name="coefficient", size=rows))
    return Input(Layout(axes=(*axes, Axis(name="time", size=frames)), quantity="any"), recipe.patches)


def test_maps_of_other_shapes_are_refused_with_both():
    with pytest.raises(RecipeError, match="stacks the maps") as refused:
        DcnnStap().build((MAP, layout(110, 128), layout(128, 64), MAP), 10)
    assert [(d.field, d.expected, d.found) for d in refused.value.differences] == [
        ("map of store 2", "128 x 128", "110 x 128"),
        ("map of store 3", "128 x 128", "128 x 64"),
    ]
    assert refused.value.todo
    with pytest.raises(RecipeError, match="cannot take") as refused:
        DcnnStap().build((MAP, Layout(axes=(Axis(name="tag", size=80),), quantity="any")), 10)
    assert [d.found for d in refused.value.differences] == ["tag"]
