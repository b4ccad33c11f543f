"""Does the command itself train in several processes, started the way a person starts them?"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ascmodels.checkpoint import RunFolder
from ascmodels.testing.stores import make_store

MINE = """
name: mine
features: made_up
family: {kind: five_conv, widths: [4, 4, 8, 8, 8], norm_momentum: 0.1}
objective: {kind: focal, gamma: 1}
optimiser: {kind: sgd, lr: 0.05}
augmentation: {mixup: {alpha: 0.2}, time_mask: {width: 4}}
trainer: {kind: supervised, precision: float64}  # float32 would differ where a sum of another order crosses a kink
batch_size: 16
epochs: 2
"""


FIT = "fit", "mine.yaml", "scenes", "--device", "cpu", "--out"


def together() -> subprocess.CompletedProcess[str]:
    """Train in two processes."""
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2", "--no-python"]
    where = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [*torchrun, "ascmodels", *FIT, "together"]
    return subprocess.run(words, env=where, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_torchrun_gives_the_run_of_one_process(
    tmp_path: Path, ascmodels: Callable[..., tuple[int | str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "features" / "scenes" / "made_up.zarr", clips_per_unit=8)
    (tmp_path / "mine.yaml").write_text(MINE)
    assert ascmodels(*FIT, "alone")[0] == 0
    ended = together()
    assert ended.returncode == 0, ended.stderr
    assert "2 processes, cpu" in ended.stderr
    assert "Warning" not in ended.stderr
    assert ended.stderr.count("epoch 2 ") == 1
    assert ended.stdout.count("Next: ascmodels evaluate together") == 1
    runs = [RunFolder(tmp_path / name) for name in ("alone", "together")]
    one, two = (load_file(run.checkpoint(2) / "weights.safetensors") for run in runs)
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=1e-10, atol=1e-10)
    (tmp_path / "mine.yaml").write_text(MINE.replace("lr: 0.05", "lr: 0.01"))
    refused = together()
    assert refused.returncode != 0
    assert refused.stderr.count("holds a run that was made from something else") == 1
    assert "The process that leads" not in refused.stderr
    (tmp_path / "mine.yaml").write_text(MINE)
    again = together()
    assert again.returncode == 0, again.stderr
    assert "is finished: nothing to do" in again.stderr
