"""The Lightning trainer: the supervised trainer's steps, its checkpoints, its failures; and Lightning's own things."""

import csv
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ascfeat.store import open_store
from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.families.five_conv import FiveConv
from ascmodels.testing.trainers import Ending, Notes
from ascmodels.trainers.lightning import Lightning
from ascmodels.training import train
from ascmodels.watching import Watcher
from ascschemas import plugins
from ascschemas.problems import RecipeError, RunError, StoreError
from ascschemas.training import TrainingRecipe

TIMES = {"seconds", "clips_per_second"}


def changed(recipe, *settings, trainer="lightning"):
    return recipes.override(recipe, [f"trainer.kind={trainer}", *settings])


def rows(out: Path):
    return RunFolder(out).progress().rows


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = RunFolder(out)
    return load_file(folder.checkpoint(folder.progress().epoch) / "weights.safetensors")


def assert_alike(one: Path, two: Path, *, exactly: bool = False, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name, values in a.items():
        torch.testing.assert_close(b[name], values, rtol=0 if exactly else rtol, atol=0 if exactly else atol)
    for row, other in zip(rows(one), rows(two), strict=True):
        said, found = (r.model_dump(exclude=TIMES, exclude_none=True) for r in (row, other))
        assert found == (said if exactly else pytest.approx(said, rel=rtol, abs=atol))
    assert RunFolder(one).finished == RunFolder(two).finished


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "settings",
    [
        ["epochs=4"],
        ["seed=1"],
        ["seed=2"],
        ["optimiser.kind=adadelta", "optimiser.lr=0.5", "schedule.kind=plateau", "schedule.patience=0", "epochs=6"],
        ["optimiser.kind=sgd", "optimiser.momentum=0.9", "selection.side=test", "batch_size=13"],
        ["augmentation.mixup=none", "early_stopping=1", "optimiser.lr=1e-12", "family.norm_momentum=1e-6", "epochs=9"],
        ["selection.side=last", "selection.fraction=0", "trainer.accumulate=2", "batch_size=12", "optimiser.kind=sgd"],
        ["trainer.precision=bf16", "epochs=2"],
    ],
    ids=["adam", "seed 1", "seed 2", "plateau", "test side", "early stopping", "in parts", "bf16"],
)
def test_it_takes_the_steps_of_the_supervised_trainer(tmp_path, store, recipe, settings):
    for trainer in ("supervised", "lightning"):
        train(changed(recipe, *settings, trainer=trainer), store, tmp_path / trainer, device="cpu")
    half = {"rtol": 0.05, "atol": 0.02} if "trainer.precision=bf16" in settings else {}
    assert_alike(tmp_path / "supervised", tmp_path / "lightning", **half)


@pytest.mark.parametrize("trainer", ["supervised", "lightning"])
def test_half_precision_without_instructions_for_it_is_said_to_be_slow(tmp_path, store, recipe, trainer, monkeypatch):
    for capability, precision, said in (("AVX2", "bf16", True), ("AVX512", "bf16", False), ("AVX2", "float32", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda found=capability: found)
        listening, out = Notes(), tmp_path / f"{capability}-{precision}"
        asked = changed(recipe, f"trainer.precision={precision}", "epochs=1", trainer=trainer)
        train(asked, store, out, device="cpu", watch=listening)
        assert any("no instructions for bf16" in note for note in listening.notes) == said


def test_layers_that_draw_draw_the_same(tmp_path, store, recipe, monkeypatch):
    build = FiveConv.build
    monkeypatch.setattr(FiveConv, "build", lambda *args: nn.Sequential(nn.Dropout(0.5), build(*args)))
    for trainer in ("supervised", "lightning"):
        train(changed(recipe, trainer=trainer), store, tmp_path / trainer, device="cpu")
    assert_alike(tmp_path / "supervised", tmp_path / "lightning")


@pytest.mark.parametrize("settings", [[], ["trainer.accumulate=3", "schedule.kind=plateau", "schedule.patience=0"]])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path, store, recipe, settings):
    recipe, before = changed(recipe, "epochs=4", *settings), signal.getsignal(signal.SIGINT)
    train(recipe, store, tmp_path / "whole", device="cpu")
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, store, tmp_path / "cut", device="cpu", resume=True, watch=Ending(epoch, interrupt))
    train(recipe, store, tmp_path / "cut", device="cpu", resume=True)
    assert_alike(tmp_path / "whole", tmp_path / "cut", exactly=True)
    assert signal.getsignal(signal.SIGINT) is before
    table = list(csv.DictReader((tmp_path / "cut" / "lightning" / "metrics.csv").read_text().splitlines()))
    assert [int(line["step"]) for line in table] == [1, 2, 3, 4]
    assert [float(line["loss"]) for line in table] == pytest.approx([row.loss for row in rows(tmp_path / "whole")])


