"""Lists are read page by page; that requests reach a real API server is tested in e2e."""

from __future__ import annotations

import msgspec

from stint.kube.client.api import Api


class Answers(Api):
    """An API server whose list has more objects than a page holds."""

    def __init__(self, *pages: tuple[list[int], str]) -> None:  # opens no session
        self._pages = list(pages)
        self.asked: list[dict[str, str]] = []

    async def raw(self, verb: str, path: str, params: object) -> bytes:  # type: ignore[override]
        assert (verb, path) == ("GET", "/things")
        self.asked.append(dict(params))  # type: ignore[call-overload]
        items, token = self._pages[len(self.asked) - 1]
        return msgspec.json.encode({"metadata": {"resourceVersion": "7", "continue": token}, "items": items})


async def test_a_list_is_read_page_by_page_to_its_end():
    api = Answers(([1, 2], "more"), ([3], ""))
    pages = [page async for page in api.pages("/things")]
    assert [[msgspec.json.decode(i) for i in p.items] for p in pages] == [[1, 2], [3]]
    assert [p.last for p in pages] == [False, True]
    assert {p.metadata.resource_version for p in pages} == {"7"}
    assert api.asked == [{"limit": "1000"}, {"limit": "1000", "continue": "more"}]
