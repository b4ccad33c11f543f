"""From a list of sounds with several tags to a tagger, its report, and the tags of scenes of another format."""

import json
import subprocess

import librosa
import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import load_file

from ascfeat.extract import extract
from ascfeat.recipes import load_recipe
from ascfeat.store import open_store
from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.inputs import Input
from ascmodels.predict import run_tagger
from ascmodels.training import train
from ascschemas.problems import RunError

pytestmark = pytest.mark.slow

RATE = 16_000
SOUNDS = {
    "hum": lambda t, draw: np.sin(2 * np.pi * draw.uniform(150, 250) * t),
    "beep": lambda t, draw: np.sin(2 * np.pi * draw.uniform(900, 1200) * t),
    "whistle": lambda t, draw: np.sin(2 * np.pi * draw.uniform(3200, 4200) * t),
    "hiss": lambda t, draw: draw.normal(size=len(t)),
}
FEATURES = """name: powers
decode: {sample_rate: 16000, seconds: 1, other_length: repeat}
representation: {kind: mel, n_fft: 512, hop_length: 160, spectrum: power, n_mels: 40, fmin: 60}
"""
SETTINGS = (
    "features=powers", "epochs=12", "batch_size=8", "family.widths=[8,16]", "family.depths=[1,1]", "family.hidden=32",
    "augmentation.crop.length=64", "augmentation.frequency_mask=none", "schedule.period=12",
    "optimiser.lr=3e-3",
)  # fmt: skip


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def sounds(folder, draw, n=80):
    """One or two sounds a clip, of 0.3 to 1.3 s, in a list with quotation marks."""
    rows = ["fname,labels,split"]
    for i in range(n):
        tags = draw.choice(list(SOUNDS), size=1 + (i % 3 == 0), replace=False)
        t = np.arange(int(RATE * draw.uniform(0.3, 1.3))) / RATE
        wave = sum(0.1 * SOUNDS[tag](t, draw) for tag in tags)
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"audio/{i}.wav", wave, RATE)
        rows.append(f'{i}.wav,"{",".join(tags)}",{"test" if i % 4 == 1 else "train"}')
    (folder / "sounds.csv").write_text("\n".join(rows) + "\n")


def scenes(folder, draw):
    """Two scenes of 1.5 s, stereo, at another rate."""
    t = np.arange(int(48_000 * 1.5)) / 48_000
    for name, tags in (("bus", ("hum", "hiss")), ("park", ("whistle",))):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            wave = sum(0.1 * SOUNDS[tag](t, draw) for tag in tags)
            soundfile.write(folder / name / f"{i}.wav", np.stack([wave, 0.5 * wave], axis=1), 48_000)


@pytest.fixture(scope="module")
def place(tmp_path_factory, all_quick):
    """The sounds, their store, and a tagger trained by the installed command."""
    root, draw = tmp_path_factory.mktemp("tagger"), np.random.default_rng(1)
    sounds(root / "sounds", draw)
    scenes(root / "scenes", draw)
    (root / "powers.yaml").write_text(FEATURES)
    extract(root / "sounds", [load_recipe(str(root / "powers.yaml"))], root / "features", device="cpu")
    said = run(
        "ascmodels", "fit", "tagger_small", root / "sounds", "--features", root / "features", "--out",
        root / "runs" / "one", "--device", "cpu", *(w for s in SETTINGS for w in ("--set", s)),
    )  # fmt: skip
    said += run("ascmodels", "evaluate", root / "runs" / "one", "--device", "cpu")
    (root / "said.txt").write_text(said)
    return root


def test_it_learns_to_rank_tags_far_better_than_chance(place):
    report = json.loads((place / "runs/one/report.json").read_text())
    overall = report["selected"]["overall"]
    draw, store = np.random.default_rng(2), open_store(place / "features/sounds/powers.zarr")
    labels = [store.labels[i].split(",") for i in np.flatnonzero(store.sides("fold1") == "test")]
    chance = np.mean([_lwlrap(labels, draw.random((len(labels), 4))) for _ in range(50)])
    assert chance < 0.65
    assert overall["accuracy"] > chance + 0.2
    assert overall["total"] == sum(map(len, labels))
    assert report["metric"] == "lwlrap"
    assert {tag["name"] for tag in report["selected"]["classes"]} == set(SOUNDS)
    assert report["selected"]["confusion"] is None


def _lwlrap(labels, scores):
    names, total, n = sorted(SOUNDS), 0.0, 0
    for own, row in zip(labels, scores, strict=True):
        for tag in own:
            above = row >= row[names.index(tag)]
            total += np.mean([names[k] in own for k in np.flatnonzero(above)])
            n += 1
    return total / n


def test_words_and_curves_say_lwlrap_and_not_accuracy(place):
    folder = place / "runs/one"
    for text in ((place / "said.txt").read_text(), (folder / "report.md").read_text()):
        assert "lwlrap" in text
        assert "accuracy" not in text
        assert "acc." not in text
    header = (folder / "curves.csv").read_text().splitlines()[0]
    assert header.split(",")[2:5] == ["lwlrap", "watched_loss", "watched_lwlrap"]
    assert not (folder / "confusion.png").exists()


