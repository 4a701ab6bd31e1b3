"""The compare page in Chromium: swiping, enlarging, picking a seed, turning pages, wide and narrow."""

import re

import numpy as np
import pytest

from tests.app.fixtures import add_prune, sample_images
from tests.browser.conftest import Server
from tests.browser.test_story import settle, shoot

pytestmark = pytest.mark.browser


def enlarged(cell) -> dict:
    """Where the picture under the pointer is enlarged, in the coordinates of the screen; empty where it isn't."""
    return cell.evaluate(
        """cell => {
          const style = getComputedStyle(cell, "::after");
          if (style.content === "none" || style.display === "none") return {};
          const width = parseFloat(style.width), height = parseFloat(style.height);
          const fixed = style.position === "fixed";
          const around = fixed ? {left: 0, top: 0} : cell.closest(".ep-gallery").getBoundingClientRect();
          const shift = style.transform === "none" ? 0 : new DOMMatrix(style.transform).e;
          const left = around.left + parseFloat(style.left) + shift, top = around.top + parseFloat(style.top);
          return {left, top, right: left + width, bottom: top + height, width, height, says: style.content,
                  picture: style.backgroundImage, rendering: style.imageRendering};
        }"""
    )


def on_screen(box: dict, *, width: int, height: int) -> bool:
    return min(box["left"], box["top"]) >= 0 and box["right"] <= width and box["bottom"] <= height


def test_pictures_are_swiped_enlarged_and_picked(open_tab, fresh_server: Server) -> None:
    run = add_prune(fresh_server.workspace)
    for number in range(4):
        images = np.resize(sample_images(number), (600, 32, 32, 3))
        np.savez(run.path / "stages" / str(number) / "samples.npz", arr_0=images, labels=np.arange(600) % 10,
                 seeds=np.arange(600))  # fmt: skip
    tab = open_tab()
    tab.goto(f"{fresh_server.url}/compare?run={run.id}")
    tab.locator(".ep-cells figure").nth(19).wait_for()
    settle(tab)

    slider = tab.get_by_role("slider", name="How much of stage 0 is shown over stage 3")
    over = tab.locator("img.over")
    half = over.evaluate("image => getComputedStyle(image).clipPath")
    slider.focus()
    for _ in range(20):
        tab.keyboard.press("ArrowRight")
    assert over.evaluate("image => getComputedStyle(image).clipPath") != half
    assert slider.get_attribute("aria-valuetext") == "70 % stage 0, the rest stage 3"
    box = slider.bounding_box()
    tab.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert abs(int(slider.input_value()) - 25) <= 1

    small = tab.locator(".ep-cell").nth(13)
    assert not enlarged(small)
    small.hover()
    large = enlarged(small)
    assert large["width"] >= 300 and large["says"] == '"stage 3 · heart · seed 6"'
    assert large["rendering"] == "pixelated" and large["picture"].startswith('url("data:image/png')
    assert on_screen(large, width=1280, height=900)
    shoot(tab, "compare-enlarged")
    small.click()
    tab.wait_for_url(re.compile(r"seed=6(&|$)"))
    tab.get_by_text("heart · seed 6 · 7 of 600").wait_for()

    tab.locator(".ep-cell").nth(4).focus()
    tab.keyboard.press("Tab")
    assert "seed 2" in enlarged(tab.locator(".ep-cell").nth(5))["says"]
    tab.keyboard.press("Enter")
    tab.wait_for_url(re.compile(r"seed=2(&|$)"))

    tab.get_by_test_id("stPagination").get_by_role("button", name=re.compile("[Nn]ext")).click()
    tab.get_by_text("circle · seed 20", exact=True).wait_for()
    tab.wait_for_url(re.compile(r"page=2"))

    other = open_tab(dark=True)  # a colleague with the link
    other.goto(tab.url)
    other.get_by_text("circle · seed 20", exact=True).wait_for()
    settle(other)
    other.wait_for_function("document.querySelector('input[aria-label=Seed]')?.value === '2'")


def test_four_stages_on_a_narrow_screen(open_tab, fresh_server: Server) -> None:
    run, other = add_prune(fresh_server.workspace), add_prune(fresh_server.workspace, num_stages=1)
    tab = open_tab(width=390, height=844)
    refs = f"{run.id}@0,{run.id}@3,{other.id}@0,{other.id}@1"
    tab.goto(f"{fresh_server.url}/compare?compare={refs}&order=pixels")
    tab.locator(".ep-cells figure").nth(19).wait_for()
    settle(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    shoot(tab, "compare-four-narrow")
    for index in (0, 2, 42):
        small = tab.locator(".ep-cell").nth(index)
        small.hover()
        large = enlarged(small)
        assert large["width"] > 250 and "RMS" in large["says"]
        assert on_screen(large, width=390, height=844)
