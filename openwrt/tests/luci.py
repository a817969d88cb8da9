"""The LuCI page against two nodes that talk: luci.py WARREN NODE"""

import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
OPTIONS = ["--no-mdns", "--no-portmap", "--no-discovery", "--tcp-only", "--listen", "/ip4/127.0.0.1/tcp/0", "--room", "den", "--json"]


def start(warren, dir, name, more):
    node = subprocess.Popen([warren, "run", *OPTIONS, "--state-dir", f"{dir}/{name}", *more],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return node


def event(node, name):
    for line in node.stdout:
        found = json.loads(line)
        if found["event"] == name:
            return found
    raise SystemExit(f"a node ended without '{name}'")


def main():
    warren, node = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="warren-luci-") as dir:
        router = start(warren, dir, "router", ["--control", f"{dir}/control"])
        nodes = [router]
        try:
            addr = event(router, "listening")["addr"]
            nodes.append(start(warren, dir, "friend", ["--nick", "friend<b>", "--bootstrap", addr]))
            while event(router, "member_renamed")["nick"] != "friend<b>":
                pass
            done = subprocess.run([node, HERE / "luci.js", warren, f"{dir}/control"], timeout=60)
        finally:
            for each in nodes:
                each.kill()
                each.wait()
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
