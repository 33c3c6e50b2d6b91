"""Whether work on a whole model, beside the model itself, has room on this machine."""

from __future__ import annotations

SHARE = 1 / 3  # of the machine's memory that one piece of work may take


def beyond(needed: int, memory: int | None = None) -> dict[str, float] | None:
    """None where ``needed`` bytes have room; else {"needed", "memory"} in GB, for a message. memory: bytes of this machine."""
    import psutil

    memory = memory or int(psutil.virtual_memory().total)
    return None if needed <= SHARE * memory else {"needed": needed / 1e9, "memory": memory / 1e9}
