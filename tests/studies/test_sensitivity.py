from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import explorer
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.core.errors import Cancelled, EvaluationError, RecipeError
from explorer.core.recipe import Recipe
from explorer.evaluate import column_major
from explorer.evaluate.allocation import EDGES, SHARES
from explorer.evaluate.compare import compare
from explorer.evaluate.design import Proportional, Stratified
from explorer.evaluate.engine import engine
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.intervals import wilson
from explorer.evaluate.scan import GLANCE
from explorer.evaluate.stopping import FIRST_LOOK
from explorer.models.subject import Subject
from explorer.studies.sensitivity import sensitivity, sensitivity_steps
from tests.contract.nets import MLP, few, tiny, tuned
from tests.evaluate.awkward import Branches, Dropping
from tests.evaluate.test_replay_counts import counted


@pytest.mark.parametrize("name", ["fashion-lenet5", "fashion-resnet", "vowels-lstm", "moby-lstm", "bikes-mlp"])
def test_an_exact_scan_is_what_evaluate_says(name: str, device: str) -> None:
    subject = few(name, device=device)
    names = [layer.name for layer in subject.layers][:4]
    table = sensitivity(subject, targets=names, sparsities=(0.3, 0.8), exact=True, device=device)
    fresh = Subject(subject.module, subject.task, name)
    assert list(table.columns[:5]) == ["layer", "sparsity", "metric", "low", "high"] and len(table) == 2 * len(names)
    for row in table.itertuples():
        report = evaluate(fresh, Recipe().prune(row.layer, sparsity=row.sparsity), device=device)
        assert row.metric == report.metrics[report.main] and row.n == report.total
        assert row.change == report.change(report.main).value


def test_a_base_recipe_and_other_models_tiers(device: str) -> None:
    for module in (MLP(), Branches(), nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))):
        subject = tiny(module, device=device, n=200)
        first, *_, last = (layer.name for layer in subject.layers)
        base = Recipe().prune(first, sparsity=0.5).quantize(last, bits=4)
        table = sensitivity(subject, base, sparsities=(0.2, 0.7), exact=True, device=device)
        for row in table.itertuples():
            report = evaluate(
                tiny(module, device=device, n=200), base.prune(row.layer, sparsity=row.sparsity), device=device
            )
            assert row.metric == report.metrics["accuracy"]
    assert len(sensitivity(tiny(Dropping(), device=device), sparsities=(0.5,), device=device)) == 2


