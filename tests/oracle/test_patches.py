"""Are patches the slices that they say, resized as torch resizes, and as many as huang2019 counts?"""

import numpy as np
import pytest
import torch

from ascfeat.patches import count, cut, resized
from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout
from ascschemas.recipe import Patches

CLIP = AudioFormat(sample_rate=48_000, channels=2, frames=480_000)
HUANG = {"mfcc_patches": 33, "mfcc_patches_fine": 39, "cqt_patches": 39, "hpss_mfcc_patches": 66}


def huang_layout(name: str) -> Layout:
    """Axes of huang2019, section 2.1."""
    shape = {
        "mfcc_patches": {"channel": 3, "coefficient": 128, "time": 469},
        "mfcc_patches_fine": {"channel": 3, "coefficient": 128, "time": 938},
        "cqt_patches": {"channel": 3, "frequency": 110, "time": 938},
        "hpss_mfcc_patches": {"channel": 3, "component": 2, "coefficient": 128, "time": 469},
    }[name]
    return Layout(axes=tuple(Axis(name=n, size=s) for n, s in shape.items()), quantity="any")


@pytest.mark.parametrize("name", HUANG)
def test_a_clip_gives_as_many_patches_as_the_paper_counts(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.patches is not None
    layout = representation(recipe.representation).layout(CLIP)
    assert layout.shape == huang_layout(name).shape
    assert count(layout, recipe.patches)[1] == HUANG[name]
    patches = cut(np.zeros((2, *layout.shape), np.float32), recipe.patches)
    assert patches.shape[-2:] == (128, 128)
    assert patches[0].size == HUANG[name] * 128 * 128


@pytest.mark.parametrize(("stored", "rows"), [(110, 128), (128, 110), (5, 5), (7, 1), (1, 6), (3, 1000), (64, 128)])
def test_rows_are_resized_as_torch_does(stored: int, rows: int) -> None:
    x = np.random.default_rng(rows).standard_normal((2, 3, stored, 17)).astype(np.float32)
    size, how = (rows, 17), {"mode": "bilinear", "align_corners": False}
    expected = torch.nn.functional.interpolate(torch.from_numpy(x).double(), size=size, **how).numpy()
    np.testing.assert_allclose(resized(x, rows), expected, rtol=0, atol=2e-6)
    assert resized(x, rows).dtype == np.float32


@pytest.mark.parametrize("last", ["drop", "align"])
@pytest.mark.parametrize(("frames", "width", "hop"), [(20, 8, 4), (21, 8, 4), (8, 8, 3), (30, 5, 9), (431, 128, 32)])
def test_each_patch_is_a_slice(frames: int, width: int, hop: int, last: str) -> None:
    """Against torch's ``unfold``, and for the aligned last one the end of the features itself."""
    x = np.random.default_rng(frames).standard_normal((2, 3, 4, frames)).astype(np.float32)
    found = cut(x, Patches(width=width, hop=hop, last=last))
    unfolded = torch.from_numpy(x).unfold(-1, width, hop).movedim(-2, -3).numpy()  # (clip, channel, patch, row, width)
    whole = unfolded.shape[2]
    np.testing.assert_array_equal(found[:, :, :whole], unfolded)
    rest = last == "align" and (frames - width) % hop != 0
    assert found.shape == (2, 3, whole + rest, 4, width)
    if rest:
        np.testing.assert_array_equal(found[:, :, -1], x[..., -width:])


def test_huangs_44_khz_reading_gives_10_patches_or_11_with_the_last_aligned() -> None:
    frames = np.zeros((1, 128, 1 + 441_000 // 1024), np.float32)
    assert [cut(frames, Patches(width=128, hop=32, last=how)).shape[1] for how in ("drop", "align")] == [10, 11]
