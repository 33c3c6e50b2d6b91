"""Protocol buffers of strangers: walked through before a parser makes objects of them.

Two bytes of a file can become an object of a hundred; messages can be nested without end. The walk follows lengths alone and
makes nothing. Source: protobuf.dev, Encoding.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import LoadError
from ..core.message import Message, say
from .limits import Limits

LARGEST = (1 << 31) - 1  # bytes of a message, by the format
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Walk:
    """Counts what parsing ``data`` as a message of ``descriptor`` would make. bulk: names of messages whose bytes are data."""

    def __init__(self, data: bytes, descriptor: Any, bulk: str, path: object, limits: Limits) -> None:
        self.data, self.path, self.limits, self.bulk = data, path, limits, bulk
        self.fields = self.messages = self.tensors = self.small = 0
        self._inner: dict[str, dict[int, Any]] = {}
        if len(data) > LARGEST:
            raise self._refuse(say("{size:,} bytes; accepted: at most {most:,}", size=len(data), most=LARGEST))
        self._message(0, len(data), descriptor, 0)

    def _refuse(self, what: Message) -> LoadError:
        return LoadError(say("{path}: no usable ONNX file: {what}", path=self.path, what=what))

    def _known(self, descriptor: Any) -> dict[int, Any]:
        name = descriptor.full_name
        if name not in self._inner:
            self._inner[name] = {number: one.message_type for number, one in descriptor.fields_by_number.items()}
        return self._inner[name]

    def _message(self, at: int, stop: int, descriptor: Any, depth: int) -> None:
        if depth > self.limits.depth:
            raise self._refuse(say("nested too deeply; accepted: at most {depth} levels", depth=self.limits.depth))
        known = self._known(descriptor)
        self.messages += 1
        if self.messages > self.limits.operations // 5:  # an object of a hundred bytes each
            raise self._refuse(say("more than {most:,} messages", most=self.limits.operations // 5))
        bulk = descriptor.full_name.rpartition(".")[2] == self.bulk
        if bulk:
            self.tensors += 1
            if self.tensors > self.limits.tensors:
                raise self._refuse(say("more than {most:,} tensors", most=self.limits.tensors))
        while at < stop:
            self.fields += 1
            if self.fields > self.limits.operations:
                raise self._refuse(say("more than {most:,} fields", most=self.limits.operations))
            key, at = self._varint(at, stop)
            number, kind = key >> 3, key & 7
            if number not in known:
                raise self._refuse(say("a field that ONNX does not have, at byte {at:,}; accepted: the whole file, saved or downloaded again", at=at))
            if kind == VARINT:
                _, at = self._varint(at, stop)
            elif kind in (FIXED64, FIXED32):
                at += 8 if kind == FIXED64 else 4
            elif kind == BYTES:
                size, at = self._varint(at, stop)
                if size > stop - at:
                    raise self._refuse(say("it is cut short; accepted: the whole file, saved or downloaded again"))
                if known[number] is not None:
                    self._message(at, at + size, known[number], depth + 1)
                elif not bulk:
                    self.small += size
                    if self.small > self.limits.header:
                        raise self._refuse(say("more than {most:,} bytes besides its tensors", most=self.limits.header))
                at += size
            else:
                raise self._refuse(say("a malformed field at byte {at:,}; accepted: the whole file, saved or downloaded again", at=at))
        if at != stop:
            raise self._refuse(say("it is cut short; accepted: the whole file, saved or downloaded again"))

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
        value = shift = 0
        while at < stop and shift < 70:
            byte = self.data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at
        raise self._refuse(say("it is cut short; accepted: the whole file, saved or downloaded again"))
