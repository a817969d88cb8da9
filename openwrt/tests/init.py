"""The init script under busybox ash, with warren itself: init.py WARREN

openwrt.sh says what stands for OpenWrt. The shell has busybox' tools and nothing else.
"""

import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
FEED = HERE.parent
INIT = FEED / "warren/files/warren.init"
WARREN = None
BUSYBOX = shutil.which("busybox")
# Its tools by their names, each a link to it.
TOOLS = tempfile.TemporaryDirectory(prefix="warren-busybox-")

PEER = "16Uiu2HAmGHAcZdJTbyAoZARkTDFKZbzuEqFnfqX6nNpvJZoFuBmd"
ADDR = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"

ALWAYS = ["state-dir", "control", "log-format", "no-stdin"]

# Of /etc/config/warren, what comes of it in the file of a node that runs, or of a relay.
RUN = [
    ("option nick 'gate house'", ["nick gate house"]),
    ("list room 'den'\n\tlist room 'attic'", ["room den", "room attic"]),
    (f"list bootstrap '{ADDR}'", [f"bootstrap {ADDR}"]),
    (f"list relay '{ADDR}'", [f"relay {ADDR}"]),
    ("list stun_server 'stun.example.net:3478'", ["stun-server stun.example.net:3478"]),
    ("list listen '/ip4/127.0.0.1/tcp/0'", ["listen /ip4/127.0.0.1/tcp/0"]),
    ("list external '/ip4/192.0.2.7/tcp/4001'", ["external /ip4/192.0.2.7/tcp/4001"]),
    ("list lan '10.42.0.0/16'", ["lan 10.42.0.0/16"]),
    ("option dht 'off'", ["dht off"]),
    ("option discovery '0'", ["no-discovery"]),
    ("option mdns '0'", ["no-mdns"]),
    ("option portmap 'off'", ["no-portmap"]),
    ("option ipv6 'false'", ["no-ipv6"]),
    ("option transport 'tcp'", ["tcp-only"]),
    ("option transport 'quic'", ["quic-only"]),
    ("option transport 'all'", []),
    ("option plain '1'", ["plain"]),
    ("option udp_port '4001'", ["udp-port 4001"]),
    ("option metrics '127.0.0.1:9464'", ["metrics 127.0.0.1:9464"]),
    ("option verbose '2'", ["verbose", "verbose"]),
    ("option discovery '1'\n\toption mdns '1'\n\toption portmap '1'\n\toption ipv6 '1'\n\toption plain '0'", []),
]
RELAY = [
    ("option port '4002'", ["port 4002"]),
    ("option max_reservations '10'", ["max-reservations 10"]),
    ("option max_circuits '10'", ["max-circuits 10"]),
    ("option max_circuits_per_peer '2'", ["max-circuits-per-peer 2"]),
    ("option circuit_minutes '30'", ["circuit-minutes 30"]),
    ("option circuit_mib '8'", ["circuit-mib 8"]),
    ("list room 'den'\n\toption nick 'gate'", ["nick gate", "room den"]),
]
# Options that become no line, and why.
NO_LINE = {
    "enabled": "whether there is a service", "mode": "run or relay", "open_port": "a rule of the firewall",
    "memory": "a limit of procd", "interface": "triggers of procd", "web": "not in every warren: has a test of its own",
}
# Options of warren that a router's owner does not get, and why.
LEFT_OUT = {
    "identity": "it is in /etc/warren", "identity-out": "for moving keys", "secret-key-seed": "for tests",
    "publish": "a router says nothing by itself", "json": "nobody reads its output", "config": "the file itself",
    "check": "for the script", "disable-udp": "the same as tcp-only", "ipv6": "is so anyway", "help": "",
}


