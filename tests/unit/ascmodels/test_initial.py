"""Weights that training starts from: read from what people have, fitted to the network, kept in the run, or refused."""

import hashlib
import pickle
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import evaluate
from ascmodels.families.base import Family
from ascmodels.initial import Given, fitted, read
from ascmodels.report import markdown
from ascmodels.testing.stores import layout, make_store, scene_clips
from ascmodels.testing.trainers import Notes
from ascmodels.training import train
from ascmodels.watching import Watcher
from ascschemas.problems import RecipeError, RunError

STILL = ("optimiser.kind=sgd", "optimiser.lr=1e-30", "epochs=1", "optimiser.momentum=0")
"""Settings with which training leaves parameters as they were."""


class Interrupting(Watcher):
    """Somebody who stops training after its first epoch."""

    def epoch(self, row, *, selected):
        raise KeyboardInterrupt


@pytest.fixture
def still(recipe):
    return recipes.override(recipe, STILL)


@pytest.fixture
def foreign(recipe):
    """A state dict for the small network with another number of classes."""
    torch.manual_seed(5)
    return recipes.family(recipe).build((layout(),), 7).state_dict()


@pytest.fixture
def begun(tmp_path, store):
    """Train into ``run`` and give back the parameters that came out."""

    def go(recipe, init, run="run", **more):
        train(recipe, store, tmp_path / run, device="cpu", init=init, **more)
        return network_of(tmp_path / run)

    return go


def network_of(run):
    """Parameters of the last checkpoint's network."""
    folder = RunFolder(run)
    held = load_file(folder.checkpoint(folder.progress().epoch) / "weights.safetensors")
    named = {k.removeprefix("network."): v for k, v in held.items() if k.startswith("network.")}
    return {k: v for k, v in named.items() if k.endswith(("weight", "bias"))}


def the_same(found, wanted, but=()):
    for key, value in found.items():
        if key.startswith(but or ("nothing",)):
            assert value.shape != wanted[key].shape or not torch.allclose(value, wanted[key])
        else:
            torch.testing.assert_close(value, wanted[key], rtol=0, atol=1e-20)


def torch_saved(**options):
    return lambda state, file: torch.save(state, file, **options)


