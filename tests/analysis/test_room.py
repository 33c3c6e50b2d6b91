from __future__ import annotations

import torch

from explorer.analysis import room
from explorer.analysis.room import Room


def test_what_a_chunk_left_serves_the_next_of_that_shape_and_type(device: torch.device) -> None:
    like, place = torch.zeros(1, device=device), Room()
    first, other = place.take(like, 3, 4), place.take(like, 3, 4)
    assert first.device == like.device and first.data_ptr() != other.data_ptr()  # both are taken
    place.again()
    assert {place.take(like, 3, 4).data_ptr() for _ in range(2)} == {first.data_ptr(), other.data_ptr()}
    place.again()
    half = place.take(like.half(), 3, 4)
    assert place.take(like, 4, 3).shape == (4, 3) and half.dtype == torch.float16


def test_malloc_is_asked_once_to_keep_blocks() -> None:
    Room(), Room()
    assert room.keep_blocks.cache_info().misses == 1 and room.LARGEST < 32 << 20
