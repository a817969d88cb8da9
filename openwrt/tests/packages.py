"""Packages taken apart again, member by member: packages.py DIR-OF-PACKAGES BINARY ARCH

The .apk reader here shares nothing with the writer but what doc/apk-v3.5 of apk-tools says.
"""

import gzip
import hashlib
import io
import pathlib
import re
import struct
import sys
import tarfile
import unittest
import zlib

FEED = pathlib.Path(__file__).resolve().parent.parent
DIR = BINARY = ARCH = None
# The program's, and the first package of it.
VERSION = re.search(r'^version = "(.*)"$', (FEED.parent / "Cargo.toml").read_text(), re.M)[1] + "-r1"

FILES = {
    "etc/config/warren": (0o600, "warren/files/warren.config"),
    "etc/hotplug.d/ntp/80-warren": (0o755, "warren/files/warren.ntp"),
    "etc/init.d/warren": (0o755, "warren/files/warren.init"),
    "usr/bin/warren": (0o755, None),
}
VIEWS = "htdocs/luci-static/resources/view/warren"
LUCI = {
    "usr/share/luci/menu.d/luci-app-warren.json": "root/usr/share/luci/menu.d/luci-app-warren.json",
    "usr/share/rpcd/acl.d/luci-app-warren.json": "root/usr/share/rpcd/acl.d/luci-app-warren.json",
    "www/luci-static/resources/view/warren/settings.js": f"{VIEWS}/settings.js",
    "www/luci-static/resources/view/warren/status.js": f"{VIEWS}/status.js",
}


def expected(package):
    if package.startswith("luci"):
        return {path: (0o644, (FEED / "luci-app-warren" / source).read_bytes()) for path, source in LUCI.items()}
    return {path: (mode, (FEED / source if source else BINARY).read_bytes()) for path, (mode, source) in FILES.items()}


def members(data):
    """Name to member and bytes, after what holds for each of them."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "root", "root"), member.name
            assert member.name == "." or member.name.startswith("./"), member.name
            assert member.isdir() or member.isfile(), member.name
            assert not member.isdir() or member.mode == 0o755, member.name
            found[member.name] = (member, archive.extractfile(member).read() if member.isfile() else None)
    return found


class Ipk(unittest.TestCase):
    def check(self, package, arch):
        data = (DIR / f"{package}_{VERSION}_{arch}.ipk").read_bytes()
        self.assertEqual(data[4:8], bytes(4), "no time of its own")
        outer = members(data)
        self.assertEqual([name for name in outer if name != "."], ["./debian-binary", "./data.tar.gz", "./control.tar.gz"])
        self.assertEqual(outer["./debian-binary"][1], b"2.0\n")
        files = {name[2:]: (member.mode, data) for name, (member, data) in members(outer["./data.tar.gz"][1]).items()
                 if data is not None}
        self.assertEqual(files, expected(package))
        control = members(outer["./control.tar.gz"][1])
        scripts = {name: member.mode for name, (member, data) in control.items() if data is not None}
        fields = dict(line.split(": ", 1) for line in control["./control"][1].decode().splitlines())
        self.assertEqual((fields["Package"], fields["Version"], fields["Architecture"]), (package, VERSION, arch))
        self.assertEqual(fields["License"], "MIT OR Apache-2.0")
        self.assertEqual(int(fields["Installed-Size"]), sum(len(data) for _, data in files.values()))
        self.assertTrue(set(fields) >= {"Maintainer", "Section", "Description"})
        return fields, scripts, control

    def test_warren(self):
        for package in packages():
            fields, scripts, control = self.check(package, ARCH)
            self.assertEqual(fields["Require-User"], "warren=855:warren=855")
            self.assertEqual(fields.get("Provides"), "warren" if package == "warren-minimal" else None)
            self.assertEqual(control["./conffiles"][1], b"/etc/config/warren\n/etc/warren/\n")
            self.assertEqual(scripts, {"./control": 0o644, "./conffiles": 0o644, "./postinst": 0o755, "./prerm": 0o755})
            self.assertIn(b'\ndefault_postinst "$0" "$@"\n', control["./postinst"][1])
            self.assertIn(b'\ndefault_prerm "$0" "$@"\n', control["./prerm"][1])

    def test_the_page(self):
        fields, scripts, _ = self.check("luci-app-warren", "all")
        self.assertEqual(fields["Depends"], "luci-base, warren")
        self.assertNotIn("./conffiles", scripts)


class Adb:
    """A reader of apk-tools' databases."""

    def __init__(self, data):
        assert data[:4] == b"ADBd"
        plain = zlib.decompress(data[4:], -15)
        assert plain[:8] == b"ADB.pckg", plain[:8]
        self.data_blocks, at, self.kinds = {}, 8, []
        while at < len(plain):
            (head,) = struct.unpack_from("<I", plain, at)
            kind, size = head >> 30, head & (1 << 30) - 1
            payload = plain[at + 4:at + size]
            self.kinds.append(kind)
            if kind == 0:
                self.db = payload
            elif kind == 2:
                self.data_blocks[struct.unpack_from("<II", payload)] = payload[8:]
            end = at + size
            at = (end + 7) // 8 * 8
            assert not any(plain[end:at]), "padding"
        assert at == len(plain) and self.kinds[0] == 0 and set(self.kinds[1:]) <= {2}
        assert self.db[:4] == bytes(4)

    def value(self, value):
        kind, rest = value >> 28, value & (1 << 28) - 1
        if value == 0:
            return None
        if kind == 1:
            return rest
        if kind == 2:
            assert rest % 4 == 0
            return struct.unpack_from("<I", self.db, rest)[0]
        if kind in (8, 9, 10):
            width, form = {8: (1, "<B"), 9: (2, "<H"), 10: (4, "<I")}[kind]
            assert rest % width == 0
            (length,) = struct.unpack_from(form, self.db, rest)
            return self.db[rest + width:rest + width + length]
        assert kind in (13, 14) and rest % 4 == 0, hex(value)
        (count,) = struct.unpack_from("<I", self.db, rest)
        assert rest + 4 * count <= len(self.db)
        return [self.value(slot) for slot in struct.unpack_from(f"<{count - 1}I", self.db, rest + 4)]

    def root(self):
        return self.value(struct.unpack_from("<I", self.db, 4)[0])


