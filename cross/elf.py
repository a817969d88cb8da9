#!/usr/bin/env python3
"""What the cross scripts need to know about ELF files.

elf.py static FILE   exit 0 if FILE needs no dynamic linker and no shared library, else say why not
elf.py trim FILE     cut off all that is never loaded: section headers and what linkers leave behind
                     (`-s` keeps .pdr on MIPS, 187 kB of debugging data)
elf.py where FILE ADDRESS
                     print the function that ADDRESS is in, as src/trap.rs says it; FILE is the one with symbols

Layout as in the System V ABI, "Object Files" and "Program Loading and Dynamic Linking".
"""

import os
import struct
import sys

PT_DYNAMIC, PT_INTERP = 2, 3
SHT_SYMTAB = 2
STT_FUNC = 2
DT_NULL, DT_NEEDED = 0, 1


class Elf:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        ident = self.data[:16]
        if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise ValueError("not an ELF file")
        self.wide = ident[4] == 2
        self.order = "<" if ident[5] == 1 else ">"
        # e_phoff, e_shoff sit after e_ident, e_type, e_machine, e_version and e_entry.
        self.phoff, = self.read("Q" if self.wide else "I", 32 if self.wide else 28)
        self.phentsize, self.phnum = self.read("HH", 54 if self.wide else 42)

    def read(self, form, offset):
        return struct.unpack_from(self.order + form, self.data, offset)

    def segments(self):
        """Yields (type, file offset, file size) of each program header."""
        for index in range(self.phnum):
            at = self.phoff + index * self.phentsize
            if self.wide:
                kind, _, offset, _, _, size = self.read("IIQQQQ", at)
            else:
                kind, offset, _, _, size = self.read("IIIII", at)
            yield kind, offset, size

    def why_not_static(self):
        """Returns the reason why this file needs something else to run, or None."""
        for kind, offset, size in self.segments():
            if kind == PT_INTERP:
                name = self.data[offset:offset + size].rstrip(b"\0").decode(errors="replace")
                return f"it asks for the dynamic linker '{name}' (PT_INTERP)"
            if kind == PT_DYNAMIC:
                # A static-pie has a dynamic section of relocations only; a needed library is the fault.
                form = "qQ" if self.wide else "iI"
                step = struct.calcsize(self.order + form)
                for at in range(offset, offset + size, step):
                    tag, _ = self.read(form, at)
                    if tag == DT_NULL:
                        break
                    if tag == DT_NEEDED:
                        return "it names a shared library (DT_NEEDED)"
        return None

    def sections(self):
        """Yields (type, file offset, file size, number of the linked section) of each section header."""
        shoff, = self.read("Q" if self.wide else "I", 40 if self.wide else 32)
        shentsize, shnum = self.read("HH", 58 if self.wide else 46)
        for index in range(shnum if shoff else 0):
            at = shoff + index * shentsize
            kind, = self.read("I", at + 4)
            offset, size, link = self.read("QQI" if self.wide else "III", at + (24 if self.wide else 16))
            yield kind, offset, size, link

    def function_at(self, address):
        """Returns name and start of the function whose bytes hold the address, or None."""
        sections = list(self.sections())
        for kind, offset, size, link in sections:
            if kind != SHT_SYMTAB:
                continue
            names = sections[link][1]
            for at in range(offset, offset + size, 24 if self.wide else 16):
                if self.wide:
                    name, info, start, length = self.read("IB3xQQ", at)
                else:
                    name, start, length, info = self.read("IIIB", at)
                if info & 15 != STT_FUNC:
                    continue
                # In 32 bits the lowest one says that a function is in Thumb code.
                if not self.wide:
                    start &= ~1
                if start <= address < start + length:
                    end = self.data.index(b"\0", names + name)
                    return self.data[names + name:end].decode(errors="replace"), start
        return None

    def trimmed(self):
        """Returns the file without anything behind the last byte that the kernel maps or reads."""
        end = max([self.phoff + self.phnum * self.phentsize] + [at + size for _, at, size in self.segments()])
        data = bytearray(self.data[:end])
        # No section header table any more: e_shoff, then e_shentsize, e_shnum and e_shstrndx.
        if self.wide:
            data[40:48] = bytes(8)
            data[58:64] = bytes(6)
        else:
            data[32:36] = bytes(4)
            data[46:52] = bytes(6)
        return data


def where(elf, path, text):
    try:
        address = int(text, 16)
    except ValueError:
        sys.exit(f"elf.py: '{text}' is no address; write it in hexadecimal digits, as warren says it")
    found = elf.function_at(address)
    if found is None:
        sys.exit(f"elf.py: '{path}' has no function at {address:#x}; the file with symbols is the one to ask")
    name, start = found
    print(f"{name} + {address - start:#x}")


def main(words):
    if words[:1] not in (["static"], ["trim"], ["where"]) or len(words) != (3 if words[0] == "where" else 2):
        sys.exit("usage: elf.py static|trim FILE, or elf.py where FILE ADDRESS")
    verb, path = words[:2]
    try:
        elf = Elf(path)
    except (OSError, ValueError, struct.error) as error:
        sys.exit(f"elf.py: '{path}': {error}")
    if verb == "where":
        where(elf, path, words[2])
    elif verb == "static":
        reason = elf.why_not_static()
        if reason:
            sys.exit(f"elf.py: '{path}' is not static: {reason}")
    else:
        # Through a second name: a binary that is running cannot be written to.
        with open(path + ".new", "wb") as file:
            file.write(elf.trimmed())
        os.chmod(path + ".new", os.stat(path).st_mode)
        os.replace(path + ".new", path)


if __name__ == "__main__":
    main(sys.argv[1:])
