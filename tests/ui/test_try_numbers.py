"""A table for Try one that is no numbers is told what would be."""

from __future__ import annotations

import pytest

from explorer.core.errors import TaskError
from explorer.ui.panels.try_one import numbers


def test_a_table_that_is_no_numbers_is_told_what_would_be() -> None:
    assert numbers(b"1,2\n3,4\n", "2 × 2").tolist() == [[1, 2], [3, 4]]
    for bad in (b"", b"a,b\n1,2\n", b"1,2\n1,2,3\n", b"\xff\xfe\x00"):
        with pytest.raises(TaskError, match="could not be read as numbers.*accepted: a CSV of numbers without a header: 2 × 2"):
            numbers(bad, "2 × 2")
