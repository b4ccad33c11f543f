"""Lightning's Trainer around our feed, steps and checkpoints: the door to Lightning."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from typing_extensions import override

from ascmodels.data import Batch
from ascmodels.objectives import objective
from ascmodels.optimisers import optimiser, schedule
from ascmodels.randomness import torch_seeded
from ascmodels.selection import after, monitored, schedule_monitor, stale
from ascmodels.trainers.base import Task, publish
from ascmodels.trainers.failure import is_out_of_memory, not_finite, out_of_memory
from ascmodels.trainers.lightning_feed import Part, Parts, Watched
from ascmodels.trainers.networks import Sums, marks, model_of, moment, record, scored
from ascmodels.weights import load_state, load_weights, save_state, save_weights
from ascschemas.problems import Difference, RunError
from ascschemas.run import EpochRecord, Progress

if TYPE_CHECKING:
    from ascmodels.trainers.lightning import Lightning

PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
LOGS = "lightning"
"""Folder of Lightning's logs in the run folder."""


def fit(options: Lightning, task: Task) -> Progress:
    """Train from where the run folder stands to the end.

    Raises
    ------
    RunError
        When training cannot go on.
    """
    state = _loaded(task)
    module = Module(options, task, state)
    if state and stale(module.progress, task.recipe):
        return module.progress
    try:
        with _quiet(), _signals(), closing(module):
            trainer = _trainer(options, task, module, state)
            trainer.fit(module, module.feeding, module.watched if len(module.watched) else None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(task, module.progress) from None
    return module.progress


def loggers(folder: Path) -> list[Logger]:
    """A table in a run folder, for what callbacks log beside our curves.

    Steps are epochs. A run that goes on writes the earlier ones again, in place of those that are there.
    """
    return [CSVLogger(folder, name=LOGS, version="")]


class Module(pl.LightningModule):
    """A run as Lightning wants it: what happens to a part of a batch, and to the end of an epoch.

    Parameters
    ----------
    options : Lightning
        The trainer's options.
    task : Task
        What to train.
    state : dict
        State of the last checkpoint; empty before the first.
    """

    def __init__(self, options: Lightning, task: Task, state: dict[str, Any]) -> None:
        super().__init__()
        made = model_of(
            task.recipe,
            task.inputs,
            len(task.data.classes),
            task.statistics,
            channels_last=options.channels_last,
            weights=task.weights,
        )
        self.model = made.to(task.device)
        self.optimiser = optimiser(task.recipe.optimiser, self.model.network)
        self.schedule = schedule(task.recipe, self.optimiser)
        self.task, self.progress = task, task.folder.progress()
        if state:
            load_weights(task.folder.checkpoint(self.progress.epoch), self.model)
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
        self.feeding = Parts(task, self.model, options.accumulate, lambda: self.progress)
        self.watched = Watched(task, lambda: self.progress)
        self._loss = objective(task.recipe.objective, task.data.classes, task.device)
        self._forward = (task.team.together(self.model.network),)  # in a tuple: its weights are listed once
        self._seeded = ExitStack()
        self._computed: list[tuple[int, Tensor, float, float]] = []
        self._sums = self._watched_sums = Sums()
        self._start = self._seconds = 0.0

    def close(self) -> None:
        """Let go of what an epoch holds: the feed, and torch's generator."""
        self._seeded.close()
        self.feeding.close()

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimiser

    @override
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # the feed has put it there

    @override
    def on_train_epoch_start(self) -> None:
        self._sums = self._watched_sums = Sums()
        self._start = time.perf_counter()
        self._lr = float(self.optimiser.param_groups[0]["lr"])
        seeded = torch_seeded(self.task.recipe.seed, "layers", self.progress.epoch + 1, device=self.task.device)
        self._seeded.enter_context(seeded)

    @override
    def training_step(self, part: Part, number: int) -> Tensor:
        logits = self._forward[0](*part.x).float()
        loss = self._loss(logits, part.y) * len(part.y) if len(part.y) else logits.sum() * 0
        self._computed.append((len(part.y), loss.detach(), *marks(self.task.recipe, logits.detach(), part.y)))
        # Lightning divides by the number of parts, and the team by the number of processes
        return loss * (self.feeding.most * self.task.team.size / len(part.batch.clips))

    @override
    def on_train_batch_end(self, outputs: Any, part: Part, number: int) -> None:
        self._seconds = time.perf_counter() - self._start
        if not part.last:
            return
        self.schedule.after_step()
        clips, losses, correct, labels = zip(*self._computed, strict=True)
        self._computed.clear()
        total = self.task.team.total(sum(clips), sum(float(loss) for loss in losses), sum(correct), sum(labels))
        epoch = self.progress.epoch + 1
        if not math.isfinite(total[1]):
            where = f"epoch {epoch}, batch {part.number} of {self.task.batches(epoch)}"
            raise not_finite(self.task, self.progress, where, total[1], part.batch)
        self._sums = self._sums.plus(*total)
        self.task.watch.batch(moment(self.task, self._sums, epoch, part.number, self._seconds))

    @override
    def on_validation_start(self) -> None:
        self._seeded.close()  # scoring draws nothing of the epoch's

    @override
    def validation_step(self, batch: Batch, number: int) -> None:
        found = scored(self.task, self.model, lambda x: self.model.network(*x).float(), self._loss, batch)
        self._watched_sums = self._watched_sums.plus(*found)

    @override
    def on_train_epoch_end(self) -> None:
        """Write the epoch down, for callbacks, schedule and selection."""
        self._seeded.close()
        row = self._row()
        if row.watched_loss is not None and not math.isfinite(row.watched_loss):
            where = f"epoch {row.epoch}, while scoring the watched side"
            raise not_finite(self.task, self.progress, where, row.watched_loss)
        self.log_dict(metrics(row), logger=False)
        self.schedule.after_epoch(monitored(row, schedule_monitor(self.task.recipe)))
        self.progress = after(self.progress, row, self.task.recipe)

    def _row(self) -> EpochRecord:
        team, sums = self.task.team, self._watched_sums
        watched = Sums().plus(*team.total(sums.clips, sums.loss, sums.correct, sums.labels))
        epoch, times = self.progress.epoch + 1, {"start": self._start, "seconds": self._seconds}
        return record(self.task, epoch, self._sums, watched, lr=self._lr, **times)


class Publishing(Checkpoint):
    """Publishes our checkpoint once all other callbacks have seen the epoch: Lightning calls checkpoints last.

    Parameters
    ----------
    module : Module
        The run.
    state : dict
        State of the last checkpoint; empty before the first.
    others : list of Callback
        The callbacks whose state is kept.
    """

    def __init__(self, module: Module, state: dict[str, Any], others: list[Callback]) -> None:
        self.module, self.state, self.others = module, state, others

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Go on: callbacks, scaler and tables as they were."""
        for row in self.module.progress.rows:
            _logged(row, [ours for ours in trainer.loggers if isinstance(ours, CSVLogger)])
        if self.state:
            trainer.precision_plugin.load_state_dict(self.state["scaler"])
            for callback in self.others:
                if callback.state_key in self.state["callbacks"]:
                    callback.load_state_dict(self.state["callbacks"][callback.state_key])

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task, progress = self.module.task, self.module.progress
        row = progress.rows[-1]
        publish(task, progress, lambda folder: self._save(trainer, folder))
        _logged(row, trainer.loggers)
        task.watch.epoch(row, selected=progress.selected == row.epoch)
        trainer.should_stop = trainer.should_stop or stale(progress, task.recipe)

    def _save(self, trainer: pl.Trainer, folder: Path) -> None:
        save_weights(folder, self.module.model)
        others = {c.state_key: c.state_dict() for c in self.others}
        state = {
            "optimiser": self.module.optimiser.state_dict(),
            "schedule": self.module.schedule.state_dict(),
            "scaler": trainer.precision_plugin.state_dict(),
            "callbacks": {key: kept for key, kept in others.items() if kept},
        }
        save_state(folder, state)


def metrics(row: EpochRecord) -> dict[str, float]:
    """What loggers and callbacks are told of an epoch, by the names of ``curves.csv``."""
    said = row.model_dump(exclude={"epoch"})
    return {name: float(value) for name, value in said.items() if value is not None}


def _loaded(task: Task) -> dict[str, Any]:
    epoch = task.folder.progress().epoch
    return load_state(task.folder.checkpoint(epoch)) if epoch else {}


def _trainer(options: Lightning, task: Task, module: Module, state: dict[str, Any]) -> pl.Trainer:
    """Lightning's Trainer, set up for one process of ours."""
    ours: dict[str, Any] = {
        "max_epochs": task.epochs,
        "reload_dataloaders_every_n_epochs": 1,  # the last epoch may be a short one
        "accumulate_grad_batches": module.feeding.most,
        "precision": PRECISIONS[options.precision],
        "strategy": SingleDeviceStrategy(device=task.device),
        "accelerator": "cuda" if task.device.type == "cuda" else "cpu",
        "devices": [task.device.index or 0] if task.device.type == "cuda" else 1,
        "plugins": [LightningEnvironment()],  # whoever started the processes, the team brings them together
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_checkpointing": True,  # by Publishing; Lightning adds its own only where there is none
        "default_root_dir": task.folder.path,
    }
    theirs = dict(options.arguments(task))
    _require_apart(ours, theirs)
    silent = {"enable_progress_bar": False, "enable_model_summary": False}
    others = list(theirs.pop("callbacks", []))
    callbacks = [*others, Publishing(module, state, others)]
    theirs["logger"] = theirs.get("logger", False) if task.team.leads else False
    trainer = pl.Trainer(**silent | theirs | ours, callbacks=callbacks)
    _count_on(trainer, module.progress.epoch, task.batches())
    return trainer


def _require_apart(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    both = sorted(ours.keys() & theirs.keys())
    if both:
        rows = [Difference(field=name, expected=str(ours[name]), found=str(theirs[name])) for name in both]
        raise RunError(
            "The trainer gives Lightning arguments that the training recipe decides.",
            differences=rows,
            todo="Leave them out of arguments(); change the recipe, such as with --set epochs=5.",
        )


def _count_on(trainer: pl.Trainer, epochs: int, steps: int) -> None:
    """Let Lightning count epochs and steps from where the run stands."""
    loop = trainer.fit_loop
    so_far = dict.fromkeys(("ready", "started", "processed", "completed"), epochs)
    loop.epoch_progress.load_state_dict({"total": so_far, "current": so_far})
    taken = loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
    taken.ready = taken.completed = epochs * steps
    loop.epoch_loop._batches_that_stepped = epochs * steps  # the step that Lightning's own callbacks log by


def _logged(row: EpochRecord, to: list[Logger]) -> None:
    for logger in to:
        logger.log_metrics(metrics(row), step=row.epoch)
        logger.save()


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning keeps its tips and hints to itself; who is told what is the watcher's affair."""
    voices = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [voice.level for voice in voices]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        try:
            for voice in voices:
                voice.setLevel(logging.ERROR)
            yield
        finally:
            for voice, level in zip(voices, levels, strict=True):
                voice.setLevel(level)


@contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt again, and not ``exit(1)`` and deaf ears; SIGTERM ends with a failure's status.

    Lightning answers a stop with ``exit(1)``, or, before an epoch's first batch, with a RuntimeError of its teardown.
    """
    on_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    except (SystemExit, RuntimeError) as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        if on_main:
            signal.signal(signal.SIGINT, before)