WRITERS = {
    "plain.safetensors": lambda state, file: save_file(state, file),
    "plain.pth": torch_saved(),
    "legacy.pt": torch_saved(_use_new_zipfile_serialization=False),
    "parallel.pt": lambda state, file: torch.save({f"module.{k}": v for k, v in state.items()}, file),
    "wrapped.bin": lambda state, file: torch.save({f"model.module.{k}": v for k, v in state.items()}, file),
    "nested.ckpt": lambda state, file: torch.save({"epoch": 3, "state_dict": state, "lr": 0.1}, file),
    "deep.pth": lambda s, file: torch.save({"model": {"state_dict": {f"module.{k}": v for k, v in s.items()}}}, file),
    "parameters.pth": lambda s, f: torch.save({k: nn.Parameter(v, v.is_floating_point()) for k, v in s.items()}, f),
    "old.pth": lambda s, f: torch.save({k: v for k, v in s.items() if not k.endswith("num_batches_tracked")}, f),
    "headless.pth": lambda s, file: torch.save({k: v for k, v in s.items() if not k.startswith("dense")}, file),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_people_have_is_read(tmp_path, still, foreign, name):
    WRITERS[name](foreign, tmp_path / name)
    family = recipes.family(still)
    fresh = family.build((layout(),), 3).state_dict()
    found = fitted(read(tmp_path / name), family, fresh, ("bus", "park", "tram"))
    body = [k for k in fresh if not k.startswith("dense") and not (name == "old.pth" and k.endswith("tracked"))]
    assert sorted(found.weights) == sorted(body)
    assert all(torch.equal(found.weights[k], foreign[k]) for k in body)
    assert (found.said.taken, found.said.replaced) == (len(body), 2)
    assert found.said.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_halves_are_taken_in_the_type_of_the_network(tmp_path, still, foreign, begun):
    halves = {k: v.half() if v.is_floating_point() else v for k, v in foreign.items()}
    torch.save(halves, tmp_path / "half.pth")
    found = begun(still, tmp_path / "half.pth")
    assert {v.dtype for v in found.values()} == {torch.float32}
    the_same(found, {k: v.float() for k, v in halves.items()}, but=("dense",))


@pytest.mark.parametrize("trainer", ["supervised", "lightning"])
def test_every_trainer_of_networks_starts_from_them_and_says_so(tmp_path, still, foreign, begun, trainer):
    if trainer == "lightning":
        pytest.importorskip("lightning")
    save_file(foreign, tmp_path / "given.safetensors")
    watch = Notes()
    recipe = recipes.override(still, [f"trainer.kind={trainer}"])
    the_same(begun(recipe, tmp_path / "given.safetensors", watch=watch), foreign, but=("dense",))
    assert f"Starting from {tmp_path / 'given.safetensors'}: 35 tensors taken; the head (dense) is new." in watch.notes
    kept = RunFolder(tmp_path / "run").data.initial
    assert (kept.path, kept.epoch, kept.taken, kept.replaced) == (str(tmp_path / "given.safetensors"), None, 35, 2)


def test_what_is_drawn_is_what_is_drawn_without_given_weights(tmp_path, still, foreign, begun):
    """The head is that of a run that starts from nothing: given weights move no draw."""
    save_file(foreign, tmp_path / "given.safetensors")
    alone, given = begun(still, None, "alone"), begun(still, tmp_path / "given.safetensors", "given")
    assert torch.equal(alone["dense.weight"], given["dense.weight"])
    assert not torch.equal(alone["blocks.0.0.weight"], given["blocks.0.0.weight"])


def test_a_report_says_what_a_run_started_from(tmp_path, store, still, foreign, begun):
    save_file(foreign, tmp_path / "given.safetensors")
    begun(still, tmp_path / "given.safetensors")
    begun(still, None, "alone")
    report, alone = (evaluate(tmp_path / run, store, device="cpu") for run in ("run", "alone"))
    sha = hashlib.sha256((tmp_path / "given.safetensors").read_bytes()).hexdigest()
    assert report.provenance.initial.sha256 == sha
    said = f"Started from given weights: given.safetensors (`{sha[:16]}`), 35 tensors, 2 of its head drawn anew."
    assert said in markdown(report)
    assert alone.provenance.initial is None
    assert "given weights" not in markdown(alone)


def test_a_run_of_the_same_classes_gives_its_head_too_and_not_its_statistics(tmp_path, store, recipe, still, begun):
    first = begun(recipe, None, "first")
    selected = RunFolder(tmp_path / "first").progress().selected
    watch = Notes()
    other = recipes.override(still, ["seed=9"])  # which holds off other clips, and draws other weights
    found = begun(other, tmp_path / "first", watch=watch)
    held = load_file(RunFolder(tmp_path / "first").checkpoint(selected) / "weights.safetensors")
    the_same(found, {k.removeprefix("network."): v for k, v in held.items()})
    assert found.keys() == first.keys()
    kept = RunFolder(tmp_path / "run").data.initial
    assert (kept.epoch, kept.taken, kept.replaced) == (selected, 37, 0)
    assert f"Starting from {tmp_path / 'first'}, epoch {selected}: 37 tensors taken." in watch.notes
    mine = load_file(RunFolder(tmp_path / "run").checkpoint(1) / "weights.safetensors")
    alone = begun(other, None, "alone")
    theirs = load_file(RunFolder(tmp_path / "alone").checkpoint(1) / "weights.safetensors")
    assert alone.keys() == found.keys()
    assert torch.equal(mine["normalisers.0.mean"], theirs["normalisers.0.mean"])
    assert not torch.equal(mine["normalisers.0.mean"], held["normalisers.0.mean"])


def test_the_weights_of_a_checkpoint_are_a_file_like_any_other(tmp_path, recipe, still, begun):
    first = begun(recipe, None, "first")
    last = RunFolder(tmp_path / "first").checkpoint(3) / "weights.safetensors"
    the_same(begun(still, last), first, but=("dense.",))


def test_a_run_of_other_classes_gives_all_but_its_head(tmp_path, recipe, still, begun):
    renamed = {"bus": "airport", "park": "beach", "tram": "tram"}
    clips = tuple(c.model_copy(update={"label": renamed[c.label]}) for c in scene_clips())
    elsewhere = make_store(tmp_path / "elsewhere" / "made_up.zarr", clips)
    train(recipe, elsewhere, tmp_path / "first", device="cpu")
    folder = RunFolder(tmp_path / "first")
    held = load_file(folder.checkpoint(folder.progress().selected) / "weights.safetensors")
    found = begun(still, tmp_path / "first")
    the_same(found, {k.removeprefix("network."): v for k, v in held.items()}, but=("dense.",))
    assert RunFolder(tmp_path / "run").data.initial.replaced == 2


def interrupted(begun, recipe, init):
    with pytest.raises(KeyboardInterrupt):
        begun(recipe, init, watch=Interrupting())


def test_a_run_goes_on_without_the_file_and_ends_as_if_nothing_had_happened(tmp_path, recipe, foreign, begun):
    file = tmp_path / "given.pth"
    torch.save(foreign, file)
    whole = begun(recipe, file, "whole")
    interrupted(begun, recipe, file)
    file.unlink()
    watch = Notes()
    found = begun(recipe, file, resume=True, watch=watch)
    assert all(torch.equal(found[k], whole[k]) for k in whole)
    assert not any("Starting from" in note for note in watch.notes)
    assert RunFolder(tmp_path / "run").data.initial.taken == 35
    begun(recipe, file)  # finished: the same command has nothing to do, and needs no file either


def test_a_run_goes_on_from_a_file_that_has_moved_and_from_no_other(tmp_path, recipe, foreign, begun):
    file = tmp_path / "given.pth"
    torch.save(foreign, file)
    interrupted(begun, recipe, file)
    (tmp_path / "other.pth").write_bytes(file.read_bytes())
    torch.save({k: v + 1 for k, v in foreign.items()}, file)
    for other in (file, None):
        with pytest.raises(RunError, match="made from something else") as refused:
            begun(recipe, other, resume=True)
        assert [d.field for d in refused.value.differences] == ["data.initial"]
    with pytest.raises(RunError, match="There are no weights in"):
        begun(recipe, tmp_path / "never.pth", resume=True)
    begun(recipe, tmp_path / "other.pth", resume=True)
    assert RunFolder(tmp_path / "run").finished


def test_weights_are_not_brought_into_a_run_that_began_without(tmp_path, recipe, foreign, begun):
    torch.save(foreign, tmp_path / "given.pth")
    interrupted(begun, recipe, None)
    with pytest.raises(RunError, match="made from something else") as refused:
        begun(recipe, tmp_path / "given.pth", resume=True)
    assert refused.value.differences[0].expected == "absent"
    assert refused.value.todo.startswith("Repeat the command")


def test_a_start_that_stopped_before_its_first_epoch_needs_its_file_again(tmp_path, recipe, foreign, begun):
    class AtOnce(Watcher):
        def batch(self, moment):
            raise KeyboardInterrupt

    file = tmp_path / "given.pth"
    torch.save(foreign, file)
    with pytest.raises(KeyboardInterrupt):
        begun(recipe, file, watch=AtOnce())
    file.rename(tmp_path / "moved.pth")
    with pytest.raises(RunError, match="There are no weights"):
        begun(recipe, file, resume=True)
    begun(recipe, tmp_path / "moved.pth", resume=True)
    assert RunFolder(tmp_path / "run").data.initial.path == str(tmp_path / "moved.pth")


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code in a file of weights has run')",)


def garbage(state, file):
    file.write_bytes(b"\x00\x01garbage" * 99)


def half(write):
    def torn(state, file):
        write(state, file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return torn


def with_code(state, file):
    file.write_bytes(pickle.dumps({"conv1.weight": Evil()}))


def scripted(state, file):
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)), str(file))


