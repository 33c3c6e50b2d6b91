"""What the draggable threshold sends, and when: one value in flight, the newest kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.recipe import Recipe
from tests.ui.components.handles import events, grab, slider, until, value

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
Show = Callable[..., dict[str, Any]]
Mount = Callable[..., None]


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


def test_a_hand_that_rests_asks_again_until_there_is_no_more_to_know(plain: Page) -> None:
    rests = drive(plain, """
        const tx = make({ every: 1, rest: 40 });
        tx.push({ t: 1, final: false }); tx.acked(1, true); await sleep(10);
        tx.push({ t: 2, final: false }); const early = sent.length; tx.acked(2, true); await sleep(20);
        const quick = sent.length; await sleep(60);
        tx.acked(3, true); await sleep(80); tx.acked(4, false); await sleep(80); const still = sent.length;
        tx.push({ t: 5, final: true }); tx.acked(5, true); await sleep(80);
        return [early, quick, still, sent.map((v) => [v.t, v.seq, Boolean(v.rest)])];
    """)  # fmt: skip
    assert rests == [2, 2, 4, [[1, 1, False], [2, 2, False], [2, 3, True], [2, 4, True], [5, 5, False]]]


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


def test_a_second_finger_changes_nothing(plain: Page, mount: Mount, shown: Show) -> None:
    mount("threshold", shown())
    x, y = grab(plain)
    plain.mouse.move(x + 60, y)
    until(plain, "host.events.length > 0")
    before = value(plain)
    plain.locator('.grip[data-sign="-1"]').evaluate(
        """(grip) => {
            for (const [type, clientX] of [["pointerdown", 30], ["pointermove", 20], ["pointerup", 20]])
                grip.dispatchEvent(new PointerEvent(type, { pointerId: 77, clientX, clientY: 80, bubbles: true }));
        }"""
    )
    assert value(plain) == before and not any(event["final"] for event in events(plain))
    plain.mouse.up()
    until(plain, "host.events.at(-1)[1].final")
