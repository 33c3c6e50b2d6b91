"""WebSockets of the app's stack send at once, on a socket made as Streamlit makes its own."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from explorer.ui.at_once import no_delay
from explorer.ui.owner import middleware


async def told(stack: list[Any]) -> str:
    """What a connection's end on the server says of TCP_NODELAY, and what kind of socket it is accepted from."""
    import uvicorn
    import websockets
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    async def answer(one: WebSocket) -> None:
        await one.accept()
        mine = one._receive.__self__.transport.get_extra_info("socket")  # type: ignore[attr-defined]
        await one.send_text(str(mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        await one.close()

    app = Starlette(routes=[WebSocketRoute("/", answer)], middleware=stack)
    with socket.socket(family=socket.AF_INET) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listening]))
        async with websockets.connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/") as client:
            found = await client.recv()
        server.should_exit = True
        await running
    return str(found)


def test_websockets_do_not_wait_for_acknowledgements() -> None:
    with ThreadPoolExecutor(1) as pool:  # Playwright's loop may live in this thread
        assert pool.submit(asyncio.run, told(middleware())).result() == "1"


@pytest.mark.parametrize("receive", [lambda: None, print, object().__str__])
def test_another_servers_connection_is_left_as_it_is(receive: Any) -> None:
    assert not no_delay(receive)