def in_itself(state, file):
    held = {}
    held["model"] = held
    torch.save(held, file)


def first_is(value):
    return lambda state, file: torch.save({"blocks.0.0.weight": value}, file)


def renamed(old, new):
    return lambda state, file: torch.save({k.replace(old, new): v for k, v in state.items()}, file)


def changed(**values):
    return lambda state, file: torch.save(state | {k.replace("_", "."): v for k, v in values.items()}, file)


BROKEN = {
    "garbage.safetensors": (garbage, "cannot be read as weights", []),
    "garbage.pth": (garbage, "cannot be read as weights", []),
    "empty.pth": (lambda state, file: file.write_bytes(b""), "cannot be read as weights", []),
    "torn.safetensors": (half(lambda s, f: save_file(s, f)), "cannot be read as weights", []),
    "torn.pth": (half(torch_saved()), "cannot be read as weights", []),
    "torn-legacy.pth": (half(torch_saved(_use_new_zipfile_serialization=False)), "cannot be read as weights", []),
    "code.pth": (with_code, "cannot be read as weights", []),
    "whole-module.pth": (lambda s, f: torch.save(nn.Linear(1, 1), f), "cannot be read as weights", []),
    "number.pth": (lambda s, f: torch.save(3, f), "does not hold a state dict", ["file"]),
    "nothing.pth": (lambda s, f: torch.save({}, f), "does not hold a state dict", ["file"]),
    "words.pth": (lambda s, f: torch.save(s | {"lr": 0.1}, f), "does not hold a state dict", ["file"]),
    "endless.pth": (in_itself, "does not hold a state dict", ["file"]),
    "sparse.pth": (first_is(torch.eye(3).to_sparse()), "does not hold a state dict", ["file"]),
    "meta.pth": (first_is(torch.empty(4, 1, 3, 3, device="meta")), "does not hold a state dict", ["file"]),
    "weights.txt": (lambda s, f: torch.save(s, f), "no file of weights by its name", ["suffix"]),
    "named.pth": (
        renamed("blocks.0.", "stem."),
        "another architecture",
        [
            *(f"blocks.0.{k}" for k in ("0.weight", "0.bias", "2.weight", "2.bias", "2.running_mean")),
            "stem.0.weight",  # so a person sees how the file's own keys are called
        ],
    ),
    "shaped.pth": (changed(blocks_0_0_weight=torch.zeros(5, 1, 3, 3)), "another architecture", ["blocks.0.0.weight"]),
    "typed.pth": (changed(blocks_0_0_bias=torch.zeros(4).int()), "another architecture", ["blocks.0.0.bias"]),
    "more.pth": (changed(blocks_5_0_weight=torch.zeros(1)), "another architecture", ["blocks.5.0.weight"]),
    "nan.pth": (changed(blocks_1_0_bias=torch.full((4,), torch.nan)), "not finite", ["blocks.1.0.bias"]),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", [*BROKEN, "scripted.pt"])
def test_what_cannot_be_meant_is_refused_before_there_is_a_run_folder(tmp_path, recipe, foreign, begun, name):
    write, why, fields = BROKEN.get(name, (scripted, "cannot be read as weights", []))
    write(foreign, tmp_path / name)
    with pytest.raises(RunError, match=why) as refused:
        begun(recipe, tmp_path / name)
    assert str(tmp_path / name) in refused.value.what
    assert [d.field for d in refused.value.differences] == fields
    assert refused.value.todo
    assert not (tmp_path / "run").exists()


def test_a_misfit_is_told_with_both_shapes_and_how_many_more_there_are(tmp_path, recipe, begun):
    torch.save(recipes.family(recipes.override(recipe, ["family.widths=[5,4,8,8,8]"])).build((layout(),), 3)
               .state_dict(), tmp_path / "w.pth")  # fmt: skip
    with pytest.raises(RunError) as refused:
        begun(recipe, tmp_path / "w.pth")
    first = refused.value.differences[0]
    assert (first.field, first.expected, first.found) == ("blocks.0.0.weight", "(4, 1, 3, 3)", "(5, 1, 3, 3)")
    assert "1 more differ" in refused.value.todo


@pytest.mark.parametrize("missing", ["nowhere.pth", "nowhere"])
def test_weights_that_are_not_there_are_missed(tmp_path, recipe, begun, missing):
    with pytest.raises(RunError, match="There are no weights in"):
        begun(recipe, tmp_path / missing)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_or_has_no_checkpoint_is_refused(tmp_path, recipe, begun):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="is not a run folder"):
        begun(recipe, tmp_path / "folder")
    begun(recipe, None, "first")
    for checkpoint in (tmp_path / "first" / "checkpoints").iterdir():
        checkpoint.rename(tmp_path / checkpoint.name)
    with pytest.raises(RunError, match="has no checkpoint yet"):
        begun(recipe, tmp_path / "first")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_refused_by_its_checksum(tmp_path, recipe, begun):
    begun(recipe, None, "first")
    folder = RunFolder(tmp_path / "first")
    file = folder.checkpoint(folder.progress().selected) / "weights.safetensors"
    torn = bytearray(file.read_bytes())
    torn[-5] ^= 1
    file.write_bytes(torn)
    with pytest.raises(RunError, match="does not match its checksum"):
        begun(recipe, tmp_path / "first")


