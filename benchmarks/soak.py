"""Many sessions dragging at once, over the app's own WebSocket on this machine: how long a first answer takes, and memory.

    python benchmarks/soak.py [--sessions 30] [--seconds 20] [--period 1.0] [--samples fashion-mlp,fashion-lenet5] [--together] [--device cuda]

Each session opens the page, moves its layer's handle once a period (a threshold of its own every time) and releases it every
eighth time: each at its own turn, or all in the same second (``--together``). As a browser does, it keeps the page's timers, so what
settles after a release is part of the load. A move is timed from its message to its first answer: the cards and the handle that
acknowledges it; of a release the whole page's end is given, too. No browser is involved, so 30 of them fit beside the server.
Prints errors, median, 95th percentile and maximum, and the server's memory at the start, in the middle and at the end: it should
be flat. A long run is ``--seconds 180``. The app evaluates on the fastest device there is; ``--device`` shows it another of NVIDIA's, or none (cpu),
and refuses one that is not there. On a GPU: ``--device cuda --sessions 40``, and its memory is printed, too.
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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from explorer.core.errors import UnsupportedError  # noqa: E402
from explorer.models.device import devices, pick  # noqa: E402
from tests.conftest import free_port, healthy  # noqa: E402

EVERY = 8  # moves, of which one is a release


@dataclass
class Seen:
    """What all sessions saw: milliseconds to the first answer of a move; of a release; to its page's end; errors."""

    times: list[float] = field(default_factory=list)
    releases: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    settled: int = 0


