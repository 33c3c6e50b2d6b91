"""The draggable threshold: what it sends, what it shows, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.recipe import Recipe
from explorer.evaluate.costs import representations
from explorer.ui.edits import Settings
from tests.contract.nets import SAMPLES, few

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
Show = Callable[..., dict[str, Any]]
Mount = Callable[..., None]


def events(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("host.events.map((e) => e[1])")


def slider(page: Page, name: str = "Pruning threshold") -> Locator:
    return page.get_by_role("slider", name=name)


def value(page: Page) -> float:
    return float(slider(page).get_attribute("aria-valuenow"))


def grab(page: Page, name: str = "Pruning threshold") -> tuple[float, float]:
    box = slider(page, name).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + (box["height"] / 2 if "factor" in name else 60)
    page.mouse.move(x, y)
    page.mouse.down()
    return x, y


def until(page: Page, condition: str) -> None:
    page.wait_for_function(condition, timeout=5000)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # painted


def test_values_flow_before_release_and_exactly_one_is_final(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    x, y = grab(plain)
    for i in range(1, 9):
        plain.mouse.move(x + 8 * i, y)
        plain.wait_for_timeout(40)
    before = events(plain)
    assert len(before) >= 4 and not any(e["final"] for e in before)
    plain.mouse.up()
    until(plain, "host.events.at(-1)[1].final")
    plain.wait_for_timeout(150)
    after = events(plain)
    assert [e["final"] for e in after].count(True) == 1 and after[-1]["final"]
    assert [e["seq"] for e in after] == list(range(1, len(after) + 1))
    assert after[-1]["t"] == pytest.approx(value(plain), rel=1e-4) and after[-1]["t"] > before[0]["t"] > 0


def test_a_click_on_the_handle_without_a_move_is_one_final_value(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown(recipe=Recipe().prune("fc1.weight", threshold=0.02)))
    grab(plain)
    plain.mouse.up()
    until(plain, "host.events.length === 1")
    assert events(plain)[0]["final"] and events(plain)[0]["t"] == pytest.approx(0.02, abs=0.001)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("off", [-11, 9])
def test_nothing_jumps_when_a_handle_is_grabbed_off_its_middle(plain: Page, mount: Mount, shown: Show, side: int, off: int) -> None:
    mount("threshold", shown(recipe=Recipe().prune("fc1.weight", threshold=0.03)))
    box = plain.locator(f'.grip[data-sign="{side}"]').bounding_box()
    x, y = box["x"] + 13 + off, box["y"] + 60
    plain.mouse.move(x, y)
    plain.mouse.down()
    plain.mouse.up()
    until(plain, "host.events.length === 1")
    assert events(plain)[0]["t"] == pytest.approx(0.03, rel=1e-6)
    plain.mouse.down()
    plain.mouse.move(x + 40 * side, y)
    plain.mouse.up()
    until(plain, "host.events.at(-1)[1].t > 0.03 && host.events.at(-1)[1].final")
    middle = plain.locator(f'.grip[data-sign="{side}"]').bounding_box()["x"] + 13
    assert middle - x == pytest.approx(40 * side - off, abs=0.5)


def test_the_mirrored_handle_sets_the_same_threshold(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown(recipe=Recipe().prune("fc1.weight", threshold=0.03)))
    box = plain.locator('.grip[data-sign="-1"]').bounding_box()
    plain.mouse.move(box["x"] + 13, box["y"] + 60)
    plain.mouse.down()
    plain.mouse.move(box["x"] + 13 - 50, box["y"] + 60)
    plain.mouse.up()
    until(plain, "host.events.at(-1)?.[1].final")
    assert events(plain)[-1]["t"] > 0.035


def test_a_drag_beyond_the_edge_stops_at_the_largest_score(plain: Page, mount: Mount, shown: Show) -> None:
    data = shown()
    mount("threshold", data)
    _, y = grab(plain)
    plain.mouse.move(955, y)
    plain.mouse.up()
    until(plain, "host.events.at(-1)?.[1].final")
    assert events(plain)[-1]["t"] == pytest.approx(data["hi"])
    assert "100.0 %" in slider(plain).get_attribute("aria-valuetext")


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("fashion-vit", "moby-lstm")])
def test_the_fraction_is_the_exact_sparsity(plain: Page, shown: Show, name: str) -> None:
    from explorer.analysis.histogram import histogram

    subject = few(name)
    for layer in subject.layers:
        score = subject.weight(layer.name).abs().flatten().sort().values
        cuts = [0.0, float(score[0]), *(float(score[-1]) * i / 37 for i in range(1, 37)), float(score[-1]) * 1.01]
        quantiles = [float(f"{q:.6g}") for q in histogram(subject, layer.name).quantiles]
        found = plain.evaluate("([q, cuts, n]) => cuts.map((t) => modules.threshold.fraction(q, t, n))", [quantiles, cuts, layer.numel])
        for t, part in zip(cuts, found, strict=True):
            assert part == pytest.approx(float((score <= t).double().mean()), abs=max(0.002, 1.01 / layer.numel)), (layer.name, t)


def test_the_size_is_the_counted_one(plain: Page) -> None:
    chance = random.Random(0)
    cases = []
    for _ in range(300):
        n = chance.choice([50, 500, 4_097, 400_000])
        size = {"n": n, "rows": chance.randint(1, n), "bits": chance.choice([32, 8, 6, 5, 4, 3, 2]), "overhead": chance.choice([0, 8, 2500])}
        cases.append((size, chance.randint(0, n)))
    found = plain.evaluate("(cases) => cases.map(([size, kept]) => modules.threshold.size(size, 1 - kept / size.n))", cases)
    assert found == [min(representations(s["n"], kept, s["rows"], s["bits"], s["overhead"]).values()) for s, kept in cases]


def drive(page: Page, script: str) -> Any:
    """Run a script with ``tx`` (a sender), ``sent`` (what it sent) and ``sleep``."""
    return page.evaluate(
        """async (script) => {
            const sent = [], sleep = (ms) => new Promise((done) => setTimeout(done, ms));
            const make = (options) => modules.threshold.sender((value) => sent.push(value), options);
            return await new Function("make", "sent", "sleep", `return (async () => { ${script} })()`)(make, sent, sleep);
        }""",
        script,
    )


def test_never_more_than_one_unanswered_value_and_the_newest_wins(plain: Page) -> None:
    sent = drive(plain, """
        const tx = make({ every: 5 });
        for (let i = 0; i < 50; i++) { tx.push({ t: i, final: false }); await sleep(2); }
        const unanswered = sent.length;
        tx.acked(sent.at(-1).seq); await sleep(20);
        return [unanswered, sent];
    """)  # fmt: skip
    assert sent[0] == 1 and [v["t"] for v in sent[1]] == [0, 49]


def test_a_final_value_goes_out_at_once(plain: Page) -> None:
    sent = drive(plain, """
        const tx = make();
        tx.push({ t: 1, final: false }); tx.push({ t: 2, final: false }); tx.push({ t: 3, final: true });
        return [sent, tx.settled];
    """)  # fmt: skip
    assert [(v["t"], v["final"], v["seq"]) for v in sent[0]] == [(1, False, 1), (3, True, 2)] and sent[1] is False


def test_a_stale_acknowledgement_releases_nothing(plain: Page) -> None:
    sent = drive(plain, """
        const tx = make({ every: 1 });
        tx.push({ t: 1 }); tx.push({ t: 2, final: true }); tx.push({ t: 3 });
        tx.acked(1); await sleep(30); const early = sent.length;
        tx.acked(2); await sleep(30);
        return [early, sent.map((v) => v.t), tx.settled];
    """)  # fmt: skip
    assert sent == [2, [1, 2, 3], False]


def test_a_lost_acknowledgement_is_forgiven_after_the_patience(plain: Page) -> None:
    sent = drive(plain, """
        const tx = make({ every: 1, patience: 120 });
        tx.push({ t: 1 }); await sleep(10); tx.push({ t: 2 });
        await sleep(60); const early = sent.length; await sleep(120);
        return [early, sent.map((v) => v.t)];
    """)  # fmt: skip
    assert sent == [1, [1, 2]]


def test_values_are_at_least_30_ms_apart(plain: Page) -> None:
    times = drive(plain, """
        const times = [], tx = modules.threshold.sender((v) => { times.push(performance.now()); setTimeout(() => tx.acked(v.seq)); });
        for (let i = 0; i < 60; i++) { tx.push({ t: i }); await sleep(4); }
        return times;
    """)  # fmt: skip
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert 4 <= len(times) <= 12 and min(gaps) > 25


def test_a_slow_answer_holds_values_back_but_not_the_final_one(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    plain.evaluate("host.delay = 300")
    x, y = grab(plain)
    for i in range(1, 31):
        plain.mouse.move(x + 3 * i, y)
        plain.wait_for_timeout(20)
    plain.mouse.up()
    until(plain, "host.events.at(-1)?.[1].final")
    seen = plain.evaluate("host.events")
    live = [at for _, e, at in seen if not e["final"]]
    assert 2 <= len(live) <= 15 and all(b - a > 280 for a, b in zip(live, live[1:], strict=False))
    assert seen[-1][1]["t"] == pytest.approx(value(plain), rel=1e-4)


def test_the_handle_stays_where_the_hand_left_it_until_it_is_answered(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    plain.evaluate("host.delay = null")
    x, y = grab(plain)
    plain.mouse.move(x + 60, y, steps=4)
    plain.mouse.up()
    until(plain, "host.events.at(-1)?.[1].final")
    there = value(plain)
    plain.evaluate("host.ack(1, { value: { t: 0.001, k: 0, factor: 0.5 } })")  # an answer to an older value
    plain.wait_for_timeout(60)
    assert value(plain) == there
    assert "≈" in plain.locator(".read").inner_text()
    plain.evaluate("host.ack(host.events.at(-1)[1].seq, { value: { t: 0.0123, k: 0, factor: 0.5 } })")
    plain.wait_for_timeout(60)
    assert value(plain) == pytest.approx(0.0123)
    assert "≈" not in plain.locator(".read").inner_text()


@pytest.mark.parametrize("key,moved", [("ArrowRight", 1), ("ArrowUp", 1), ("ArrowLeft", -1), ("ArrowDown", -1), ("PageUp", 10), ("PageDown", -10)])
def test_keys_step_the_threshold(plain: Page, mount: Mount, shown: Show, key: str, moved: int) -> None:
    data = shown(recipe=Recipe().prune("fc1.weight", threshold=0.02))
    mount("threshold", data)
    slider(plain).focus()
    plain.keyboard.press(key)
    until(plain, "host.events.at(-1)?.[1].final")
    assert events(plain)[-1]["t"] == pytest.approx(max(0, 0.02 + moved * data["hi"] / 200), rel=1e-3)
    assert [e["final"] for e in events(plain)].count(True) == 1


def test_home_and_end_reach_the_ends(plain: Page, mount: Mount, shown: Show) -> None:
    data = shown(recipe=Recipe().prune("fc1.weight", threshold=0.02))
    mount("threshold", data)
    slider(plain).focus()
    plain.keyboard.press("End")
    until(plain, "host.events.at(-1)?.[1].final")
    assert events(plain)[-1]["t"] == pytest.approx(data["hi"], rel=1e-4)
    plain.keyboard.press("Home")
    until(plain, "host.events.at(-1)[1].t === 0 && host.events.at(-1)[1].final")


def test_a_key_held_down_is_one_step(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    slider(plain).focus()
    for _ in range(12):
        plain.keyboard.down("ArrowRight")
        plain.wait_for_timeout(12)
    plain.keyboard.up("ArrowRight")
    until(plain, "host.events.at(-1)?.[1].final")
    assert [e["final"] for e in events(plain)].count(True) == 1 and len(events(plain)) > 2


def test_other_keys_pass(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    slider(plain).focus()
    for key in ("a", "Enter", "Escape", "Tab"):
        plain.keyboard.press(key)
    plain.wait_for_timeout(80)
    assert events(plain) == []


@pytest.mark.parametrize("recipe", [Recipe().keep("fc1.weight"), Recipe().prune("fc1.weight", granularity="2:4")], ids=["protected", "2:4"])
def test_a_locked_handle_is_off_and_says_why(plain: Page, mount: Mount, shown: Show, recipe: Recipe) -> None:
    settings = Settings("2:4") if recipe.rules[0].rule == "prune" else Settings()
    data = shown(settings=settings, recipe=recipe)
    mount("threshold", data)
    handle = slider(plain)
    assert handle.get_attribute("aria-disabled") == "true" and handle.get_attribute("tabindex") is None
    box = handle.bounding_box()
    plain.mouse.move(box["x"] + 13, box["y"] + 60)
    plain.mouse.down()
    plain.mouse.move(box["x"] + 90, box["y"] + 60)
    plain.mouse.up()
    handle.evaluate("(e) => e.dispatchEvent(new KeyboardEvent('keydown', { key: 'End', bubbles: true }))")
    plain.wait_for_timeout(80)
    assert events(plain) == [] and data["locked"] in plain.locator(".read").inner_text()
    assert plain.locator(".knob:visible").count() == 0


def test_units_are_counted_and_at_least_one_stays(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown("conv1.weight", Settings("unit")))
    handle = slider(plain)
    assert (handle.get_attribute("aria-valuemin"), handle.get_attribute("aria-valuemax")) == ("0", "19")
    x, y = grab(plain)
    plain.mouse.move(x + 0.4 * 860, y, steps=5)
    plain.mouse.up()
    until(plain, "host.events.at(-1)?.[1].final")
    assert events(plain)[-1]["k"] == value(plain) == 8
    plain.keyboard.press("ArrowRight")
    until(plain, "host.events.at(-1)[1].k === 9 && host.events.at(-1)[1].final")
    plain.keyboard.press("End")
    until(plain, "host.events.at(-1)[1].k === 19 && host.events.at(-1)[1].final")
    x, y = grab(plain)
    plain.mouse.move(x + 400, y, steps=3)
    plain.mouse.up()
    plain.wait_for_timeout(100)
    assert events(plain)[-1]["k"] == 19
    assert plain.locator("svg .gone").get_attribute("d").count("M") == 19 and plain.locator("svg .kept").get_attribute("d").count("M") == 1


def test_soft_mode_has_a_second_handle_whose_factor_is_never_zero(plain: Page, mount: Mount, shown: Show) -> None:
    recipe = Recipe().prune("fc1.weight", threshold=0.03, mode="scale", factor=0.5)
    mount("threshold", shown(settings=Settings(mode="scale"), recipe=recipe))
    x, y = grab(plain, "Attenuation factor")
    plain.mouse.move(x, y + 400, steps=4)
    plain.mouse.up()
    until(plain, "host.events.at(-1)?.[1].final")
    last = events(plain)[-1]
    assert last["factor"] == 0.05 and last["t"] == pytest.approx(0.03)
    assert plain.locator("svg .ghost").get_attribute("d")
    for key, factor in (("ArrowUp", 0.06), ("End", 0.95), ("ArrowUp", 0.95), ("PageDown", 0.85), ("Home", 0.05)):
        plain.keyboard.press(key)
        until(plain, f"host.events.at(-1)[1].factor === {factor} && host.events.at(-1)[1].final")


def test_hard_mode_has_no_second_handle(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    assert slider(plain, "Attenuation factor").count() == 0 or not slider(plain, "Attenuation factor").is_visible()


def test_levels_are_ticks(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown(recipe=Recipe().quantize("fc1.weight", bits=4)))
    assert plain.locator("svg .level").count() == 15 and plain.locator("svg .strip").count() == 0
    mount("threshold", shown(settings=Settings(criterion="random"), recipe=Recipe().quantize("fc1.weight", bits=3, scheme="affine")))
    assert plain.locator("svg .level").count() == 8 and plain.locator("svg .strip").count() == 1
    mount("threshold", shown())
    assert plain.locator("svg .level").count() == 0


def test_log_counts_raise_the_tails(plain: Page, mount: Mount, shown: Show) -> None:
    heights = []
    for log in (False, True):
        mount("threshold", shown(log_counts=log))
        path = plain.locator("svg .kept").get_attribute("d")
        heights.append(sum(float(piece.split("v-")[1].split("h")[0]) for piece in path.split("M")[1:]))
    assert heights[1] > 1.5 * heights[0]


def test_a_remount_counts_on_from_what_was_answered(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", {**shown(), "ack": 41})
    slider(plain).focus()
    plain.keyboard.press("ArrowRight")
    until(plain, "host.events.at(-1)?.[1].final")
    assert [e["seq"] for e in events(plain)][0] == 42
    plain.evaluate("host.unmount()")
    assert plain.locator(".thr").count() == 0
    mount("threshold", {**shown(), "ack": 44})
    slider(plain).focus()
    plain.keyboard.press("ArrowRight")
    until(plain, "host.events.at(-1)?.[1].final")
    assert [e["seq"] for e in events(plain)][0] == 45


def test_a_remount_before_the_answer_does_not_count_twice(plain: Page, mount: Mount, shown: Show) -> None:
    numbers = []
    for _ in range(2):
        mount("threshold", {**shown(), "ack": 3})
        plain.evaluate("host.delay = null")
        slider(plain).focus()
        plain.keyboard.press("ArrowRight")
        until(plain, "host.events.at(-1)?.[1].final")
        numbers += [e["seq"] for e in events(plain)]
        plain.evaluate("host.unmount()")
    assert numbers == sorted(set(numbers)) and numbers[0] == 4


def test_an_older_answer_does_not_take_the_moving_layer_back(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    plain.evaluate("host.delay = null")
    x, y = grab(plain)
    plain.mouse.move(x + 60, y, steps=6)
    until(plain, "drags.length > 1")
    moving = plain.evaluate("drags.at(-1)['fc1.weight'].sparsity")
    plain.evaluate("host.ack(0, { layers: { 'fc1.weight': { sparsity: 0 }, 'conv1.weight': { sparsity: 0.5 } } })")
    last = plain.evaluate("drags.at(-1)")
    assert last["fc1.weight"]["sparsity"] == moving > 0.1 and last["conv1.weight"]["sparsity"] == 0.5
    plain.mouse.up()


@pytest.mark.parametrize(
    "low,high,ticks",
    [(-0.538, 0.538, [-0.4, -0.2, 0, 0.2, 0.4]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 7e-6, [0, 2e-6, 4e-6, 6e-6]), (3, 3, [3])],
)
def test_axes_carry_round_numbers(plain: Page, low: float, high: float, ticks: list[float]) -> None:
    assert plain.evaluate("([low, high]) => modules.threshold.rounds(low, high)", [low, high]) == pytest.approx(ticks)


def test_new_data_for_another_layer_ends_a_drag(plain: Page, mount: Mount, shown: Show) -> None:
    other = shown("conv1.weight", recipe=Recipe().prune("conv1.weight", threshold=0.11))
    mount("threshold", shown())
    plain.evaluate("host.delay = null")
    x, y = grab(plain)
    plain.mouse.move(x + 40, y, steps=3)
    plain.evaluate("(data) => host.render({ ...data, ack: 99 })", other)
    before = len(events(plain))
    plain.mouse.move(x + 90, y, steps=3)
    plain.mouse.up()
    plain.wait_for_timeout(80)
    assert len(events(plain)) == before and value(plain) == pytest.approx(0.11)


def test_the_hint_goes_with_the_first_touch(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    hint = plain.locator(".hint")
    assert hint.is_visible() and hint.inner_text() == "drag the orange handle"
    x, y = grab(plain)
    plain.mouse.move(x + 20, y)
    assert hint.is_hidden()
    plain.mouse.up()


def test_a_drag_tells_the_overview(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    plain.evaluate("drags.length = 0")
    plain.evaluate("host.delay = null")
    x, y = grab(plain)
    plain.mouse.move(x + 60, y, steps=3)
    until(plain, "drags.length > 0")
    last = plain.evaluate("drags.at(-1)")
    assert 0.1 < last["fc1.weight"]["sparsity"] < 1
    plain.mouse.up()
    plain.evaluate("host.ack(9, { layers: { 'conv1.weight': { sparsity: 0.5 } } })")
    assert plain.evaluate("drags.at(-1)")["conv1.weight"]["sparsity"] == 0.5


def test_narrow_and_dark(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    plain.evaluate("document.body.style.setProperty('--st-background-color', '#10131a'); document.getElementById('root').style.width = '320px'")
    until(plain, "host.place.querySelector('.thr').classList.contains('dark')")
    assert plain.locator("svg").first.get_attribute("viewBox").startswith("0 0 320 ")


@pytest.mark.parametrize("colour,answer", [("#ffffff", False), ("#10131a", True), ("rgb(16, 19, 26)", True), ("rgb(250, 250, 250)", False), ("", False)])
def test_darkness_is_the_backgrounds(plain: Page, colour: str, answer: bool) -> None:
    assert plain.evaluate("(c) => modules.threshold.dark(c)", colour) is answer


def test_the_same_module_serves_a_widget(plain: Page, shown: Show) -> None:
    plain.evaluate(
        """(data) => {
            const listeners = {}, values = { data };
            window.model = {
                saved: 0, get: (k) => values[k], set: (k, v) => { values[k] = v; }, on: (k, run) => { listeners[k] = run; },
                off: (k) => { delete listeners[k]; }, save_changes() { this.saved++; },
            };
            const el = document.createElement("div");
            document.body.append(el);
            window.closeWidget = modules.threshold.default().render({ model: window.model, el });
        }""",
        shown(),
    )
    slider(plain).focus()
    plain.keyboard.press("ArrowRight")
    until(plain, "model.saved > 0 && model.get('value').t > 0")
    plain.evaluate("closeWidget()")
    assert plain.locator(".thr").count() == 0
