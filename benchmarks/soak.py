"""Many sessions dragging at once, over the app's own WebSocket on this machine: how long a first answer takes, and memory.

    python benchmarks/soak.py [--sessions 30] [--seconds 20] [--period 1.0] [--samples fashion-mlp,fashion-lenet5]

Each session opens the page, moves its layer's handle once a period (a threshold of its own every time) and releases it now
and then; a move is timed from its message to the end of the script run that answers it, first figures included. No browser
is involved, so 30 of them fit beside the server. Prints errors, median, 95th percentile and maximum, and the server's memory
at the start, in the middle and at the end: it should be flat. A long run is ``--seconds 180``; on a GPU, ``--sessions 40``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import free_port, healthy  # noqa: E402


@dataclass
class Seen:
    """What all sessions saw: milliseconds a move, errors, moves whose answer held figures."""

    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    answered: int = 0


class Session:
    """One tab: it speaks Streamlit's protocol."""

    def __init__(self, url: str, model: str, seen: Seen, number: int) -> None:
        self.url, self.model, self.seen, self.random = url, model, seen, random.Random(number)
        self.handle = self.fragment = self.identity = ""
        self.seq = self.acknowledged = 0
        self.high = 1.0

    async def run(self, go: asyncio.Event, seconds: float, period: float) -> None:
        """Open the page, wait for the others, drag."""
        import websockets
        from streamlit.proto.BackMsg_pb2 import BackMsg

        async with websockets.connect(f"{self.url}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:  # type: ignore[list-item]
            opening = BackMsg()
            opening.rerun_script.query_string = f"model={self.model}"
            await socket.send(opening.SerializeToString())
            await self.until_done(socket, 120)
            while not self.handle:
                await self.until_done(socket, 120)
            await go.wait()
            await asyncio.sleep(self.random.random() * period)
            end, move = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                move += 1
                began = time.perf_counter()
                await socket.send(self.event(final=move % 8 == 0))
                drawn = await self.until_done(socket, 60)
                self.seen.answered += drawn and self.acknowledged == self.seq
                took = time.perf_counter() - began
                self.seen.times.append(1000 * took)
                await asyncio.sleep(max(0.0, period - took))

    def event(self, final: bool) -> bytes:
        """A move of the handle."""
        from streamlit.proto.BackMsg_pb2 import BackMsg

        self.seq += 1
        message = BackMsg()
        rerun = message.rerun_script
        rerun.query_string = f"model={self.model}"
        rerun.fragment_id = self.fragment
        widget = rerun.widget_states.widgets.add()
        widget.id = self.handle
        threshold = round(self.random.uniform(0.02, 0.3) * self.high, 6)
        value = {"t": threshold, "k": 0, "factor": 0.5, "seq": self.seq, "final": final, "id": self.identity}
        widget.json_value = json.dumps({"value": value})
        return message.SerializeToString()

    async def until_done(self, socket: Any, timeout: float) -> bool:
        """Read until the script has run; whether the board was drawn."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        drawn = False
        while True:
            message = ForwardMsg()
            message.ParseFromString(await asyncio.wait_for(socket.recv(), timeout))
            kind = message.WhichOneof("type")
            if kind == "delta":
                element = message.delta.new_element
                what = element.WhichOneof("type")
                if what == "bidi_component":
                    self.component(element.bidi_component, message.delta.fragment_id)
                drawn = drawn or (what == "html" and "x-board" in element.html.body)
                if what == "exception":
                    self.seen.errors.append(element.exception.message[:200])
            elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                return drawn

    def component(self, component: Any, fragment: str) -> None:
        """Remember the handle and what it draws."""
        found = _data(component)
        if isinstance(found, dict) and "ack" in found and "id" in found:
            self.handle, self.identity = component.id, str(found["id"])
            self.fragment = fragment or self.fragment
            self.high, self.acknowledged = float(found.get("hi") or 1.0), int(found["ack"])


def _data(component: Any) -> Any:
    """What a component was sent, whichever field carries it."""
    for name in ("json", "mixed", "bytes"):
        try:
            value = getattr(component, name)
        except AttributeError:
            continue
        text = getattr(value, "json", value)
        if isinstance(text, str) and text:
            return json.loads(text)
    return None


def memory(pid: int) -> float:
    """Resident megabytes of a process."""
    import psutil

    return float(psutil.Process(pid).memory_info().rss) / 1e6


def seconds(pid: int) -> float:
    """CPU seconds of a process so far: what a move costs the server, however busy the machine is otherwise."""
    import psutil

    return float(sum(psutil.Process(pid).cpu_times()[:2]))


async def soak(url: str, pid: int, given: argparse.Namespace) -> tuple[Seen, list[float], float]:
    """All sessions; memory at the start, in the middle and at the end; CPU seconds from start to end."""
    seen, go = Seen(), asyncio.Event()
    models = given.samples.split(",")
    sessions = [Session(url, models[i % len(models)], seen, i) for i in range(given.sessions)]
    tasks = []
    for session in sessions:
        tasks.append(asyncio.create_task(session.run(go, given.seconds, given.period)))
        await asyncio.sleep(0.3)
    end = time.monotonic() + 120
    while not all(session.handle for session in sessions) and time.monotonic() < end:
        await asyncio.sleep(0.2)
    await asyncio.sleep(3)  # the originals settle
    megabytes, spent = [memory(pid)], seconds(pid)
    go.set()
    await asyncio.sleep(given.seconds / 2)
    megabytes.append(memory(pid))
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException):
            seen.errors.append(f"{type(result).__name__}: {result}")
    megabytes.append(memory(pid))
    return seen, megabytes, seconds(pid) - spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--period", type=float, default=1.0)
    parser.add_argument("--samples", default="fashion-mlp,fashion-lenet5")
    given = parser.parse_args()
    port = free_port()
    options = ("--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1", "--server.fileWatcherType=none")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not healthy(f"http://127.0.0.1:{port}"):
            if process.poll() is not None:
                sys.exit("the app did not start")
            time.sleep(0.2)
        seen, megabytes, spent = asyncio.run(soak(f"ws://127.0.0.1:{port}", process.pid, given))
    finally:
        process.terminate()
        process.wait(15)
    times = sorted(seen.times) or [float("nan")]
    p95 = times[min(len(times) - 1, round(0.95 * len(times)))]
    print(f"{given.sessions} sessions, one move every {given.period:g} s for {given.seconds:g} s, {given.samples}")
    print(f"moves {len(seen.times)}, answered with figures {seen.answered}, errors {len(seen.errors)} {seen.errors[:2]}")
    import torch

    aim = 300 if torch.cuda.is_available() else 1000  # the app takes the fastest device: 40 sessions on a GPU, 30 on 2 cores
    print(f"first answer ms: median {statistics.median(times):.0f}, p95 {p95:.0f} (aim {aim}), max {times[-1]:.0f}; load {os.getloadavg()[0]:.1f}")
    print(f"server CPU ms a move: {1000 * spent / max(1, len(seen.times)):.1f}")
    print(f"server MB: start {megabytes[0]:.0f}, middle {megabytes[1]:.0f}, end {megabytes[2]:.0f} (aim 1500)")


if __name__ == "__main__":
    main()