def test_a_stop_before_the_first_batch_is_a_stop(tmp_path, store, recipe, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.loops.fetchers._DataFetcher.__iter__", lambda self: interrupt())
    with pytest.raises(KeyboardInterrupt):
        train(changed(recipe), store, tmp_path / "cut", device="cpu")


def train_and(how: str, store: str, recipe: str, out: str) -> None:
    """What the ended process runs."""
    torch.set_num_threads(1)
    end = Ending(2, lambda: os.kill(os.getpid(), getattr(signal, how)))
    train(TrainingRecipe.model_validate_json(recipe), open_store(Path(store)), Path(out), device="cpu", watch=end)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("SIGKILL", -9), ("SIGTERM", 143)])
def test_an_ended_run_says_so_and_goes_on_to_the_same_weights(tmp_path, store, recipe, how, status):
    recipe = changed(recipe)
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['train_and'](*sys.argv[2:])"
    words = [__file__, how, str(store.place), recipe.model_dump_json(), str(tmp_path / "cut")]
    dead = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (dead.returncode, dead.stdout, dead.stderr) == (status, "", "")
    assert RunFolder(tmp_path / "cut").progress().epoch == 1
    train(recipe, store, tmp_path / "cut", device="cpu", resume=True)
    train(recipe, store, tmp_path / "whole", device="cpu")
    assert_alike(tmp_path / "whole", tmp_path / "cut")


