"""Pages, one file each: ``TITLE``, ``ICON``, ``PATH``, ``ORDER`` and ``render()``. The navigation discovers the folder."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def pages() -> list[ModuleType]:
    """The pages that exist, in their order."""
    found = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return sorted(found, key=lambda page: (page.ORDER, page.PATH))