def test_the_trainer_svm_refuses_them_in_words(tmp_path, recipe, foreign, begun):
    pytest.importorskip("sklearn")
    torch.save(foreign, tmp_path / "given.pth")
    pooled = recipes.override(recipe, ["family.kind=pooled", "trainer.kind=svm"])
    with pytest.raises(RecipeError, match="svm does not start from given weights") as refused:
        begun(pooled, tmp_path / "given.pth")
    assert refused.value.differences[0].found == "svm"
    assert not (tmp_path / "run").exists()


def test_a_network_that_is_all_head_starts_from_a_run_of_its_classes_only(tmp_path, recipe, begun):
    pooled = recipes.override(recipe, ["family.kind=pooled", "epochs=1"])
    first = begun(pooled, None, "first")
    still = recipes.override(pooled, STILL)
    the_same(begun(still, tmp_path / "first"), first)
    file = RunFolder(tmp_path / "first").checkpoint(1) / "weights.safetensors"
    with pytest.raises(RunError, match=r"Nothing of .* would be used"):
        begun(still, file, "other")


class Headless(Family):
    """A family that names no head, whose network has a part that is called as wrappers are."""

    def build(self, inputs, n_classes):
        made = nn.Module()
        made.model = nn.Linear(2, n_classes)
        return made

    def smallest(self):
        return (layout(),)


