"""A real browser, driven by its own protocol over two pipes: no package is needed for it.

Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol/ (messages end with a
zero byte).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["CHROMIUM", "Page", "browser"]

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
"""Where the browser is; None if there is none."""

_CODES = {"Tab": 9, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36, "ArrowLeft": 37,
          "ArrowRight": 39}  # fmt: skip


class Page:
    """One open page.

    Attributes
    ----------
    requested : list of str
        Addresses that it asked for.
    complaints : list of str
        Errors of its script and of the console.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._in, self._out = os.fdopen(reading, "rb"), os.fdopen(writing, "wb", buffering=0)
        self._rest, self._number, self._session = b"", 0, ""
        self.requested: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = self._in.read1(1 << 16)
            assert more, "the browser has ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        news = json.loads(text)
        match news.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(news["params"]["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(news["params"]["exceptionDetails"]))
            case "Log.entryAdded":
                self.complaints.append(news["params"]["entry"]["text"])
        return news

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        self.call("Browser.close")
        self._in.close()
        self._out.close()

    def open(self, path: Path, width: int, height: int = 900) -> None:
        """Open a file in a window of a size, without a network."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=width < 600)
        self.call("Network.emulateNetworkConditions", offline=True, latency=0,
                  downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def get(self, expression: str) -> Any:
        """Value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, place: str) -> list[str]:
        """What the elements that a selector finds say."""
        found = f"[...document.querySelectorAll({json.dumps(place)})].map(node => node.innerText)"
        texts: list[str] = self.get(found)
        return texts

    def press(self, key: str, times: int = 1) -> None:
        """Press a key."""
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                          windowsVirtualKeyCode=_CODES[key])  # fmt: skip

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def box(self, place: str) -> dict[str, float]:
        """Left, top, width and height of an element in the window."""
        found: dict[str, float] = self.get(
            f"(box => ({{left: box.left, top: box.top, width: box.width, height: box.height}}))"
            f"(document.querySelector({json.dumps(place)}).getBoundingClientRect())"
        )
        return found

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the left button, move and let go."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1,
                      clickCount=1)  # fmt: skip

    def tap(self, x: float, y: float) -> None:
        """Touch with a finger and let go."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start the browser with a profile in a folder of its own, and end it."""
    assert CHROMIUM is not None
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    options = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}",
               "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
               "--disable-background-networking"]  # fmt: skip
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # which root cannot have
    command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    started = subprocess.Popen(
        ["bash", "-c", command, "browser", CHROMIUM, *options],
        pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    page = None
    try:
        page = Page(ours_in, ours_out)
        yield page
    finally:
        if page is not None:
            page.close()
        started.wait(timeout=30)
