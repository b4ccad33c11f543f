"""The facts about the published sets agree with each other and with their published totals."""

import pytest

from ascfeat.datasets.official import nearest_version, official_sets, versions

TOTALS = {
    ("tut2018", ""): (6122, 2518, 0),
    ("tut2018_mobile", ""): (7202, 2878, 0),
    ("tau2019", ""): (9185, 4185, 1030),
    ("tau2019_mobile", ""): (10265, 5265, 1030),
    ("tau2020_mobile", "v1"): (13965, 2970, 6105),
    ("tau2020_mobile", "v2"): (13962, 2968, 6105),
}
SETS = {(entry.kind, entry.version): entry for entry in official_sets()}


def summed(sides):
    return tuple(map(sum, zip(*sides, strict=True)))


def test_every_published_set_is_there():
    assert set(SETS) == set(TOTALS)


@pytest.mark.parametrize("key", TOTALS)
def test_devices_add_up_to_the_published_totals(key):
    assert summed(SETS[key].devices.values()) == TOTALS[key]
    assert SETS[key].clips == sum(TOTALS[key])


@pytest.mark.parametrize("key", TOTALS)
def test_classes_add_up_to_their_device(key):
    for device, classes in SETS[key].classes.items():
        assert len(classes) == 10
        assert summed(classes.values()) == SETS[key].devices[device]


def test_formats_are_the_published_ones():
    stereo = {kind for (kind, _), entry in SETS.items() if entry.format.channels == 2}
    assert stereo == {"tut2018", "tau2019"}
    assert str(SETS["tau2019", ""].format.audio) == "48000 Hz, 2 channels, 10 s"
    assert str(SETS["tau2020_mobile", "v2"].format.audio) == "44100 Hz, 1 channel, 10 s"


def test_both_2020_versions_are_told_apart_by_their_length():
    assert nearest_version("tau2020_mobile", 23_040).version == "v1"
    assert nearest_version("tau2020_mobile", 23_035).version == "v2"
    assert nearest_version("scenes", 14_400) is None
    assert len(versions("tau2020_mobile")[1].removed) == 5
