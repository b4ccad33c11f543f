"""Do processes that train together take the steps of one?"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.team import ALONE, Team, WholeBatchNorm, open_team
from ascmodels.training import train
from ascschemas.problems import RunError

SETTINGS = ["epochs=2", "batch_size=13", "optimiser.kind=sgd", "optimiser.lr=0.05", "trainer.precision=float64"]
"""48 training clips, less the validation side: the last batch is of another size. In float32 two sums of another
order may lie on two sides of a ReLU's kink, and the runs part by a thousandth: that would hide a real difference."""


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def together(size: int, store: Path, out: Path, *settings: str) -> list[subprocess.CompletedProcess[str]]:
    """``fit`` in several processes, with the environment that torchrun sets."""
    script = (
        "import sys; from pathlib import Path; from ascfeat.store import open_store; from ascmodels import recipes\n"
        "from ascmodels.testing.stores import small_recipe; from ascmodels.training import train\n"
        "recipe = recipes.override(small_recipe(), sys.argv[3:])\n"
        "train(recipe, open_store(sys.argv[1]), Path(sys.argv[2]), device='cpu')\n"
    )
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port()), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(store), str(out), *settings]
    started = [
        subprocess.Popen(
            command, env={**os.environ, **where, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    return [subprocess.CompletedProcess(command, p.returncode, *said) for p in started for said in [p.communicate()]]


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = RunFolder(run)
    return load_file(folder.checkpoint(folder.progress().epoch) / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_processes_take_the_steps_of_one(tmp_path, store, recipe, size):
    alone = train(recipes.override(recipe, SETTINGS), store, tmp_path / "alone", device="cpu")
    ended = together(size, store.place.path, tmp_path / "together", *SETTINGS)
    assert [p.returncode for p in ended] == [0] * size, ended[0].stderr
    one, all_of_them = (weights(tmp_path / name) for name in ("alone", "together"))
    assert one.keys() == all_of_them.keys()
    for name, values in one.items():
        torch.testing.assert_close(all_of_them[name], values, rtol=1e-10, atol=1e-10)
    for a, b in zip(*(RunFolder(tmp_path / n).progress().rows for n in ("alone", "together")), strict=True):
        assert b.loss == pytest.approx(a.loss, rel=1e-10)
        assert b.accuracy == pytest.approx(a.accuracy)
        assert b.watched_accuracy == pytest.approx(a.watched_accuracy)
    assert RunFolder(tmp_path / "together").finished == alone


@pytest.mark.slow
def test_so_they_do_in_float32_within_its_rounding(tmp_path, store, recipe):
    asked = [*SETTINGS, "trainer.precision=float32", "epochs=1"]
    train(recipes.override(recipe, asked), store, tmp_path / "alone", device="cpu")
    ended = together(2, store.place.path, tmp_path / "together", *asked)
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr
    (a,), (b,) = (RunFolder(tmp_path / n).progress().rows for n in ("alone", "together"))
    assert b.loss == pytest.approx(a.loss, rel=1e-3)
    assert b.watched_loss == pytest.approx(a.watched_loss, rel=1e-2)


@pytest.mark.slow
def test_what_one_refuses_ends_all(tmp_path, store):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("not a run")
    ended = together(2, store.place.path, tmp_path / "run", *SETTINGS)
    assert [p.returncode for p in ended] == [1, 1]
    assert "is not a run folder" in ended[0].stderr
    assert "The process that leads cannot train" in ended[1].stderr


def test_who_is_not_found_is_said(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=r"do not find each other at 127\.0\.0\.1:1"), open_team(torch.device("cpu")):
        pass


def test_rows_are_shared_out_once_each():
    rows = torch.arange(10)
    shares = [Team(rank, 3).share(rows) for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == list(range(10))
    assert ALONE.share(rows) is rows


def test_whole_batch_norm_is_torchs_own_in_one_process(tmp_path):
    """Forward, gradients and running statistics, against ``nn.BatchNorm2d``."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        x = torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        other = x.detach().clone().requires_grad_()
        theirs, ours = nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=0.3)
        ours.__class__ = WholeBatchNorm
        for norm, values in ((theirs, x), (ours, other)):
            norm(values).pow(3).sum().backward()
        torch.testing.assert_close(other.grad, x.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    finally:
        torch.distributed.destroy_process_group()
