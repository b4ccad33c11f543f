"""ResNet-50 against published counts and maps, torchvision, timm and numpy; weights from a file; ye2019."""

import importlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascmodels import papers, recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import Measured, beside, evaluate
from ascmodels.families.resnet50_transfer import Bottleneck, ResNet50Transfer
from ascmodels.initial import Given, fitted
from ascmodels.objectives import focal_loss
from ascmodels.optimisers import optimiser, schedule
from ascmodels.testing.stores import layout, make_store
from ascmodels.training import train
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError, RunError

PAPER = layout(bands=64, frames=320)
NARROW = {"widths": (4, 6), "depths": (1, 2)}
KEPT_ALIVE = []
"""A definition of torch's is forgotten with the object that made it."""


def library(name):
    """A module of a library that may not be here.

    The wheels of torchvision on PyPI are for a torch with CUDA. Beside one without they ask for operators of theirs
    that no network here uses; these are declared for them.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    except RuntimeError:
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT_ALIVE.append(declared)
        return importlib.import_module(name)


def written_out(classes=1000, channels=3):
    """Every key of a ResNet-50 and its shape, after He et al., Table 1, and the names of torchvision."""

    def norm(name, n):
        return {f"{name}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")} | {
            f"{name}.num_batches_tracked": ()
        }

    shapes = {"conv1.weight": (64, channels, 7, 7), **norm("bn1", 64)}
    before = 64
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            shapes |= {f"{at}.conv1.weight": (width, before, 1, 1), **norm(f"{at}.bn1", width)}
            shapes |= {f"{at}.conv2.weight": (width, width, 3, 3), **norm(f"{at}.bn2", width)}
            shapes |= {f"{at}.conv3.weight": (4 * width, width, 1, 1), **norm(f"{at}.bn3", 4 * width)}
            if block == 0:
                shapes |= {f"{at}.downsample.0.weight": (4 * width, before, 1, 1)}
                shapes |= norm(f"{at}.downsample.1", 4 * width)
            before = 4 * width
    return shapes | {"fc.weight": (classes, 2048), "fc.bias": (classes,)}


def made_up(shapes, seed=0):
    """Weights of some shapes, such that maps neither vanish nor explode."""
    draw = torch.Generator().manual_seed(seed)

    def values(name, shape):
        if name.endswith("tracked"):
            return torch.tensor(7)
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")):
            return 0.5 + torch.rand(shape, generator=draw)
        spread = (2 / max(1, np.prod(shape[1:]))) ** 0.5 if len(shape) > 1 else 0.1
        return spread * torch.randn(shape, generator=draw)

    return {name: values(name, shape) for name, shape in shapes.items()}


def parameters(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.fixture(scope="module")
def network():
    return ResNet50Transfer().build((PAPER,), 10).eval()


def test_it_has_the_published_number_of_parameters(network):
    assert parameters(network) == 23_528_522
    assert parameters(ResNet50Transfer().build((PAPER,), 1000)) == 25_557_032
    assert parameters(ResNet50Transfer(channels=1).build((PAPER,), 10)) == 23_522_250


def test_its_keys_and_shapes_are_those_written_out(network):
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert found == written_out(classes=10)


def test_its_maps_have_the_shapes_of_the_table(network):
    def maps(resnet, rows, frames):
        seen = []
        parts = [resnet.conv1, resnet.maxpool, resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]
        hooks = [p.register_forward_hook(lambda m, x, y: seen.append(tuple(y.shape[1:]))) for p in parts]
        with torch.inference_mode():
            assert resnet(torch.zeros(1, 1, rows, frames)).shape == (1, 10)
        for hook in hooks:
            hook.remove()
        return seen

    assert maps(network, 64, 320) == [
        (64, 32, 160),
        (64, 16, 80),
        (256, 16, 80),
        (512, 8, 40),
        (1024, 4, 20),
        (2048, 2, 10),
    ]
    resized = ResNet50Transfer(resize=224).build((PAPER,), 10).eval()
    assert maps(resized, 64, 320) == [
        (64, 112, 112),
        (64, 56, 56),
        (256, 56, 56),
        (512, 28, 28),
        (1024, 14, 14),
        (2048, 7, 7),
    ]


def test_its_first_weights_are_he_normal_and_its_norms_one(network):
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            outgoing = layer.weight[:, 0].numel()
            assert float(layer.weight.detach().std()) == pytest.approx((2 / outgoing) ** 0.5, rel=0.06), name
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (1e-5, 0.1)
            assert bool((layer.weight == 1).all())


def same_outputs(ours, theirs, x):
    """In float64, scoring and training: logits, and what norms remember."""
    ours, theirs = ours.double(), theirs.double()
    wide = x.expand(-1, 3, -1, -1)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(wide), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(ours.train()(x), theirs.train()(wide), rtol=1e-9, atol=1e-11)
    kept = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("module", ["torchvision.models", "timm.models.resnet"])
def test_it_computes_what_other_libraries_compute(module):
    theirs = library(module).resnet50(num_classes=10)
    ours = ResNet50Transfer().build((PAPER,), 10)
    weights = made_up(written_out(classes=10))
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    same_outputs(ours, theirs, torch.randn((2, 1, 64, 96), dtype=torch.float64))


def test_a_bottleneck_is_its_layers_written_out_in_numpy():
    for inputs, inner, stride in ((5, 3, 2), (12, 3, 1)):
        block = Bottleneck(inputs, inner, stride).double().eval()
        assert (block.downsample is None) == (stride == 1)
        assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (stride, stride), (1, 1))
        shapes = {name: tuple(value.shape) for name, value in block.state_dict().items()}
        state = {k: v.double() for k, v in made_up(shapes, seed=stride).items()}
        block.load_state_dict(state)
        x = torch.randn((2, inputs, 6, 7), dtype=torch.float64)
        with torch.inference_mode():
            found = block(x).numpy()
        np.testing.assert_allclose(found, bottleneck(x.numpy(), arrays(state), "", stride), rtol=1e-10, atol=1e-12)


def test_a_whole_network_is_its_layers_written_out_in_numpy():
    family = ResNet50Transfer(**NARROW)
    network = family.build((layout(20, 26),), 3).double().eval()
    state = made_up({name: tuple(value.shape) for name, value in network.state_dict().items()})
    network.load_state_dict(state)
    x = torch.randn((2, 1, 20, 26), dtype=torch.float64)
    with torch.inference_mode():
        found = network(x).numpy()
    state = arrays(state)
    maps = np.repeat(x.numpy(), 3, axis=1)
    maps = np.maximum(norm(convolved(maps, state["conv1.weight"], 2), state, "bn1"), 0)
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    maps = windows.max(axis=(4, 5))
    for stage, depth in enumerate(NARROW["depths"], start=1):
        for i in range(depth):
            maps = bottleneck(maps, state, f"layer{stage}.{i}.", 2 if (stage > 1 and i == 0) else 1)
    wanted = maps.mean(axis=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def arrays(state):
    return {name: value.double().numpy() for name, value in state.items()}


def convolved(x, kernel, stride):
    pad = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bcftkl,ockl->boft", windows, kernel)


def norm(x, state, name):
    mean, variance, scale, offset = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + offset


def bottleneck(x, state, at, stride):
    """After He et al., Fig. 5, the stride in the 3x3 convolution."""
    y = np.maximum(norm(convolved(x, state[f"{at}conv1.weight"], 1), state, f"{at}bn1"), 0)
    y = np.maximum(norm(convolved(y, state[f"{at}conv2.weight"], stride), state, f"{at}bn2"), 0)
    y = norm(convolved(y, state[f"{at}conv3.weight"], 1), state, f"{at}bn3")
    if f"{at}downsample.0.weight" in state:
        x = norm(convolved(x, state[f"{at}downsample.0.weight"], stride), state, f"{at}downsample.1")
    return np.maximum(x + y, 0)


def test_maps_are_resized_bilinearly_between_the_middles_of_cells():
    family = ResNet50Transfer(**NARROW)
    plain = family.build((PAPER,), 3).double().eval()
    resizing = ResNet50Transfer(**NARROW, resize=24).build((PAPER,), 3).double().eval()
    resizing.load_state_dict(plain.state_dict())
    x = torch.randn((2, 1, 16, 40), dtype=torch.float64)
    small = x.numpy()
    for axis in (2, 3):
        n = small.shape[axis]
        at = np.clip((np.arange(24) + 0.5) * n / 24 - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        shape = [1, 1, 1, 1]
        shape[axis] = 24
        part = (at - low).reshape(shape)
        high = np.minimum(low + 1, n - 1)
        small = small.take(low, axis) * (1 - part) + small.take(high, axis) * part
    with torch.inference_mode():
        torch.testing.assert_close(resizing(x), plain(torch.from_numpy(small)), rtol=1e-9, atol=1e-10)


def test_features_that_it_cannot_see_are_refused_with_both_values():
    with pytest.raises(RecipeError) as refused:
        ResNet50Transfer().build((layout(channels=2),), 3)
    assert [(d.field, d.expected, d.found) for d in refused.value.differences] == [("channel", "1 or 3", "2")]
    with pytest.raises(RecipeError):
        ResNet50Transfer(channels=1).build((layout(channels=3),), 3)
    assert ResNet50Transfer(**NARROW).build((layout(channels=3),), 3)(torch.zeros(2, 3, 21, 25)).shape == (2, 3)
    tags = Layout(axes=(Axis(name="tag", size=80),), quantity="any")
    with pytest.raises(RecipeError, match="cannot take these features"):
        ResNet50Transfer().build((tags,), 3)


CLASSES = tuple("abcdefghij")


def given(state, tmp_path):
    return Given(tmp_path / "imagenet.pth", "0" * 64, state)


def test_imagenet_weights_fit_all_but_the_head(tmp_path, network):
    state = made_up(written_out(classes=1000))
    found = fitted(given(state, tmp_path), ResNet50Transfer(), network.state_dict(), CLASSES)
    assert (found.said.taken, found.said.replaced) == (318, 2)
    assert all(torch.equal(found.weights[name], state[name]) for name in state if not name.startswith("fc."))
    assert not any(name.startswith("fc.") for name in found.weights)


def test_a_stem_of_one_channel_sees_one_channel_as_three_kernels_see_it_three_times(tmp_path):
    state = made_up(written_out(classes=1000))
    wide, narrow = ResNet50Transfer(), ResNet50Transfer(channels=1)
    logits = []
    for family in (wide, narrow):
        resnet = family.build((PAPER,), 10)
        found = fitted(given(state, tmp_path), family, resnet.state_dict(), CLASSES)
        assert found.said.taken == 318
        resnet.load_state_dict({**resnet.state_dict(), **found.weights, "fc.weight": torch.ones(10, 2048)})
        resnet.fc.bias.data.zero_()
        with torch.inference_mode():
            logits.append(resnet.double().eval()(torch.linspace(-1, 1, 32 * 40).double().reshape(1, 1, 32, 40)))
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-6)  # kernels are summed in float32
    assert parameters(narrow.build((PAPER,), 10)) == parameters(wide.build((PAPER,), 10)) - 2 * 64 * 49


def test_the_other_resnets_do_not_pass_for_this_one(tmp_path, network):
    models = library("torchvision.models")
    for made, why in ((models.resnet18, "layer1.0.conv1.weight"), (models.wide_resnet50_2, "layer1.0.conv1.weight")):
        with pytest.raises(RunError, match="another architecture") as refused:
            fitted(given(made().state_dict(), tmp_path), ResNet50Transfer(), network.state_dict(), CLASSES)
        assert refused.value.differences[0].field == why


YE = """
name: transfer
features: made_up
family: {kind: resnet50_transfer}
objective: {kind: focal, form: per_class, gamma: 2}
optimiser: {kind: sgd, lr: 1e-30}
batch_size: 8
epochs: null
iterations: 1
selection: {side: last, fraction: 0}
"""


def saved(source, file):
    """ImageNet-like weights as somebody would bring them."""
    if source == "names":
        state = made_up(written_out(classes=1000))
    else:
        state = (
            library({"torchvision": "torchvision.models", "timm": "timm.models.resnet"}[source]).resnet50().state_dict()
        )
    torch.save(state, file)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("source", ["torchvision", "timm", "names"])
def test_fit_starts_from_such_a_file(tmp_path, monkeypatch, ascmodels, source):
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "features" / "scenes" / "made_up.zarr")
    (tmp_path / "transfer.yaml").write_text(YE)
    state = saved(source, tmp_path / "resnet50.pth")
    fit = ("fit", "transfer.yaml", "--out", "run", "--device", "cpu", "--init")
    status, out, err = ascmodels(*fit, "resnet50.pth")
    assert (status, out) == (0, "run: 1 epoch, epoch 1 selected. Next: ascmodels evaluate run\n")
    assert "Starting from resnet50.pth: 318 tensors taken; the head (fc) is new." in err
    held = load_file(RunFolder(tmp_path / "run").checkpoint(1) / "weights.safetensors")
    for name, value in state.items():
        if name.endswith(("weight", "bias")) and not name.startswith("fc."):
            torch.testing.assert_close(held[f"network.{name}"], value, rtol=0, atol=1e-20)
    assert held["network.fc.weight"].shape == (3, 2048)
    if source == "names":
        assert ascmodels("evaluate", "run", "--device", "cpu")[0] == 0
        assert "Started from given weights: resnet50.pth" in (tmp_path / "run" / "report.md").read_text()
        (tmp_path / "resnet50.pth").write_bytes((tmp_path / "resnet50.pth").read_bytes()[:70_000_000])
        status, out, err = ascmodels(*fit[:3], "other", *fit[4:], "resnet50.pth")
        assert (status, out) == (2, "")
        assert err.startswith("resnet50.pth cannot be read as weights")
        assert not (tmp_path / "other").exists()


def test_focal_loss_with_mixup_is_the_mixture_of_two_focal_losses():
    """``l FL(p, y_i) + (1 - l) FL(p, y_j)`` is the per-class form with mixed labels, and not the other form."""
    draw = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn((64, 10), generator=draw, dtype=torch.float64)
    first, second = (torch.eye(10, dtype=torch.float64)[torch.randint(10, (64,), generator=draw)] for _ in range(2))
    for share in (0.0, 0.07, 0.5, 0.93, 1.0):
        losses = [focal_loss(logits, y, form="target_probability", gamma=2.0) for y in (first, second)]
        wanted = share * losses[0] + (1 - share) * losses[1]
        mixed = share * first + (1 - share) * second
        torch.testing.assert_close(focal_loss(logits, mixed, form="per_class", gamma=2.0), wanted, rtol=1e-12, atol=0)
        if 0 < share < 1:
            other = focal_loss(logits, mixed, form="target_probability", gamma=2.0)
            assert abs(float(other - wanted)) > 0.01


ROWS = ("ye2019_nll", "ye2019_focal", "ye2019")


def test_the_recipes_are_the_rows_of_the_table():
    rows = {name: papers.load(name) for name in ROWS}
    apart = {"objective.kind", "objective.form", "objective.gamma", "objective.alpha", "objective.eps"}
    values = {name: recipe.hyper_parameters for name, recipe in rows.items()}
    nll, focal, mixed = (values[name] for name in ROWS)
    assert {k for k in focal if focal[k] != nll.get(k, "absent")} == apart
    mixup = {f"augmentation.mixup.{k}" for k in ("alpha", "share", "from_epoch", "probability")}
    assert {k for k in mixed if mixed[k] != focal.get(k, "absent")} == {"objective.form"} | mixup
    assert (focal["objective.gamma"], focal["objective.form"], focal["objective.alpha"]) == (
        2,
        "target_probability",
        None,
    )
    assert (mixed["objective.form"], mixed["augmentation.mixup.alpha"]) == ("per_class", 0.3)
    assert (mixed["augmentation.mixup.share"], mixed["features"], mixed["normalise"]) == ("batch", "logmel64", "band")
    assert (mixed["batch_size"], mixed["epochs"], mixed["iterations"]) == (64, None, 5000)
    assert (mixed["selection.side"], mixed["selection.fraction"]) == ("last", 0)
    assert [rows[name].claims[0].value for name in ROWS] == [72.5, 73.3, 74.7]
    kind = representation(load_recipe("logmel64").representation)
    assert kind.layout(AudioFormat(sample_rate=48000, channels=1, frames=480000)).shape == PAPER.shape


def test_the_rate_falls_by_a_tenth_after_every_200_of_5000_iterations():
    recipe = papers.load("ye2019")
    network = nn.Linear(1, 1)
    steps = optimiser(recipe.optimiser, network)
    rate, seen = schedule(recipe, steps), []
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(recipe.iterations):
        seen.append(steps.param_groups[0]["lr"])
        steps.step()
        rate.after_step()
    np.testing.assert_allclose(seen, 1e-3 * 0.9 ** (np.arange(5000) // 200), rtol=1e-12)
    assert steps.param_groups[0]["lr"] == pytest.approx(7.179e-5, rel=1e-3)


def test_its_numbers_are_never_called_comparable(tmp_path):
    """What they were measured on has no published labels, whatever split of the development set one has."""
    store = make_store(tmp_path / "features" / "scenes" / "made_up.zarr")
    small = recipes.override(
        papers.load("ye2019"),
        ["features=made_up", "iterations=2", "batch_size=16", "family.widths=[4,4]", "family.depths=[1,1]"],
    )
    train(small, store, tmp_path / "run", device="cpu")
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert [(c.comparable, c.ours) for c in report.claims] == [(False, report.selected.class_mean)]
    (claim,) = papers.load("ye2019").claims
    for split in ("fold1", "folds5_1"):
        judged = beside(claim, report.selected, Measured(kind="tut2018", split=split, clips=8640, tested=2518))
        assert judged.remark.startswith("not comparable")
