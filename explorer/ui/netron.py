"""Netron on the app's own port. ``netron.serve`` keeps its model on a class, so two users would see each other's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from . import model_store

SUFFIXES = {
    ".js": "text/javascript",
    ".json": "application/json",
    ".css": "text/css",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; font-src 'self' data:; worker-src 'self'; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'"
)
HARD = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
HERE = Path(__file__).parent


def folder() -> Path:
    """Where the installed Netron keeps its page."""
    found = importlib.util.find_spec("netron")
    if found is None or found.origin is None:
        raise RuntimeError("netron is not installed; pip install -r requirements.txt")
    return Path(found.origin).parent


def page() -> str:
    """Netron's page: without the date by which it locks itself, with our marks."""
    text = (folder() / "index.html").read_text(encoding="utf-8")
    text = re.sub(r'<meta name="date"[^>]*>', "", text)
    extra = '<link rel="stylesheet" href="/netron/x-marks.css"><script defer src="/netron/x-marks.js"></script></head>'
    return text.replace("</head>", extra, 1)


async def _index(request: Request) -> Response:
    response = HTMLResponse(page(), headers={**HARD, "Content-Security-Policy": CSP, "Cache-Control": "no-cache"})
    response.set_cookie("consent", "1", path="/netron", samesite="lax")  # else it asks a server where the viewer lives
    return response


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    suffix = Path(name).suffix
    if suffix not in SUFFIXES or "/" in name or "\\" in name or name.startswith("."):
        return PlainTextResponse("not found", 404, headers=HARD)
    path = (HERE / "netron_marks" / name) if name.startswith("x-marks.") else folder() / name
    if not path.is_file():
        return PlainTextResponse("not found", 404, headers=HARD)
    return Response(path.read_bytes(), media_type=SUFFIXES[suffix], headers={**HARD, "Cache-Control": "max-age=3600"})


async def _model(request: Request) -> Response:
    data = model_store.get(request.path_params["token"])
    headers = {**HARD, "Cache-Control": "no-store"}
    if data is None:
        return PlainTextResponse("gone", 404, headers=headers)
    return Response(data, media_type="application/octet-stream", headers=headers)


def netron_routes() -> list[BaseRoute]:
    """Netron's page and files under /netron/, models under /models/<token>/<name>."""
    return [
        Route("/netron", _index),
        Route("/netron/", _index),
        Route("/netron/index.html", _index),
        Route("/netron/{name}", _file),
        Route("/models/{token}/{name}", _model),
    ]
