"""Where a Chromium, Chrome or Edge is, and how the tests start it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ADVICE = (
    "no Chromium, Chrome or Edge was found: install one (Debian: apt install chromium), or "
    "`python -m playwright install chromium`, or set EXPLORER_BROWSER to the path of one"
)


def usual_places() -> list[Path]:
    """Where installers put a browser that is not in PATH."""
    if sys.platform == "darwin":
        names = ("Google Chrome", "Chromium", "Microsoft Edge")
        roots = (Path("/Applications"), Path.home() / "Applications")
        return [root / f"{name}.app" / "Contents" / "MacOS" / name for root in roots for name in names]
    if sys.platform == "win32":
        roots = [
            Path(os.environ[key]) for key in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA") if key in os.environ
        ]
        ends = (
            "Google/Chrome/Application/chrome.exe",
            "Microsoft/Edge/Application/msedge.exe",
            "Chromium/Application/chrome.exe",
        )
        return [root / end for root in roots for end in ends]
    return [Path("/usr/lib/chromium/chromium"), Path("/opt/google/chrome/chrome"), Path("/snap/bin/chromium")]


def playwrights_own() -> str | None:
    """The Chromium that ``python -m playwright install chromium`` fetched."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if path and Path(path).exists() else None


def find_browser() -> str | None:
    """The path of a browser: EXPLORER_BROWSER, PATH, the usual places, Playwright's own; None where there is none."""
    chosen = os.environ.get("EXPLORER_BROWSER")
    if chosen:
        return shutil.which(chosen)  # a path or a name; a wrong one is not silently replaced by another browser
    for name in NAMES:
        if found := shutil.which(name):
            return found
    for place in usual_places():
        if place.exists():
            return str(place)
    return playwrights_own()
