"""The multi-scale Xception against published counts and shapes, its equations written out, and Keras' own Xception."""

import math
import os
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, pad, relu

from ascmodels.families.xception_multiscale import SamePool, XceptionMultiscale
from ascmodels.testing.stores import layout
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError

SUBTASK_A, SUBTASK_B = layout(bands=128, frames=469), layout(bands=128, frames=431)
NARROW = XceptionMultiscale(stem=(3, 4), entry=(5, 6, 7), middle=2, exit=(8, 9, 10))


def running(network):
    return sum(b.numel() for name, b in network.named_buffers() if name.endswith(("running_mean", "running_var")))


def count(modules):
    return sum(p.numel() for m in modules for p in m.parameters())


@pytest.fixture(scope="module")
def network():
    return built(SUBTASK_A).eval()


def built(clip, family=XceptionMultiscale(), n_classes=10):  # noqa: B008 - it is frozen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return family.build((clip,), n_classes)


def test_it_has_the_parameters_that_keras_counts(network):
    assert (count([network]), running(network)) == (20_844_386, 20_898_914 - 20_844_386)
    assert network.dense.in_features == 3800
    single = built(SUBTASK_A, XceptionMultiscale(multi_scale=False))
    assert (count([single]), running(single)) == (20_826_866, 20_881_394 - 20_826_866)
    assert single.dense.in_features == 2048


def test_its_trunk_with_three_channels_has_the_parameters_of_keras_xception_without_top():
    network = built(layout(bands=128, frames=469, channels=3))
    assert count([network]) - count([network.dense]) + running(network) == 20_861_480


def test_it_has_36_convolutions_of_which_34_are_separable_and_none_has_a_bias(network):
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    depthwise = [c for c in convolutions if c.groups == c.in_channels > 1]
    assert len(depthwise) == 34
    assert len(convolutions) == 2 + 2 * 34 + 4  # and four shortcuts
    assert not any(c.bias is not None for c in convolutions)
    assert {(m.eps, m.momentum) for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-3, 0.01)}


@pytest.mark.parametrize(("clip", "frames"), [(SUBTASK_A, (232, 116, 58, 29, 15)), (SUBTASK_B, (213, 107, 54, 27, 14))])
def test_its_maps_have_the_shapes_of_both_subtasks(network, clip, frames):
    shapes = {}
    parts = {"stem": network.stem, "down": network.down, "top": network.top}
    parts |= {f"body.{i}": block for i, block in enumerate(network.body)}
    hooks = [
        part.register_forward_hook(lambda m, inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])}))
        for name, part in parts.items()
    ]
    with torch.inference_mode():
        assert network(torch.zeros(1, *clip.shape)).shape == (1, 10)
    for hook in hooks:
        hook.remove()
    t1, t2, t3, t4, t5 = frames
    expected = {"stem": (64, 61, t1), "body.0": (128, 31, t2), "body.1": (256, 16, t3)}
    expected |= {f"body.{i}": (728, 8, t4) for i in range(2, 11)}  # the last one: layer 32
    assert shapes == expected | {"down": (1024, 4, t5), "top": (2048, 4, t5)}


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("columns", [1, 2, 5, 6])
def test_a_same_pool_is_padded_as_tensorflow_says_and_with_minus_infinity(rows, columns):
    x = -1 - torch.rand((2, 3, rows, columns), generator=torch.Generator().manual_seed(1))  # zeros would win
    torch.testing.assert_close(SamePool()(x), same_pool(x), rtol=0, atol=0)


def same_pool(x):
    """``tf.nn.max_pool2d(x, 3, 2, "SAME")`` by its definition: the larger share of the padding goes to the far side."""
    for axis in (2, 3):
        n = x.shape[axis]
        out = math.ceil(n / 2)
        total = max((out - 1) * 2 + 3 - n, 0)
        near = total // 2
        windows = [range(max(2 * i - near, 0), min(2 * i - near + 3, n)) for i in range(out)]
        x = torch.stack([x.index_select(axis, torch.tensor([*w])).amax(axis) for w in windows], axis)
    return x


