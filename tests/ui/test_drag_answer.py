"""What a drag makes the server send, seen from the WebSocket."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks.soak import Seen, Session

SECONDS = 90


class Counted(Session):
    """A tab that moves its handle once, lets go, and counts what comes back."""

    async def elements(self) -> tuple[list[str], list[str], int]:
        """Elements of the histogram's fragment after a move; of the page after a release; how often the page was drawn for it."""
        import websockets

        async with websockets.connect(f"{self.url}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:  # type: ignore[list-item]
            await socket.send(self.message("").SerializeToString())
            while not self.handle:
                await self.read(socket, self.ended, SECONDS)
            moved: list[Any] = []
            await socket.send(self.event(final=False))
            await self.read(socket, lambda one: moved.append(one) or self.answered(one) and self.ended(one), SECONDS)
            released: list[Any] = []
            await socket.send(self.event(final=True))
            await self.read(socket, lambda one: released.append(one) or self.answered(one) and self.ended(one), SECONDS)
            whole = [one for one in released if one.WhichOneof("type") == "new_session" and not one.metadata.run.fragment_ids]
            return kinds(one for one in moved if one.delta.fragment_id == self.fragment), kinds(released), len(whole)


def kinds(messages: Any) -> list[str]:
    """What each message draws, a component of ours by its name."""
    elements = [one.delta.new_element for one in messages if one.WhichOneof("type") == "delta"]
    return [one.bidi_component.component_name or one.WhichOneof("type") or "block" for one in elements]


@pytest.mark.browser  # of a kind: it needs the running app
def test_a_move_redraws_the_figures_and_the_histogram_alone_and_a_release_the_page_once(server: str) -> None:
    tab = Counted(server.replace("http", "ws"), "bikes-mlp", Seen(), 0, 0)
    with ThreadPoolExecutor(1) as pool:  # Playwright's loop may live in this thread
        moved, released, pages = pool.submit(asyncio.run, tab.elements()).result(SECONDS)
    assert [one for one in moved if one != "block"] == ["html", "html", "explorer_threshold"]  # and none of the controls
    drawn = [one for one in released if one.startswith("explorer_")]
    assert pages == 1 and sorted(drawn) == ["explorer_overview", "explorer_shell", "explorer_threshold"]
    assert not {"code", "text_area", "file_uploader"} & set(released)  # what closed popovers hold
