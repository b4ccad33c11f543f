"""Twenty trainings on one store, two at once, killed and resumed, while the store is verified: is anything ever wrong?

Each run must end with the weights, to the bit, of one that nobody interrupted; `ascfeat verify` must find the store
whole each time; and in the end no process and no shared memory may be left.

``python tests/benchmarks/train_soak.py`` prints what happened; ``--runs 2`` is a small one.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from ascmodels.checkpoint import CHECKPOINTS, RunFolder
from ascmodels.testing.stores import layout, make_store, scene_clips

SEEDS = 3
"""Different trainings; the runs take them in turns."""
EPOCHS = 6
EPOCH_SECONDS = 0.2
"""What one takes, or a little more."""
RECIPE = f"""
name: soaked
features: made_up
family: {{kind: five_conv, widths: [8, 8, 16, 16, 16], norm_momentum: 0.1}}
objective: {{kind: focal, gamma: 1}}
optimiser: {{kind: adam, lr: 0.01}}
augmentation: {{mixup: {{alpha: 0.2}}, time_mask: {{width: 8}}}}
sampler: class
batch_size: 16
window_mib: 1
epochs: {EPOCHS}
"""
BIN = Path(sys.executable).parent
SHARED = Path("/dev/shm")
PATIENCE_SECONDS = 120.0
"""For other people's shared memory to go."""


class Soak:
    """One library, and everybody who works on it."""

    def __init__(self, folder: Path, seed: int, kills: int) -> None:
        self.folder, self.draw, self.kills = folder, random.Random(seed), kills
        self.done: Counter[str] = Counter()
        self.seconds = 0.0
        self.over = threading.Event()
        clips = scene_clips(locations=6, devices=("a", "b", "c"))
        made = make_store(
            folder / "features/scenes/made_up.zarr", clips, shape=layout(bands=40, frames=120), clips_per_unit=8
        )
        self.store = made.place.path
        (folder / "soaked.yaml").write_text(RECIPE)

    def start(self, out: str, seed: int, placement: str) -> "subprocess.Popen[str]":
        """A training, as a person starts it."""
        words = ["fit", "soaked.yaml", "scenes", "--out", out, "--seed", str(seed), "--device", "cpu", "--resume"]
        where = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [BIN / "ascmodels", *words, "--placement", placement], cwd=self.folder, env=where,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def whole(self, out: str, seed: int, placement: str = "ram") -> str:
        """A training that nobody interrupts; the digest of its weights."""
        process = self.start(out, seed, placement)
        said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"{out} ended with {process.returncode}: {said}")
        return weights(self.folder / out)

    def one(self, number: int, wanted: list[str]) -> None:
        """A training that is killed at any moment, and in the end is left alone."""
        seed, placement = number % SEEDS, ("ram", "stream")[number // SEEDS % 2]
        out = f"runs/{number:02}"
        for _ in range(self.kills):
            process = self.start(out, seed, placement)
            self.wait(process, out)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                self.done["kills"] += 1
            said = process.communicate()[1]
            if process.returncode not in (0, -signal.SIGKILL):
                raise SystemExit(f"{out} ended with {process.returncode}: {said}")
            if process.returncode:
                self.done[f"killed after {self.epochs(out)} epochs"] += 1
        if self.whole(out, seed, placement) != wanted[seed]:
            raise SystemExit(f"{out} has other weights than a run of seed {seed} that nobody interrupted")
        left = [p.name for p in (self.folder / out).rglob(".*.partial*")]
        if left:
            raise SystemExit(f"{out} holds {left} in the end")
        self.done["runs"] += 1

    def wait(self, process: "subprocess.Popen[str]", out: str) -> None:
        """Wait for a moment of a training: so many epochs, however long they take now, and a while more."""
        done = self.epochs(out)
        upto = self.draw.randrange(done, max(EPOCHS, done + 1))
        while process.poll() is None and self.epochs(out) < upto:
            time.sleep(0.01)
        time.sleep(self.draw.uniform(0, self.seconds if upto == done else EPOCH_SECONDS))

    def epochs(self, out: str) -> int:
        """Epochs that a run has a checkpoint of."""
        found = (self.folder / out / CHECKPOINTS).glob("[0-9]*")
        return max((int(p.name) for p in found), default=0)

    def verify(self) -> None:
        """Read the store through, again and again, while it is trained on."""
        while not self.over.is_set():
            done = subprocess.run([BIN / "ascfeat", "verify", self.store], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"verify: {done.stdout}{done.stderr}")
            self.done["verified"] += 1


def weights(run: Path) -> str:
    """SHA-256 of a finished run's last weights."""
    folder = RunFolder(run)
    assert folder.finished
    file = folder.checkpoint(folder.finished.last) / "weights.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def shared_memory() -> set[str]:
    """Names of all shared memory and semaphores of this machine."""
    return {p.name for p in SHARED.iterdir()} if SHARED.is_dir() else set()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--runs", type=int, default=20)
    words.add_argument("--kills", type=int, default=2, help="of each run")
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    shared = shared_memory()
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), given.seed, given.kills)
        start = time.monotonic()
        wanted = [soak.whole(f"runs/whole-{seed}", seed) for seed in range(min(SEEDS, given.runs))]
        soak.seconds = (time.monotonic() - start) / len(wanted)
        with ThreadPoolExecutor(3) as people:
            verifying = people.submit(soak.verify)
            runs = [people.submit(soak.one, number, wanted) for number in range(given.runs)]
            try:
                for run in runs:
                    run.result()
            finally:
                soak.over.set()
            verifying.result()
    left = [p.pid for p in psutil.Process().children(recursive=True)]
    new = shared_memory() - shared
    until = time.monotonic() + PATIENCE_SECONDS
    while new and time.monotonic() < until:  # what others on this machine use goes with them; what is lost stays
        time.sleep(0.5)
        new &= shared_memory()
    if left or new:
        raise SystemExit(f"left: processes {left}, shared memory {sorted(new)}")
    print(", ".join(f"{n} {what}" for what, n in sorted(soak.done.items())))
    print(
        f"{len(wanted)} kinds of run; all weights equal to the bit, the store whole, no process or shared memory left"
    )


if __name__ == "__main__":
    main()
