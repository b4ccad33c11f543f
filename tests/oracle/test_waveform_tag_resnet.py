"""The waveform network against jung2020: parameter counts, map lengths, and every layer written out in NumPy."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.special import softmax

from ascmodels.families.waveform_tag_resnet import WaveformTagResnet
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError


def waveform(samples=480_000, channels=2):
    axes = (Axis(name="channel", size=channels), Axis(name="time", size=samples))
    return Layout(axes=axes, quantity="amplitude")


def tags(count=80):
    return Layout(axes=(Axis(name="tag", size=count),), quantity="tag value")


def network(family, samples=480_000, channels=2, count=80, classes=10):
    inputs = (waveform(samples, channels), tags(count)) if family.takes_tags else (waveform(samples, channels),)
    return family.build(inputs, classes)


def before(layers):
    return {"concatenation": "before_code", "transform_layers": layers}


COUNTS = [
    ({}, 636_736),
    ({"concatenation": "codecat"}, 637_536),
    ({"concatenation": "codecat_transform"}, 663_488),
    *((before(n), 646_976 + 6_480 * n) for n in range(6)),
    (before(1), 653_456),
    (before(3), 666_416),
    (before(5), 679_376),
    *(({"attention": True, "attention_layers": n}, c) for n, c in enumerate((647_104, 653_584, 660_064, 666_544))),
    *((before(n) | {"attention": True, "shared": True}, c) for n, c in enumerate((657_344, 663_824, 670_304, 676_784))),
    *(
        (before(a) | {"attention": True, "attention_layers": b}, c)
        for a, b, c in ((3, 3, 696_224), (3, 4, 702_704), (4, 3, 702_704), (4, 4, 709_184))
    ),
]


@pytest.mark.parametrize(("parameters", "count"), COUNTS)
def test_every_system_has_as_many_parameters_as_its_tables_come_to(parameters, count):
    made = network(WaveformTagResnet.model_validate(parameters))
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == count


def test_the_number_of_heads_changes_no_count_and_the_printed_table_has_its_own():
    for heads in (2, 4, 8, 16, 32):
        made = network(WaveformTagResnet(attention=True, heads=heads))
        assert sum(p.numel() for p in made.parameters()) == 647_104
    assert sum(p.numel() for p in network(WaveformTagResnet.table1()).parameters()) == 714_058


@pytest.mark.parametrize("family", [WaveformTagResnet(), WaveformTagResnet.table1()])
def test_maps_of_ten_seconds_have_the_lengths_of_table_1(family):
    made, shapes = network(family).eval(), []
    for layer in made.maps:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        assert made.emphasised(torch.zeros(1, 2, 480_000)).shape == (1, 2, 479_999)
        assert made(torch.zeros(1, 2, 480_000)).shape == (1, 10)
    lengths = [39_999, 13_333, 4_444, 1_481, 493, 164, 54, 18]
    widths = (family.stem_filters, *family.widths)
    assert shapes == [*zip(widths, lengths, strict=True), *([(128, 18)] if family.final_conv else [])]


def test_pre_emphasis_is_scipys_filter_one_sample_on():
    x = np.random.default_rng(0).normal(size=(2, 3, 50))
    made = network(WaveformTagResnet(), channels=3).emphasised(torch.from_numpy(x))
    np.testing.assert_allclose(made.numpy(), 32_000 * lfilter([1, -0.97], 1, x)[..., 1:], rtol=1e-12, atol=1e-9)


def test_mixtures_may_be_made_before_pre_emphasis_or_after_it():
    made, draw = network(WaveformTagResnet()), np.random.default_rng(1)
    one, two = (torch.from_numpy(draw.normal(size=(4, 2, 30))) for _ in range(2))
    first = made.emphasised(0.3 * one + 0.7 * two)
    torch.testing.assert_close(first, 0.3 * made.emphasised(one) + 0.7 * made.emphasised(two), rtol=1e-12, atol=1e-8)


def test_a_full_scale_waveform_overflows_no_half_precision():
    made = network(WaveformTagResnet.presets()["small"], samples=100).train()
    with torch.no_grad():
        made.maps[0][0].weight.copy_(torch.tensor([0.5, -0.5, 0.5, -0.5]).expand(8, 2, 4))
    loud = 1 - 0.2 * torch.rand(4, 2, 100, generator=torch.Generator().manual_seed(0))
    x = loud * torch.tensor([1.0, -1.0]).repeat(50)
    wanted = made.stem(x)
    for half in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=half):
            assert torch.equal(made.stem(x), wanted)
            assert made(x).dtype == half
            assert made(x).isfinite().all()
    with torch.autocast("cpu", dtype=torch.float16):
        assert not made.maps[0](made.emphasised(x)).isfinite().all()  # which is what is avoided


@pytest.mark.parametrize("heads", [2, 4, 8, 16, 32])
def test_the_weights_of_each_head_are_a_softmax_and_sum_to_one(heads):
    made = network(WaveformTagResnet(attention=True, heads=heads)).double()
    row = np.random.default_rng(heads).random((5, 80))
    with torch.inference_mode():
        weights = made.attended(torch.from_numpy(row)).numpy()
    logits = row @ made.attention.weight.detach().numpy().T + made.attention.bias.detach().numpy()
    by_hand = np.concatenate([softmax(part, axis=1) for part in np.split(logits, heads, axis=1)], axis=1)
    np.testing.assert_allclose(weights, by_hand, rtol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=1), heads, rtol=1e-12)


@pytest.mark.parametrize("way", [name for name in WaveformTagResnet.presets() if name != "default"])
def test_its_outputs_are_those_of_the_layers_written_out_in_numpy(way):
    family = WaveformTagResnet.presets()[way]
    made = network(family, samples=75, count=6, classes=3).double().eval()
    draw = torch.Generator().manual_seed(3)
    for name, tensor in made.state_dict().items():
        if tensor.dtype.is_floating_point:
            noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
            tensor.copy_(1 + 0.3 * noise.abs() if "running_var" in name else 0.3 * noise)
    x = torch.randn((2, 2, 75), generator=draw, dtype=torch.float64)
    tau = torch.rand((2, 6), generator=draw, dtype=torch.float64)
    seen = (x, tau) if family.takes_tags else (x,)
    codes, logits = by_hand({k: v.numpy() for k, v in made.state_dict().items()}, family, x.numpy(), tau.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(made.codes(*seen).numpy(), codes, rtol=1e-10, atol=1e-9)
        np.testing.assert_allclose(made(*seen).numpy(), logits, rtol=1e-10, atol=1e-9)


def by_hand(state, family, x, tau):
    def conv(x, key, stride=1, padding=0):
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
        kernel = state[f"{key}.weight"]
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2], axis=2)[:, :, ::stride]
        return np.einsum("bctk,ock->bot", windows, kernel) + state[f"{key}.bias"][:, None]

    def norm(x, key):
        mean, var, gain, offset = (
            state[f"{key}.{n}"][:, None] for n in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * gain + offset

    def relu(x):
        return np.where(x < 0, 0.3 * x, x)

    def dense(x, key):
        return x @ state[f"{key}.weight"].T + state.get(f"{key}.bias", 0)

    def block(x, key):
        inner = relu(norm(conv(x, f"{key}.first", padding=1), f"{key}.first_norm"))
        inner = norm(conv(inner, f"{key}.second", padding=1), f"{key}.second_norm")
        short = conv(x, f"{key}.shortcut", padding=1) if f"{key}.shortcut.weight" in state else x
        x = relu(inner + short)
        whole = x.shape[-1] // 3
        return x[..., : 3 * whole].reshape(*x.shape[:2], whole, 3).max(axis=-1)

    def transformed(key, layers):
        made = tau
        for n in range(layers):
            made = relu(dense(made, f"{key}.{n}.0"))
        return made

    x = 32_000 * (x[..., 1:] - 0.97 * x[..., :-1])
    x = relu(norm(conv(x, "maps.0.0", stride=family.stem_kernel), "maps.0.1"))
    for n in range(1, 1 + len(family.widths)):
        x = block(x, f"maps.{n}")
    if family.final_conv:
        last = f"maps.{1 + len(family.widths)}"
        x = relu(norm(conv(x, f"{last}.0"), f"{last}.1"))
    joined = transformed("transform", family.transform_layers)
    if family.attention:
        seen = joined if family.shared else transformed("attention_transform", family.attention_layers)
        heads = np.split(dense(seen, "attention"), family.heads, axis=1)
        x = x * np.concatenate([softmax(h, axis=1) for h in heads], axis=1)[:, :, None]
    pooled = [x.mean(axis=2), x.max(axis=2), *([joined] if family.concatenation == "before_code" else [])]
    codes = dense(np.concatenate(pooled, axis=1), "code")
    if family.concatenation in ("codecat", "codecat_transform"):
        codes = np.concatenate([codes, tau], axis=1)
    if family.concatenation == "codecat_transform":
        codes = dense(codes, "joined")
    return codes, dense(codes, "output")


@pytest.mark.parametrize(("channels", "count", "classes"), [(1, 1, 2), (4, 527, 7)])
def test_any_number_of_channels_tags_and_classes(channels, count, classes):
    family = WaveformTagResnet.presets()["small_shared"]
    made = network(family, 100, channels, count, classes).eval()
    with torch.inference_mode():
        assert made(torch.randn(3, channels, 100), torch.rand(3, count)).shape == (3, classes)


def test_the_shortest_clip_works_and_a_sample_less_is_refused_with_both_numbers():
    assert WaveformTagResnet().smallest_length() == 12 * 3**7 + 1 == 26_245
    with torch.inference_mode():
        assert network(WaveformTagResnet(), 26_245).eval()(torch.randn(1, 2, 26_245)).shape == (1, 10)
    with pytest.raises(RecipeError, match="short") as refused:
        network(WaveformTagResnet(), 26_244)
    assert [(d.expected, d.found) for d in refused.value.differences] == [("at least 26245", "26244")]


@pytest.mark.parametrize(
    ("parameters", "inputs", "rows"),
    [
        ({}, (waveform(), tags()), [("recipes", "1", "2")]),
        ({"attention": True}, (waveform(),), [("recipes", "2", "1")]),
        ({"attention": True}, (tags(), waveform()), [("axes of store 1", "channel, time", "tag"),
                                                     ("axes of store 2", "tag", "channel, time")]),
    ],
)  # fmt: skip
def test_other_stores_than_it_sees_are_refused(parameters, inputs, rows):
    with pytest.raises(RecipeError, match="waveform_tag_resnet") as refused:
        WaveformTagResnet.model_validate(parameters).build(inputs, 10)
    assert [(d.field, d.expected, d.found) for d in refused.value.differences] == rows
    assert refused.value.todo


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"attention": True, "heads": 3}, "128 filters of the last map cannot be shared out among 3 heads"),
        ({"transform_layers": 1}, "transform_layers come before the code"),
        ({"attention_layers": 1}, "attention_layers need attention"),
        ({"attention": True, "shared": True}, "two who share"),
        (before(1) | {"attention": True, "attention_layers": 1, "shared": True}, "shared to false"),
    ],
)
def test_parameters_that_mean_nothing_together_are_refused(parameters, said):
    with pytest.raises(ValueError, match=said):
        WaveformTagResnet.model_validate(parameters)