class Apk(unittest.TestCase):
    def check(self, package, arch):
        adb = Adb((DIR / f"{package}_{VERSION}_{'all' if arch == 'noarch' else arch}.apk").read_bytes())
        info, paths, scripts = (adb.root() + [None] * 5)[:3]
        info += [None] * (21 - len(info))
        name, version, unique, description, its_arch, licence, origin, maintainer = info[:8]
        self.assertEqual((name, version, its_arch, licence, origin),
                         (package.encode(), VERSION.encode(), arch.encode(), b"MIT OR Apache-2.0", b"warren"))
        at = adb.db.index(unique)
        self.assertEqual(unique, hashlib.sha256(adb.db[:at] + bytes(20) + adb.db[at + 20:]).digest()[:20])
        files = {}
        names = [path[0] for path in paths]
        self.assertEqual(names, [None] + sorted(names[1:]), "the root, and what is in it")
        for number, (directory, acl, *inside) in enumerate(paths, 1):
            self.assertEqual(acl, [0o755, b"root", b"root"])
            inside = inside[0] if inside else []
            self.assertEqual([file[0] for file in inside], sorted(file[0] for file in inside))
            for index, (file, acl, size, mtime, digest) in enumerate(inside, 1):
                data = adb.data_blocks.pop((number, index), b"")
                self.assertEqual((len(data), hashlib.sha256(data).digest()), (size or 0, digest))
                self.assertEqual(acl[1:], [b"root", b"root"])
                files[f"{directory.decode()}/{file.decode()}"] = (acl[0], data)
        self.assertEqual(adb.data_blocks, {}, "data of no file")
        notes = {path: data for path, (_, data) in files.items() if path.startswith("lib/apk/packages/")}
        self.assertEqual({path: file for path, file in files.items() if path not in notes}, expected(package))
        listed = notes[f"lib/apk/packages/{package}.list"].decode().split()
        self.assertEqual(set(listed), {f"/{path}" for path in files} - {f"/lib/apk/packages/{package}.list"})
        self.assertEqual(info[11], sum(len(data) for _, data in files.values()))
        named = dict(zip("trigger pre-install post-install pre-deinstall post-deinstall pre-upgrade post-upgrade".split(), scripts))
        self.assertTrue(named["post-install"].endswith(b"add_group_and_user\ndefault_postinst\n"))
        self.assertIn(f'pkgname="{package}"'.encode(), named["pre-deinstall"])
        self.assertIn(b"PKG_UPGRADE=1", named["post-upgrade"])
        return info, notes

    def test_warren(self):
        for package in packages():
            info, notes = self.check(package, ARCH)
            note = lambda end: notes[f"lib/apk/packages/{package}.{end}"].decode()
            self.assertEqual(note("rusers"), "warren=855:warren=855\n")
            self.assertEqual(note("conffiles"), "/etc/config/warren\n/etc/warren/\n")
            digest = hashlib.sha256((FEED / "warren/files/warren.config").read_bytes()).hexdigest()
            self.assertEqual(note("conffiles_static"), f"/etc/config/warren {digest}\n")

    def test_the_page(self):
        info, _ = self.check("luci-app-warren", "noarch")
        self.assertEqual(info[14], [[b"luci-base"], [b"warren"]])


def packages():
    found = sorted({path.name.split("_")[0] for path in DIR.glob(f"warren*_{ARCH}.ipk")})
    assert found, f"no package for {ARCH} in {DIR}"
    return found


if __name__ == "__main__":
    ARCH, BINARY, DIR = sys.argv.pop(), pathlib.Path(sys.argv.pop()), pathlib.Path(sys.argv.pop())
    unittest.main(verbosity=1)
