"""The page in a real browser without a network: the images of the folder, and hands on them."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.configuration.build import build_model
from src.exports.page import directions
from src.serving.bundle import PAGE, Bundle
from tests.toys import Compose

IMAGES = """
const context = document.getElementById("grid").getContext("2d");
const found = [];
for (let i = 0; i < 80; i++) {
  const x = (i % 8) * 30 + 2, y = Math.floor(i / 8) * 30 + 2;
  const data = context.getImageData(x, y, 28, 28).data;
  for (let p = 0; p < 784; p++) found.push(data[4 * p]);
}
return btoa(String.fromCharCode.apply(null, found.slice(0, 31360)))
  + " " + btoa(String.fromCharCode.apply(null, found.slice(31360)));
"""


def test_directions_are_orthonormal_and_the_first_changes_most(typed: Compose) -> None:
    model = build_model(typed("datamodule=synthetic", "model=small_gan")).eval()
    found = directions(model)
    torch.testing.assert_close(found @ found.T, torch.eye(8), atol=1e-4, rtol=0)
    noise = torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 10

    @torch.inference_mode()
    def change(direction: torch.Tensor) -> float:
        moved = model.sampler(noise + 0.1 * direction, labels) - model.sampler(noise, labels)
        return float(moved.square().mean())

    random = torch.nn.functional.normalize(torch.ones(64), dim=0)
    assert change(found[0]) > change(found[7]) > change(random)


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Bundle:
    if not (exported / PAGE).is_file():
        pytest.skip("npm does not give what runs the page")
    return Bundle(exported)


@pytest.fixture(scope="module")
def browser(bundle: Bundle) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not (driver and chromium):
        pytest.skip("there is no chromium with its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for each in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{each}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")  # no network
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.get((bundle.folder / PAGE).resolve().as_uri())
    wait_for_images(browser)
    yield browser
    browser.quit()


def test_a_seed_means_the_same_images(browser: Any, bundle: Bundle) -> None:
    labels = np.arange(10).repeat(8)
    gap = np.abs(shown(browser).astype(int) - bundle.of_seed(labels, 1)[:, 0])
    assert gap.max() <= 1
    assert (gap > 0).mean() <= 20e-6


def test_sliders_and_keys_change_images_and_escape_undoes_it(browser: Any) -> None:
    before = shown(browser)
    move(browser, "move0", 2)
    assert (shown(browser) != before).mean() > 0.02
    press(browser, "Escape")
    assert np.array_equal(shown(browser), before)
    press(browser, "ArrowRight")
    assert not np.array_equal(shown(browser), before)
    press(browser, "Escape")


def test_a_digit_shows_its_class_alone_and_the_command(browser: Any) -> None:
    press(browser, "7")
    text = browser.find_element("id", "command").text
    assert "'labels=7' n=8 seed=1" in text
    assert "8 images" in browser.find_element("id", "status").text
    press(browser, "a")
    assert "labels=all" in browser.find_element("id", "command").text


def test_nothing_is_wrong_in_the_console(browser: Any) -> None:
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []


def wait_for_images(browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(
        lambda it: it.find_element("id", "status").text.startswith("ready")
    )


def shown(browser: Any) -> np.ndarray:
    """The images (80, 28, 28) of the page's grid."""
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    parts = browser.execute_script(IMAGES).split(" ")
    content = b"".join(base64.b64decode(part) for part in parts)
    return np.frombuffer(content, dtype=np.uint8).reshape(80, 28, 28)


def move(browser: Any, slider: str, value: float) -> None:
    browser.execute_script(
        "const it = document.getElementById(arguments[0]); it.value = arguments[1];"
        "it.dispatchEvent(new Event('input'));",
        slider,
        value,
    )


def press(browser: Any, key: str) -> None:
    browser.execute_script(
        "document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))",
        key,
    )
    browser.execute_async_script("setTimeout(arguments[0], 300)")
