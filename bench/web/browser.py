"""Drives a headless Chromium by the WebDriver protocol, and nodes by their JSON lines. Standard library only."""
import base64
import json
import os
import queue
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 40  # s that no step needs
TAB, ENTER, SHIFT = "\ue004", "\ue007", "\ue008"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Failed(Exception):
    """Something is not as it must be."""


def until(what, look):
    """What `look` finds, when it finds something."""
    end = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"in vain: {what}")
        time.sleep(0.05)


class Driver:
    """A chromedriver, which ends with its sessions when this does."""

    def __init__(self, chromedriver, chromium):
        self.chromium = chromium
        self.process = subprocess.Popen(
            [chromedriver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.url = None
        for line in self.process.stdout:
            port = re.search(r"started successfully on port (\d+)", line)
            if port:
                self.url = f"http://127.0.0.1:{port[1]}"
                break
        if not self.url:
            raise Failed("chromedriver does not start")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def call(self, method, path, body=None):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            raise Failed(f"{path}: {json.load(e)['value']['message'].splitlines()[0]}") from e

    def end(self):
        self.process.terminate()
        self.process.wait()


class Tab:
    """A browser of its own with one page."""

    def __init__(self, driver):
        self.driver = driver
        options = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                   "--hide-scrollbars", "--no-proxy-server",
                   # Nothing leaves this machine; one name is made to lead here as an attacker would.
                   "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        always = {"browserName": "chrome", "goog:chromeOptions": {"binary": driver.chromium, "args": options},
                  "goog:loggingPrefs": {"browser": "ALL"}}
        session = driver.call("POST", "/session", {"capabilities": {"alwaysMatch": always}})
        self.path = "/session/" + session["sessionId"]

    def call(self, method, path, body=None):
        return self.driver.call(method, self.path + path, body)

    def go(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *args):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def cdp(self, cmd, **params):
        return self.call("POST", "/goog/cdp/execute", {"cmd": cmd, "params": params})

    def until(self, what, script, *args):
        return until(what, lambda: self.run(script, *args))

    def type(self, selector, text):
        element = self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.call("POST", f"/element/{element}/value", {"text": text})

    def click(self, selector):
        element = self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.call("POST", f"/element/{element}/click")

    def keys(self, text, shift=False):
        """Presses keys, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        if shift:
            actions = [{"type": "keyDown", "value": SHIFT}, *actions, {"type": "keyUp", "value": SHIFT}]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def connected(self):
        self.until("a connected page", "return document.querySelector('#link')?.dataset.state == 'on'"
                                       " && document.querySelector('#roomlist button') != null")

    def says(self, text):
        self.until(f"'{text}' on the page", "return [...document.querySelectorAll('#log .text')]"
                                            ".some(e => e.textContent == arguments[0])", text)

    def look(self, width, height, dark, is_phone=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, mobile=is_phone,
                 deviceScaleFactor=2 if is_phone else 1)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", "/screenshot")))

    def complaints(self):
        """What the browser found wrong with the page since the last time."""
        return [line["message"] for line in self.call("POST", "/se/log", {"type": "browser"})
                if line["level"] == "SEVERE"]

    def end(self):
        self.call("DELETE", "")


class Node:
    """A running node, and where its page is."""

    def __init__(self, warren, directory, name, *options, web="127.0.0.1:0"):
        os.makedirs(directory, exist_ok=True)
        self.log = os.path.join(directory, f"{name}-{time.monotonic_ns()}.log")
        words = [warren, "run", "--json", "-v", "--no-mdns", "--no-portmap", "--no-discovery", "--state-dir",
                 os.path.join(directory, name), "--nick", name, "--web", web, "--control", "off"]
        if "--listen" not in options:
            words += ["--listen", "/ip4/127.0.0.1/tcp/0"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                words + list(options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.events = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.peer = self.wait("started")["peerId"]
        self.addr = self.wait("listening")["addr"]
        self.url = until("the page's address", self.find_url)

    def read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def find_url(self):
        with open(self.log, encoding="utf-8") as log:
            found = re.search(r"the page is at (http://\S+)\n", log.read().replace(": whoever", "\n"))
        return found and found[1]

    def wait(self, name, **fields):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                event = self.events.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise Failed(f"no event {name} {fields}") from None
            if event["event"] == name and all(event.get(key) == value for key, value in fields.items()):
                return event

    def tell(self, cmd, **fields):
        """Gives a command that must succeed, and skips events until it is answered."""
        self.process.stdin.write(json.dumps({"cmd": cmd, "id": cmd, **fields}) + "\n")
        self.process.stdin.flush()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            event = self.events.get(timeout=PATIENCE)
            if event.get("id") == cmd:
                if event["event"] != "ok":
                    raise Failed(f"{cmd}: {event['message']}")
                return event
        raise Failed(f"no answer to {cmd}")

    def end(self):
        self.process.terminate()
        self.process.wait()


def find(*names):
    """The first of these programs that there is."""
    return next(filter(None, map(shutil.which, names)), None)
