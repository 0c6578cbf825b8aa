"""A page in headless Chromium, driven through the DevTools protocol over a websocket."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections import deque

from websockets.sync.client import connect

DEADLINE_S = 30
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--remote-debugging-port=0",
)  # fmt: skip
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9}
CTRL = 2


@contextlib.contextmanager
def page(browser, profile):
    """Yield an empty page of a browser of its own."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = _port(process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=DEADLINE_S) as answer:
                (target,) = [one for one in json.load(answer) if one["type"] == "page"]
            with connect(target["webSocketDebuggerUrl"], max_size=None, compression=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.communicate(timeout=DEADLINE_S)


def _port(process):
    for line in process.stderr:
        if found := re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line):
            return int(found[1])
    raise AssertionError("the browser said no port")


class Page:
    """What a person does on a page and sees of it."""

    def __init__(self, socket):
        self._socket = socket
        self._num_sent = 0
        self._events = deque()
        self.complaints = []
        """Errors and warnings of the console, exceptions, and requests that failed."""
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Send a command and return its result."""
        self._num_sent += 1
        self._socket.send(json.dumps({"id": self._num_sent, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=DEADLINE_S))
            if message.get("id") == self._num_sent:
                assert "error" not in message, (method, message)
                return message["result"]
            self._heard(message)

    def _heard(self, message):
        kind, params = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        if kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(params["args"])
        if kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"])

    def open(self, url):
        """Go to an address and wait until it is loaded."""
        assert "errorText" not in self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script):
        """Return the value of an expression."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, (script, done)
        return done["result"].get("value")

    def wait(self, script):
        """Wait until an expression is true, and return its value."""
        deadline = time.monotonic() + DEADLINE_S
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never came true: {script}; {self.complaints}"
            time.sleep(0.02)
        return value

    def text(self, element):
        """Return what stands in an element, by its id."""
        return self.run(f"document.getElementById({element!r}).textContent")

    def is_shown(self, element):
        """Return whether an element takes room."""
        return self.run(f"document.getElementById({element!r}).getClientRects().length > 0")

    def choose(self, element, value):
        """Take an entry of a list."""
        self.run(
            f"(() => {{ const list = document.getElementById({element!r}); list.value = {value!r};"
            " list.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def click(self, selector):
        """Press the mouse on an element."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, element, text):
        """Write into an element as a keyboard does."""
        self.run(f"document.getElementById({element!r}).focus()")
        self.call("Input.insertText", text=text)

    def press(self, key, modifiers=0):
        """Press a key."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": modifiers}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **common)

    def drop(self, selector, path):
        """Drop a file on an element, as from a folder beside the browser."""
        x, y = self._middle(selector)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def _middle(self, selector):
        box = self.run(
            f"(() => {{ const found = document.querySelector({selector!r}); found.scrollIntoView({{block: 'center'}});"
            " const at = found.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; })()"
        )
        return box[0], box[1]

    def look(self, *, width, height=900, is_dark=False):
        """Be a screen of a size, in light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self):
        """Return what is seen, a PNG of the whole page."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])
