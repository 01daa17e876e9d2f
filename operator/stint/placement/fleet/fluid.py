"""The fluid plan: gangs and nodes in fractions. A linear programme, answered by sifting, that gives every price.

An **offer** is a column with all its workers on one pool. With x gangs on offers and n nodes of pools,

    min   sum_p usd_p n_p + sum_o usd_o x_o
    s.t.  sum_{o of class} x_o = count            every class           (dual mu: what one more such job costs)
          R_pr n_p - sum_{o on p} use_or x_o >= 0 every pool, resource  (dual u: what a unit of it is worth there)
          0 <= n <= limit, x >= 0

Few of the offers are ever used, so the programme starts with the most promising ones and takes in those whose cost at
the last prices undercuts their class's mu, until there are none. Where no node of a pool is in use its raw duals say
nothing, and an offer is priced there by the largest share of a node that it takes ("lifted").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import highspy
import numpy as np
from jaxtyping import Float, Int

from stint.placement.fleet.certificate import Proof, prove
from stint.placement.fleet.model import Fleet
from stint.placement.fleet.offers import Offers
from stint.placement.sifting import Answer, Entries, NoPricesError, Sifting, cheapest_of_each

_SMALL_GPUS = 8  # of a gang that may stay split: it is easily put elsewhere
_DUAL = 1  # the method for other bounds
_ROUNDS = 8
_FIRST, _FALLBACK, _MORE = 4, 2, 3  # offers a class at the start, without a limit, and in every later round
_SAMPLED_ABOVE = 1000  # classes: from there on prices are first found on a sample
_TOLERANCE = 1e-7
_CLOSE = 5e-4  # of the optimum: so near to the proven bound there is nothing left to look for


@dataclass(frozen=True, slots=True, kw_only=True)
class Fluid:
    """The answer. `usd_per_hour` is the programme's optimum; that nothing is cheaper is for the certificate to say."""

    usd_per_hour: float
    mass: Float[np.ndarray, " offer"]  # gangs
    nodes: Float[np.ndarray, " pool"]
    class_usd: Float[np.ndarray, " class"]  # mu
    lifted_usd: Float[np.ndarray, " offer"]  # what each offer costs at these prices
    proof: Proof
    iterations: int


