"""Every capacity adapter there is, by name. The CRD, the observer, the rights and the wiring ask here.

A new one is a file beside this one and a line in `ADAPTERS`.
"""

from __future__ import annotations

from stint.capacity.adapter import CapacityAdapter, Target, Traits, Watch
from stint.capacity.kwok import KwokAdapter
from stint.capacity.scale import ScaleAdapter
from stint.model.right import Right, rights

ADAPTERS: dict[str, CapacityAdapter] = {
    adapter.traits.name: adapter
    for adapter in (
        ScaleAdapter(),
        KwokAdapter(),
    )
}


def traits_of(name: str | None) -> Traits | None:
    """None: nothing resizes the pool."""
    return None if name is None else ADAPTERS[name].traits


def rights_of(name: str, target: Target | None) -> tuple[Right, ...]:
    """What an adapter must be allowed to do for a pool with this target, its watches included."""
    adapter = ADAPTERS[name]
    why = f"news of capacity of the {name} adapter are heard"
    watching = (r for w in adapter.traits.watches for r in rights("list watch", w.group, w.resource, why))
    return (*adapter.rights(target), *watching)


def watches() -> tuple[Watch, ...]:
    """What any of them wants to hear of."""
    return tuple(dict.fromkeys(w for adapter in ADAPTERS.values() for w in adapter.traits.watches))
