"""Chromium, driven over its DevTools pipe: real keys, sizes, dark, print; no other package."""

import base64
import json
import os
import shutil
import subprocess
import time

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
]  # fmt: skip
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40, "ArrowRight": 39}


class Browser:
    """One tab."""

    def __init__(self, profile):
        theirs, self.to = os.pipe()
        self.back, ours = os.pipe()

        def third_and_fourth():  # where Chromium reads and writes
            os.dup2(os.dup(theirs), 3), os.dup2(os.dup(ours), 4)

        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, close_fds=False, preexec_fn=third_and_fourth, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs), os.close(ours)
        self.sent, self.session, self.events, self.rest = 0, None, [], b""
        (target,) = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log"):
            self.call(f"{part}.enable")
        self.size(1280, 800)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.to), os.close(self.back)

    def call(self, method, **parameters):
        """What a command of the DevTools protocol answers; events on the way are kept."""
        self.sent += 1
        told = {"id": self.sent, "method": method, "params": parameters}
        os.write(self.to, json.dumps(told | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self.sent:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def _read(self):
        while b"\0" not in self.rest:
            self.rest += os.read(self.back, 1 << 20)
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, page, watched=True):
        """Show a file; returns seconds until it is loaded, its script has run and two frames were drawn.

        Args:
            watched: whether `requests` are told, of which thousands take seconds.
        """
        self.events.clear()
        self.call(f"Network.{'enable' if watched else 'disable'}")
        before = time.perf_counter()
        self.call("Page.navigate", url=page.as_uri())
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self._read())
        self("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.perf_counter() - before

    def __call__(self, expression):
        """The value of a JavaScript expression, awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    @property
    def requests(self):
        """Addresses that the page asked for beyond its own file."""
        asked = [each["params"] for each in self.events if each.get("method") == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in asked if not each["request"]["url"].startswith(("data:", "file:"))]

    @property
    def complaints(self):
        """Exceptions, and what the console says."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [each["params"] for each in self.events if each.get("method") in kinds]

    def press(self, *keys):
        for key in keys:
            code = KEYS.get(key, ord(key[0].upper()))
            text = {"text": {"Enter": "\r"}.get(key, key)} if len(key) == 1 or key == "Enter" else {}
            same = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **same, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def size(self, width, height, phone=False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def looks(self, scheme="light", media=""):
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def picture(self, path, whole=False):
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))