class Router:
    """A root directory, and the script in it."""

    def __init__(self, prog=None, jail="/nonexistent"):
        self.dir = tempfile.TemporaryDirectory(prefix="warren-openwrt-")
        self.root = pathlib.Path(self.dir.name)
        self.prog, self.jail, self.running = str(prog or WARREN), jail, "0"
        self.conf = self.root / "var/run/warren/warren.conf"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.dir.cleanup()

    def uci(self, text):
        (self.root / "uci").write_text(f"config warren 'main'\n\t{text}\n")

    def call(self, function="start_service"):
        """The calls of OpenWrt's functions, as lists of words."""
        record = self.root / "record"
        record.write_text("")
        env = {"PATH": TOOLS.name, "ROOT": str(self.root), "UCI": str(self.root / "uci"),
               "RECORD": str(record), "PROG": self.prog, "JAIL": str(self.jail), "RUNNING": self.running}
        done = subprocess.run([BUSYBOX, "ash", HERE / "openwrt.sh", INIT, function], env=env, cwd=self.root,
                              capture_output=True, text=True, timeout=120)
        self.stderr, self.code = done.stderr, done.returncode
        return [line.split("\t")[:-1] for line in record.read_text().splitlines()]

    def start(self, text, enabled=True):
        self.uci(("option enabled '1'\n\t" if enabled else "") + text)
        return self.call()

    def lines(self):
        """Of the file, without those that are always there."""
        return [line for line in self.conf.read_text().splitlines() if line.split()[0] not in ALWAYS]


def logs(calls):
    return [call[-1] for call in calls if call[0] == "logger"]


def params(calls):
    return {call[1]: call[2:] for call in calls if call[0] == "procd_set_param"}


def firewall(calls):
    return {call[1]: call[2] for call in calls if call[0] == "json_add_string"}


class Options(unittest.TestCase):
    def test_each_option_becomes_its_lines_and_warren_takes_them(self):
        for mode, table in (("run", RUN), ("relay", RELAY)):
            for text, lines in table:
                with self.subTest(text), Router() as router:
                    calls = router.start(f"option mode '{mode}'\n\t{text}")
                    self.assertEqual(router.stderr, "")
                    self.assertEqual(logs(calls), [])
                    self.assertEqual(router.lines(), lines)
                    self.assertEqual(params(calls)["command"], [str(WARREN), mode, "--config", str(router.conf)])

    def test_the_service_has_its_places_and_is_quiet(self):
        with Router() as router:
            router.start("option nick 'x'")
            root = router.root
            self.assertEqual(router.conf.read_text().splitlines()[:4],
                             [f"state-dir {root}/etc/warren", f"control {root}/var/run/warren/control",
                              "log-format plain", "no-stdin"])
            mode = lambda path: path.stat().st_mode & 0o777
            self.assertEqual(mode(root / "etc/warren"), 0o700)
            self.assertEqual(mode(root / "var/run/warren"), 0o750)
            self.assertEqual(mode(router.conf), 0o640)

    def test_every_option_of_the_file_is_in_the_table_and_on_the_page(self):
        file = (FEED / "warren/files/warren.config").read_text()
        there = set(re.findall(r"^\s*#?(?:option|list) (\w+) ", file, re.M))
        tested = {name for text, _ in RUN + RELAY for name in re.findall(r"(?:option|list) (\w+)", text)}
        self.assertEqual(there, tested | set(NO_LINE))
        script = INIT.read_text()
        read = set(re.findall(r"(?:put|put_each|put_switch|put_port|read_number) ([a-z0-9_]+) ", script))
        read |= set(re.findall(r"(?:config_get|config_get_bool) \w+ main ([a-z0-9_]+)", script))
        read |= set(re.findall(r"config_list_foreach main ([a-z0-9_]+)", script))
        self.assertEqual(read - {"$1"}, there, "what the script reads is what the file explains")
        page = (FEED / "luci-app-warren/htdocs/luci-static/resources/view/warren/settings.js").read_text()
        self.assertEqual(set(re.findall(r"\[ form\.\w+, '(\w+)'", page)), there)

    def test_every_option_of_warren_is_rendered_or_left_out_by_name(self):
        rendered = {line.split()[0] for _, lines in RUN + RELAY for line in lines} | set(ALWAYS) | {"web"}
        for mode in ("run", "relay"):
            text = subprocess.run([WARREN, mode, "--help"], capture_output=True, text=True, check=True).stdout
            options = set(re.findall(r"^\s+(?:-\w, )?--([a-z0-9-]+)", text, re.M))
            self.assertGreater(len(options), 20, text)
            self.assertEqual(options - rendered - set(LEFT_OUT), set(), "render it, or say why not")
        live = re.search(r"LIVE: \[&str; \d+\] = \[(.*?)\]", (FEED.parent / "src/config/reload.rs").read_text(), re.S)
        self.assertEqual(set(re.findall(r'"([a-z-]+)"', live[1])),
                         set(re.search(r"^LIVE='(.*)'", INIT.read_text(), re.M)[1].split("|")))

    def test_what_is_in_the_package_starts_nothing_until_it_is_enabled(self):
        with Router() as router:
            default = (FEED / "warren/files/warren.config").read_text()
            (router.root / "uci").write_text(default)
            self.assertEqual(router.call(), [])
            self.assertFalse(router.conf.exists())
            (router.root / "uci").write_text(default.replace("enabled '0'", "enabled '1'"))
            calls = router.call()
            self.assertEqual((logs(calls), router.lines()), ([], ["room lobby"]))


