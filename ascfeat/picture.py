"""Pictures of stored features, and ascfeat's door to matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ascfeat.store import Store

COLOURS = "magma"


def spectrogram(store: Store, clip: int, out: Path) -> None:
    """Draw one clip's features over time and frequency, in seconds and Hz, one panel a channel, as a PNG.

    Parameters
    ----------
    store : Store
        An open store whose layout has axes ``channel, frequency, time``.
    clip : int
        Position of the clip.
    out : Path
        File to write.
    """
    values = store.read([clip])[0]
    frequency, time = (_coordinates(store, name) for name in ("frequency", "time"))
    figure = Figure(figsize=(9, 0.6 + 3.4 * len(values)), layout="constrained")
    panels = figure.subplots(len(values), 1, squeeze=False)[:, 0]
    for panel, channel in zip(panels, values, strict=True):
        mesh = panel.pcolormesh(time, frequency, channel, cmap=COLOURS, shading="nearest", rasterized=True)
        panel.set_yscale(
            "symlog", linthresh=1000, linscale=1.0
        )  # like the mel scale: linear to 1 kHz, then logarithmic
        panel.set_yticks(*_ticks(frequency))
        panel.minorticks_off()
        panel.set_ylim(frequency[0], frequency[-1])
        panel.set(xlabel="time (s)", ylabel="frequency (Hz)")
        figure.colorbar(mesh, ax=panel, label=store.layout.quantity, pad=0.01)
    place = " · ".join(p for p in (store.labels[clip], store.cities[clip], _device(store, clip)) if p)
    panels[0].set_title(f"{store.ids[clip]}\n{place} · {store.header.recipe.name}", fontsize=10, loc="left")
    figure.savefig(out, format="png", dpi=130)


def _coordinates(store: Store, name: str) -> npt.NDArray[np.float64]:
    axis = store.layout.axis(name)
    return np.arange(1.0) if axis is None else np.asarray(axis.coordinates(), dtype=np.float64)


def _ticks(frequency: npt.NDArray[np.float64]) -> tuple[list[float], list[str]]:
    marks = [f for f in (0, 250, 500, 1000, 2000, 4000, 8000, 16000) if frequency[0] <= f <= frequency[-1]]
    return [float(m) for m in marks], [f"{m}" if m < 1000 else f"{m // 1000}k" for m in marks]


def _device(store: Store, clip: int) -> str:
    return f"device {store.devices[clip]}" if store.devices[clip] else ""