@pytest.fixture
def modules_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that calls can be counted: last layers that compute column by column are no calls of their modules."""
    monkeypatch.setattr(column_major, "lay", lambda *_: False)


def test_what_comes_before_a_layer_runs_once_a_chunk(device: str, modules_run: None) -> None:
    subject = tuned(tiny(MLP(), device=device, n=300))
    run = engine(subject, torch.device(device))
    _ = run.runner
    sensitivity(subject, sparsities=(0.1,), exact=True, device=device)  # every part is compared with the module once
    seen = counted(run)
    sensitivity(subject, sparsities=(0.2, 0.3, 0.4), exact=True, device=device)
    # fc.0: what lies in front of the others, and its own three; and so on. What the base answers is known from before
    assert seen == {"fc.0": (1 + 3) * 300, "fc.1": (1 + 6) * 300, "fc.2": 9 * 300}


def test_how_a_plan_is_run_is_settled_once_a_scan_and_not_held_afterwards(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tuned(tiny(MLP(), device=device, n=3000))
    run = engine(subject, torch.device(device))
    settled: list[str] = []
    real = run.jobs.between

    def between(plan: Plan, *more: Any) -> Any:
        settled.append(plan.digest)
        return real(plan, *more)

    monkeypatch.setattr(run.jobs, "between", between)
    chunks = [state for _, state in sensitivity_steps(subject, sparsities=(0.3, 0.6), exact=True, device=device)]
    assert len(chunks) > 2 and len(settled) == len(set(settled)) == 7  # three layers at two sparsities, and the base
    assert all(not scan._jobs for scan in run._scans.values())  # type: ignore[attr-defined]


def test_candidates_may_be_any_recipes(device: str) -> None:
    subject = tuned(tiny(MLP(), device=device, n=200))
    candidates = {
        "none": Recipe(), "units": Recipe().prune("fc.0", sparsity=0.5, granularity="unit"),
        "bits": Recipe().quantize("*", bits=3), "both": Recipe().prune("*", sparsity=0.5).quantize("fc.1", bits=4),
    }  # fmt: skip
    *_, (_, now) = compare(subject, candidates, device=device)
    last = now()
    assert last.settled == 4 and last.done == last.total == 800
    for key, recipe in candidates.items():
        report = evaluate(tuned(tiny(MLP(), device=device, n=200)), recipe, device=device)
        assert last.estimates[key].value.value == report.metrics["accuracy"], key
        assert last.estimates[key].change.value == report.change("accuracy").value
    assert list(compare(subject, {}, device=device)) == []


def test_an_adaptive_scan_stops_early_and_keeps_its_word(device: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(6000, 6)
    module = MLP((6, 32, 16, 3))
    task = explorer.Task.classification(validation=torch.utils.data.TensorDataset(x, module(x).argmax(1).detach()))
    subject = tuned(Subject(module.to(device), task, "easy"))
    settings = dict(sparsities=(0.05, 0.3, 0.9), device=device)
    full = sensitivity(subject, exact=True, **settings)  # type: ignore[arg-type]
    quick = sensitivity(subject, tolerance=0.02, **settings)  # type: ignore[arg-type]
    assert quick.n.min() < 6000 and (full.n == 6000).all()
    candidates = {
        (row.layer, row.sparsity): Recipe().prune(row.layer, sparsity=row.sparsity) for row in full.itertuples()
    }
    *_, (_, now) = compare(subject, candidates, exact=False, tolerance=0.02, device=device)
    last = now()
    truth = dict(zip(candidates, full.change, strict=True))
    early = {key: found for key, found in last.estimates.items() if not found.complete}
    assert len({found.n for found in last.estimates.values()} - {FIRST_LOOK, 6000}) >= 1  # each as far as its first look said
    assert early and all(found.within[1] - found.within[0] <= 0.04 + 1e-9 for found in early.values())
    assert all(found.within[0] - 1e-9 <= truth[key] <= found.within[1] + 1e-9 for key, found in early.items())
    for row in quick.itertuples():  # a noise band speaks of other samples: it is not narrower than that of all, and hardly wider than of as many
        assert row.change_low < row.change < row.change_high and row.low < row.metric <= row.high
        few, many = (wilson(row.metric * n, n) for n in (row.n, 6000))
        assert many[1] - many[0] - 1e-9 <= row.high - row.low <= 1.5 * (few[1] - few[0])


def test_what_decides_answers_is_looked_at_first(device: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(8000, 6)
    module = MLP((6, 32, 16, 3))
    target = (module(x) + 0.3 * torch.randn(8000, 3)).argmax(1).detach()
    task = explorer.Task.classification(validation=torch.utils.data.TensorDataset(x, target))
    subject, recipe = tuned(Subject(module.to(device), task, "noisy")), Recipe().prune("fc.1", sparsity=0.3)
    *_, (scan, now) = compare(subject, {"one": recipe, "none": Recipe()}, exact=False, tolerance=0.02, device=device)
    found, run = now().estimates, engine(subject, torch.device(device))
    report, n = evaluate(subject, recipe, device=device), found["one"].n
    assert n < 8000 and found["none"].change.value == 0 and found["none"].complete
    everything = run.seen(resolve(subject, Recipe()), "validation").columns(8000)
    certainty = run.metrics.certainty(everything)
    assert certainty is not None and isinstance(scan.design, Stratified)
    strata = (certainty.argsort().argsort() >= torch.tensor(EDGES)[:, None] * 8000).sum(0)
    places = torch.as_tensor(scan.design.allocation.order[:n])
    shares = torch.bincount(strata[places], minlength=len(SHARES)) / torch.bincount(strata)
    assert torch.all(shares.diff() < 0)  # of doubtful samples, more
    was, now_ = (run.metrics.right(run.seen(resolve(subject, one), "validation").columns(8000)) for one in (Recipe(), recipe))
    assert was is not None and now_ is not None
    gain = now_.double() - was.double()
    by_hand = sum((strata == h).double().mean() * gain[places[strata[places] == h]].mean() for h in range(len(SHARES)))
    assert found["one"].change.value == pytest.approx(float(by_hand), abs=1e-9)
    assert found["one"].value.value == pytest.approx(float(was.double().mean() + by_hand), abs=1e-9)
    assert abs(found["one"].change.value - report.change("accuracy").value) < 0.02


def test_each_point_ends_at_its_own_goal_without_more_work(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(8000, 6)
    module = MLP((6, 32, 16, 3)).to(device)
    target = (module(x.to(device)).cpu() + 0.3 * torch.randn(8000, 3)).argmax(1).detach()
    task = explorer.Task.classification(validation=torch.utils.data.TensorDataset(x, target))
    subject, sparsities = tuned(Subject(module, task, "noisy")), (0.1, 0.3, 0.5, 0.7, 0.9)
    recipes = {(layer, s): Recipe().prune(layer, sparsity=s) for layer in ("fc.0", "fc.1", "fc.2") for s in sparsities}
    run, pieces, judged = engine(subject, torch.device(device)), [], engine(subject, torch.device(device)).judge.columns
    evaluate(subject, device=device)
    monkeypatch.setattr(run.judge, "columns", lambda *given: pieces.append(given[-1] - given[-2]) or judged(*given))
    *_, (scan, now) = compare(subject, recipes, exact=False, tolerance=0.007, device=device)
    monkeypatch.undo()
    found = now().estimates
    ends = {one.n for one in found.values()}
    assert isinstance(scan.design, Stratified) and len(ends) > 4
    assert len(pieces) < 6 * len(found)  # glance, first look, own goal; a few go on, and nothing is cut at others' goals
    assert sum(pieces) == scan.evaluated
    assert scan.evaluated == sum(one.n for one in found.values()) + GLANCE  # of the base only what told how to go on
    places = torch.from_numpy(scan.design.allocation.order)
    for key, recipe in recipes.items():
        evaluate(subject, recipe, device=device)
        plan, n = resolve(subject, recipe), found[key].n
        every, seen = run.seen(plan, "validation").columns(8000), scan.columns[plan.digest].table(n)
        assert torch.equal(seen["target"].cpu(), every["target"].cpu()[places[:n]])
        assert (seen["prediction"].cpu() != every["prediction"].cpu()[places[:n]]).sum() <= 1  # rounded otherwise where two are equal
        assert torch.allclose(seen["loss"].cpu(), every["loss"].cpu()[places[:n]], atol=1e-5)


def test_a_loss_of_ones_own_tells_no_doubt_so_samples_come_as_they_are(device: str) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(3000, 6), torch.arange(3000) % 3
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    data = torch.utils.data.TensorDataset(x, y)
    task = explorer.Task.classification(train=data, validation=data, loss=loss)
    subject = tuned(Subject(MLP((6, 32, 16, 3)).to(device), task, "smooth"))
    *_, (scan, now) = compare(subject, {"one": Recipe().prune("fc.1", sparsity=0.1)}, exact=False, tolerance=0.05, device=device)
    assert isinstance(scan.design, Proportional) and now().estimates["one"].within is not None
    assert scan.data is engine(subject, torch.device(device)).data("validation")


def test_all_curves_sharpen_together_and_a_cancelled_scan_goes_on(device: str, modules_run: None) -> None:
    subject = tuned(tiny(MLP(), device=device, n=1500))
    run, settings = engine(subject, torch.device(device)), dict(sparsities=(0.3, 0.6), exact=True, device=device)
    steps = [(len(table), table.n.min(), table.n.max()) for table, _ in sensitivity_steps(subject, **settings)]  # type: ignore[arg-type]
    assert {rows for rows, _, _ in steps} == {6} and all(a == b for _, a, b in steps) and len(steps) > 3
    other = tuned(tiny(MLP(), device=device, n=1500))
    asked: list[int] = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) > 40

    with pytest.raises(Cancelled, match="cancelled after"):
        sensitivity(other, cancel=cancel, **settings)  # type: ignore[arg-type]
    seen = counted(engine(other, torch.device(device)))
    told: list[tuple[int, int]] = []
    table = sensitivity(other, progress=lambda done, total: told.append((done, total)), **settings)  # type: ignore[arg-type]
    assert 0 < seen["fc.2"] < 7 * 1500 and told[-1] == (9000, 9000) and told[0][0] > 6 * 64
    assert table.equals(sensitivity(subject, **settings)) and run.samples >= 0  # type: ignore[arg-type]


def test_bad_input(device: str) -> None:
    subject = tiny(device=device)
    for wrong in (-0.1, 1.0, 2):
        with pytest.raises(RecipeError, match="sparsity="):
            sensitivity(subject, sparsities=(wrong,))
    with pytest.raises(RecipeError, match="tolerance=0"):
        sensitivity(subject, tolerance=0)
    with pytest.raises(RecipeError, match="fc.9"):
        sensitivity(subject, targets=["fc.9"])
    with pytest.raises(RecipeError, match="nothing to scan"):
        sensitivity(subject, targets=[])
    with pytest.raises(RecipeError, match="full, fast"):
        sensitivity(subject, precision="half")

    class Picky(MLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if (x[:, 0] > 1.9).any():
                raise RuntimeError("no good")
            return super().forward(x)

    with pytest.raises(EvaluationError, match="no good"):
        sensitivity(tiny(Picky(), device=device, n=400), device=device)