class Bad(unittest.TestCase):
    def starts_with_the_rest(self, text, part, mode="run"):
        with Router() as router:
            calls = router.start(f"option mode '{mode}'\n\tlist room 'kept'\n\t{text}")
            self.assertIn(["procd_close_instance"], calls)
            self.assertEqual(len(logs(calls)), 1, calls)
            self.assertIn(part, logs(calls)[0])
            lines = [line for line in router.lines() if line != "room kept"]
            self.assertIn("room kept", router.lines())
            return lines

    def test_a_bad_value_is_named_and_costs_itself_only(self):
        for text, part in [
            ("option nick '" + "x" * 33 + "'", "x" * 33), ("list room '" + "r" * 65 + "'", "r" * 65),
            ("list bootstrap 'nowhere'", "nowhere"), ("list bootstrap '/ip4/0.0.0.0/tcp/1'", "0.0.0.0"),
            ("list relay '/ip4/192.0.2.7/tcp/4001'", "192.0.2.7"), ("list stun_server 'a b'", "a b"),
            ("list listen '/ip4/300.0.0.1/tcp/0'", "300.0.0.1"), ("list external 'here'", "here"),
            ("list lan '10.0.0.0/40'", "/40"), ("option dht 'some'", "some"), ("option mdns 'maybe'", "maybe"),
            ("option transport 'udp'", "udp"), ("option udp_port '70000'", "70000"), ("option udp_port '-1'", "-1"),
            ("option udp_port '99999999999999999999'", "9999"), ("option verbose '9'", "9"),
            ("option metrics 'localhost'", "localhost"), ("option memory 'much'", "much"),
            ("option plain '2'", "'2'"), ("option transport 'tcp'\n\toption udp_port '4001'", "udp_port"),
            ("list listen '/ip4/127.0.0.1/tcp/0'\n\toption udp_port '4001'", "listen says"),
        ]:
            with self.subTest(text):
                lines = self.starts_with_the_rest(text, part)
                self.assertLessEqual(set(lines), {"tcp-only", "listen /ip4/127.0.0.1/tcp/0"})
        for text in ("option max_circuits '0'", "option circuit_mib '-5'", "option port '65536'", "option dht 'public'"):
            with self.subTest(text):
                self.assertEqual(self.starts_with_the_rest(text, text.split("'")[1], "relay"), [])

    def test_a_bad_mode_is_run(self):
        with Router() as router:
            calls = router.start("option mode 'server; reboot'")
            self.assertEqual(params(calls)["command"][1], "run")
            self.assertIn("server; reboot", logs(calls)[0])

    def test_bad_and_good_values_of_one_list_are_told_apart(self):
        with Router() as router:
            calls = router.start(f"list bootstrap 'x'\n\tlist bootstrap '{ADDR}'\n\tlist bootstrap 'y'")
            self.assertEqual(router.lines(), [f"bootstrap {ADDR}"])
            self.assertEqual(len(logs(calls)), 2)

    def test_too_many_of_one_kind_are_left_out(self):
        with Router() as router:
            calls = router.start("\n\t".join(f"list room 'r{n}'" for n in range(70)))
            self.assertEqual(len(router.lines()), 64)
            self.assertEqual(len(logs(calls)), 6)

    def test_a_value_is_never_a_command(self):
        for value in ["$(touch owned)", "`touch owned`", "x; touch owned", "x && touch owned", "x | touch owned",
                      "'; touch owned; '", '"; touch owned; "', "x\ncontrol /tmp/x", "x\n; touch owned", "*", "$HOME",
                      "-n", "--config /etc/shadow", "%s%n", "\\", "\\n", "${IFS}touch${IFS}owned", "a\tb", "\x1b[2J"]:
            quoted = value.replace("'", "'\\''")
            names = [f"option {name} '{quoted}'" for name in
                     ("nick", "dht", "mdns", "udp_port", "transport", "metrics", "verbose", "memory", "mode", "open_port")]
            names += [f"list {name} '{quoted}'" for name in ("room", "bootstrap", "lan", "listen", "interface")]
            with self.subTest(value), Router() as router:
                calls = router.start("\n\t".join(names))
                triggers = router.call("service_triggers")
                self.assertEqual(list(router.root.rglob("owned")), [])
                self.assertIn(["procd_close_instance"], calls)
                for line in router.lines():
                    self.assertIn(line, [f"room {value}", f"nick {value}"], "whole, or not at all")
                self.assertEqual([call for call in triggers if call[0] == "procd_add_interface_trigger"], [])
                self.assertFalse(any("\x1b" in word for call in calls + triggers for word in call))