class Session:
    """One tab: it speaks Streamlit's protocol."""

    def __init__(self, url: str, model: str, seen: Seen, number: int, turn: int) -> None:
        self.url, self.seen, self.random, self.turn = url, seen, random.Random(number), turn
        self.address = f"model={model}"
        self.handle = self.fragment = self.identity = ""
        self.seq = self.acknowledged = 0
        self.high, self.drawn = 1.0, False
        self.timer: tuple[float, str] | None = None  # seconds, the fragment that it runs

    async def run(self, go: asyncio.Event, seconds: float, period: float) -> None:
        """Open the page, wait for the others, drag."""
        import websockets

        async with websockets.connect(f"{self.url}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:  # type: ignore[list-item]
            await socket.send(self.message("").SerializeToString())
            while not self.handle:
                await self.read(socket, self.ended, 120)
            await self.rest(socket, 1e9, go)
            await asyncio.sleep(self.random.random() * period)
            end, move = time.monotonic() + seconds, self.turn
            while time.monotonic() < end:
                move += 1
                began = time.perf_counter()
                final = move % EVERY == 0
                self.drawn = False
                await socket.send(self.event(final))
                await self.read(socket, self.answered, 60)
                self.seen.times.append(1000 * (time.perf_counter() - began))
                await self.read(socket, self.ended, 60)
                if final:
                    self.seen.releases.append(self.seen.times[-1])
                    self.seen.pages.append(1000 * (time.perf_counter() - began))
                await self.rest(socket, period - (time.perf_counter() - began))

    async def rest(self, socket: Any, seconds: float, go: asyncio.Event | None = None) -> None:
        """Until the next move: run what the page's timer asks for. A move does not wait for the end of that."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not (go is not None and go.is_set()):
            if self.timer is None:
                await asyncio.sleep(left if go is None else 0.05)
            elif self.timer[0] >= left:
                await asyncio.sleep(left)
            else:
                await asyncio.sleep(self.timer[0])
                message = self.message(self.timer[1])
                message.rerun_script.is_auto_rerun = True
                await socket.send(message.SerializeToString())
                with suppress(TimeoutError):
                    await self.read(socket, self.ended, max(0.001, end - time.monotonic()))
                self.seen.settled += self.timer is None

    def message(self, fragment: str) -> Any:
        """What asks for a run of a fragment, or of the page."""
        from streamlit.proto.BackMsg_pb2 import BackMsg

        message = BackMsg()
        message.rerun_script.query_string = self.address
        message.rerun_script.fragment_id = fragment
        return message

    def event(self, final: bool) -> bytes:
        """A move of the handle."""
        self.seq += 1
        message = self.message(self.fragment)
        widget = message.rerun_script.widget_states.widgets.add()
        widget.id = self.handle
        threshold = round(self.random.uniform(0.02, 0.3) * self.high, 6)
        value = {"t": threshold, "k": 0, "factor": 0.5, "seq": self.seq, "final": final, "id": self.identity}
        widget.json_value = json.dumps({"value": value})
        return bytes(message.SerializeToString())

    def answered(self, message: Any) -> bool:
        """The move's cards and the handle that acknowledges it are there."""
        return self.drawn and self.acknowledged == self.seq

    def ended(self, message: Any) -> bool:
        """A script run came to its end, and no other follows."""
        return message.WhichOneof("type") == "script_finished" and message.script_finished != message.FINISHED_EARLY_FOR_RERUN

    async def read(self, socket: Any, until: Callable[[Any], bool], timeout: float) -> None:
        """Read messages up to the one with which ``until`` holds."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        end = time.monotonic() + timeout
        while True:
            message = ForwardMsg()
            message.ParseFromString(await asyncio.wait_for(socket.recv(), end - time.monotonic()))
            kind = message.WhichOneof("type")
            if kind == "delta":
                element = message.delta.new_element
                what = element.WhichOneof("type")
                if what == "bidi_component":
                    self.component(element.bidi_component, message.delta.fragment_id)
                self.drawn = self.drawn or (what == "html" and "x-board" in element.html.body)
                if what == "exception":
                    self.seen.errors.append(element.exception.message[:200])
            elif kind == "new_session" and not message.metadata.run.fragment_ids:
                self.timer = None  # a run of the whole page ends its timers
            elif kind == "page_info_changed":
                self.address = message.page_info_changed.query_string
            elif kind == "auto_rerun":
                self.timer = message.auto_rerun.interval, message.auto_rerun.fragment_id
            if until(message):
                return

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


def sight(device: str) -> dict[str, str]:
    """Variables with which a process sees no other GPU than ``device``, and none where that is "cpu". Raises :class:`UnsupportedError`."""
    where = pick(device)
    return {"CUDA_VISIBLE_DEVICES": str(where.index or 0) if where.type == "cuda" else ""}


def gpu_memory(device: str) -> float:
    """Megabytes in use on a GPU, by whomever; 0 without one."""
    if not device.startswith("cuda"):
        return 0.0
    free, whole = torch.cuda.mem_get_info(pick(device))
    return (whole - free) / 1e6


def seconds(pid: int) -> float:
    """CPU seconds of a process so far: what a move costs the server, however busy the machine is otherwise."""
    import psutil

    return float(sum(psutil.Process(pid).cpu_times()[:2]))


async def soak(url: str, pid: int, given: argparse.Namespace) -> tuple[Seen, list[tuple[float, float]], float]:
    """All sessions; memory of server and GPU at the start, in the middle and at the end; CPU seconds from start to end."""

    def now() -> tuple[float, float]:
        return memory(pid), gpu_memory(given.device)

    seen, go = Seen(), asyncio.Event()
    models = given.samples.split(",")
    sessions = [
        Session(url, models[i % len(models)], seen, i, 0 if given.together else i % EVERY) for i in range(given.sessions)
    ]
    tasks = []
    for session in sessions:
        tasks.append(asyncio.create_task(session.run(go, given.seconds, given.period)))
        await asyncio.sleep(0.3)
    end = time.monotonic() + 120
    while not all(session.handle for session in sessions) and time.monotonic() < end:
        await asyncio.sleep(0.2)
    await asyncio.sleep(3)  # the originals settle
    megabytes, spent = [now()], seconds(pid)
    go.set()
    await asyncio.sleep(given.seconds / 2)
    megabytes.append(now())
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException):
            seen.errors.append(f"{type(result).__name__}: {result}")
    megabytes.append(now())
    return seen, megabytes, seconds(pid) - spent


def spread(times: list[float]) -> str:
    """Median, 95th percentile and maximum."""
    times = sorted(times) or [float("nan")]
    return f"median {statistics.median(times):.0f}, p95 {times[round(0.95 * (len(times) - 1))]:.0f}, max {times[-1]:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--period", type=float, default=1.0)
    parser.add_argument("--samples", default="fashion-mlp,fashion-lenet5")
    parser.add_argument("--together", action="store_true", help="all release in the same second")
    parser.add_argument("--device", default=devices()[0], help="cpu, cuda, cuda:1 ...; the fastest by default")
    given = parser.parse_args()
    try:
        environment = os.environ | sight(given.device)
    except UnsupportedError as error:
        parser.error(error.message)
    port = free_port()
    options = ("--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1", "--server.fileWatcherType=none")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment)
    try:
        while not healthy(f"http://127.0.0.1:{port}"):
            if process.poll() is not None:
                sys.exit("the app did not start")
            time.sleep(0.2)
        seen, megabytes, spent = asyncio.run(soak(f"ws://127.0.0.1:{port}", process.pid, given))
    finally:
        process.terminate()
        process.wait(15)
    print(f"{given.sessions} sessions, one move every {given.period:g} s for {given.seconds:g} s, {given.samples}, on {given.device}")
    print(f"moves {len(seen.times)}, settled {seen.settled}, errors {len(seen.errors)} {seen.errors[:2]}; load {os.getloadavg()[0]:.1f}")
    aim = 300 if given.device.startswith("cuda") else 1000  # of 40 sessions on a GPU, of 30 on 2 cores
    print(f"first answer ms: {spread(seen.times)} (aim of p95 {aim})")
    print(f"of releases: {spread(seen.releases)}; to the page's end: {spread(seen.pages)}")
    print(f"server CPU ms a move: {1000 * spent / max(1, len(seen.times)):.1f}")
    for i, (what, of) in enumerate((("server MB", " (aim 1500)"), ("GPU MB", ""))[: 1 + given.device.startswith("cuda")]):
        print(f"{what}: " + ", ".join(f"{when} {found[i]:.0f}" for when, found in zip(("start", "middle", "end"), megabytes, strict=True)) + of)


if __name__ == "__main__":
    main()
