"""Do stretches hold every pending unit once and whole, and does no unit cross two of them?"""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from ascfeat.store import unit_rows
from ascfeat.stretches import nested, positions, stretches


@st.composite
def stores(draw: st.DrawFn):
    """Some stores of one list of clips, each with units that are pending."""
    clips = draw(st.integers(1, 60))
    made = []
    for size in draw(st.lists(st.integers(1, 20), min_size=1, max_size=4)):
        units = -(-clips // size)
        pending = draw(st.sets(st.integers(0, units - 1)))
        made.append((SimpleNamespace(clips=clips, clips_per_unit=size), tuple(sorted(pending))))
    return made


@given(stores())
def test_every_unit_is_in_one_stretch_and_whole(made) -> None:
    found = list(stretches(made))
    assert sorted((i, u) for s in found for i, units in s.units for u in units) == [
        (i, u) for i, (_, units) in enumerate(made) for u in units
    ]
    for stretch in found:
        for i, units in stretch.units:
            for first, stop in (unit_rows(made[i][0], u) for u in units):
                assert stretch.first <= first < stop <= stretch.stop


@given(stores())
def test_stretches_are_as_small_as_can_be_and_in_order(made) -> None:
    """Every clip in one is wanted, and at no inner boundary could it be cut without cutting a unit."""
    found = list(stretches(made))
    wanted = {c for header, units in made for u in units for c in range(*unit_rows(header, u))}
    assert list(positions(found)) == sorted(wanted)
    inner = {(a, b - 1) for header, units in made for a, b in (unit_rows(header, u) for u in units)}
    for stretch in found:
        for cut in range(stretch.first + 1, stretch.stop):
            assert any(a < cut <= b for a, b in inner), f"could be cut at {cut}"


@given(st.lists(st.integers(1, 64), min_size=1, max_size=6))
def test_groups_hold_every_store_and_their_sizes_divide_each_other(sizes: list[int]) -> None:
    groups = nested([SimpleNamespace(clips_per_unit=n) for n in sizes])
    assert sorted(i for g in groups for i in g) == list(range(len(sizes)))
    for group in groups:
        own = [sizes[i] for i in group]
        assert all(a % b == 0 for i, a in enumerate(own) for b in own[i:])


def test_powers_of_two_are_one_group() -> None:
    assert nested([SimpleNamespace(clips_per_unit=n) for n in (1, 1024, 32, 32)]) == [[1, 2, 3, 0]]


def test_millions_of_units_take_memory_for_one() -> None:
    many = SimpleNamespace(clips=1 << 40, clips_per_unit=1)
    found = stretches([(many, range(1 << 40)), (SimpleNamespace(clips=1 << 40, clips_per_unit=32), range(1 << 35))])
    first = next(found)
    assert (first.first, first.stop, len(first)) == (0, 32, 32)
