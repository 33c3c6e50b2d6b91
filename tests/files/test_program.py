"""Programs of torch.export: what torch's own loader computes, with the layers and the units of the model that they came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.core.errors import LoadError
from explorer.export.exporters import registry
from explorer.files.limits import OWN
from explorer.files.program import read_program
from tests.contract.nets import SAMPLES, few

QUICK = ("fashion-resnet", "vowels-rnn", "fashion-vit")


def written(subject: explorer.Subject, folder: Path) -> Path:
    module = explorer.compress(subject, explorer.Recipe()).cpu()
    registry["pt2"]().write(subject, explorer.resolve(subject, explorer.Recipe()), module, folder)
    return folder / "model.pt2"


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SAMPLES])
def test_programs_are_what_they_came_from(name: str, tmp_path: Path, device: str) -> None:
    subject = few(name, 8, device)
    reference = torch.export.load(written(subject, tmp_path)).module()
    found = explorer.load(tmp_path / "model.pt2", subject.task)
    ours, theirs = found.module.state_dict(), subject.module.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[k].cpu(), theirs[k].cpu()) for k in ours)
    assert not found.module.training
    for n in (1, 5):
        x = subject.example(n).cpu()
        with torch.no_grad():
            torch.testing.assert_close(found.module(x), reference(x), rtol=0, atol=0)
    assert [(layer.name, layer.kind) for layer in found.layers] == [
        (layer.name, layer.kind) for layer in subject.layers
    ]
    assert [(g.name, g.kind, g.units) for g in found.groups] == [(g.name, g.kind, g.units) for g in subject.groups]
    found.module.to(device)
    recipe = (
        explorer.Recipe().prune("*", granularity="unit", sparsity=0.5).prune("*", sparsity=0.3).quantize("*", bits=8)
    )
    smaller, same = explorer.compress(found, recipe), explorer.compress(subject, recipe)
    assert [p.shape for p in smaller.parameters()] == [p.shape for p in same.parameters()]
    with torch.no_grad():
        torch.testing.assert_close(smaller(subject.example(4)), same(subject.example(4)), rtol=1e-5, atol=1e-5)
    metrics = [explorer.evaluate(one, recipe, device=device).metrics for one in (found, subject)]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4, abs=1e-5)


class Twice(nn.Module):
    """One layer called twice, one weight used by two operators, a norm, and nn.TransformerEncoderLayer, whose attention is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.again = nn.Linear(8, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.again(self.again(self.embedding(x)).relu())
        return self.head(self.encoder(h))


def test_what_has_no_layer_of_its_own_stays_an_operator(tmp_path: Path, device: str) -> None:
    torch.manual_seed(0)
    module = Twice().eval().to(device)
    subject = explorer.Subject(module, explorer.Task.agreement(torch.randint(0, 20, (12, 5))))
    reference = torch.export.load(written(subject, tmp_path)).module()
    found = explorer.load(tmp_path / "model.pt2", subject.task)
    x = subject.example(3).cpu()
    with torch.no_grad():
        torch.testing.assert_close(found.module(x), reference(x), rtol=0, atol=0)
    assert isinstance(found.module.get_submodule("again"), nn.Linear)
    assert isinstance(found.module.get_submodule("embedding"), nn.Embedding)
    assert sum(p.numel() for p in found.module.parameters()) == sum(p.numel() for p in module.parameters())  # tied ones once
    assert {(group.kind, group.units) for group in found.groups} == {("neuron", 12)}
    assert all(found.structure.refused[layer.name] for layer in found.layers if layer.group is None)
    removed = explorer.Recipe().prune("encoder.linear1", granularity="unit", sparsity=0.5)
    found.module.to(device)
    with torch.no_grad():
        torch.testing.assert_close(
            explorer.compress(found, removed)(x.to(device)),
            explorer.compress(subject, removed)(x.to(device)),
            rtol=1e-5,
            atol=1e-5,
        )


def test_states_that_are_not_zero_keep_the_operator(tmp_path: Path, device: str) -> None:
    class Started(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x, torch.ones(1, x.shape[0], 4, device=x.device))[0][:, -1])

    torch.manual_seed(0)
    subject = explorer.Subject(Started().eval().to(device), explorer.Task.agreement(torch.randn(8, 6, 3)))
    found = explorer.load(written(subject, tmp_path), subject.task)
    x = subject.example(4)
    with torch.no_grad():
        torch.testing.assert_close(found.module(x.cpu()), subject.module(x).cpu(), rtol=1e-6, atol=1e-6)
    assert not isinstance(found.module.get_submodule("gru"), nn.GRU)
    assert found.structure.refused["gru.weight_hh_l0"]


@pytest.mark.parametrize("change", [{"num_layers": 10**9}, {"num_layers": -1}, {"num_layers": 0}])
def test_counts_that_the_tensors_contradict(change: dict[str, int], tmp_path: Path, device: str) -> None:
    import json
    import zipfile

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(x)[0]

    subject = explorer.Subject(Recurrent().eval().to(device), explorer.Task.agreement(torch.randn(8, 6, 3)))
    path, evil = written(subject, tmp_path), tmp_path / "evil.pt2"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(evil, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("models/model.json"):
                program = json.loads(data)
                row = next(n for n in program["graph_module"]["graph"]["nodes"] if "gru" in n["target"])
                given = {one["name"]: one for one in row["inputs"]}
                given["num_layers"]["arg"] = {"as_int": change["num_layers"]}
                data = json.dumps(program).encode()
            target.writestr(name, data)
    try:
        module = read_program(evil, OWN)
    except LoadError:
        return
    assert not isinstance(module.get_submodule("gru"), nn.GRU)  # as an operator, it fails when it is run