def test_tags_of_scenes_are_the_networks_sigmoids_of_the_whole_scene_at_its_own_rate(place):
    run("ascfeat", "extract", "--recipe", "tags", "--tags", place / "runs/one", "--features", place / "features",
        "--device", "cpu", place / "scenes")  # fmt: skip
    store, folder = open_store(place / "features/scenes/tags.zarr"), RunFolder(place / "runs/one")
    assert store.layout.axes[0].values == tuple(sorted(SOUNDS))
    found = store.read(range(len(store.ids)))
    expected = [by_hand(folder, place / "scenes" / clip) for clip in store.ids]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found.max(axis=0).min() > 1.2 * found.min()  # scenes differ
    assert ((found > 0) & (found < 1)).all()


def by_hand(folder, file):
    """Mean of both channels, soxr, librosa, the network of the selected epoch, sigmoids."""
    wave, rate = soundfile.read(file)
    mono = soxr.resample(wave.mean(axis=1), rate, RATE, quality="VHQ")
    power = librosa.feature.melspectrogram(
        y=mono, sr=RATE, n_fft=512, hop_length=160, n_mels=40, fmin=60, pad_mode="reflect"
    )
    network = recipes.family(folder.recipe).build((Input.of(folder.data.stores[0].header).seen,), 4).eval()
    weights = load_file(folder.checkpoint(folder.progress().selected) / "weights.safetensors")
    network.load_state_dict({k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")})
    with torch.inference_mode():
        return torch.sigmoid(network(torch.from_numpy(power)[None, None].float()))[0].numpy()


def test_the_runs_of_a_folder_are_one_tagger_their_mean(place):
    store = open_store(place / "features/sounds/powers.zarr")
    first = RunFolder(place / "runs/one").recipe
    train(recipes.override(first, ["seed=1", "epochs=1"]), store, place / "runs/two", device="cpu")
    one, two, both = (run_tagger(p, "cpu") for p in (place / "runs/one", place / "runs/two", place / "runs"))
    wave = np.random.default_rng(3).normal(scale=0.1, size=(2, 60_000)).astype(np.float32)
    apart = np.stack([one(wave, 48_000), two(wave, 48_000)])
    assert np.abs(apart[0] - apart[1]).max() > 1e-3
    np.testing.assert_allclose(both(wave, 48_000), apart.mean(axis=0), atol=1e-7)
    assert len({one.digest, two.digest, both.digest}) == 3
    data = place / "runs/two/data.json"
    data.write_text(data.read_text().replace('"hiss"', '"hush"'))
    with pytest.raises(RunError, match="other classes"):
        run_tagger(place / "runs", "cpu")


def test_a_second_head_learns_clips_of_its_device_and_nothing_where_there_are_none(place, tmp_path):
    folder = tmp_path / "noisy"
    sounds(folder, np.random.default_rng(4), n=48)
    lines = (folder / "sounds.csv").read_text().splitlines()
    devices = ["noisy" if i % 2 and not line.endswith("test") else "curated" for i, line in enumerate(lines[1:])]
    rows = [f"{line},{device}" for line, device in zip(lines[1:], devices, strict=True)]
    (folder / "sounds.csv").write_text("\n".join([f"{lines[0]},device", *rows]) + "\n")
    (outcome,) = extract(folder, [load_recipe(str(place / "powers.yaml"))], tmp_path / "features", device="cpu")
    first, heads = RunFolder(place / "runs/one").recipe, {}
    for device, epochs in (("noisy", 1), ("nobody", 1), ("nobody", 2)):
        asked = ["family.second_head=true", f"objective.second_head={device}", "sampler=device", f"epochs={epochs}"]
        out = tmp_path / f"{device}{epochs}"
        train(recipes.override(first, asked), open_store(outcome.place), out, device="cpu")
        weights = load_file(RunFolder(out).checkpoint(epochs) / "weights.safetensors")
        heads[device, epochs] = weights["network.head.6.bias"], weights["network.second.6.bias"]
    assert torch.equal(heads["nobody", 1][1], heads["nobody", 2][1])
    assert not torch.equal(heads["noisy", 1][1], heads["nobody", 1][1])
    assert not torch.equal(heads["nobody", 1][0], heads["nobody", 2][0])


def test_lightning_trains_tags_to_the_same_scores(place, tmp_path):
    pytest.importorskip("lightning")
    store, first = open_store(place / "features/sounds/powers.zarr"), RunFolder(place / "runs/one").recipe
    rows = []
    for kind in ("supervised", "lightning"):
        train(recipes.override(first, [f"trainer.kind={kind}", "epochs=1"]), store, tmp_path / kind, device="cpu")
        rows.append(RunFolder(tmp_path / kind).progress().rows[0])
    for name in ("loss", "accuracy", "watched_loss", "watched_accuracy"):
        assert getattr(rows[0], name) == pytest.approx(getattr(rows[1], name), rel=1e-4)
