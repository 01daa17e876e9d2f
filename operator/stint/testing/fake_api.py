"""An API server in memory, for what acts through `stint.capacity.adapter.Client`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from stint.errors import ApiError


class FakeApi:
    """Keeps whole objects. A patch that names an old resourceVersion is a conflict, as on the real one."""

    def __init__(self, objects: Mapping[str, dict[str, Any]] | None = None) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []  # (verb as in a Role, path)
        self.refuses: ApiError | None = None  # whatever is asked for
        self.between: Callable[[], object] = lambda: None  # runs before each write: another client's chance
        self._version = 0
        for path, thing in (objects or {}).items():
            self.put(path, thing)

    def put(self, path: str, thing: dict[str, Any]) -> None:
        """As if another client had written it."""
        self._version += 1
        stored = copy.deepcopy(thing)
        stored.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.objects[path] = stored

    def _ask(self, verb: str, path: str) -> None:
        self.requests.append((verb, path))
        if self.refuses is not None:
            raise self.refuses

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """An object; a list where none has this path, of those with the labels that `params` selects."""
        if path in self.objects:
            self._ask("get", path)
            return copy.deepcopy(self.objects[path])
        inside = [o for p, o in self.objects.items() if p.rpartition("/")[0] == path]
        if not inside and path.rpartition("/")[0].rpartition("/")[2] not in ("v1", "apis"):
            self._ask("get", path)
            raise ApiError(404, "NotFound", f"{path} not found")
        self._ask("list", path)
        wanted = dict(each.split("=") for each in (params or {}).get("labelSelector", "").split(",") if each)
        chosen = [o for o in inside if wanted.items() <= (o["metadata"].get("labels") or {}).items()]
        return {"items": copy.deepcopy(chosen)}

    async def create(self, path: str, body: Any) -> Any:
        """The object as created."""
        self._ask("create", path)
        self.between()
        whole = f"{path}/{body['metadata']['name']}"
        if whole in self.objects:
            raise ApiError(409, "AlreadyExists", f"{whole} already exists")
        self.put(whole, body)
        return self.objects[whole]

    async def patch(self, path: str, body: Any) -> Any:
        """The object after a merge patch."""
        self._ask("patch", path)
        self.between()
        if path not in self.objects:
            raise ApiError(404, "NotFound", f"{path} not found")
        there = self.objects[path]
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version is not None and version != there["metadata"]["resourceVersion"]:
            raise ApiError(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        self.put(path, _merged(there, body))
        return self.objects[path]

    async def delete(self, path: str) -> bool:
        """False where it was gone already."""
        self._ask("delete", path)
        self.between()
        return self.objects.pop(path, None) is not None


def _merged(there: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(there)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged
