"""The tagger against torchvision's ResNet-34, librosa's decibels, a head written out, and the counts of its design."""

import librosa
import numpy as np
import pytest
import torch
from torch import nn

from ascmodels.families.tagger_resnet34 import TaggerResNet34, decibels, standardised
from ascmodels.testing.stores import layout
from ascschemas.layout import LogScale
from ascschemas.problems import RecipeError

MEL = layout(bands=128, frames=512)
SMALL = TaggerResNet34(widths=(8, 12), depths=(1, 2), hidden=24)


def parameters(family, tags=80):
    with torch.device("meta"):
        return sum(p.numel() for p in family.build((MEL,), tags).parameters())


def test_it_has_the_number_of_parameters_of_the_public_design():
    assert parameters(TaggerResNet34()) == 22_935_312
    assert parameters(TaggerResNet34(second_head=True)) == 24_592_224


def test_its_trunk_is_torchvisions_with_one_channel():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(1)
    theirs = models.resnet34(weights=None)
    theirs.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    for name, norm in theirs.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            norm.copy_(torch.rand_like(norm) + 0.5)
    ours = TaggerResNet34().build((MEL,), 80)
    trunk = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    missing, strange = ours.load_state_dict(trunk, strict=False)
    assert not strange
    assert {key.split(".")[0] for key in missing} == {"head"}
    x = torch.randn(2, 1, 64, 75)
    with torch.inference_mode():
        theirs.eval(), ours.eval()
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            expected = stage(expected)
        torch.testing.assert_close(ours.trunk(x), expected, rtol=1e-5, atol=1e-5)


def test_its_trunk_is_table_1_of_he_et_al_written_out_with_functions():
    torch.manual_seed(4)
    network = SMALL.build((MEL,), 5).double().eval()
    state = network.state_dict()
    for name in state:
        if name.endswith("running_mean"):
            state[name].normal_()
        elif name.endswith("running_var"):
            state[name].uniform_(0.5, 2)

    def conv(x, name, norm, stride, padding):
        x = nn.functional.conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)
        mean, var, scale, shift = (
            state[f"{norm}.{n}"].view(-1, 1, 1) for n in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = given = torch.randn(2, 1, 40, 50, dtype=torch.float64)
    x = nn.functional.max_pool2d(conv(x, "conv1", "bn1", 2, 3).clamp_min(0), 3, stride=2, padding=1)
    for block, stride in (("layer1.0", 1), ("layer2.0", 2), ("layer2.1", 1)):
        short = conv(x, f"{block}.downsample.0", f"{block}.downsample.1", 2, 0) if block == "layer2.0" else x
        x = conv(x, f"{block}.conv1", f"{block}.bn1", stride, 1).clamp_min(0)
        x = (conv(x, f"{block}.conv2", f"{block}.bn2", 1, 1) + short).clamp_min(0)
    with torch.inference_mode():
        torch.testing.assert_close(network.trunk(given), x, rtol=1e-10, atol=1e-12)


def test_its_decibels_are_librosas_and_each_example_has_mean_0_and_deviation_1():
    powers = np.random.default_rng(2).exponential(size=(3, 1, 20, 30)) ** 8 * 1e-6
    powers[0, 0, :5] = 0
    for top_db in (80.0, 30.0, None):
        found = decibels(torch.from_numpy(powers), top_db).numpy()
        expected = np.stack([librosa.power_to_db(p, top_db=top_db) for p in powers])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-10)
        levels = standardised(torch.from_numpy(found)).numpy()
        by_hand = [(e - e.mean()) / (e.std() + 1e-7) for e in expected]
        np.testing.assert_allclose(levels, by_hand, rtol=1e-9, atol=1e-9)
    assert not standardised(decibels(torch.zeros(1, 1, 4, 4), 80.0)).any()


def test_its_logits_are_the_head_written_out_over_the_largest_of_each_map():
    torch.manual_seed(3)
    network = SMALL.build((MEL,), 5).double().eval()
    x = torch.rand(2, 1, 64, 70, dtype=torch.float64) ** 6
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    with torch.inference_mode():
        found = network(x).numpy()
        h = network.trunk(standardised(decibels(x, 80.0))).numpy().max(axis=(2, 3))
    for layer in (0, 3, 6):
        h = h @ state[f"head.{layer}.weight"].T + state[f"head.{layer}.bias"]
        h = np.maximum(h, 0) if layer < 6 else h
    np.testing.assert_allclose(found, h, rtol=1e-12, atol=1e-12)


def test_a_gain_of_the_whole_clip_changes_nothing_and_any_length_is_taken():
    network = SMALL.build((MEL,), 5).eval()
    x = torch.rand(2, 1, 64, 70) + 0.1
    with torch.inference_mode():
        torch.testing.assert_close(network(10 * x), network(x), rtol=1e-3, atol=1e-4)
        assert network(torch.rand(3, 1, 128, 1271)).shape == (3, 5)


def test_the_second_head_is_there_in_training_only_and_is_no_copy():
    family = SMALL.model_copy(update={"second_head": True, "dropout": (0.0, 0.0)})
    network = family.build((MEL,), 5)
    x = torch.rand(4, 1, 64, 64)
    both = network.train()(x)
    assert both.shape == (4, 2, 5)
    assert not torch.allclose(both[:, 0], both[:, 1])
    assert network.eval()(x).shape == (4, 5)
    dropped = [m.p for m in TaggerResNet34(second_head=True, widths=(8,), depths=(1,)).build((MEL,), 5).second
               if isinstance(m, nn.Dropout)]  # fmt: skip
    assert dropped == [0.2, 0.1]


@pytest.mark.parametrize(("given", "field"), [
    (layout(bands=64, frames=64, channels=2), "axes"),
    (layout(bands=64, frames=64).model_copy(update={"log": LogScale(decibels=4.3, lowest=-23)}), "quantity"),
])  # fmt: skip
def test_stereo_and_logarithms_are_refused(given, field):
    with pytest.raises(RecipeError) as refused:
        SMALL.build((given,), 5)
    assert [d.field for d in refused.value.differences] == [field]
