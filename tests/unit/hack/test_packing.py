"""Pods that share GPUs: nothing is overbooked, nothing is rated twice, and what is worth keeping is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.bench.fragmentation import GPU, Fleet, Host, Shape, Slot
from hack.bench.lookahead import LookAhead, outlook
from hack.bench.packing import BestFit, Gradient, MovingPacker, Packer

TYPICAL = [
    (Shape(4000, gpus=1, gpu_milli=500), 0.3),
    (Shape(8000, gpus=1, gpu_milli=250), 0.1),
    (Shape(8000, gpus=1, gpu_milli=GPU), 0.3),
    (Shape(16000, gpus=2, gpu_milli=GPU), 0.1),
    (Shape(2000, gpus=1, gpu_milli=700, models=frozenset({"A"})), 0.1),
    (Shape(16000), 0.1),
]
PACKERS: dict[str, Callable[[Fleet], Packer]] = {
    "best fit": lambda fleet: Packer(fleet, BestFit()),
    "gradient": lambda fleet: Packer(fleet, Gradient()),
    "look ahead": lambda fleet: Packer(fleet, LookAhead(TYPICAL, fleet.hosts)),
    "moves": lambda fleet: MovingPacker(fleet, LookAhead(TYPICAL, fleet.hosts), pods_a_move=2, least_gain_milli=0.1),
}
every_packer = pytest.mark.parametrize("make", PACKERS.values(), ids=PACKERS)

hosts = st.lists(
    st.builds(
        Host,
        id=st.uuids().map(str),
        cpu_milli=st.sampled_from([8000, 32000, 64000]),
        memory_mib=st.sampled_from([4096, 65536]),
        gpus=st.integers(0, 4),
        model=st.sampled_from(["A", "B"]),
    ),
    max_size=6,
    unique_by=lambda host: host.id,
)
whole = st.builds(
    Shape,
    cpu_milli=st.sampled_from([0, 3000, 8000]),
    memory_mib=st.sampled_from([0, 2048, 5000]),
    gpus=st.integers(1, 5),
    gpu_milli=st.just(GPU),
    models=st.sampled_from([frozenset(), frozenset({"A"}), frozenset({"C"})]),
)
shares = st.builds(
    Shape,
    cpu_milli=st.sampled_from([0, 3000, 7500]),
    memory_mib=st.sampled_from([0, 2048]),
    gpus=st.just(1),
    gpu_milli=st.integers(1, 999),
    models=st.sampled_from([frozenset(), frozenset({"B"})]),
)
shapes = st.lists(whole | shares | st.builds(Shape, cpu_milli=st.sampled_from([1000, 16000])), max_size=20)


def fully_rated(packer: Packer, shape: Shape) -> Slot | None:
    """What a packer that remembers nothing would choose."""
    return Packer(packer.fleet, packer.policy).find(shape)


@every_packer
class TestEveryPacker:
    @given(hosts=hosts, shapes=shapes)
    def test_overbooks_nothing(self, make: Callable[[Fleet], Packer], hosts: list[Host], shapes: list[Shape]) -> None:
        packer = make(Fleet(hosts, TYPICAL))
        for shape in shapes:
            packer.place(shape)
        fleet = packer.fleet
        for at, host in enumerate(fleet.hosts):
            here = [(shape, slot) for shape, slot in packer.placed if slot.host == at]
            assert sum(shape.cpu_milli for shape, _ in here) == host.cpu_milli - fleet.cpu[at] <= host.cpu_milli
            assert sum(shape.memory_mib for shape, _ in here) == host.memory_mib - fleet.memory[at] <= host.memory_mib
            for gpu in range(fleet.free.shape[1]):
                taken = sum(shape.gpu_milli for shape, slot in here if gpu in slot.gpus)
                assert taken + fleet.free[at, gpu] == (GPU if gpu < host.gpus else 0)
                assert fleet.free[at, gpu] >= 0
            for shape, slot in here:
                assert len(set(slot.gpus)) == shape.gpus
                assert not shape.models or host.model in shape.models

    @given(hosts=hosts, shapes=shapes)
    def test_chooses_as_if_it_rated_every_node_anew(
        self, make: Callable[[Fleet], Packer], hosts: list[Host], shapes: list[Shape]
    ) -> None:
        packer = make(Fleet(hosts, TYPICAL))
        for shape in shapes:
            assert packer.find(shape) == fully_rated(packer, shape)
            packer.place(shape)

    @given(hosts=hosts, shapes=shapes)
    def test_gives_the_same_whatever_order_the_nodes_are_listed_in(
        self, make: Callable[[Fleet], Packer], hosts: list[Host], shapes: list[Shape]
    ) -> None:
        one, other = make(Fleet(hosts, TYPICAL)), make(Fleet(hosts[::-1], TYPICAL))
        assert [one.place(shape) for shape in shapes] == [other.place(shape) for shape in shapes]

    def test_places_nothing_on_no_nodes(self, make: Callable[[Fleet], Packer]) -> None:
        assert make(Fleet([], TYPICAL)).place(Shape(1000, gpus=1, gpu_milli=500)) is None

    def test_places_nothing_larger_than_any_node(self, make: Callable[[Fleet], Packer]) -> None:
        packer = make(Fleet([Host("n", 8000, 4096, 2)], TYPICAL))
        assert packer.place(Shape(1000, gpus=3, gpu_milli=GPU)) is None
        assert packer.place(Shape(9000, gpus=1, gpu_milli=100)) is None
        assert packer.place(Shape(1000, 5000, gpus=1, gpu_milli=100)) is None
        assert packer.fleet.changed == []


def fragmentation_by_definition(fleet: Fleet, typical: Sequence[tuple[Shape, float]]) -> float:
    """Another road to F: every node, every typical pod, every GPU."""
    total = 0.0
    for at, host in enumerate(fleet.hosts):
        free = [int(milli) for milli in fleet.free[at]]
        for shape, popularity in typical:
            usable = [milli for milli in free if milli >= shape.gpu_milli]
            fits = shape.gpus and fleet.cpu[at] >= shape.cpu_milli and len(usable) >= shape.gpus
            allowed = not shape.models or host.model in shape.models
            total += popularity * (sum(free) - (sum(usable) if fits and allowed else 0))
    return total


@given(hosts=hosts, shapes=shapes)
def test_fragmentation_is_what_its_definition_says(hosts: list[Host], shapes: list[Shape]) -> None:
    packer = Packer(Fleet(hosts, TYPICAL), Gradient())
    for shape in shapes:
        packer.place(shape)
    assert packer.fleet.fragmentation_milli == pytest.approx(fragmentation_by_definition(packer.fleet, TYPICAL))


@given(hosts=hosts, taken=shapes, shape=whole | shares)
def test_worth_after_is_the_worth_once_it_is_there(hosts: list[Host], taken: list[Shape], shape: Shape) -> None:
    fleet = Fleet(hosts, TYPICAL)
    packer = Packer(fleet, BestFit())
    for other in taken:
        packer.place(other)
    slot = packer.find(shape)
    if slot is None:
        return
    foreseen = fleet.after(np.array([slot.host]), shape)[0]
    fleet.change(slot, shape, sign=-1)
    assert fleet.useful[slot.host] == pytest.approx(foreseen[slot.gpus[0] if shape.shares else 0])
    assert all(foreseen >= 0)


def test_what_a_hole_will_come_to_is_what_fills_it() -> None:
    halves = [(Shape(1000, gpus=1, gpu_milli=500), 1.0)]
    value = outlook(halves, ["A"], cores=4)[0]
    assert value[4, 100] == pytest.approx(1000, rel=1e-3)  # two halves
    assert value[1, 100] == pytest.approx(500, rel=1e-3)  # CPU for one
    assert value[4, 49] == value[0, 100] == 0


def test_a_gap_is_kept_for_those_who_fill_it() -> None:
    """Best fit takes the smaller gap; the look-ahead knows that only a quarter fills it and halves are many."""
    usual = [(Shape(1000, gpus=1, gpu_milli=600), 0.5), (Shape(1000, gpus=1, gpu_milli=400), 0.5)]
    fleet = Fleet([Host("a", 8000, 0, 1), Host("b", 8000, 0, 1)], usual)
    fleet.change(Slot(0, (0,)), Shape(1000, gpus=1, gpu_milli=550), sign=-1)  # leaves 450
    fleet.change(Slot(1, (0,)), Shape(1000, gpus=1, gpu_milli=300), sign=-1)  # leaves 700
    small = Shape(1000, gpus=1, gpu_milli=100)
    assert Packer(fleet, BestFit()).find(small) == Slot(0, (0,))
    assert Packer(fleet, LookAhead(usual, fleet.hosts)).find(small) == Slot(1, (0,))


def test_moves_a_pod_where_that_makes_room() -> None:
    """Two GPUs with a half each hold no whole-GPU pod until one half moves to the other."""
    usual = [(Shape(1000, gpus=1, gpu_milli=GPU), 0.999), (Shape(1000, gpus=1, gpu_milli=500), 0.001)]
    hosts = [Host("a", 8000, 0, 1), Host("b", 8000, 0, 1)]
    half, most = Shape(1000, gpus=1, gpu_milli=500), Shape(1000, gpus=1, gpu_milli=600)
    fleet = Fleet(hosts, usual)
    packer = MovingPacker(fleet, LookAhead(usual, fleet.hosts), pods_a_move=3)
    assert packer.place(half) == Slot(0, (0,))
    assert packer.place(most) == Slot(1, (0,))
    fleet.change(Slot(1, (0,)), most, sign=+1)  # it ended
    packer.placed.pop()
    fleet.change(Slot(1, (0,)), half, sign=-1)  # as others would leave it
    packer.placed.append((half, Slot(1, (0,))))
    assert packer.place(Shape(1000, gpus=1, gpu_milli=GPU)) is None
    assert len(packer.moves) == 1
    assert packer.place(Shape(1000, gpus=1, gpu_milli=GPU)) is not None


def test_moves_no_more_than_it_may() -> None:
    fleet = Fleet([Host(f"n{i}", 32000, 0, 2) for i in range(20)], TYPICAL)
    packer = MovingPacker(fleet, LookAhead(TYPICAL, fleet.hosts), pods_a_move=5, least_gain_milli=-1e9)
    for _ in range(23):
        packer.place(Shape(2000, gpus=1, gpu_milli=300))
    assert len(packer.moves) == 4


@pytest.mark.parametrize(("gpus", "milli"), [(1, 0), (1, 1001), (2, 500)])
def test_a_shape_is_a_share_of_one_gpu_or_whole_ones(gpus: int, milli: int) -> None:
    with pytest.raises(ValueError):
        Shape(1000, gpus=gpus, gpu_milli=milli)
