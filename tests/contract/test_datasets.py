"""Every built-in loader keeps the promise that ascfeat.testing.datasets makes to plug-in authors."""

import pytest

from ascfeat.datasets import GROUP
from ascfeat.datasets.official import official_sets
from ascfeat.testing.datasets import DatasetContract, write_tone
from ascschemas import plugins

ROWS = [
    (scene, f"{city}-{place}", f"{scene}-{city}-{place}-{10 * place + i}", "a")
    for place, (scene, city) in enumerate((s, c) for s in ("bus", "park") for c in ("london", "paris"))
    for i in range(2)
]
FOLDERS = {entry.kind: entry.folder for entry in official_sets()}


def write_lines(path, rows, separator="\t", end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(separator.join(map(str, row)) + end for row in rows).encode())


def build_tau(root, ending="csv", header=True):
    rows = [(f"audio/{stem}-{device}.wav", scene, place, device) for scene, place, stem, device in ROWS]
    for n, row in enumerate(rows):
        write_tone(root / row[0], n)
    head = [("filename", "scene_label", "identifier", "source_label")]
    write_lines(root / "meta.csv", head + rows, end="\r\n")
    train, test = ([r for r in rows if (r[2].startswith("paris")) is side] for side in (False, True))
    for name, some, width in (("train", train, 2), ("test", test, 1), ("evaluate", test, 2)):
        lines = [r[:width] for r in (head if header else []) + some]
        write_lines(root / "evaluation_setup" / f"fold1_{name}.{ending}", lines, end="\r\n")


def build_2018(root):
    build_tau(root, ending="txt", header=False)


def build_esc(root, meta, head):
    rows = [(f"{fold}-{n}-A.wav", fold, 0, label, "True", n) for n, (fold, label) in enumerate(esc_folds())]
    for n, row in enumerate(rows):
        write_tone(root / "audio" / row[0], n)
    write_lines(root / meta, [head, *(row if len(head) == 6 else (*row[:4], row[5]) for row in rows)], ",")


def esc_folds():
    return [(fold, label) for fold in range(1, 6) for label in ("dog", "rain")]


def build_esc50(root):
    build_esc(root, "meta/esc50.csv", ("filename", "fold", "target", "category", "esc10", "src_file"))


def build_esc10(root):
    build_esc(root, "meta.csv", ("filename", "fold", "target", "category", "src_file"))


def build_csv(root):
    rows = [(f"clips/{n}.wav", ("dog", "rain")[n % 2]) for n in range(10)]
    for n, row in enumerate(rows):
        write_tone(root / row[0], n)
    write_lines(root / "labels.csv", [("filename", "label"), *rows], ";")


def build_folders(root):
    for n in range(10):
        write_tone(root / ("dog", "rain")[n % 2] / f"{n}.wav", n)


def build_fsdkaggle2019(root):
    for part, tags in (("train_curated", 10), ("train_noisy", 4), ("test", 4)):
        rows = [(f"{part}{n}.wav", ("Bark", '"Bark,Rain"', "Rain")[n % 3]) for n in range(tags)]
        for n, row in enumerate(rows):
            write_tone(root / f"FSDKaggle2019.audio_{part}" / row[0], n)
        listed = root / f"FSDKaggle2019.meta/{part}_post_competition.csv"
        write_lines(listed, [("fname", "labels", "license"), *((*row, "CC-BY") for row in rows)], ",")


BUILDERS = {
    "tut2018": build_2018,
    "tut2018_mobile": build_2018,
    "tau2019": build_tau,
    "tau2019_mobile": build_tau,
    "tau2020_mobile": build_tau,
    "scenes": build_tau,
    "esc50": build_esc50,
    "esc10": build_esc10,
    "fsdkaggle2019": build_fsdkaggle2019,
    "csv": build_csv,
    "folders": build_folders,
}


@pytest.mark.parametrize("kind", BUILDERS)
class TestBuiltIn(DatasetContract):
    """The contract, once for each built-in kind."""

    @pytest.fixture(autouse=True)
    def _of(self, kind):
        self.kind = kind
        self.folder = FOLDERS.get(kind, "dataset")
        self.build = BUILDERS[kind]


def test_every_registered_loader_is_here():
    assert set(plugins.names(GROUP)) == set(BUILDERS)
