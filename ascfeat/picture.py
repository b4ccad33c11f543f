"""Pictures of stored features, one way for each kind of layout, and ascfeat's door to matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ascfeat.store import Store
from ascschemas.correction import Audit, Correction
from ascschemas.layout import Axis, Layout

Values = npt.NDArray[np.float32]

COLOURS: Final = "magma"
LINES: Final = "#3b2f73"
WIDTH: Final = 9.0
"""Inches."""
STRONGEST: Final = 20
"""Tags that are drawn."""
COLUMNS: Final = 1500
"""Stretches of a waveform that are drawn, each as the line from its least to its largest sample."""
MARKS: Final = (20, 50, 100, 250, 500, 1000, 2000, 4000, 8000, 16000)
"""Frequencies in Hz that are written at an axis."""
LEAST: Final = 1e-10
"""Magnitude under which decibels are not followed."""


def draw(store: Store, clip: int, out: Path) -> None:
    """Draw one clip's features as a PNG, over their real axes, one panel a channel and component.

    Rows over time are an image (frequencies in Hz, on the scale that they are spaced by), waveforms a curve over time,
    spectra a curve in dB over frequency, tags bars, the strongest first.

    Parameters
    ----------
    store : Store
        An open store, of any layout.
    clip : int
        Position of the clip.
    out : Path
        File to write.
    """
    values, layout = store.read([clip])[0], store.layout
    kind = _images if layout.timed and len(layout.axes) > 2 else _curves if len(layout.axes) > 1 else _bars
    figure = kind(values, layout)
    place = " · ".join(p for p in (store.labels[clip], store.cities[clip], _device(store, clip)) if p)
    title = f"{store.ids[clip]}\n{place} · {store.header.recipe.name}"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)  # names are names, also with $
    figure.savefig(out, format="png", dpi=130)


def draw_correction(correction: Correction, audit: Audit, out: Path, *, title: str = "") -> None:
    """Draw what each device is multiplied by, in dB, and how far devices lie apart before and after, as a PNG.

    Both over frequency, logarithmic. The lower panel is left out where the audit compared no devices.
    """
    held = audit.held_out
    figure, drawn = _figure(2 if held else 1, 1, height=3.2, sharey=False)
    frequency = np.array(correction.grid.frequencies())
    for device in correction.devices:
        gain = np.array(correction.of_device(device))
        drawn[0, 0].plot(frequency[1:], 20 * np.log10(np.maximum(gain[1:], LEAST)), linewidth=1.1, label=device)
    drawn[0, 0].set(ylabel="coefficient (dB)")
    drawn[0, 0].axhline(0, color="0.6", linewidth=0.6, zorder=0)
    drawn[0, 0].legend(title="device", fontsize=8, title_fontsize=8, ncols=min(len(correction.devices), 6))
    if held:
        centres = [math.sqrt(b.low * b.high) for b in held.bands]
        for name, colour in (("before", "#b5431c"), ("after", LINES)):
            level = [getattr(b, name) for b in held.bands]
            drawn[1, 0].plot(centres, level, color=colour, label=name, linewidth=1.4, drawstyle="steps-mid")
        highest = max(max(b.before, b.after) for b in held.bands)
        drawn[1, 0].set(ylabel="devices apart (dB, rms)", ylim=(-0.04 * highest, 1.08 * highest or 1))
        drawn[1, 0].set_title(f"on {len(held.stems)} moments held off", fontsize=9)
        drawn[1, 0].legend(fontsize=8)
    for panel in drawn[:, 0]:
        panel.set(xscale="log", xlim=(max(20.0, frequency[1]), frequency[-1]))
        panel.set_xticks(*_ticks(frequency[1:]))
        panel.minorticks_off()
        panel.grid(alpha=0.25)
    drawn[-1, 0].set(xlabel="frequency (Hz)")
    said = (
        f"reference {', '.join(correction.reference)} · method {correction.method} · {correction.split}, training side"
    )
    figure.suptitle(f"{title}\n{said}" if title else said, fontsize=10, x=0.01, ha="left", parse_math=False)
    figure.savefig(out, format="png", dpi=130)


def _images(values: Values, layout: Layout) -> Figure:
    """Rows over time, a line of panels a channel, a column of panels a component."""
    rows, time = layout.axes[-2:]
    across = layout.shape[-3] if len(layout.axes) > 3 else 1
    panels = values.reshape(-1, across, rows.size, time.size)  # (down, across, row, time)
    names = np.array(_names(layout.axes[:-2])).reshape(panels.shape[:2])
    figure, drawn = _figure(len(panels), across, height=3.4 if len(panels) < 3 else 2.6)
    low, high = _range(values, rows)
    for place in np.ndindex(*panels.shape[:2]):
        panel: Any = drawn[place]
        at = (_numbers(time), _numbers(rows), panels[place])
        mesh = panel.pcolormesh(*at, cmap=COLOURS, vmin=low, vmax=high, shading="nearest", rasterized=True)
        _row_scale(panel, rows)
        if names.size > 1:
            panel.set_title(names[place], fontsize=9)
        panel.set(xlabel="time (s)" if place[0] == len(panels) - 1 else "")
        panel.set(ylabel=_label(rows) if place[1] == 0 else "")
    outside = [["neither", "min"], ["max", "both"]][int(values.max() > high)][int(values.min() < low)]
    thin = 15 * len(panels)
    figure.colorbar(mesh, ax=drawn, pad=0.01, aspect=thin, label=layout.quantity, extend=outside)
    return figure


def _range(values: Values, rows: Axis) -> tuple[float, float]:
    """What the colours span: everything; of cepstra all but few values, and not the zeroth, which is the level."""
    low, high = values.min(), values.max()
    if rows.name == "coefficient":
        low, high = np.percentile(values[..., 1:, :] if rows.size > 1 else values, (0.5, 99.5))
    flat = low == high  # without a span, every panel would choose colours of its own
    return float(low) - flat, float(high) + flat


def _curves(values: Values, layout: Layout) -> Figure:
    """One curve a panel: samples over time, or decibels over frequency."""
    along = layout.axes[-1]
    lines = values.reshape(-1, along.size)
    names = _names(layout.axes[:-1])
    figure, drawn = _figure(len(lines), 1, height=2.4 if layout.timed else 3.4)
    reach = float(np.abs(lines).max()) or 1.0
    for panel, line, name in zip(drawn[:, 0], lines, names, strict=True):
        if layout.timed:
            _envelope(panel, _numbers(along), line)
            panel.set(ylim=(-1.05 * reach, 1.05 * reach), xlim=(0, _numbers(along)[-1] or 1))
        else:
            _spectrum(panel, along, line)
        panel.set(ylabel="amplitude" if layout.timed else f"{layout.quantity} (dB)")
        panel.grid(alpha=0.25)
        if len(lines) > 1:
            panel.set_title(name, fontsize=9)
    drawn[-1, 0].set(xlabel="time (s)" if layout.timed else _label(along))
    return figure


def _bars(values: Values, layout: Layout) -> Figure:
    """The largest values with their names, the largest on top."""
    strongest = np.argsort(-values, kind="stable")[:STRONGEST]
    names = [str(layout.axes[0].coordinates()[i]) for i in strongest]
    figure, drawn = _figure(1, 1, height=0.8 + 0.24 * len(names))
    panel = drawn[0, 0]
    panel.barh(range(len(names)), values[strongest], color=LINES, height=0.7)
    panel.set_yticks(
        range(len(names)), [n if len(n) <= 40 else n[:39] + "…" for n in names], fontsize=8, parse_math=False
    )
    panel.set(xlabel=layout.quantity, ylim=(len(names) - 0.4, -0.6))
    panel.grid(axis="x", alpha=0.25)
    panel.set_axisbelow(True)
    if len(values) > len(names):
        panel.set_title(f"the {len(names)} strongest of {len(values)}", fontsize=9)
    return figure


def _figure(down: int, across: int, *, height: float, sharey: bool = True) -> tuple[Figure, npt.NDArray[Any]]:
    figure = Figure(figsize=(WIDTH, 0.6 + height * down), layout="constrained")
    return figure, figure.subplots(down, across, squeeze=False, sharex=True, sharey=sharey)


def _envelope(panel: Any, time: npt.NDArray[np.float64], samples: Values) -> None:
    """Least and largest sample of each of some stretches: what the ink of every sample would cover."""
    step = math.ceil(len(samples) / COLUMNS)
    if step == 1:
        panel.plot(time, samples, color=LINES, linewidth=0.8)
        return
    starts = np.arange(0, len(samples), step)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    panel.fill_between(time[starts], low, high, color=LINES, linewidth=0.4, edgecolor=LINES)


def _spectrum(panel: Any, along: Axis, line: Values) -> None:
    """Decibels over frequency, logarithmic; the bin at 0 Hz has no place on such an axis."""
    if along.unit != "Hz":
        panel.plot(_numbers(along), line, color=LINES, linewidth=0.9)
        return
    heard = _numbers(along) > 0
    frequency = _numbers(along)[heard]
    panel.plot(frequency, 20 * np.log10(np.maximum(line[heard], LEAST)), color=LINES, linewidth=0.9)
    panel.set_xscale("log")
    panel.set_xlim(frequency[0], frequency[-1])
    panel.set_xticks(*_ticks(frequency))
    panel.minorticks_off()


def _row_scale(panel: Any, rows: Axis) -> None:
    """Frequencies as they are spaced: by ratios, or like the mel scale; whatever else evenly."""
    at = _numbers(rows)
    if rows.unit == "Hz":
        if _geometric(at):
            panel.set_yscale("log")
        else:
            panel.set_yscale("symlog", linthresh=1000, linscale=1.0)  # linear to 1 kHz, then logarithmic, like mel
        panel.set_yticks(*_ticks(at, least=0 if _geometric(at) else 250))  # lower ones would crowd at a linear foot
        panel.minorticks_off()
    if len(at) > 1:
        panel.set_ylim(at[0], at[-1])


def _ticks(frequency: npt.NDArray[np.float64], least: float = 0.0) -> tuple[list[float], list[str]]:
    """The marks that lie on an axis."""
    marks = [f for f in MARKS if max(frequency[0], least) <= f <= frequency[-1]]
    return [float(m) for m in marks], [f"{m}" if m < 1000 else f"{m // 1000}k" for m in marks]


def _geometric(at: npt.NDArray[np.float64]) -> bool:
    """Whether neighbours stand in one ratio."""
    return bool(len(at) > 2 and at[0] > 0 and np.ptp(np.diff(np.log(at))) < 1e-6)


def _numbers(axis: Axis) -> npt.NDArray[np.float64]:
    """Coordinates of an axis; of one with names, their numbers."""
    if axis.values is None:
        return np.asarray(axis.start + axis.step * np.arange(axis.size), dtype=np.float64)
    numbers = range(axis.size) if isinstance(axis.values[0], str) else axis.values
    return np.asarray(numbers, dtype=np.float64)


def _names(axes: tuple[Axis, ...]) -> list[str]:
    """One name for each place on some axes, in storage order: ``left · harmonic``."""
    if not axes:
        return [""]
    rest = _names(axes[1:])
    return [" · ".join(p for p in (str(own), other) if p) for own in axes[0].coordinates() for other in rest]


def _label(axis: Axis) -> str:
    return f"{axis.name} ({axis.unit})" if axis.unit else axis.name


def _device(store: Store, clip: int) -> str:
    return f"device {store.devices[clip]}" if store.devices[clip] else ""
