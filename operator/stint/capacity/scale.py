"""Anything with a scale subresource: a MachineDeployment, a Karpenter NodePool with replicas, an operator of yours.

The target has one number for the whole pool and chooses itself which nodes go. Others may write that number, too: it is
read first, a higher one that Stint did not ask for stands, and a write that crosses another one is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence

from stint.capacity.adapter import Client, Order, Outcome, Target, Traits
from stint.errors import ApiError
from stint.model.right import Right, rights

_TRIES = 4
_CONFLICT = 409


class ScaleAdapter:
    """Writes spec.replicas of the target's scale: the nodes of the whole pool."""

    traits = Traits(
        name="Scale",
        about="the target's scale subresource",
        chooses_nodes=True,
        announces_nodes=False,
        one_offering=True,
        needs_target=True,
        granted="Only for what you list in `pools.scaleTargets`",
    )

    def rights(self, target: Target | None) -> Sequence[Right]:
        """See `CapacityAdapter`."""
        if target is None:
            return ()
        return rights(
            "get patch", target.group, f"{target.resource}/scale", "pools with the Scale adapter grow and shrink"
        )

    async def carry_out(self, order: Order, client: Client) -> Outcome:
        """See `CapacityAdapter`."""
        if order.target is None:
            return Outcome(refused="spec.scaler.target is missing; name the object that has the scale subresource")
        path = f"{order.target.path}/scale"
        for _ in range(_TRIES):
            try:
                scale = await client.get(path)
                there = int((scale.get("spec") or {}).get("replicas") or 0)
                wanted, note = _wanted(order, there)
                if wanted != there:
                    version = scale["metadata"].get("resourceVersion", "")
                    await client.patch(path, {"metadata": {"resourceVersion": version}, "spec": {"replicas": wanted}})
                return Outcome(note=note)
            except ApiError as error:
                if error.status != _CONFLICT:
                    return Outcome(refused=str(error))
        what = f"{order.target.resource}/{order.target.name}"
        text = f"other clients kept writing spec.replicas of {what}; the next cycle tries again"
        return Outcome(refused=text, again=True)


def _wanted(order: Order, there: int) -> tuple[int, str]:
    """The replicas to write, and what to say where they are not those of the order."""
    if order.to_nodes > order.from_nodes:
        if there > order.to_nodes:
            return there, f"spec.replicas is {there} already"
        seen = order.from_nodes - order.coming
        if there < seen:
            # The pool also selects nodes that the target does not make, or that it is removing: neither is asked for.
            own = order.to_nodes - (seen - there)
            return own, f"spec.replicas becomes {own}: the target makes {there} of the {seen} nodes seen"
        return order.to_nodes, ""
    if there > max(order.from_nodes, order.asked or 0):
        return there, f"spec.replicas stays {there}: another client raised it above the {order.from_nodes} nodes seen"
    if order.busy:
        what = f"{len(order.busy)} nodes of the pool are busy, and the target chooses which ones go"
        return there, f"spec.replicas stays {there}: {what}"
    return min(there, order.to_nodes), ""
