"""A real TensorBoard and a headless Chromium that looks at it, both on this machine alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import ProxyHandler, build_opener

import pytest

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 120.0  # seconds, of which two cores that are busy otherwise needed 35

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root with it
    "--disable-dev-shm-usage",  # small in containers
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

# TensorBoard hides most of its elements in shadow roots, which no CSS selector enters.
ALL = """
const [selector, root] = arguments, found = [];
const enter = node => {
  if (node.shadowRoot) enter(node.shadowRoot);
  for (const child of node.children) {
    if (child.matches(selector)) found.push(child);
    enter(child);
  }
};
enter(root || document);
return found;
"""

PIXELS = """
const [image] = arguments, canvas = document.createElement('canvas');
if (!image.complete || !image.naturalWidth) return null;
canvas.width = image.naturalWidth;
canvas.height = image.naturalHeight;
canvas.getContext('2d').drawImage(image, 0, 0);
return canvas.toDataURL();
"""

T = TypeVar("T")


def what_is_missing() -> str:
    """What has to be installed for a browser test, or "" if all is there."""
    if not any(map(shutil.which, BROWSERS)):
        return f"no browser: none of {', '.join(BROWSERS)} is on the path"
    return "" if shutil.which("chromedriver") else "chromedriver is not on the path"


def until(look: Callable[[], T | None], what: str) -> T:
    """The first result of `look` that is true.

    Raises:
        TimeoutError: if there is none in time; it says `what` was waited for.
    """
    deadline = time.monotonic() + PATIENCE
    last: object = None
    while time.monotonic() < deadline:
        try:
            found = look()
            last = found
            if found:
                return found
        except (WebDriverException, OSError) as error:  # a page that changes, a server that starts
            last = error
        time.sleep(0.1)
    raise TimeoutError(f"waited {PATIENCE:.0f} s for {what}; at last there was {last!r:.300}")


@contextmanager
def tensorboard(runs: Path, log: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read the runs.

    Args:
        runs: folder of event files.
        log: file for what the server prints.
    """
    # The page shows the folder as it is given here.
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", runs.name]
    command += ["--host", "127.0.0.1", "--port", "0"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=runs.parent, stdout=output, stderr=output)
    try:
        address = until(lambda: _address(server, log), "the address of TensorBoard")
        # A page that is opened before the runs are read stays empty.
        until(lambda: _answer(address, "plugin/images/tags"), "the runs")
        yield address
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[bytes], log: Path) -> str | None:
    text = log.read_text(errors="replace")
    if server.poll() is not None:
        raise RuntimeError(f"TensorBoard ended with status {server.returncode}: {text}")
    found = re.search(r"http://127\.0\.0\.1:\d+", text)
    return found.group() if found else None


def _answer(address: str, route: str) -> Any:
    """What TensorBoard says to its own page. No proxy: it is on this machine."""
    with build_opener(ProxyHandler({})).open(f"{address}/data/{route}", timeout=10) as response:
        return json.load(response)


class Page:
    """A browser window on a TensorBoard.

    Attributes:
        driver: Selenium's.
        address: of the TensorBoard.
    """

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address

    def open(self, tab: str) -> None:
        """Load a tab anew, such as "images"."""
        self.driver.get("about:blank")  # another #tab alone would keep the page
        self.driver.get(f"{self.address}/#{tab}")

    def all(self, selector: str, within: WebElement | None = None) -> list[WebElement]:
        """The elements of a CSS selector, each part of which must lie in one shadow root."""
        found: list[WebElement] = self.driver.execute_script(ALL, selector, within)
        return found

    def texts(self, selector: str, within: WebElement | None = None) -> list[str]:
        """What the elements of a selector say, seen or folded away."""
        return [
            (element.get_attribute("textContent") or "").strip()
            for element in self.all(selector, within)
        ]

    def pictures(self, within: WebElement | None = None) -> list[str]:
        """The loaded pictures of the tab "images", as data URLs."""
        images = self.all("#main-image-container img", within)
        return [url for image in images if (url := self.driver.execute_script(PIXELS, image))]


@contextmanager
def chromium(address: str, width: int = 1400, height: int = 1000) -> Iterator[Page]:
    """A window of that many pixels that reaches 127.0.0.1 and nothing else."""
    os.environ["SE_OFFLINE"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Page(driver, address)
    finally:
        driver.quit()
