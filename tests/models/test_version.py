from __future__ import annotations

import torch
from torch import nn

from tests.contract.nets import tiny


def test_the_version_is_one_object_until_somebody_writes(device: str) -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval().to(device)
    subject = tiny(module, device=device)
    first = subject.version
    assert subject.version is first and hash(first) == hash(tuple(first))
    writes = [
        lambda: module[0].weight.data.new_empty(0),  # none
        lambda: torch.nn.init.zeros_(module[0].weight),
        lambda: module[1].running_mean.add_(1),
        lambda: setattr(module[2], "bias", nn.Parameter(torch.zeros(3, device=device))),
        lambda: module.append(nn.Linear(3, 3).to(device)),
    ]
    seen = [first]
    for i, write in enumerate(writes):
        write()
        assert (subject.version is seen[-1]) == (i == 0)
        seen.append(subject.version)
    assert len(set(seen)) == len(writes)


def test_tensors_of_inference_have_a_version_too(device: str) -> None:
    with torch.inference_mode():
        module = nn.Linear(6, 3).to(device)
    subject = tiny(module, device=device)
    assert subject.version is subject.version and len(subject.version) == 4
