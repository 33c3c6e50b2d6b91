"""What a drag makes the server send, seen from the WebSocket."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.soak import Seen, Session

SECONDS = 90


class Counted(Session):
    """A tab that moves its handle once and counts what comes back."""

    async def elements(self) -> list[str]:
        import websockets
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        async with websockets.connect(f"{self.url}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:  # type: ignore[list-item]
            opening = BackMsg()
            opening.rerun_script.query_string = f"model={self.model}"
            await socket.send(opening.SerializeToString())
            while not self.handle:
                await self.until_done(socket, SECONDS)
            await socket.send(self.event(final=False))
            found: list[str] = []
            while True:
                message = ForwardMsg()
                message.ParseFromString(await asyncio.wait_for(socket.recv(), SECONDS))
                kind = message.WhichOneof("type")
                if kind == "delta" and message.delta.fragment_id == self.fragment:
                    found.append(message.delta.new_element.WhichOneof("type") or "block")
                if kind == "script_finished" and "bidi_component" in found:
                    return found


@pytest.mark.browser  # of a kind: it needs the running app
def test_a_move_redraws_the_figures_and_the_histogram_alone(server: str) -> None:
    tab = Counted(server.replace("http", "ws"), "bikes-mlp", Seen(), 0)
    with ThreadPoolExecutor(1) as pool:  # Playwright's loop may live in this thread
        found = pool.submit(asyncio.run, tab.elements()).result(SECONDS)
    assert [one for one in found if one != "block"] == ["html", "html", "bidi_component"]  # and none of the controls
