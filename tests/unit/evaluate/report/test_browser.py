"""The page in Chromium, if installed: no console message, no network request, no overflow."""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from whisperstill.evaluate.report import render_page

from unit.evaluate.report import builders

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.needs("Chromium", "POSIX")

SECONDS = 120
CONSOLE_EVENTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """A headless Chromium, controlled by the DevTools protocol over two pipes."""

    def __init__(self, profile: Path) -> None:
        from_test, self._to = os.pipe()
        self._from, to_test = os.pipe()
        quiet = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run"
        command = (
            f'exec "$0" {quiet} --remote-debugging-pipe --user-data-dir="$1" about:blank 3<&{from_test} 4>&{to_test}'
        )
        self._process = subprocess.Popen(
            ["bash", "-c", command, str(BROWSER), str(profile)],
            pass_fds=(from_test, to_test),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_test)
        os.close(to_test)
        self._read = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._tab = None
        self._tab = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Result of a DevTools method; events that arrive meanwhile are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_tab", None):
            message["sessionId"] = self._tab
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, page: Path) -> None:
        """Load a page from disk."""
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from], [], [], SECONDS)
            assert ready, f"no answer from the browser for {SECONDS} seconds"
            more = os.read(self._from, 1 << 16)
            assert more, "the browser exited"
            self._read += more
        message, self._read = self._read.split(b"\0", 1)
        return json.loads(message)

    def close(self) -> None:
        """Stop the browser."""
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._to)
        os.close(self._from)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages on disk."""
    folder = tmp_path_factory.mktemp("pages")
    results_by_name = {"full": builders.full(), "many": builders.many(), "alone": builders.alone()}
    for name, eval_results in results_by_name.items():
        (folder / f"{name}.html").write_text(render_page(eval_results, audio=False), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in results_by_name}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["full", "many", "alone"])
def test_page_opens_without_messages_or_requests_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=860, deviceScaleFactor=1, mobile=width < 500)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(pages[name])
    script = """JSON.stringify({
        over: document.documentElement.scrollWidth - innerWidth,
        smallest: Math.min(...[...document.querySelectorAll("svg.chart text, td, p")].map(
            one => one.closest("svg") ? 12 * one.closest("svg").getBoundingClientRect().width / 460
                                      : parseFloat(getComputedStyle(one).fontSize))),
        back: getComputedStyle(document.body).backgroundColor})"""
    page_state = json.loads(browser.call("Runtime.evaluate", expression=script)["result"]["value"])
    assert [event for event in browser.events if event["method"] in CONSOLE_EVENTS] == []
    requested = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert requested[0] == pages[name].as_uri()
    assert [url for url in requested[1:] if not url.startswith("data:")] == []
    assert page_state["over"] <= 0
    assert page_state["smallest"] >= 9
    assert (page_state["back"] == "rgb(253, 253, 251)") == (scheme == "light")


def test_console_check_can_fail(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<link rel="stylesheet" href="http://127.0.0.1:9/no.css"><script>console.error("!")</script>')
    browser.open(page)
    methods = [event["method"] for event in browser.events]
    assert "Runtime.consoleAPICalled" in methods
    assert methods.count("Network.requestWillBeSent") == 2