class Service(unittest.TestCase):
    def test_procd_is_told_how_to_run_it(self):
        with Router(jail="/bin/true") as router:
            calls = router.start("option memory '32'")
            told = params(calls)
            self.assertEqual(told["user"], ["warren"])
            self.assertEqual(told["respawn"], ["3600", "15", "0"], "for ever")
            self.assertEqual(told["reload_signal"], ["HUP"])
            self.assertEqual(told["limits"], ["core=0 0", "nofile=1024 1024", f"data={32 << 20} {32 << 20}"])
            self.assertEqual((told["stdout"], told["stderr"], told["no_new_privs"]), (["0"], ["1"], ["1"]))
            self.assertIn(["procd_add_jail", "warren", "procfs", "log"], calls)
            root = router.root
            self.assertIn(["procd_add_jail_mount_rw", f"{root}/etc/warren", f"{root}/var/run/warren"], calls)
            order = [call[0] for call in calls]
            self.assertLess(order.index("procd_open_instance"), order.index("procd_set_param"))
            self.assertEqual(order[-1], "procd_close_instance")
        with Router() as router:
            self.assertNotIn("procd_add_jail", [call[0] for call in router.start("")])

    def test_a_port_is_opened_where_that_is_wanted_and_known(self):
        for text, rule in [
            ("option mode 'relay'\n\toption open_port '1'", ("tcp udp", "4001")),
            ("option mode 'relay'\n\toption open_port '1'\n\toption port '4002'", ("tcp udp", "4002")),
            ("option open_port '1'\n\toption udp_port '4003'", ("udp", "4003")),
            ("option udp_port '4003'", None),
        ]:
            with self.subTest(text), Router() as router:
                rules = firewall(router.start(text))
                self.assertEqual((rules.get("proto"), rules.get("dest_port")) if rules else None, rule)
        with Router() as router:
            calls = router.start("option open_port '1'")
            self.assertEqual((firewall(calls), len(logs(calls))), ({}, 1))

    def test_triggers(self):
        with Router() as router:
            router.uci("list interface 'wan'\n\tlist interface 'wan6'")
            calls = router.call("service_triggers")
            self.assertEqual(calls, [["procd_add_reload_trigger", "warren"]] + [
                ["procd_add_interface_trigger", "interface.*.up", name, "/etc/init.d/warren", "reload"]
                for name in ("wan", "wan6")])

    def test_reload_keeps_it_running_where_it_can(self):
        with Router() as router:
            router.start("list room 'a'")
            router.running = "1"
            for text, call in [
                ("list room 'b'", ["procd_send_signal", "warren", "*", "HUP"]),
                ("list room 'b'\n\toption nick 'x'\n\toption verbose '2'", ["procd_send_signal", "warren", "*", "HUP"]),
                ("option mdns '0'", ["restart"]), ("option mode 'relay'", ["restart"]), ("option memory '99'", ["restart"]),
                ("option udp_port '5000'", ["restart"]), ("list room 'a'\n\toption enabled '0'", ["stop"]),
            ]:
                with self.subTest(text):
                    router.uci("option enabled '1'\n\t" + text)
                    calls = router.call("reload_service")
                    self.assertEqual([c for c in calls if c[0] in ("procd_send_signal", "restart", "stop", "start")], [call])
            router.running = "0"
            router.uci("option enabled '1'")
            self.assertEqual(router.call("reload_service"), [["start"]])

    def test_a_warren_that_cannot_check_gets_all_of_it(self):
        with tempfile.TemporaryDirectory() as dir:
            old = pathlib.Path(dir) / "warren"
            old.write_text("#!/bin/sh\necho \"warren: Unrecognized argument: --check; see 'warren run --help'\" >&2\nexit 2\n")
            old.chmod(0o755)
            with Router(prog=old) as router:
                calls = router.start("option web '127.0.0.1:8464'\n\tlist room 'den'")
                self.assertEqual((router.lines(), logs(calls)), (["room den", "web 127.0.0.1:8464"], []))

    def test_an_option_that_this_warren_does_not_have_is_left_out(self):
        known = "--web" in subprocess.run([WARREN, "run", "--help"], capture_output=True, text=True).stdout
        with Router() as router:
            calls = router.start("option web '127.0.0.1:8464'\n\tlist room 'den'")
            self.assertEqual(router.lines(), ["room den"] + (["web 127.0.0.1:8464"] if known else []))
            self.assertEqual(len(logs(calls)), 0 if known else 1)

    def test_the_ntp_hook_reloads_once_after_boot_and_at_each_step(self):
        with tempfile.TemporaryDirectory() as dir:
            root = pathlib.Path(dir)
            (root / "run").mkdir()
            (root / "init").write_text(f"#!/bin/sh\necho $1 >>{root}/calls\n")
            (root / "init").chmod(0o755)
            hook = (FEED / "warren/files/warren.ntp").read_text()
            hook = hook.replace("/var/run/warren", f"{root}/run").replace("/etc/init.d/warren", f"{root}/init")
            (root / "hook").write_text(hook)
            for action in ("stratum", "stratum", "periodic", "unsync", "step"):
                subprocess.run([BUSYBOX, "ash", root / "hook"], env={"ACTION": action, "PATH": TOOLS.name}, check=True)
            self.assertEqual((root / "calls").read_text().split(), ["running", "reload"] * 2)


