"""Does an epoch have as many clips of every group, and each clip equally often?"""

from collections import Counter

import numpy as np
import pytest

from ascmodels.randomness import generator
from ascmodels.sampling import sampled
from ascmodels.testing.stores import make_store, scene_clips


@pytest.fixture
def uneven(tmp_path):
    """Three classes of 8, 16 and 24 clips; a third of each on device b, but for the last."""
    clips = [c for c in scene_clips(locations=6, devices=("a", "b")) if c.device == "a" or c.label == "bus"]
    kept = [c for c in clips if not (c.label == "park" and c.location.endswith(("-4", "-5")))]
    return make_store(tmp_path / "scenes" / "made_up.zarr", tuple(kept))


def draw(epoch=1):
    return generator(0, "order", epoch)


def test_each_clip_once_draws_nothing(uneven):
    state = (at := draw()).bit_generator.state
    clips = np.arange(3, 20)
    assert sampled(uneven, clips, "each", at) is clips
    assert at.bit_generator.state == state


@pytest.mark.parametrize("how", ["class", "device", "class_device"])
def test_groups_are_equal_and_their_clips_too(uneven, how):
    clips = np.arange(len(uneven.ids))
    columns = {"class": uneven.labels, "device": uneven.devices}
    names = [tuple(columns[part][c] for part in how.split("_")) for c in clips]
    assert max(Counter(names).values()) > min(Counter(names).values()) + 1
    taken = sampled(uneven, clips, how, draw())
    assert len(taken) == len(clips)
    counts = Counter(names[c] for c in taken)
    assert counts.keys() == {*names}
    assert max(counts.values()) - min(counts.values()) <= 1
    for group in counts:
        often = [Counter(taken.tolist())[c] for c in clips if names[c] == group]
        assert max(often) - min(often) <= 1


def test_another_epoch_takes_others_and_the_same_takes_the_same(uneven):
    clips = np.arange(len(uneven.ids))
    one, again, two = (sampled(uneven, clips, "class", draw(e)).tolist() for e in (1, 1, 2))
    assert one == again
    assert Counter(one) != Counter(two)


def test_more_groups_than_clips(uneven):
    clips = np.array([0, len(uneven.ids) - 1])
    assert len(sampled(uneven, clips, "class_device", draw())) == 2
