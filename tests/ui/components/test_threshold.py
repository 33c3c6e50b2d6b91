"""The draggable threshold: what its handles do and what it shows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.recipe import Recipe
from explorer.evaluate.costs import representations
from explorer.ui.edits import Settings
from tests.contract.nets import SAMPLES, few
from tests.ui.components.handles import events, grab, slider, until, value

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
Show = Callable[..., dict[str, Any]]
Mount = Callable[..., None]


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
        size = {"n": n, "rows": chance.randint(1, n), "bits": chance.choice([32, 8, 6, 5, 4, 3, 2]), "overhead": chance.choice([0, 8, 2500]), "zero": chance.random() < 0.7}
        cases.append((size, chance.randint(0, n)))
    found = plain.evaluate("(cases) => cases.map(([size, kept]) => modules.threshold.size(size, 1 - kept / size.n))", cases)
    assert found == [min(representations(s["n"], kept, s["rows"], s["bits"], s["overhead"], s["zero"]).values()) for s, kept in cases]


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


@pytest.mark.parametrize(
    "low,high,ticks",
    [(-0.538, 0.538, [-0.4, -0.2, 0, 0.2, 0.4]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 7e-6, [0, 2e-6, 4e-6, 6e-6]), (3, 3, [3])],
)
def test_axes_carry_round_numbers(plain: Page, low: float, high: float, ticks: list[float]) -> None:
    assert plain.evaluate("([low, high]) => modules.threshold.rounds(low, high)", [low, high]) == pytest.approx(ticks)


def test_the_hint_goes_with_the_first_touch(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    hint = plain.locator(".hint")
    assert hint.is_visible() and hint.inner_text() == "drag the orange handle"
    x, y = grab(plain)
    plain.mouse.move(x + 20, y)
    assert hint.is_hidden()
    plain.mouse.up()


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