def test_no_global_state_is_touched(tmp_path, store, recipe):
    def state():
        numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
        flags = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.is_grad_enabled())
        return torch.random.get_rng_state().tolist(), numpy, flags, signal.getsignal(signal.SIGTERM)

    before = state()
    train(changed(recipe), store, tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(changed(recipe), store, tmp_path / "cut", device="cpu", watch=Ending(2, interrupt))
    assert state() == before


def failures(recipe, store, tmp_path, **options):
    """What both trainers say in the same plight, their folder left out."""
    for trainer in ("supervised", "lightning"):
        with pytest.raises(RunError) as failed:
            train(changed(recipe, trainer=trainer), store, tmp_path / trainer, device="cpu", **options)
        yield failed.value.text().replace(str(tmp_path / trainer), "RUN")


def test_a_diverging_run_ends_as_with_the_supervised_trainer(tmp_path, store, recipe):
    settings = ["optimiser.kind=sgd", "optimiser.lr=1000", "augmentation.mixup=none"]
    one, two = failures(recipes.override(recipe, settings), store, tmp_path)
    assert one == two
    assert "has diverged in epoch" in two


def test_a_damaged_feature_is_named(tmp_path, store, recipe):
    values = store.read(range(72))
    values[:] = np.nan
    store.read = lambda clips, out: np.copyto(out, values[clips])
    one, two = failures(recipe, store, tmp_path, placement="stream")
    assert one == two
    assert "finite features" in two


def test_a_store_that_vanishes_ends_the_run(tmp_path, store, recipe):
    class Gone(Watcher):
        def epoch(self, row, *, selected):
            store.read = refuse

    def refuse(clips, out):
        raise StoreError("The store is gone.", todo="Bring it back.")

    whole, said = store.read, []
    for trainer in ("supervised", "lightning"):
        store.read = whole
        with pytest.raises(RunError, match="its features do not read") as failed:
            train(
                changed(recipe, trainer=trainer),
                store,
                tmp_path / trainer,
                placement="stream",
                watch=Gone(),
                device="cpu",
            )
        said.append(failed.value.text().replace(str(tmp_path / trainer), "RUN"))
        assert RunFolder(tmp_path / trainer).epochs() == [1]
    assert said[0] == said[1]


def test_memory_that_does_not_hold_a_batch_is_said(tmp_path, store, recipe, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ascmodels.families.five_conv.FiveConvNetwork.forward", full)
    with pytest.raises(RunError, match=r"trainer.accumulate=8"):
        train(changed(recipe), store, tmp_path / "run", device="cpu")


def test_fp16_is_refused_on_a_cpu(tmp_path, store, recipe):
    with pytest.raises(RecipeError, match="fp16"):
        train(changed(recipe, "trainer.precision=fp16"), store, tmp_path / "run", device="cpu")


def test_without_lightning_it_says_what_to_install(tmp_path, store, recipe, monkeypatch):
    import ascmodels.trainers
    import ascmodels.trainers.lightning_loop

    for name in [n for n in sys.modules if n == "lightning" or n.startswith("lightning.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ascmodels.trainers.lightning_loop")
    monkeypatch.delattr(ascmodels.trainers, "lightning_loop")
    with pytest.raises(RunError, match=r'pip install -c constraints.txt "\.\[lightning\]"'):
        train(changed(recipe), store, tmp_path / "run", device="cpu")


SAID = []


class Telling(Lightning):
    """A stranger's trainer: Lightning with callbacks and a logger."""

    clip: float = 0.0

    def arguments(self, task):
        from lightning.pytorch.callbacks import Callback, EarlyStopping
        from lightning.pytorch.loggers import CSVLogger

        class Tells(Callback):
            def on_train_epoch_end(self, trainer, module):
                SAID.append((trainer.current_epoch, trainer.global_step))

        stop = EarlyStopping("watched_loss", patience=1, min_delta=9, verbose=True)
        mine = CSVLogger(task.folder.path, name="mine", version="")
        return {**super().arguments(task), "callbacks": [stop, Tells()], "logger": mine, "gradient_clip_val": self.clip}


class Meddling(Lightning):
    """One that wants more epochs than the recipe."""

    def arguments(self, task):
        return {"max_epochs": 99}


@pytest.fixture
def strangers(monkeypatch):
    registered = plugins.entry_points
    made = {"telling": Telling, "meddling": Meddling}

    def listed(group):
        ours = [EntryPoint(n, f"{__name__}:{c.__name__}", group) for n, c in made.items()]
        return [*registered(group=group), *(ours if group == "ascmodels.trainers" else [])]

    monkeypatch.setattr(plugins, "entry_points", listed)
    monkeypatch.setattr(EntryPoint, "load", lambda self, load=EntryPoint.load: made.get(self.name) or load(self))
    SAID.clear()


def test_callbacks_and_loggers_of_a_subclass_are_heard_and_go_on(tmp_path, store, recipe, strangers):
    recipe = changed(recipe, "epochs=9", trainer="telling")
    done = train(recipe, store, tmp_path / "whole", device="cpu")
    assert (done.last, done.stopped) == (2, "early_stopping")  # the callback's doing
    assert SAID == [(0, 3), (1, 6)]
    with pytest.raises(KeyboardInterrupt):
        train(recipe, store, tmp_path / "cut", device="cpu", watch=Ending(2, interrupt))
    assert train(recipe, store, tmp_path / "cut", device="cpu", resume=True) == done  # it has kept its patience
    assert SAID[2:] == [(0, 3), (1, 6)]
    assert_alike(tmp_path / "whole", tmp_path / "cut", exactly=True)
    assert len((tmp_path / "cut" / "mine" / "metrics.csv").read_text().splitlines()) == 1 + 2


def test_gradients_are_clipped_where_a_subclass_says_so(tmp_path, store, recipe, strangers):
    for clip in ("0.0", "1e-9"):
        settings = [f"trainer.clip={clip}", "epochs=1", "optimiser.kind=sgd", "augmentation.mixup=none"]
        train(changed(recipe, *settings, trainer="telling"), store, tmp_path / clip, device="cpu")
    first = recipes.family(recipe).build((store.layout,), 3).state_dict().keys()
    moved = {clip: weights(tmp_path / clip)["network.dense.bias"].abs().max() for clip in ("0.0", "1e-9")}
    assert "dense.bias" in first
    assert moved["1e-9"] < 1e-7 < moved["0.0"]


def test_what_the_recipe_decides_is_not_decided_again(tmp_path, store, recipe, strangers):
    with pytest.raises(RunError, match=r"max_epochs.*expected 3.*found 99"):
        train(changed(recipe, trainer="meddling"), store, tmp_path / "run", device="cpu")


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_command_prints_what_it_prints_with_the_supervised_trainer(tmp_path, store):
    (tmp_path / "small.yaml").write_text(
        "{name: small, features: made_up, family: {kind: five_conv, widths: [4, 4, 8, 8, 8]}, batch_size: 16,\n"
        "objective: {kind: focal}, optimiser: {kind: adam}, epochs: 2, augmentation: {mixup: {alpha: 0.2}}}"
    )
    command = ["ascmodels", "fit", "small.yaml", "scenes", "--features", "features", "--device", "cpu", "--out", "run"]
    done = subprocess.run(
        [*command, "--trainer", "lightning"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = (done.stderr + done.stdout).splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0].split("  ")[0] for line in lines] == [
        "36 train, 12 validation, 24 test clips of scenes (fold1); features from memory; on cpu.",
        "Watched after each epoch, * where it is the best so far",
        "epoch 1",
        "epoch 2",
        "run",
    ]
    scored = subprocess.run(["ascmodels", "evaluate", "run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert scored.returncode == 0, scored.stderr
    assert "overall" in scored.stdout


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path, store, recipe):
    """As ``torchrun`` starts them; 13 clips in a batch."""
    settings = ["batch_size=13", "epochs=2", "optimiser.kind=sgd", "optimiser.lr=0.05"]
    recipe = changed(recipe, *settings)
    done = train(recipe, store, tmp_path / "alone", device="cpu")
    code = (
        "import sys; from pathlib import Path\n"
        "from ascfeat.store import open_store; from ascmodels.training import train\n"
        "from ascschemas.training import TrainingRecipe\n"
        "recipe = TrainingRecipe.model_validate_json(sys.argv[3])\n"
        "train(recipe, open_store(sys.argv[1]), Path(sys.argv[2]), device='cpu')\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", code, str(store.place), str(tmp_path / "together"), recipe.model_dump_json()]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **where, "RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "x"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert not [line for line in said if "ightning" in line]
    assert_alike(tmp_path / "alone", tmp_path / "together", rtol=1e-3, atol=1e-4)
    assert RunFolder(tmp_path / "together").finished == done
