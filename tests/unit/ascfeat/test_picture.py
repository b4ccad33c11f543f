"""Every layout draws, with the axes that it has and the values that are stored."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from ascfeat import picture
from ascfeat.picture import draw
from ascmodels.testing.stores import make_store, scene_clips
from ascschemas.layout import Axis, Layout

CHANNELS = Axis(name="channel", size=2, values=("left", "right"))
PARTS = Axis(name="component", size=2, values=("harmonic", "percussive"))
MEL = Axis(name="frequency", size=20, unit="Hz", values=tuple(np.geomspace(100, 8000, 20).round().tolist()))
OCTAVES = Axis(name="frequency", size=20, unit="Hz", values=tuple((32.7 * 2 ** (np.arange(20) / 3)).tolist()))
BINS = Axis(name="frequency", size=129, unit="Hz", step=31.25)
CEPSTRUM = Axis(name="coefficient", size=13)
TIME = Axis(name="time", size=30, unit="s", step=0.02)
SAMPLES = Axis(name="time", size=20_000, unit="s", step=1 / 8000)
TAGS = Axis(name="tag", size=50, values=tuple(f"tag $\\frac{i}$" for i in range(50)))

LAYOUTS = {
    "log-mel": (CHANNELS, MEL, TIME),
    "constant-Q": (CHANNELS, OCTAVES, TIME),
    "mfcc": (CHANNELS, CEPSTRUM, TIME),
    "hpss": (CHANNELS, PARTS, CEPSTRUM, TIME),
    "waveform": (CHANNELS, SAMPLES),
    "short waveform": (CHANNELS, TIME),
    "spectrum": (CHANNELS, BINS),
    "tags": (TAGS,),
    "one tag": (Axis(name="tag", size=1, values=("only",)),),
    "one of each": tuple(Axis(name=n, size=1) for n in ("channel", "frequency", "time")),
    "one sample": (Axis(name="channel", size=1), Axis(name="time", size=1)),
    "plain vector": (Axis(name="anything", size=7),),
    "plain matrix": (Axis(name="some", size=2), Axis(name="thing", size=7)),
}


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a clip of a layout; give the figure and what is stored."""

    def make(name: str) -> tuple[Figure, np.ndarray]:
        layout = Layout(axes=LAYOUTS[name], quantity="any")
        store = make_store(tmp_path / "d" / "f.zarr", clips=scene_clips()[:4], splits=(), shape=layout)
        made = []
        monkeypatch.setattr(picture, "Figure", lambda **how: made.append(Figure(**how)) or made[0])
        draw(store, 2, tmp_path / "clip.png")
        image = matplotlib.image.imread(tmp_path / "clip.png")
        assert image[..., :3].std() > 0.01, "an empty picture"
        return made[0], store.read([2])[0]

    return make


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_draws(drawn, name: str) -> None:
    figure, _ = drawn(name)
    assert figure.get_suptitle().startswith("audio/bus-lisbon-0-1-a.wav\nbus · lisbon · device a")


def images(figure: Figure) -> list:
    return [panel for panel in figure.axes if panel.get_title()]


def test_a_panel_a_channel_and_component_each_with_its_values(drawn) -> None:
    figure, values = drawn("hpss")
    titles = [panel.get_title() for panel in images(figure)]
    assert titles == ["left · harmonic", "left · percussive", "right · harmonic", "right · percussive"]
    for panel, stored in zip(images(figure), values.reshape(-1, 13, 30), strict=True):
        np.testing.assert_array_equal(panel.collections[0].get_array(), stored)
        assert panel.get_yscale() == "linear"
    assert len({panel.collections[0].get_clim() for panel in images(figure)}) == 1, "one scale of colours for all"


@pytest.mark.parametrize(("name", "scale"), [("log-mel", "symlog"), ("constant-Q", "log"), ("mfcc", "linear")])
def test_rows_stand_where_their_coordinates_say(drawn, name: str, scale: str) -> None:
    figure, _ = drawn(name)
    panel = images(figure)[0]
    assert panel.get_yscale() == scale
    rows = LAYOUTS[name][1].coordinates()
    assert panel.get_ylim() == (rows[0], rows[-1])
    assert images(figure)[1].get_xlabel() == "time (s)"


def test_a_spectrum_is_in_decibels_over_the_frequencies_above_zero(drawn, monkeypatch) -> None:
    figure, values = drawn("spectrum")
    line = figure.axes[1].lines[0]
    np.testing.assert_allclose(line.get_xdata(), np.asarray(BINS.coordinates())[1:])
    expected = 20 * np.log10(np.maximum(values[1, 1:], picture.LEAST))
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert figure.axes[1].get_xscale() == "log"


def test_a_waveforms_extremes_are_in_its_picture(drawn) -> None:
    figure, values = drawn("waveform")
    for panel, samples in zip(figure.axes, values, strict=True):
        heights = panel.collections[0].get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (samples.min(), samples.max())
        assert panel.get_xlim() == (0, SAMPLES.coordinates()[-1])


def test_the_strongest_tags_come_first_with_their_names_as_they_are(drawn) -> None:
    figure, values = drawn("tags")
    panel = figure.axes[0]
    order = np.argsort(-values)[:20]
    assert [bar.get_width() for bar in panel.patches] == values[order].tolist()
    assert [t.get_text() for t in panel.get_yticklabels()] == [f"tag $\\frac{i}$" for i in order]
    assert panel.get_title() == "the 20 strongest of 50"
