"""Which epoch is selected, and when early stopping ends a run."""

import pytest

from ascmodels import recipes
from ascmodels.selection import after, in_words, monitored, stale
from ascschemas.optimisation import Plateau
from ascschemas.run import EpochRecord, Progress
from ascschemas.training import Selection


def record(epoch, accuracy, loss=1.0):
    scored = {"watched_accuracy": accuracy, "watched_loss": loss}
    return EpochRecord(epoch=epoch, loss=1, accuracy=0.5, lr=1, seconds=1, clips_per_second=1, **scored)


def run(recipe, accuracies):
    progress, selected = Progress(), []
    for epoch, accuracy in enumerate(accuracies, start=1):
        progress = after(progress, record(epoch, accuracy), recipe)
        selected.append(progress.selected)
    return progress, selected


def test_the_first_of_the_best_epochs_is_selected(recipe):
    assert run(recipe, [0.2, 0.5, 0.5, 0.4, 0.6, 0.6])[1] == [1, 2, 2, 2, 5, 5]


def test_last_selects_the_last(recipe):
    last = recipes.override(recipe, ["selection.side=last"])
    assert run(last, [0.2, 0.5, 0.4])[1] == [1, 2, 3]


def test_the_loss_may_be_monitored(recipe):
    by_loss = recipes.override(recipe, ["selection.monitor=loss"])
    progress = Progress()
    for epoch, loss in enumerate((2.0, 1.0, 1.5), start=1):
        progress = after(progress, record(epoch, 0.1 * epoch, loss), by_loss)
    assert progress.selected == 2
    assert monitored(progress.rows[0], "loss") == 2.0


@pytest.mark.parametrize("side", ["validation", "last"])
def test_early_stopping_bears_as_many_epochs_as_it_says(recipe, side):
    stopping = recipes.override(recipe, ["early_stopping=2", f"selection.side={side}"])
    assert not stale(Progress(), stopping)
    assert not stale(run(stopping, [0.5, 0.4])[0], stopping)
    assert stale(run(stopping, [0.5, 0.4, 0.5])[0], stopping)
    assert not stale(run(stopping, [0.5, 0.4, 0.6])[0], stopping)
    assert not stale(run(recipe, [0.5] + [0.1] * 99)[0], recipe)


def test_selecting_on_the_test_side_is_said_aloud():
    assert "TEST" in in_words(Selection(side="test"))
    assert "TEST" not in in_words(Selection()) + in_words(Selection(side="last"))


def test_a_schedule_may_end_training_at_its_lowest_rate(recipe):
    plan = {"kind": "plateau", "factor": 0.1, "patience": 2, "monitor": "loss", "min_lr": 1e-3, "stop_at_min_lr": True}
    ending = recipe.model_copy(update={"schedule": Plateau.model_validate(plan), "early_stopping": None})

    def rows(*lr_and_loss):
        kept = tuple(
            record(e, 0.5, loss).model_copy(update={"lr": lr}) for e, (lr, loss) in enumerate(lr_and_loss, start=1)
        )
        return Progress(rows=kept, selected=1)

    above = [(1e-2, 1.0)] + [(1e-2, 2.0)] * 9
    assert not stale(rows(*above), ending)
    assert not stale(rows(*above, *[(1e-3, 2.0)] * 2), ending)
    assert stale(rows(*above, *[(1e-3, 2.0)] * 3), ending)
    assert not stale(rows(*above, *[(1e-3, 2.0)] * 2, (1e-3, 0.5), *[(1e-3, 2.0)] * 2), ending)
    assert not stale(rows(*above, *[(1e-3, 2.0)] * 3), recipe)
