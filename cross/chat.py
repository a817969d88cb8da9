#!/usr/bin/env python3
"""Lets two warrens chat: chat.py tcp|quic COMMAND... -- COMMAND...

Each command line starts a warren (an emulator may stand before it). The second dials the first over
127.0.0.1; then each sends a few lines to the room, and at the end each must have shown every line of the
other exactly once, with the right author. Exit code 0: so it was. Waits for events, never for time to pass;
ends what it started, and nothing else.
"""

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time

# Seconds for everything: an emulated 24KEc on a busy two-core machine needs about ten of them.
PATIENCE = 120
# Lines each way: more than one, since the first also finds out whether the mesh stands.
LINES = 3
ROOM = "smoke"
# By the name of the transport: where to listen, and the option that leaves the other one out.
TRANSPORTS = {
    "tcp": ("/ip4/127.0.0.1/tcp/0", "--tcp-only"),
    "quic": ("/ip4/127.0.0.1/udp/0/quic-v1", "--quic-only"),
}


class Fault(Exception):
    """Why the two do not chat, in one line."""


class Warren:
    def __init__(self, name, command, arguments, state_dir, deadline):
        self.name, self.deadline = name, deadline
        self.seen = []
        self.lines = queue.Queue()
        self.log = tempfile.TemporaryFile()
        command = command + ["run", "--no-mdns", "--no-portmap", "--json", "--room", ROOM, "--nick", name]
        command += ["--state-dir", state_dir]
        command += arguments
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
            )
        except OSError as error:
            raise Fault(f"cannot start {name} as '{' '.join(command)}': {error}") from error
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def next(self):
        """Returns the next event, or None when the program has closed its output."""
        try:
            line = self.lines.get(timeout=max(0, self.deadline - time.monotonic()))
        except queue.Empty:
            last = f"its last events are {self.seen[-3:]}"
            raise Fault(f"{self.name} had nothing to say within {PATIENCE} s; {last}") from None
        if line is None:
            return None
        try:
            event = json.loads(line)
        except ValueError:
            raise Fault(f"{self.name} printed no JSON: '{line.rstrip()}'") from None
        if not isinstance(event, dict):
            raise Fault(f"{self.name} printed no object: '{line.rstrip()}'")
        self.seen.append(event)
        return event

    def wait(self, what, fits):
        """Returns the first event, old or new, that fits."""
        for event in self.seen:
            if fits(event):
                return event
        while True:
            event = self.next()
            if event is None:
                code = self.process.wait()
                raise Fault(f"{self.name} ended with code {code} before {what}; {self.last_words()}")
            if fits(event):
                return event

    def tell(self, **command):
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Fault(f"{self.name} does not read commands: {error}; {self.last_words()}") from error

    def send(self, text):
        """Sends a line, again while nobody is in the mesh yet: no event tells when somebody is."""
        attempt = 0
        while True:
            attempt += 1
            mark = f"{text}#{attempt}"
            self.tell(cmd="send", room=ROOM, text=text, id=mark)
            answer = self.wait(f"an answer to '{text}'", lambda event: event.get("id") == mark)
            if answer.get("event") == "ok":
                return
            if answer.get("error") != "no_peers" or time.monotonic() > self.deadline:
                raise Fault(f"{self.name} refused to send '{text}': {answer}")
            time.sleep(0.2)

    def quit(self):
        """Ends the program as a user would and returns all that it ever printed."""
        self.tell(cmd="quit")
        while self.next() is not None:
            pass
        try:
            code = self.process.wait(timeout=max(1, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Fault(f"{self.name} closed its output and did not end") from None
        if code != 0:
            raise Fault(f"{self.name} ended with code {code}; {self.last_words()}")
        return self.seen

    def last_words(self):
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip().splitlines()
        return "its log ends with: " + " | ".join(words[-4:]) if words else "it logged nothing"

    def end(self):
        """Ends the program in any case."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def texts_of(name):
    return [f"{name} says {number}" for number in range(1, LINES + 1)]


def is_event(kind, **fields):
    fields["event"] = kind
    return lambda event: all(event.get(key) == value for key, value in fields.items())


def check(reader, events, author, peer_id):
    """Each line of the author is there once, and nothing else is."""
    shown = [event for event in events if event.get("event") == "message" and event.get("peerId") == peer_id]
    for text in texts_of(author):
        count = sum(event.get("text") == text for event in shown)
        if count != 1:
            raise Fault(f"{reader} showed '{text}' of {author} {count} times instead of once")
    if len(shown) != LINES:
        raise Fault(f"{reader} showed {len(shown)} messages of {author} instead of {LINES}")


def chat(transport, first, second, started):
    listen, only = TRANSPORTS[transport]
    deadline = time.monotonic() + PATIENCE
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="warren-smoke-") as state:
        arguments = ["--listen", listen, only]
        native = Warren("native", first, arguments, f"{state}/native", deadline)
        started.append(native)
        addr = native.wait("it listened", is_event("listening"))["addr"]
        cross = Warren("cross", second, arguments + ["--bootstrap", addr], f"{state}/cross", deadline)
        started.append(cross)

        ids = {node.name: node.wait("it started", is_event("started"))["peerId"] for node in started}
        pairs = [(native, cross), (cross, native)]
        for reader, author in pairs:
            joined = is_event("member_joined", room=ROOM, peerId=ids[author.name])
            reader.wait(f"{author.name} joined", joined)
        for line in range(LINES):
            for reader, author in pairs:
                text = texts_of(author.name)[line]
                author.send(text)
                message = is_event("message", room=ROOM, peerId=ids[author.name], text=text)
                reader.wait(f"'{text}' arrived", message)
        # By now anything shown twice has been printed, or will be before the output closes.
        printed = {node.name: node.quit() for node in started}
        for reader, author in pairs:
            check(reader.name, printed[reader.name], author.name, ids[author.name])
    seconds = time.monotonic() - begin
    print(f"chat over {transport}: {LINES} messages each way, each shown once, {seconds:.1f} s")


def main(words):
    if "--" not in words[2:-1] or words[0] not in TRANSPORTS:
        sys.exit("usage: chat.py tcp|quic COMMAND... -- COMMAND...")
    middle = words.index("--")
    started = []
    try:
        chat(words[0], words[1:middle], words[middle + 1:], started)
    except Fault as fault:
        sys.exit(f"chat.py: {fault}")
    finally:
        for node in started:
            node.end()


if __name__ == "__main__":
    main(sys.argv[1:])
