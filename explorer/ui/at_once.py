"""Answers leave at once: without Nagle's algorithm on the connections that drags go over."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class AtOnce:
    """Sets TCP_NODELAY on every WebSocket.

    A drag's answer is several small messages. With Nagle's algorithm (RFC 896) the second waits until the browser has acknowledged the
    first, which a system puts off for up to 40 ms. asyncio turns it off by itself, though only on sockets that name TCP as their
    protocol; Streamlit listens on one that leaves it open, and what is accepted there takes after it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; of a WebSocket, see to its connection first."""
        if scope["type"] == "websocket":
            no_delay(receive)
        await self.app(scope, receive, send)


def no_delay(receive: Receive) -> bool:
    """Turn the algorithm off on the connection behind uvicorn's ``receive``; whether it could be found. Another server's is left as it is."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:  # closed in the meantime
        return False
    return True
