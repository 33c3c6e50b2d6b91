"""Netron on the app's own port. ``netron.serve`` keeps its model on a class, so two users would see each other's."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
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


@cache
def folder() -> Path:
    """Where the installed Netron keeps its page; asked of the distribution, for Streamlit makes this file ``netron`` too."""
    try:
        return Path(str(distribution("netron").locate_file("netron")))
    except PackageNotFoundError:
        raise RuntimeError("netron is not installed; pip install -r requirements.txt") from None


@cache
def files() -> dict[str, Path]:
    """What may be fetched, by name: Netron's scripts, styles and pictures, not its Python files, and our marks."""
    found = [*folder().iterdir(), *(HERE / "netron_marks").iterdir()]
    return {path.name: path for path in found if path.suffix in SUFFIXES}


def themed(text: str, theme: str | None) -> str:
    """CSS that obeys the app's theme. Netron knows the browser's preference only, which the app may overrule."""
    media = {"dark": "@media all", "light": "@media not all"}.get(theme or "")
    return text.replace("@media (prefers-color-scheme: dark)", media) if media else text


def page(theme: str | None = None) -> str:
    """Netron's page: in the app's theme, with our marks, and neither locking itself with age nor sending statistics."""
    text = (folder() / "index.html").read_text(encoding="utf-8")
    text = re.sub(r'<meta name="date"[^>]*>', "", text)  # 180 days after it the page asks for an update and stops
    text = re.sub(r'(<meta name="version" content=)"[^"]*"', r'\1"0.0.0"', text)  # a development version sends none
    text = themed(text, theme)
    query = f"?theme={theme}" if theme in ("light", "dark") else ""
    text = text.replace('href="grapher.css"', f'href="grapher.css{query}"')
    extra = f'<link rel="stylesheet" href="x-marks.css{query}"><script defer src="x-marks.js"></script></head>'
    return text.replace("</head>", extra, 1)


async def _folder(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"netron/{query}", headers=HARD)  # the page's links are relative to its folder


async def _index(request: Request) -> Response:
    text = page(request.query_params.get("theme"))
    response = HTMLResponse(text, headers={**HARD, "Content-Security-Policy": CSP, "Cache-Control": "no-cache"})
    response.set_cookie("consent", "1", path="/netron", samesite="lax")  # else it asks a server where the viewer lives
    return response


async def _file(request: Request) -> Response:
    path = files().get(request.path_params["name"])
    if path is None:
        return PlainTextResponse("not found", 404, headers=HARD)
    content = path.read_bytes()
    if path.suffix == ".css":
        content = themed(content.decode("utf-8"), request.query_params.get("theme")).encode("utf-8")
    return Response(content, media_type=SUFFIXES[path.suffix], headers={**HARD, "Cache-Control": "max-age=3600"})


async def _model(request: Request) -> Response:
    data = model_store.get(request.path_params["token"])
    headers = {**HARD, "Cache-Control": "no-store"}
    if data is None:
        return PlainTextResponse("gone", 404, headers=headers)
    return Response(data, media_type="application/octet-stream", headers=headers)


def netron_routes() -> list[BaseRoute]:
    """Netron's page and files under /netron/, models under /models/<token>/<name>."""
    return [
        Route("/netron", _folder),
        Route("/netron/", _index),
        Route("/netron/index.html", _index),
        Route("/netron/{name}", _file),
        Route("/models/{token}/{name}", _model),
    ]
