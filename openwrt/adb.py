"""Packages of apk-tools 3, which OpenWrt has from 25.12 on. Without a signature.

The format is ADB, as doc/apk-v3.5 and the headers of apk-tools describe it. All numbers are little-endian:

    file    "ADBd", then raw deflate of: "ADB." schema block*
    block   u32 type << 30 | size (these 4 bytes included), payload, zeros up to a multiple of 8
            type 0: the database; type 2: u32 path, u32 file (numbers from 1), and the bytes of that file
    database  u8 0, u8 0, u16 0, u32 root; behind it what the values point at, by their offset in the database
    value   u32 type << 28 | number or offset
            1 number; 2 -> u32; 8, 9, 10 -> length in 1, 2 or 4 bytes, bytes; 13 array, 14 object -> u32 count, values,
            the count being one of them; 0 is nothing. Empty ends of objects are cut off.
"""

import hashlib
import struct

import zopfli.zlib

# zopfli takes 1 s a MB for these; 15 of them, its own choice, would save 200 bytes more.
ROUNDS = 3

SCHEMA_PACKAGE = b"pckg"
BLOCK_DATABASE, BLOCK_DATA = 0, 2
INT, INT_32, BLOB_8, BLOB_16, BLOB_32, ARRAY, OBJECT = 1, 2, 8, 9, 10, 13, 14

# Slots of objects, from 1 on, by apk_adb.h.
INFO = ("name version hashes description arch license origin maintainer url commit build_time installed_size file_size"
        " priority depends provides replaces install_if recommends layer").split()
PACKAGE = "info paths scripts triggers".split()
SCRIPTS = "trigger pre-install post-install pre-deinstall post-deinstall pre-upgrade post-upgrade".split()
FILE = "name acl size mtime hashes target".split()
DIR = "name acl files".split()
ACL = "mode user group xattrs".split()
DEPENDENCY = "name version match".split()


class Database:
    """Writes values, each that occurs twice only once."""

    def __init__(self):
        self.bytes = bytearray(8)
        self.known = {}

    def put(self, data, align, kind):
        if (data, kind) not in self.known:
            self.bytes += bytes(-len(self.bytes) % align)
            self.known[data, kind] = len(self.bytes)
            self.bytes += data
        return kind << 28 | self.known[data, kind]

    def number(self, number):
        if number < 1 << 28:
            return INT << 28 | number
        return self.put(struct.pack("<I", number), 4, INT_32)

    def blob(self, data):
        data = data.encode() if isinstance(data, str) else data
        if not data:
            return 0
        if len(data) < 1 << 8:
            return self.put(struct.pack("<B", len(data)) + data, 1, BLOB_8)
        if len(data) < 1 << 16:
            return self.put(struct.pack("<H", len(data)) + data, 2, BLOB_16)
        return self.put(struct.pack("<I", len(data)) + data, 4, BLOB_32)

    def slots(self, values, kind):
        while values and values[-1] == 0:
            values.pop()
        if not values:
            return 0
        return self.put(struct.pack(f"<{len(values) + 1}I", len(values) + 1, *values), 4, kind)

    def array(self, values):
        return self.slots(list(values), ARRAY)

    def object(self, names, **values):
        assert set(values) <= set(names), values.keys()
        return self.slots([values.get(name, 0) for name in names], OBJECT)


def block(kind, payload):
    data = struct.pack("<I", kind << 30 | 4 + len(payload)) + payload
    return data + bytes(-len(data) % 8)


def package(info, scripts, entries, time):
    """The bytes of a package. `info` has strings, `entries` a path (without a slash in front), a mode and bytes, or None
    for a directory; everything belongs to root."""
    db = Database()
    acl = lambda mode: db.object(ACL, mode=db.number(mode), user=db.blob("root"), group=db.blob("root"))
    dirs = {"": 0o755}
    for path, mode, data in entries:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            dirs.setdefault("/".join(parts[:depth]), 0o755)
        if data is None:
            dirs[path] = mode
    paths, contents = [], []
    for number, name in enumerate(sorted(dirs), 1):
        files = []
        inside = sorted((path.rpartition("/")[2], mode, data) for path, mode, data in entries
                        if data is not None and path.rpartition("/")[0] == name)
        for file, mode, data in inside:
            files.append(db.object(FILE, name=db.blob(file), acl=acl(mode), size=db.number(len(data)),
                                   mtime=db.number(time), hashes=db.blob(hashlib.sha256(data).digest())))
            if data:
                contents.append(block(BLOCK_DATA, struct.pack("<II", number, len(files)) + data))
        paths.append(db.object(DIR, name=db.blob(name), acl=acl(dirs[name]), files=db.array(files)))

    depends = sorted(info.get("depends", []))
    fields = {name: db.blob(info[name]) for name in INFO if isinstance(info.get(name), str)}
    # Its own name: a hash of all the rest, in whose place there are zeros meanwhile. Nothing else may point here.
    hashes_at = len(db.bytes) + 1
    db.bytes += bytes([20]) + bytes(20)
    fields["hashes"] = BLOB_8 << 28 | hashes_at - 1
    info_object = db.object(
        INFO, **fields, build_time=db.number(time),
        installed_size=db.number(sum(len(data) for _, _, data in entries if data is not None)),
        depends=db.array([db.object(DEPENDENCY, name=db.blob(name)) for name in depends]),
        provides=db.array([db.object(DEPENDENCY, name=db.blob(name)) for name in sorted(info.get("provides", []))]))
    root = db.object(PACKAGE, info=info_object, paths=db.array(paths),
                     scripts=db.object(SCRIPTS, **{name: db.blob(text) for name, text in scripts.items()}))
    db.bytes[4:8] = struct.pack("<I", root)
    db.bytes[hashes_at:hashes_at + 20] = hashlib.sha256(db.bytes).digest()[:20]

    plain = b"ADB." + SCHEMA_PACKAGE + block(BLOCK_DATABASE, bytes(db.bytes)) + b"".join(contents)
    # Without the header and the checksum of zlib.
    return b"ADBd" + zopfli.zlib.compress(plain, numiterations=ROUNDS)[2:-4]