class FluidProgramme:
    """Keeps the solver hot: classes come and go, and the prices are found again from where they were."""

    def __init__(self, fleet: Fleet, offers: Offers) -> None:
        self.fleet, self.offers = fleet, offers
        self.iterations = 0
        self._promise = offers.alone_usd
        self._count = fleet.count.astype(float)
        self._limit = fleet.limit.copy()
        pools, resources = offers.capacity.shape
        classes = len(fleet.count)
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = classes + pools * resources, pools
        lp.col_cost_ = fleet.usd_per_hour
        lp.col_lower_ = np.zeros(pools)
        lp.col_upper_ = fleet.limit
        lp.row_lower_ = np.concatenate([self._count, np.zeros(pools * resources)])
        lp.row_upper_ = np.concatenate([self._count, np.full(pools * resources, highspy.kHighsInf)])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.arange(pools + 1) * resources
        lp.a_matrix_.index_ = classes + np.arange(pools * resources)
        lp.a_matrix_.value_ = offers.capacity.ravel()
        self._sifting = Sifting(lp, columns=len(offers.column), entries=self._entries)
        self._highs = self._sifting.highs

    def solve(self, *, close: float = _CLOSE) -> Fluid:
        """From the start, or again after `recount`.

        Args:
            close: how near to the proven bound it may stop, as a ratio; no other offers are looked at then.

        Raises:
            NoPricesError: the solver did not end well, or some class cannot be run whole.
        """
        if not self._sifting.order:
            self._sifting.take(self._promising())
            self._start()
        for _ in range(_ROUNDS):
            found = self._fluid(self._answer())
            if found.usd_per_hour - found.proof.bound_usd_per_hour <= close * found.usd_per_hour:
                break
            sound = self.offers.priced(self.fleet, found.proof.measure_usd)
            better = self._cheaper(found.lifted_usd, found.class_usd)
            better = better if len(better) else self._cheaper(sound, found.class_usd)
            if not len(better):
                break
            few = cheapest_of_each(self.offers.of_class[better], found.lifted_usd[better], better, _MORE)
            self._sifting.take(few)
        return found

    def _cheaper(
        self, usd: Float[np.ndarray, " offer"], class_usd: Float[np.ndarray, " class"]
    ) -> Int[np.ndarray, " some"]:
        """Offers that undercut what their class costs now and are not looked at yet."""
        of_class = self.offers.of_class
        better = self._sifting.undercut(usd, class_usd[of_class], tolerance=_TOLERANCE)
        still: Int[np.ndarray, " some"] = better[self._count[of_class[better]] > 0]
        return still

    def refresh(self) -> tuple[Float[np.ndarray, "pool measure"], Float[np.ndarray, " class"]]:
        """The prices after `recount`, u and mu, among the offers that are looked at already: nothing is proved anew.

        Raises:
            NoPricesError: as `solve`.
        """
        dual = self._answer().dual
        pools, resources = self.offers.capacity.shape
        classes = len(self.fleet.count)
        return np.maximum(dual[classes:].reshape(pools, resources), 0.0), dual[:classes]

    def recount(self, classes: Int[np.ndarray, " some"], count: Int[np.ndarray, " some"]) -> None:
        """So many jobs of some classes from now on."""
        self._count[classes] = count
        self._highs.setOptionValue("simplex_strategy", _DUAL)
        for c, k in zip(classes.tolist(), count.tolist(), strict=True):
            self._highs.changeRowBounds(c, k, k)

    def dive(self, found: Fluid, *, rounds: int, each: int = 1) -> Fluid:
        """Large gangs that the fluid plan splits between markets go to one of them, and the prices are found again.

        A round settles one gang (or `each`) a market where most of it is, those first that are large and nearly there.
        A gang for which the market has no room beside those already settled there is kept out of it. Afterwards all is
        open again, and the prices are those of `found`.
        """
        capacity = self.offers.capacity
        room = np.where(capacity > 0, self._limit[:, None], 0.0) * capacity
        settled: set[int] = set()
        shut: list[Int[np.ndarray, " some"]] = []
        mass = found.mass
        for _ in range(rounds):
            split = [s for s in self._split(mass) if s[1] not in settled]
            if not split:
                break
            taken: Counter[int] = Counter()
            only: dict[int, int] = {}
            never: list[tuple[int, int]] = []
            for offer, c, m in split:
                if taken[m] >= each or c in only:
                    continue
                taken[m] += 1
                if self._reserve(room, offer):
                    only[c] = m
                else:
                    never.append((c, m))
            settled |= set(only)
            shut.append(self._settle(only, never))
            try:
                mass = self._mass(self._answer().value)
            except NoPricesError:  # together they leave others without room: as it was, and no further
                self._open(shut.pop())
                break
        for some in shut:
            self._open(some)
        return replace(found, mass=mass)

    def _open(self, some: Int[np.ndarray, " some"]) -> None:
        self._highs.changeColsBounds(len(some), some, np.zeros(len(some)), np.full(len(some), highspy.kHighsInf))

    def _mass(self, value: Float[np.ndarray, " variable"]) -> Float[np.ndarray, " offer"]:
        mass = np.zeros(len(self.offers.column))
        mass[np.concatenate(self._sifting.order)] = value[len(self.fleet.limit) :]
        return mass

    def _reserve(self, room: Float[np.ndarray, "pool measure"], offer: int) -> bool:
        """Room for all workers of a column, on the pools with the largest nodes first; False, and none, if short."""
        fleet, offers = self.fleet, self.offers
        of_column = np.flatnonzero(offers.column == offers.column[offer])
        left, taken = 1.0, []
        for o in of_column[np.argsort(-fleet.capacity[offers.pool[of_column], 0], kind="stable")]:
            use = offers.use[o]
            part = min(left, float((room[offers.pool[o]][use > 0] / use[use > 0]).min(initial=1.0)))
            taken.append((int(offers.pool[o]), part * use))
            left -= part
        if left > 1e-9:
            return False
        for p, amount in taken:
            room[p] = np.maximum(room[p] - amount, 0.0)
        return True

    def _split(self, mass: Float[np.ndarray, " offer"]) -> list[tuple[int, int, int]]:
        """(offer, class, market) of large gangs in several markets, a gang's largest part first.

        The largest come first that are nearly in one: GPUs times part squared. Who is in halves can wait, as prices
        will say more when the others are settled.
        """
        fleet, offers = self.fleet, self.offers
        some = np.flatnonzero((mass > 1e-6) & (self._count[offers.of_class] == 1))
        key = offers.of_class[some] * fleet.markets + fleet.column_market[offers.column[some]]
        keys, first, where = np.unique(key, return_index=True, return_inverse=True)
        part = np.bincount(where, weights=mass[some])
        gpus = offers.use[some[first], 0]
        split = np.flatnonzero((part < 1 - 1e-6) & (gpus > _SMALL_GPUS))
        order = split[np.lexsort((keys[split], -(gpus * part**2)[split]))]
        return [(int(some[first[i]]), int(keys[i] // fleet.markets), int(keys[i] % fleet.markets)) for i in order]

    def _settle(self, only: Mapping[int, int], never: Sequence[tuple[int, int]]) -> Int[np.ndarray, " some"]:
        """Some classes to one market each, others out of one; returns the variables shut for that."""
        order = np.concatenate(self._sifting.order)
        of_class, market = self.offers.of_class[order], self.fleet.column_market[self.offers.column[order]]
        wanted = np.full(len(self.fleet.count), -1)
        wanted[list(only)] = list(only.values())
        out = (wanted[of_class] >= 0) & (market != wanted[of_class])
        for c, m in never:
            out |= (of_class == c) & (market == m)
        index = (len(self.fleet.limit) + np.flatnonzero(out)).astype(np.int32)
        self._highs.setOptionValue("simplex_strategy", _DUAL)
        self._highs.changeColsBounds(len(index), index, np.zeros(len(index)), np.zeros(len(index)))
        return index

    def _promising(self) -> Int[np.ndarray, " some"]:
        fleet, offers = self.fleet, self.offers
        usd = offers.alone_usd
        few, fallback = _FIRST, _FALLBACK
        if len(fleet.count) > _SAMPLED_ABOVE:
            usd, few, fallback = _prices_of_a_sample(fleet, offers), 2, 1
        self._promise = usd
        endless = np.flatnonzero(np.isinf(fleet.limit[offers.pool]))
        first = cheapest_of_each(offers.of_class, usd, np.arange(len(usd)), few)
        return np.union1d(first, cheapest_of_each(offers.of_class[endless], usd[endless], endless, fallback))

    def _start(self) -> None:
        """From a plan that is nearly one: every class on its first offer, nodes for what the fullest resource asks."""
        fleet, offers = self.fleet, self.offers
        pools, resources = offers.capacity.shape
        taken = self._sifting.order[0]
        cheapest = cheapest_of_each(offers.of_class[taken], self._promise[taken], np.arange(len(taken)), 1)
        chosen = taken[cheapest]
        asked = np.zeros((pools, resources))
        np.add.at(asked, offers.pool[chosen], offers.use[chosen] * self._count[offers.of_class[chosen]][:, None])
        need = asked / np.maximum(offers.capacity, 1e-300)
        fullest, used = need.argmax(axis=1), need.max(axis=1) > 0
        status = highspy.HighsBasisStatus
        basis = highspy.HighsBasis()
        basic = np.zeros(pools + len(taken) + len(fleet.count) + pools * resources, dtype=bool)
        basic[:pools] = used
        basic[pools + cheapest] = True
        rows = basic[pools + len(taken) :]
        rows[len(fleet.count) :] = True
        rows[len(fleet.count) + np.flatnonzero(used) * resources + fullest[used]] = False
        states = [status.kBasic if b else status.kLower for b in basic]
        basis.col_status, basis.row_status = states[: pools + len(taken)], states[pools + len(taken) :]
        basis.valid = True
        self._highs.setBasis(basis)

    def _entries(self, some: Int[np.ndarray, " some"]) -> Entries:
        fleet, offers = self.fleet, self.offers
        resources, k = offers.capacity.shape[1], len(some)
        row, value = np.empty((k, 1 + resources), dtype=np.int64), np.empty((k, 1 + resources))
        row[:, 0], value[:, 0] = offers.of_class[some], 1.0
        row[:, 1:] = len(fleet.count) + offers.pool[some][:, None] * resources + np.arange(resources)
        value[:, 1:] = -offers.use[some]
        begin = np.arange(k) * (1 + resources)
        usd = fleet.column_usd_per_hour[offers.column[some]]
        return Entries(usd=usd, begin=begin, row=row.ravel(), value=value.ravel())

    def _answer(self) -> Answer:
        answer = self._sifting.answer()
        self.iterations += max(0, self._highs.getInfo().simplex_iteration_count)
        return answer

    def _fluid(self, answer: Answer) -> Fluid:
        fleet, offers, dual = self.fleet, self.offers, answer.dual
        pools, resources = offers.capacity.shape
        nodes, mass = answer.value[:pools], self._mass(answer.value)
        unit = np.maximum(dual[len(fleet.count) :].reshape(pools, resources), 0.0)
        idle = nodes <= 1e-9
        class_usd = dual[: len(fleet.count)]
        return Fluid(
            usd_per_hour=answer.usd,
            mass=mass,
            nodes=nodes,
            class_usd=class_usd,
            lifted_usd=np.where(idle[offers.pool], offers.alone_usd, offers.priced(fleet, unit)),
            proof=prove(fleet, offers, unit, class_usd, self._count),
            iterations=self.iterations,
        )


def _prices_of_a_sample(fleet: Fleet, offers: Offers) -> Float[np.ndarray, " offer"]:
    """Every offer at the prices that every eighth class alone would make, with an eighth of the limits."""
    step = 8
    some = np.arange(len(fleet.count)) % step == 0
    sample = replace(fleet.only(some), limit=fleet.limit / step)
    mine = offers.only(some[offers.of_class])
    column = np.cumsum(some[fleet.column_class]) - 1
    mine = replace(mine, of_class=(np.cumsum(some) - 1)[mine.of_class], column=column[mine.column])
    found = FluidProgramme(sample, mine).solve()
    return offers.priced(fleet, found.proof.measure_usd)
