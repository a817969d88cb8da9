"""Writes PACKAGE for ARCH as .ipk and .apk into DIR. `openwrt/pack` is for people.

    pack.py PACKAGE ARCH BINARY|- DIR

What packages are called, depend on and keep stands in the Makefiles of the feed, and is read there.
"""

import hashlib
import io
import os
import pathlib
import re
import sys
import tarfile

import zopfli.gzip

sys.dont_write_bytecode = True
import adb  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


class Recipe:
    """A Makefile of the feed, as far as it speaks of one package."""

    def __init__(self, package):
        self.dir = HERE / ("luci-app-warren" if package.startswith("luci") else "warren")
        text = (self.dir / "Makefile").read_text()
        self.variables = dict(re.findall(r"^\s*([A-Z_]+):=(.*)$", text, re.M))
        self.defines = dict(re.findall(r"^define (\S+)\n(.*?)^endef", text, re.M | re.S))
        self.package = package
        self.version = f"{self.variables['PKG_VERSION']}-r{self.variables['PKG_RELEASE']}"

    def field(self, name):
        text = self.defines.get(f"Package/{self.package}", "") + self.defines.get("Package/warren/Default", "")
        found = re.search(rf"^\s*{name}:=(.*)$", text, re.M)
        return found[1] if found else self.variables.get(f"LUCI_{name}", "")

    def description(self):
        text = self.defines.get(f"Package/{self.package}/description") or self.variables["LUCI_DESCRIPTION"]
        return " ".join(text.split())

    def depends(self):
        return re.findall(r"\+([\w-]+)", self.variables.get("LUCI_DEPENDS", ""))

    def provides(self):
        return self.field("PROVIDES").split()

    def conffiles(self):
        return self.defines.get("Package/warren/conffiles", "").split() if self.dir.name == "warren" else []


def entries_of(recipe, binary):
    """Path, mode and bytes of each file, as the Makefile installs them."""
    if recipe.dir.name == "warren":
        files = recipe.dir / "files"
        return [
            ("etc/config/warren", 0o600, (files / "warren.config").read_bytes()),
            ("etc/hotplug.d/ntp/80-warren", 0o755, (files / "warren.ntp").read_bytes()),
            ("etc/init.d/warren", 0o755, (files / "warren.init").read_bytes()),
            ("usr/bin/warren", 0o755, pathlib.Path(binary).read_bytes()),
        ]
    entries = []
    for source, target in (("htdocs", "www"), ("root", "")):
        for path in sorted((recipe.dir / source).rglob("*")):
            if path.is_file():
                name = "/".join(part for part in (target, path.relative_to(recipe.dir / source).as_posix()) if part)
                entries.append((name, 0o644, path.read_bytes()))
    return sorted(entries)


def tar(members, time):
    """A tar file of root's: names begin with `./`, as opkg wants it, and the directories come first."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        seen = set()
        for path, mode, data in members:
            parts = path.split("/")
            for depth in range(0, len(parts)):
                name = "/".join(["."] + parts[:depth])
                if name not in seen:
                    seen.add(name)
                    add(archive, name, 0o755, None, time)
            add(archive, f"./{path}", mode, data, time)
    return out.getvalue()


def add(archive, name, mode, data, time):
    member = tarfile.TarInfo(name)
    member.mode, member.mtime, member.uname, member.gname = mode, time, "root", "root"
    if data is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    else:
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def packed(data):
    return zopfli.gzip.compress(data, numiterations=adb.ROUNDS)


FUNCTIONS = "#!/bin/sh\n" """\
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
"""


def ipk(recipe, arch, entries, time):
    size = sum(len(data) for _, _, data in entries)
    fields = [
        ("Package", recipe.package), ("Version", recipe.version), ("Depends", ", ".join(recipe.depends())),
        ("Provides", ", ".join(recipe.provides())), ("Conflicts", recipe.field("CONFLICTS")),
        ("Section", recipe.field("SECTION") or "luci"), ("Require-User", recipe.field("USERID")),
        ("License", recipe.variables["PKG_LICENSE"]), ("Maintainer", recipe.variables["PKG_MAINTAINER"]),
        ("Architecture", arch), ("Installed-Size", str(size)), ("Description", recipe.description()),
    ]
    control = "".join(f"{name}: {value}\n" for name, value in fields if value)
    members = [("control", 0o644, control.encode())]
    if recipe.conffiles():
        members.append(("conffiles", 0o644, "".join(f"{path}\n" for path in recipe.conffiles()).encode()))
    members.append(("postinst", 0o755, f'{FUNCTIONS}default_postinst "$0" "$@"\n'.encode()))
    members.append(("prerm", 0o755, f'{FUNCTIONS}default_prerm "$0" "$@"\n'.encode()))
    return packed(tar([
        ("debian-binary", 0o644, b"2.0\n"),
        ("data.tar.gz", 0o644, packed(tar(entries, time))),
        ("control.tar.gz", 0o644, packed(tar(members, time))),
    ], time))


def apk(recipe, arch, entries, time):
    """What opkg has in its control files, apk's base system finds in /lib/apk/packages."""
    name, notes = recipe.package, {}
    if recipe.field("USERID"):
        notes["rusers"] = recipe.field("USERID") + "\n"
    if recipe.conffiles():
        notes["conffiles"] = "".join(f"{path}\n" for path in recipe.conffiles())
        static = [(f"/{path}", data) for path, _, data in entries if f"/{path}" in recipe.conffiles()]
        notes["conffiles_static"] = "".join(f"{path} {hashlib.sha256(data).hexdigest()}\n" for path, data in static)
    listed = [path for path, _, _ in entries] + [f"lib/apk/packages/{name}.{end}" for end in notes]
    notes["list"] = "".join(f"/{path}\n" for path in sorted(listed))
    all_entries = entries + [(f"lib/apk/packages/{name}.{end}", 0o644, text.encode()) for end, text in notes.items()]
    told = f'{FUNCTIONS}export root="${{IPKG_INSTROOT}}"\nexport pkgname="{name}"\n'
    install = f"{told}add_group_and_user\ndefault_postinst\n"
    scripts = {
        "post-install": install,
        "post-upgrade": install.replace("#!/bin/sh\n", "#!/bin/sh\nexport PKG_UPGRADE=1\n", 1),
        "pre-deinstall": f"{told}default_prerm\n",
    }
    info = {
        "name": name, "version": recipe.version, "description": recipe.description(),
        "arch": "noarch" if arch == "all" else arch, "license": recipe.variables["PKG_LICENSE"], "origin": "warren",
        "maintainer": recipe.variables["PKG_MAINTAINER"], "depends": recipe.depends(), "provides": recipe.provides(),
    }
    return adb.package(info, scripts, all_entries, time)


def main():
    package, arch, binary, out = sys.argv[1:]
    time = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    recipe = Recipe(package)
    entries = entries_of(recipe, binary)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for kind, data in (("ipk", ipk(recipe, arch, entries, time)), ("apk", apk(recipe, arch, entries, time))):
        path = out / f"{package}_{recipe.version}_{arch}.{kind}"
        path.write_bytes(data)
        print(path, len(data))


if __name__ == "__main__":
    main()
