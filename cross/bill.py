#!/usr/bin/env python3
"""What is in a warren: the crates that a bundle links for a target.

bill.py cyclonedx TARGET BUNDLE   a bill of materials, CycloneDX 1.5 JSON
bill.py libraries TARGET BUNDLE   for people: name, version and licence of each, then the texts of all licences

BUNDLE is features as cargo wants them, or `full`. The output depends on the checkout and SOURCE_DATE_EPOCH (seconds since
1970; the time of the last commit without it) alone. Needs cargo; run it anywhere.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTICES = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)", re.IGNORECASE)


def cargo(*words):
    return subprocess.check_output(["cargo", *words], cwd=ROOT, text=True)


class Crates:
    """The crates in the binary, warren itself first, then by name and version."""

    def __init__(self, target, bundle):
        features = [] if bundle == "full" else ["--no-default-features", "--features", bundle]
        # Macros run in the compiler and are not in the binary.
        tree = cargo("tree", "--locked", "-p", "warren", "-e", "normal,no-proc-macro", "--target", target,
                     "--prefix", "none", "-f", "{p}", *features)
        linked = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
        metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
        chosen = [p for p in metadata["packages"] if (p["name"], "v" + p["version"]) in linked]
        self.packages = sorted(chosen, key=lambda p: (p["name"] != "warren", p["name"], p["version"]))
        ids = {p["id"] for p in self.packages}
        self.edges = {
            node["id"]: [d["pkg"] for d in node["deps"]
                         if d["pkg"] in ids and any(k["kind"] is None for k in d["dep_kinds"])]
            for node in metadata["resolve"]["nodes"] if node["id"] in ids
        }
        with open(ROOT / "Cargo.lock", "rb") as lock:
            self.hashes = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(crates, package):
    found = {"type": "library", "bom-ref": purl(package), "name": package["name"], "version": package["version"],
             "purl": purl(package)}
    if package["name"] == "warren":
        found["type"] = "application"
    if package["description"]:
        found["description"] = " ".join(package["description"].split())
    if package["license"]:
        # Old crates write MIT/Apache-2.0 and mean OR.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := crates.hashes.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def cyclonedx(crates, target, bundle):
    own, *others = crates.packages
    by_id = {p["id"]: p for p in crates.packages}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch())),
            "component": component(crates, own),
            "properties": [{"name": "warren:target", "value": target}, {"name": "warren:bundle", "value": bundle}],
        },
        "components": [component(crates, p) for p in others],
        "dependencies": [
            {"ref": purl(p), "dependsOn": sorted({purl(by_id[d]) for d in crates.edges[p["id"]]})}
            for p in crates.packages
        ],
    }
    # The same contents are the same bill.
    digest = hashlib.sha256(json.dumps(bill, sort_keys=True).encode()).digest()
    bill["serialNumber"] = uuid.UUID(bytes=digest[:16], version=4).urn
    return json.dumps(bill, indent=1, sort_keys=True) + "\n"


def libraries(crates):
    """A text is printed once, under the names of all who have it."""
    lines, texts = ["Libraries in this program, and their licences:", ""], {}
    for package in crates.packages[1:]:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {package['license']}")
        directory = pathlib.Path(package["manifest_path"]).parent
        for path in sorted(directory.iterdir()):
            if path.is_file() and NOTICES.match(path.name) and path.suffix not in (".rs", ".html"):
                text = "\n".join(line.rstrip() for line in path.read_text(errors="replace").strip().splitlines())
                texts.setdefault(text, []).append(name)
    for text, names in sorted(texts.items(), key=lambda item: item[1]):
        lines += ["", "-" * 78, *names, "", text]
    return "\n".join(lines) + "\n"


def epoch():
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT))


def main(words):
    if len(words) != 3 or words[0] not in ("cyclonedx", "libraries"):
        sys.exit("usage: bill.py cyclonedx|libraries TARGET BUNDLE")
    crates = Crates(words[1], words[2])
    sys.stdout.write(cyclonedx(crates, words[1], words[2]) if words[0] == "cyclonedx" else libraries(crates))


if __name__ == "__main__":
    main(sys.argv[1:])