def scrambled(network):
    """The network in float64, with weights and statistics that no two places share."""
    draw = torch.Generator().manual_seed(1)
    network = network.double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.dtype.is_floating_point:
            drawn = torch.rand(tensor.shape, generator=draw, dtype=torch.float64)
            tensor.copy_(0.5 + drawn if name.endswith("running_var") or tensor.dim() == 1 else drawn - 0.5)
    return network


class Transcription:
    """Keras' ``applications.xception`` line by line in functions of torch, on a network's layers in their order."""

    def __init__(self, network):
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        shortcuts = [m for part in network.modules() for m in getattr(part, "shortcut", nn.Identity()).modules()]
        self.shortcuts = iter([m for m in shortcuts if isinstance(m, nn.Conv2d | nn.BatchNorm2d)])
        self.layers = iter([m for m in layers if m not in shortcuts])

    def convolution(self, x, layers, **how):
        return conv2d(x, next(layers).weight, **how)

    def norm(self, x, layers):
        b = next(layers)
        scale = b.weight / torch.sqrt(b.running_var + 1e-3)
        return (x - b.running_mean[:, None, None]) * scale[:, None, None] + b.bias[:, None, None]

    def separable(self, x):
        x = self.convolution(pad(x, (1, 1, 1, 1)), self.layers, groups=x.shape[1])
        return self.norm(self.convolution(x, self.layers), self.layers)

    def shortcut(self, x):
        return self.norm(self.convolution(x, self.shortcuts, stride=2), self.shortcuts)

    def maps(self, x, middle):
        """Outputs of the two convolutions and of blocks 2 to 14."""
        x = relu(self.norm(self.convolution(x, self.layers, stride=2), self.layers))
        x = relu(self.norm(self.convolution(x, self.layers), self.layers))
        yield x
        residual = self.shortcut(x)
        x = self.separable(x)
        x = self.separable(relu(x))
        x = same_pool(x) + residual
        yield x
        for _ in (3, 4):
            residual = self.shortcut(x)
            x = self.separable(relu(x))
            x = self.separable(relu(x))
            x = same_pool(x) + residual
            yield x
        for _ in range(middle):
            residual = x
            x = self.separable(relu(x))
            x = self.separable(relu(x))
            x = self.separable(relu(x)) + residual
            yield x
        residual = self.shortcut(x)
        x = self.separable(relu(x))
        x = self.separable(relu(x))
        x = same_pool(x) + residual
        yield x
        x = relu(self.separable(x))
        yield relu(self.separable(x))


