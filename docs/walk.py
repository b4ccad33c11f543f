"""Draw the README's picture from a real walk: a recording, its stored features, the curves and the report of a run.

usage: python docs/walk.py DATASET STORE RUN OUT.png
after `make demo`: python docs/walk.py demo/scenes demo/features/scenes/logmel256.zarr demo/run walk.png
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from ascfeat.store import open_store

INK, ACCENT = "#33404d", "#b5431c"


def main() -> None:
    """Four panels and the commands between them."""
    dataset, store, run, out = map(Path, sys.argv[1:])
    figure = Figure(figsize=(13, 3.3))
    panels = figure.subplots(
        1, 4, gridspec_kw={"wspace": 0.62, "left": 0.045, "right": 0.985, "top": 0.72, "bottom": 0.17}
    )
    clip = open_store(store).ids[0]
    recording(panels[0], dataset / clip)
    features(panels[1], store)
    curves(panels[2], run)
    confusion(panels[3], run)
    for left, right, command in zip(
        panels, panels[1:], ("ascfeat extract", "ascmodels fit", "ascmodels evaluate"), strict=False
    ):
        arrow(figure, left, right, command)
    for panel, title in zip(panels, ("recordings", "feature store", "run", "report"), strict=True):
        panel.set_title(title, fontsize=13, color=INK, weight="bold", pad=10)
        panel.tick_params(labelsize=8, colors=INK)
    figure.savefig(out, dpi=110)


def recording(panel: Axes, path: Path) -> None:
    """A waveform over seconds."""
    samples, rate = soundfile.read(path)
    panel.plot(np.arange(len(samples)) / rate, samples, color=INK, lw=0.3)
    panel.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, len(samples) / rate))


def features(panel: Axes, path: Path) -> None:
    """The stored log-mel of the same clip."""
    store = open_store(path)
    time = store.layout.axis("time").coordinates()
    panel.imshow(store.read([0])[0, 0], origin="lower", aspect="auto", cmap="magma", extent=(0, time[-1], 0, 256))
    panel.set(xlabel="time (s)", ylabel="mel band")


def curves(panel: Axes, run: Path) -> None:
    """Accuracy by epoch."""
    with (run / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    epochs = [int(r["epoch"]) for r in rows]
    panel.plot(epochs, [float(r["accuracy"]) for r in rows], color="0.6", label="training")
    panel.plot(epochs, [float(r["watched_accuracy"]) for r in rows], color=ACCENT, label="validation")
    panel.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    panel.legend(fontsize=8, frameon=False, loc="lower right")


def confusion(panel: Axes, run: Path) -> None:
    """Which scene is taken for which."""
    report = json.loads((run / "report.json").read_text())["selected"]["confusion"]
    matrix = np.array(report["counts"])
    panel.imshow(matrix / matrix.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (i, j), n in np.ndenumerate(matrix):
        panel.text(
            j, i, n or "", ha="center", va="center", fontsize=9, color="white" if n > matrix[i].sum() / 2 else INK
        )
    names = [c.replace("_", "\n") for c in report["classes"]]
    panel.set_xticks(range(len(names)), names, fontsize=7)
    panel.set_yticks(range(len(names)), names, fontsize=7)


def arrow(figure: Figure, left: Axes, right: Axes, command: str) -> None:
    """An arrow above the gap between two panels, with the command that it stands for."""
    figure.add_artist(
        ConnectionPatch((0.86, 1.14), (0.14, 1.14), "axes fraction", "axes fraction", axesA=left, axesB=right,
                        arrowstyle="-|>", mutation_scale=16, color=ACCENT, lw=1.6)
    )  # fmt: skip
    a, b = left.get_position(), right.get_position()
    figure.text((a.x1 + b.x0) / 2, 0.9, command, ha="center", family="monospace", fontsize=10.5, color=ACCENT)


if __name__ == "__main__":
    main()
