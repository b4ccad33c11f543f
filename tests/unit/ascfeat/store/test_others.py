"""What other processes do to a store that one has open: forks read on, and nobody writes into a store not his own."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from ascfeat import share
from ascfeat.store import Folder, Writer, create, open_store, row, verify
from ascfeat.store.metadata import SPARE
from ascfeat.store.places import Piece
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


class Vanishing(Folder):
    """A folder on a share that is unmounted just before its n-th write."""

    def __init__(self, path: Path, n: int) -> None:
        super().__init__(path)
        self.left = n

    def write(self, key: str, pieces: Iterable[Piece]) -> None:
        if not self.left:
            self.path.parent.rename(self.path.parent.with_name("unmounted"))
        self.left -= 1
        super().write(key, pieces)


@pytest.mark.parametrize("n", range(4))
def test_a_store_that_goes_between_two_files_of_a_unit_is_not_made_anew(tmp_path: Path, n: int) -> None:
    layout, values = log_layout(), values_for(log_layout(), 0)
    header, at = header_of(layout, manifest_of(), {}), tmp_path / "share" / "s.zarr"
    at.parent.mkdir()
    create(at, header, manifest_of())
    worker = Writer(Vanishing(at, n), sweep=False)
    with pytest.raises((FileNotFoundError, StoreError)):
        worker.write(0, [row(ClipRecord(), values[i], header) for i in range(UNIT)])
    assert [p.name for p in tmp_path.iterdir()] == ["unmounted"]
    there = Writer(tmp_path / "unmounted" / "s.zarr")
    assert there.unit_record(0) is None
    there.write(0, [row(ClipRecord(), values[i], header) for i in range(UNIT)])
    assert there.unit_record(0) is not None


@pytest.mark.parametrize("when", ["before", "while it is built"])
def test_a_store_is_not_created_where_nothing_is_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    header, share = header_of(log_layout(), manifest_of(), {}), tmp_path / "share"
    if when != "before":
        share.mkdir()
        adopt = Folder.adopt

        def late(self: Folder, folder: Path, last: str) -> bool:
            share.rename(tmp_path / "unmounted")
            return adopt(self, folder, last)

        monkeypatch.setattr(Folder, "adopt", late)
    with pytest.raises(StoreError, match="No store can be created at"):
        create(share / "s.zarr", header, manifest_of())
    assert not share.exists()


@pytest.mark.parametrize("n", [0, 1, 9])
def test_a_copy_that_goes_half_way_is_not_made_anew(tmp_path: Path, n: int) -> None:
    source = make_store(tmp_path / "mine" / "s.zarr")
    with pytest.raises((FileNotFoundError, StoreError)):
        share.run(share.transfer(source.place, Vanishing(tmp_path / "share" / "s.zarr", n)), threads=1)
    assert {p.name for p in tmp_path.iterdir()} == {"mine", "unmounted"}
    (tmp_path / "unmounted").rename(tmp_path / "share")
    copied = share.run(share.transfer(source.place, tmp_path / "share" / "s.zarr"))
    assert copied.made
    assert copied.sent == copied.files - n
    assert list(verify(open_store(tmp_path / "share" / "s.zarr"))) == []


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
