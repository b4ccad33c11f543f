"""What other processes do to a store that one has open: forks read on, and nobody writes into a store not his own."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from ascfeat import share
from ascfeat.store import Folder, Writer, create, open_store, row, verify
from ascfeat.store.metadata import SPARE
from ascfeat.testing.stores import CLIPS, UNIT, header_of, log_layout, make_store, manifest_of, values_for
from ascschemas.problems import StoreError
from ascschemas.store import ClipRecord


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_on(tmp_path: Path) -> None:
    """As a DataLoader's workers do; threads that it inherits are none."""
    store = make_store(tmp_path / "s.zarr")
    expected = store.read(range(CLIPS))  # so that there is a pool to be inherited
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        same = np.array_equal(store.read(range(CLIPS)), expected, equal_nan=True)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_worker_that_was_given_up_writes_into_no_other_store(tmp_path: Path) -> None:
    layout, values = log_layout(), values_for(log_layout(), 0)
    old = header_of(layout, manifest_of(), {})
    create(tmp_path / "s.zarr", old, manifest_of())
    worker = Writer(tmp_path / "s.zarr", sweep=False)
    rows = [row(ClipRecord(), values[i], old) for i in range(UNIT)]
    worker.write(0, rows)
    Folder(tmp_path / "s.zarr").clear()
    longer = manifest_of(CLIPS + 2)
    create(tmp_path / "s.zarr", header_of(layout, longer, {}), longer)
    with pytest.raises(StoreError, match="is another store by now"):
        worker.write(1, rows)
    assert not list((tmp_path / "s.zarr").glob("*/c/1"))


def test_a_worker_that_was_given_up_writes_into_no_sealed_store(tmp_path: Path) -> None:
    sealed = make_store(tmp_path / "s.zarr")
    again = open_store(sealed.place)
    worker = Writer(sealed.place, sweep=False)
    with pytest.raises(StoreError, match="or finished"):
        worker.write(0, [])
    np.testing.assert_array_equal(again.read([0]), sealed.read([0]))


def test_a_copy_that_was_damaged_is_healed_by_copying_again(tmp_path: Path) -> None:
    source = make_store(tmp_path / "a" / "made" / "s.zarr")
    target = tmp_path / "b" / "made" / "s.zarr"
    share.run(share.transfer(source.place, target))
    for key in ("features/c/1/0/0/0", SPARE, "label/c/0"):
        (target / key).write_bytes(b"x" * 40)
    share.run(share.transfer(source.place, target))
    assert list(verify(open_store(target))) == []


def test_a_lock_is_never_taken_through_a_link(tmp_path: Path) -> None:
    from ascfeat.lock import exclusive

    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (tmp_path / ".s.zarr.lock").symlink_to(mine)
    with pytest.raises((StoreError, OSError)), exclusive(Folder(tmp_path / "s.zarr")):
        pass
    assert mine.read_text() == "precious"