@pytest.mark.parametrize(("bands", "frames"), [(31, 40), (34, 29), (7, 7)])
def test_every_block_is_that_of_keras_written_out(bands, frames):
    network = scrambled(built(layout(bands=bands, frames=frames), NARROW, 4))
    found = []
    for part in (network.stem, *network.body, network.down, network.top):
        part.register_forward_hook(lambda m, inputs, output: found.append(output))
    x = torch.randn((2, 1, bands, frames), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.inference_mode():
        logits = network(x)
        maps = [*Transcription(network).maps(x, middle=2)]
        scales = [m.mean((2, 3)) for m in (maps[-3], *maps[-2:])]
        pooled = torch.cat(scales, 1) @ network.dense.weight.T + network.dense.bias
    assert len(found) == len(maps) == 8
    for ours, written in zip(found, maps, strict=True):
        torch.testing.assert_close(ours, written, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logits, pooled, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pool", ["average", "max"])
def test_without_multi_scale_the_last_map_is_pooled_alone(pool):
    family = NARROW.model_copy(update={"multi_scale": False, "pool": pool})
    network = scrambled(built(layout(bands=31, frames=40), family, 4))
    x = torch.randn((2, 1, 31, 40), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.inference_mode():
        *_, last = Transcription(network).maps(x, middle=2)
        pooled = last.mean((2, 3)) if pool == "average" else last.flatten(2).max(2).values
        expected = pooled @ network.dense.weight.T + network.dense.bias
        torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-12)


def test_its_weights_are_glorot_uniform_with_the_fans_of_keras_and_its_biases_zero(network):
    """Keras' kernels are (rows, columns, channels in, channels out or multiplier): fans of the last two, times 9."""
    for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        weight = layer.weight.detach()
        size = math.prod(weight.shape[2:])
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
        channels = (layer.in_channels, 1) if depthwise else (weight.shape[1], weight.shape[0])
        bound = math.sqrt(6 / (size * sum(channels)))
        assert 0.95 * bound < float(weight.abs().max()) <= bound * (1 + 1e-6)  # float32 rounds it
        assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.15)
        assert layer.bias is None or not layer.bias.any()


@pytest.fixture(scope="module")
def theirs():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    keras.utils.set_random_seed(3)
    return keras.applications.Xception(weights=None, include_top=False, input_shape=(75, 82, 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' torch backend
def test_its_last_map_is_that_of_keras_xception_with_the_same_weights(theirs):
    network = built(layout(bands=75, frames=82)).eval()
    draw = np.random.default_rng(4)
    for weight in theirs.weights:
        if len(weight.shape) == 1:  # of norms, which begin as ones and zeros
            weight.assign(numpy(weight) + 0.2 * draw.random(weight.shape, dtype=np.float32))
    copy_weights(theirs, network)
    x = draw.standard_normal((2, 75, 82, 1), dtype=np.float32)
    with torch.inference_mode():
        expected = np.moveaxis(numpy(theirs(x, training=False)), -1, 1)
        found = network.top(network.down(network.body(network.stem(torch.tensor(x).movedim(-1, 1))))).numpy()
    assert found.shape == expected.shape == (2, 2048, 3, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(expected.std()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' torch backend
def test_its_first_weights_spread_as_those_of_keras(theirs):
    network = built(layout(bands=75, frames=82))
    ours = [m.weight.detach() for m in network.modules() if isinstance(m, nn.Conv2d)]
    drawn = [numpy(w) for w in theirs.weights if len(w.shape) == 4]
    assert len(ours) == len(drawn)
    spread = sorted((w.numel(), float(w.abs().max())) for w in ours)
    for (size, largest), (n, bound) in zip(spread, sorted((w.size, float(abs(w).max())) for w in drawn), strict=True):
        assert size == n
        assert largest == pytest.approx(bound, rel=0.05)


def numpy(values):
    return sys.modules["keras"].ops.convert_to_numpy(values)


def copy_weights(keras_model, network):
    """Keras' weights into ours, layer by layer in the order of both; Keras names all layers but the shortcuts'."""
    named = [layer for layer in keras_model.layers if layer.name.startswith("block") and layer.weights]
    unnamed = [layer for layer in keras_model.layers if not layer.name.startswith("block") and layer.weights]
    ours = Transcription(network)
    for layers, targets in ((named, ours.layers), (unnamed, ours.shortcuts)):
        for layer in layers:
            values = [numpy(w) for w in layer.weights]
            if type(layer).__name__ == "BatchNormalization":
                norm = next(targets)
                order = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
                for tensor, value in zip(order, values, strict=True):
                    tensor.data = torch.tensor(value)
                continue
            for value in values:  # one kernel, or depthwise and pointwise: (rows, columns, in, out or multiplier)
                kernel = next(targets)
                axes = (2, 3, 0, 1) if kernel.groups > 1 else (3, 2, 0, 1)
                assert kernel.weight.shape == value.transpose(axes).shape
                kernel.weight.data = torch.tensor(value.transpose(axes))


def test_features_of_other_axes_and_maps_too_small_are_refused_with_both_values():
    with pytest.raises(RecipeError) as refused:
        XceptionMultiscale().build((layout(bands=6, frames=5),), 3)
    assert [(d.field, d.expected, d.found) for d in refused.value.differences] == [
        ("frequency", "at least 7", "6"),
        ("time", "at least 7", "5"),
    ]
    waveform = Layout(axes=(Axis(name="channel", size=1), Axis(name="time", size=9000)), quantity="amplitude")
    with pytest.raises(RecipeError) as refused:
        XceptionMultiscale().build((waveform,), 3)
    assert refused.value.differences[0].found == "channel, time"