class Translating(Headless):
    """A family that knows foreign names."""

    head: ClassVar[tuple[str, ...]] = ()

    def adapted(self, state):
        return {k.replace("kernel", "weight"): v for k, v in state.items()}


def test_without_a_head_all_must_fit_and_classes_must_be_the_same(tmp_path):
    state = {"model.weight": torch.ones(3, 2), "model.bias": torch.zeros(3)}
    fresh, classes = Headless().build((), 3).state_dict(), ("a", "b", "c")
    for found in (state, {f"module.{k}": v for k, v in state.items()}):
        assert fitted(Given(tmp_path, "0" * 64, found), Headless(), fresh, classes).weights.keys() == fresh.keys()
    run = Given(tmp_path, "0" * 64, {f"network.{k}": v for k, v in state.items()}, ("a", "b", "c"), 1)
    assert fitted(run, Headless(), fresh, classes).said.taken == 2
    with pytest.raises(RunError, match="other classes") as refused:
        fitted(run, Headless(), fresh, ("a", "b", "d"))
    assert (refused.value.differences[0].expected, refused.value.differences[0].found) == ("a, b, d", "a, b, c")
    wide = {"model.weight": torch.ones(4, 2), "model.bias": torch.zeros(4)}
    with pytest.raises(RunError, match="another architecture"):
        fitted(Given(tmp_path, "0" * 64, wide), Headless(), fresh, classes)


def test_a_family_translates_the_keys_of_others(tmp_path):
    foreign = {"module.model.kernel": torch.ones(3, 2), "module.model.bias": torch.zeros(3)}
    fresh = Translating().build((), 3).state_dict()
    found = fitted(Given(tmp_path, "0" * 64, foreign), Translating(), fresh, ("a", "b", "c"))
    assert torch.equal(found.weights["model.weight"], torch.ones(3, 2))
