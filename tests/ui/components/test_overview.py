"""The strip of layers: what it shows, follows, selects and locks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
Mount = Callable[..., None]
TEXT = {
    "label": "Layers", "parameters": "parameters", "sparsity": "sparsity", "left": "left", "bits": "bits", "bit": "bit", "locked": "protected",
    "coupled": "pruned together", "lock": "Protect", "unlock": "Unprotect",
}  # fmt: skip


def layers(n: int, **more: Any) -> dict[str, Any]:
    """n layers in blocks of four; the first two are coupled."""
    rows = [
        {
            "name": f"block{i // 4}.layer{i}.weight", "label": f"block{i // 4}.layer{i}", "block": f"block{i // 4}", "kind": "linear", "shape": "10 × 10",
            "numel": 100 * (i + 1), "sparsity": 0.0, "bits": 32, "attenuated": 0.0, "locked": False, "coupled": [],
        }
        for i in range(n)
    ]  # fmt: skip
    rows[0]["coupled"] = [rows[1]["name"]]
    return {"layers": rows, "selected": rows[0]["name"], "text": TEXT, **more}


def name(i: int) -> str:
    return f"block{i // 4}.layer{i}.weight"


def events(page: Page) -> list[list[str]]:
    return page.evaluate("host.events.map((e) => e.slice(0, 2))")


def fill(page: Page, i: int) -> str:
    return page.locator(f'[data-layer="{name(i)}"] .fill').evaluate("(e) => e.style.height")


def test_a_click_selects(plain: Page, mount: Mount) -> None:
    mount("overview", layers(6))
    plain.get_by_role("option").nth(3).click()
    assert events(plain) == [["select", name(3)]]
    assert plain.get_by_role("option").nth(3).get_attribute("aria-selected") == "true"
    plain.get_by_role("option").nth(3).click()
    assert len(events(plain)) == 1


def test_arrow_keys_select(plain: Page, mount: Mount) -> None:
    mount("overview", layers(6))
    plain.get_by_role("option").nth(0).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft"):
        plain.keyboard.press(key)
    assert [value for _, value in events(plain)] == [name(1), name(2), name(1), name(5), name(0)]


def test_the_selected_layer_alone_is_in_the_tab_order(plain: Page, mount: Mount) -> None:
    mount("overview", layers(6, selected=name(2)))
    assert [o.get_attribute("tabindex") for o in plain.get_by_role("option").all()] == ["-1", "-1", "0", "-1", "-1", "-1"]


@pytest.mark.parametrize("key", ["l", "L"])
def test_a_key_locks_the_focused_layer(plain: Page, mount: Mount, key: str) -> None:
    mount("overview", layers(6))
    plain.get_by_role("option").nth(0).focus()
    plain.keyboard.press("ArrowRight")
    plain.keyboard.press(key)
    assert events(plain)[-1] == ["lock", name(1)]


def test_the_lock_can_be_clicked_without_selecting(plain: Page, mount: Mount) -> None:
    data = layers(6)
    data["layers"][2]["locked"] = True
    mount("overview", data)
    option = plain.get_by_role("option").nth(2)
    assert "protected" in option.get_attribute("aria-label")
    option.locator(".lock").click()
    assert events(plain) == [["lock", name(2)]]


def test_the_focus_survives_new_data(plain: Page, mount: Mount) -> None:
    mount("overview", layers(6))
    plain.get_by_role("option").nth(0).focus()
    plain.keyboard.press("ArrowRight")
    plain.evaluate("(data) => host.render(data)", layers(6, selected=name(1)))
    plain.keyboard.press("ArrowRight")
    assert events(plain)[-1] == ["select", name(2)]


def test_only_fewer_bits_than_a_layer_came_with_are_marked(plain: Page, mount: Mount) -> None:
    data = layers(3)
    data["layers"][0] |= {"bits": 16, "full": 16}
    data["layers"][1] |= {"bits": 8, "full": 16}
    mount("overview", data)
    said = [plain.get_by_role("option").nth(i).inner_text() for i in range(3)]
    assert ["bit" in text for text in said] == [False, True, False] and plain.locator(".rim:visible").count() == 1


def test_it_follows_a_drag_also_of_other_layers(plain: Page, mount: Mount) -> None:
    mount("overview", layers(6))
    assert fill(plain, 1) == "100%"
    move = "(detail) => window.dispatchEvent(new CustomEvent('explorer:drag', { detail }))"
    plain.evaluate(move, {"layers": {name(1): {"sparsity": 0.75}, name(2): {"bits": 4}, "unknown": {"sparsity": 1}}})
    assert fill(plain, 1) == "25%" and "25%" in plain.get_by_role("option").nth(1).inner_text()
    assert "4 bit" in plain.get_by_role("option").nth(2).inner_text() and plain.locator(".rim:visible").count() == 1
    plain.evaluate(move, {"layers": {name(1): {"attenuated": 0.1}}})
    assert fill(plain, 1) == "25%"  # what an event does not name stays


def test_all_and_nothing_left_are_told_apart_from_nearly(plain: Page, mount: Mount) -> None:
    data = layers(4)
    for i, sparsity in enumerate((0.0, 0.0004, 0.9996, 1.0)):
        data["layers"][i]["sparsity"] = sparsity
    mount("overview", data)
    shown = [option.locator(".state").inner_text() for option in plain.get_by_role("option").all()]
    assert shown[0] == "100%" and shown[3] == "0%" and shown[2] != "0%"


def test_coupled_layers_are_outlined(plain: Page, mount: Mount) -> None:
    mount("overview", layers(6))
    assert [o.evaluate("(e) => e.classList.contains('coupled')") for o in plain.get_by_role("option").all()] == [False, True, False, False, False, False]
    assert name(1) in plain.get_by_role("option").nth(0).get_attribute("title")


def test_two_hundred_layers_scroll_with_columns_of_ten_pixels(plain: Page, mount: Mount) -> None:
    mount("overview", layers(200))
    assert plain.get_by_role("option").count() == 200
    widths = plain.evaluate("[...host.place.querySelectorAll('.layer')].map((e) => e.getBoundingClientRect().width)")
    assert min(widths) >= 10 and sum(widths) / 200 < 16, widths[:3]
    strip = plain.locator(".ovw")
    assert strip.evaluate("(e) => e.scrollWidth > e.clientWidth + 500") and plain.evaluate("document.body.scrollWidth") <= 960
    plain.get_by_role("option").nth(0).focus()
    plain.keyboard.press("End")
    last = plain.get_by_role("option").nth(199).bounding_box()
    assert last["x"] + last["width"] <= 20 + 860 + 1 and last["x"] > 20
    assert plain.get_by_role("option").nth(199).locator(".name").is_visible()
    assert plain.get_by_role("option").nth(3).locator(".name").is_hidden()


def test_ten_layers_fill_the_width_without_scrolling(plain: Page, mount: Mount) -> None:
    mount("overview", layers(10))
    strip = plain.locator(".ovw")
    assert strip.evaluate("(e) => e.scrollWidth - e.clientWidth") <= 0
    assert plain.get_by_role("option").nth(5).locator(".name").is_visible()


def test_blocks_are_set_apart(plain: Page, mount: Mount) -> None:
    mount("overview", layers(12))
    assert plain.evaluate("[...host.place.querySelectorAll('.layer')].map((e, i) => e.classList.contains('first') ? i : 0).filter(Boolean)") == [4, 8]


def test_an_unmounted_strip_listens_no_more(plain: Page, mount: Mount) -> None:
    mount("overview", layers(4))
    plain.evaluate("host.unmount()")
    plain.evaluate("window.dispatchEvent(new CustomEvent('explorer:drag', { detail: { layers: {} } }))")
    assert plain.locator(".ovw").count() == 0


def test_in_narrow_columns_a_click_selects_and_the_label_stays_within_the_strip(plain: Page, mount: Mount) -> None:
    data = layers(120)
    for row in data["layers"]:
        row["label"] = f"a_stage_of_a_network_with_a_very_long_name.{row['label']}.feed_forward_projection"
    mount("overview", data)
    third = plain.get_by_role("option").nth(2)
    box = third.bounding_box()
    assert box is not None and box["width"] < 30
    plain.mouse.move(box["x"] + box["width"] - 4, box["y"] + 60)
    plain.mouse.click(box["x"] + box["width"] - 4, box["y"] + 60)  # where the lock of a wide column is
    plain.mouse.click(box["x"] + box["width"] - 4, box["y"] + 4)
    assert events(plain) == [["select", name(2)]]
    left = """(e) => { const r = document.createRange(); r.selectNodeContents(e.querySelector(".name"));
        return r.getBoundingClientRect().left - e.closest(".ovw").getBoundingClientRect().left; }"""
    assert third.evaluate(left) >= 0


def test_a_locked_narrow_column_shows_its_lock(plain: Page, mount: Mount) -> None:
    data = layers(120)
    data["layers"][2]["locked"] = True
    mount("overview", data)
    assert plain.get_by_role("option").nth(2).locator(".lock").is_visible()
    assert not plain.get_by_role("option").nth(3).locator(".lock").is_visible()
