"""Indexes of shards that strangers wrote: a shard's name is a name, and says where its tensors are."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import explorer
from explorer.core.errors import LoadError
from explorer.files.index import INDEX, read_index
from explorer.files.limits import OWN, STRANGERS
from tests.files.hostile_headers import HEADERS
from tests.files.streams import sharded

PARTS = [{"a.weight": torch.ones(2, 3)}, {"b.weight": torch.zeros(4, 2), "b.bias": torch.ones(4)}]


def _refused(folder: Path, said: str) -> None:
    """By every way in that reads an index."""
    for read in (
        lambda: read_index(folder / INDEX, STRANGERS),
        lambda: explorer.load(folder),
        lambda: explorer.file_statistics(folder),
    ):
        with pytest.raises(LoadError, match=said) as caught:
            read()
        assert len(str(caught.value)) < 500


def test_an_honest_one(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "a", PARTS)
    found = read_index(folder / INDEX, OWN)
    assert [sorted(header.entries) for header in found.values()] == [["a.weight"], ["b.bias", "b.weight"]]
    assert len(explorer.file_statistics(folder / INDEX)) == len(explorer.load(folder).module.state_dict()) == 3


@pytest.mark.parametrize(
    "name",
    ["../model-0.safetensors", "/etc/passwd", "/etc/passwd.safetensors", "model-9.safetensors", "index.json", "..", ".", "", "a/model-0.safetensors",
     "..\\model-0.safetensors", "C:model-0.safetensors", "model-0.safetensors\0", "./model-0.safetensors", "~/model-0.safetensors", INDEX],
)  # fmt: skip
def test_names_of_shards_are_never_paths(name: str, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "a", PARTS, a_weight=name)
    save_file(PARTS[0], tmp_path / "model-0.safetensors")
    _refused(folder, "accepted: a .safetensors file beside the index")


def test_links_lead_nowhere_but_into_a_hubs_cache(tmp_path: Path) -> None:
    hub = tmp_path / "hub" / "models--x"
    folder = sharded(hub / "snapshots" / "abc", PARTS) if (hub / "snapshots").mkdir(parents=True) is None else hub
    first = folder / "model-0.safetensors"
    (hub / "blobs").mkdir()
    first.rename(hub / "blobs" / "123")
    first.symlink_to("../../blobs/123")
    assert len(read_index(folder / INDEX, OWN)) == 2
    for target in (
        tmp_path / "elsewhere.safetensors",
        hub / "other.safetensors",
        tmp_path / "blobs" / "123",
        folder.parent / "x.safetensors",
    ):
        target.parent.mkdir(exist_ok=True)
        save_file(PARTS[0], target)
        first.unlink()
        first.symlink_to(os.path.relpath(target, folder))
        _refused(folder, "beside the index")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ("{", "JSON"), ("[]", "weight_map"), ("{}", "weight_map"), ('{"weight_map": {}}', "weight_map"), ('{"weight_map": []}', "weight_map"),
     ('{"weight_map": {"a": 1}}', "weight_map"), ('{"weight_map": {"a": null}}', "weight_map"), ('{"weight_map": {"a": ["model-0.safetensors"]}}', "weight_map"),
     ("[" * 100_000, "JSON|deep"), ('{"weight_map": ' + '{"a":' * 80 + "1" + "}" * 80 + "}", "deep")],
)  # fmt: skip
def test_what_is_no_index(text: str, said: str, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "a", PARTS)
    (folder / INDEX).write_text(text, encoding="utf-8")
    _refused(folder, said)


def test_tensors_lie_where_the_index_says_and_once(tmp_path: Path) -> None:
    _refused(
        sharded(tmp_path / "a", PARTS, a_weight="model-1.safetensors"), r"a\.weight is not in model-1\.safetensors"
    )
    _refused(sharded(tmp_path / "b", PARTS, c_weight="model-1.safetensors"), r"c\.weight is not in")
    twice = sharded(tmp_path / "c", [PARTS[0] | {"x": torch.ones(1)}, PARTS[0] | {"y": torch.ones(1)}])
    _refused(twice, r"a\.weight lies in model-0\.safetensors and in model-1\.safetensors")


@pytest.mark.parametrize("case", HEADERS)
def test_shards_with_headers_that_state_the_impossible(case: str, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "a", PARTS)
    (folder / "model-1.safetensors").write_bytes(HEADERS[case])
    with pytest.raises(LoadError):
        explorer.load(folder)


def test_limits(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "a", PARTS)
    with pytest.raises(LoadError, match="accepted: at most"):
        read_index(folder / INDEX, replace(OWN, tensors=2))
    with pytest.raises(LoadError, match="accepted: at most 20"):
        read_index(folder / INDEX, replace(OWN, header=20))
    many = {"weight_map": {f"t{i}": f"{i}.safetensors" for i in range(10_001)}}
    (folder / INDEX).write_text(json.dumps(many), encoding="utf-8")
    _refused(folder, "10,001 shards")