class Real(unittest.TestCase):
    def test_a_node_runs_with_it_and_takes_a_room_over_without_ending(self):
        quiet = "option mdns '0'\n\toption portmap '0'\n\toption discovery '0'\n\tlist listen '/ip4/127.0.0.1/tcp/0'"
        with Router() as router:
            calls = router.start(f"{quiet}\n\tlist room 'first'")
            node = subprocess.Popen(params(calls)["command"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                control = router.root / "var/run/warren/control"
                ask = lambda: subprocess.run([WARREN, "ctl", "--control", control, "rooms"], capture_output=True, text=True).stdout
                self.until(lambda: "first" in ask())
                router.running = "1"
                router.uci(f"option enabled '1'\n\t{quiet}\n\tlist room 'first'\n\tlist room 'second'")
                self.assertIn(["procd_send_signal", "warren", "*", "HUP"], router.call("reload_service"))
                node.send_signal(signal.SIGHUP)
                self.until(lambda: "second" in ask())
                self.assertIsNone(node.poll(), "the same process")
                node.terminate()
                self.assertEqual(node.wait(10), 0)
                self.assertEqual(sorted(path.name for path in (router.root / "etc/warren").iterdir()),
                                 ["clock", "identity.key"])
            finally:
                node.kill()
                node.wait()

    def until(self, done):
        deadline = time.monotonic() + 30
        while not done():
            self.assertLess(time.monotonic(), deadline, "in vain")
            time.sleep(0.05)


if __name__ == "__main__":
    subprocess.run([BUSYBOX, "--install", "-s", TOOLS.name], check=True)
    WARREN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=1)
