"""Change a file a little, or a lot, as damage, other programs and users do: its bytes, or what it holds."""

from __future__ import annotations

import copy
import io
import json
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

_DEEP, _LONG = "DEEPLY-NESTED", "MANY-DIGITS"  # what no library writes is put into the text afterwards
_YAML = (
    "!!int x", "!!float 1e99999", "!!python/object/apply:os.getcwd []", "!!binary x", "!!timestamp 99",
    "!!set {a}", "!!bool x", "!!int ''", "&a [*a]", "*nobody", "{<<: 3}", "{<<: [1, {a: 2}]}", "{[1, 2]: 3}",
    "{{a: 1}: 2}", "{null: 1}", "{1.5: 2}", "${nobody}", "${oc.env:MIMIC_NOBODY}", "${output_dir}", "${",
    "${oc.decode:'{'}", "0x_", "12:30:45", ".nan", "-.inf",
    f"0x{'f' * 5000}", '"\\e[2J\\a"', f"'{'x' * 100_000}'",
    "'~nosuchuser/x'", '"\\x00"', "1e400", "2001-13-45", "[1, 2", "???",
)  # fmt: skip
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(10**30), 10**400, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), "", " ", "x" * 300,
    "x" * 100_000, "9" * 6000, "\x1b[2J\x07", "\n\r\x85", "\ud800", "a\0b", "é\u2028\u202e",
    "../../..", "/", "~nosuchuser", "nan", "1e5",
    [], {}, [[]], {"": {}}, [1, "a", None], [float("nan")], {"a": [1]}, _DEEP, _LONG,
)  # fmt: skip


def changed_copy(sample: Path, folder: Path, rng: Random) -> str:
    """Copy a sample, a folder, to another place and change one of its files there; returns what was done."""
    shutil.copytree(sample, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    change = rng.choices((_by_content, _by_bytes, _by_place), (6, 5, 1))[0]
    return f"{change.__name__[1:]} of {path.relative_to(folder)}: {change(path, rng)}"


def _by_place(path: Path, rng: Random) -> str:
    """Something else under the file's name, or nothing."""
    what = rng.choice(("missing", "a folder", "empty", "a line"))
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(b"" if what == "empty" else b"version https://git-lfs.github.com/spec/v1\n")
    return what


def _by_bytes(path: Path, rng: Random) -> str:
    content, names = _changed_bytes(path.read_bytes(), rng)
    path.write_bytes(content)
    return names


def _changed_bytes(before: bytes, rng: Random) -> tuple[bytearray, str]:
    content, names = bytearray(before), []
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        change = rng.choice(_BYTES)
        names.append(change.__name__[1:])
        content = change(content, rng) if content else bytearray(b"\0")
    return content, " ".join(names[:5])


def _place(content: bytearray, rng: Random) -> int:
    """Half of all places are in the file's head, where sizes and counts are."""
    return rng.randrange(min(len(content), rng.choice((64, 512, len(content)))))


def _bit(content: bytearray, rng: Random) -> bytearray:
    content[_place(content, rng)] ^= 1 << rng.randrange(8)
    return content


def _byte(content: bytearray, rng: Random) -> bytearray:
    content[_place(content, rng)] = rng.randrange(256)
    return content


def _number(content: bytearray, rng: Random) -> bytearray:
    size, at = rng.choice((1, 2, 4, 8)), _place(content, rng)
    number = rng.choice((0, 1, 2**31 - 1, 2**63 - 1, 255, 65535, 10**6))
    order = rng.choice(("little", "big"))
    content[at : at + size] = (number % 256**size).to_bytes(size, order)
    return content


def _cut(content: bytearray, rng: Random) -> bytearray:
    return content[: rng.randrange(len(content))]


def _hole(content: bytearray, rng: Random) -> bytearray:
    at = _place(content, rng)
    del content[at : at + rng.choice((1, 4, 100, 4096))]
    return content


def _again(content: bytearray, rng: Random) -> bytearray:
    at = _place(content, rng)
    return content[:at] + content[at : at + rng.choice((1, 4, 100, 4096))] + content[at:]


def _noise(content: bytearray, rng: Random) -> bytearray:
    at, size = _place(content, rng), rng.choice((4, 64, 2048))
    content[at : at + size] = rng.choice((rng.randbytes(size), b"\xff" * size, b"\0" * size))
    return content


_BYTES: tuple[Callable[[bytearray, Random], bytearray], ...] = (
    _bit,
    _byte,
    _number,
    _cut,
    _hole,
    _again,
    _noise,
)


def _by_content(path: Path, rng: Random) -> str:
    """A change that leaves the file well formed, where its kind is known."""
    change = _KINDS.get(path.suffix)
    try:
        return _by_bytes(path, rng) if change is None else change(path, rng)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # the sample itself is odd
        return _by_bytes(path, rng)


def changed_tree(tree: Any, rng: Random) -> tuple[Any, str]:
    """JSON or YAML content with a few values exchanged, removed, renamed or doubled; and what was done."""
    tree, done = copy.deepcopy(tree), []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            return rng.choice(_ODD), "all"
        owner, key = rng.choice(places)
        what = rng.choice(("odd", "odd", "odd", "odd", "removed", "renamed", "doubled"))
        done.append(f"{what} {key!r}")
        if what == "odd":
            owner[key] = copy.deepcopy(rng.choice(_ODD))
        elif what == "removed":
            del owner[key]
        elif isinstance(owner, dict):
            value = owner[key] if what == "doubled" else owner.pop(key)
            owner[rng.choice((f"{key}x", str(key).upper(), "", "version", "\x1b[2J", "k" * 100_000))] = value
        else:
            owner.insert(key, copy.deepcopy(owner[key]))
    return tree, ", ".join(done)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value, as its owner and its key there; of long lists of numbers a few."""
    keys = (
        list(tree) if isinstance(tree, dict) else list(range(len(tree)))[:8] if isinstance(tree, list) else []
    )
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _filled(text: str) -> bytes:
    """Text with what libraries do not write in the places kept for it."""
    text = text.replace(f'"{_DEEP}"', _DEEP).replace(_DEEP, "[" * 3000 + "]" * 3000)
    return text.replace(f'"{_LONG}"', _LONG).replace(_LONG, "9" * 6000).encode("utf-8", "surrogatepass")


def _json(path: Path, rng: Random) -> str:
    tree, done = changed_tree(json.loads(path.read_bytes()), rng)
    path.write_bytes(_filled(json.dumps(tree)))
    return done


def _jsonl(path: Path, rng: Random) -> str:
    tree, done = changed_tree([json.loads(line) for line in path.read_text().splitlines()], rng)
    lines = tree if isinstance(tree, list) else [tree]
    path.write_bytes(_filled("".join(json.dumps(line) + "\n" for line in lines)))
    return done


def _yaml(path: Path, rng: Random) -> str:
    tree, done = changed_tree(yaml.safe_load(path.read_text(encoding="utf-8")), rng)
    places = list(_places(tree))
    if rng.random() < 0.4 and places:
        snippet, (owner, key) = rng.choice(_YAML), rng.choice(places)
        owner[key] = "A-SNIPPET"
        path.write_bytes(_filled(yaml.safe_dump(tree, width=10**6).replace("A-SNIPPET", snippet)))
        return f"{done}, {key!r} is {snippet}"
    path.write_bytes(_filled(yaml.safe_dump(tree, width=10**6)))
    return done


def _safetensors(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    tree, done = changed_tree(json.loads(content[8 : 8 + size]), rng)
    header = _filled(json.dumps(tree))
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    return done


def _archive(path: Path, rng: Random) -> str:
    """A zip file with one member changed, all checksums right."""
    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.namelist()]
    number = rng.randrange(len(members))
    name, content = members[number]
    what = rng.choice(("bytes", "bytes", "bytes", "name", "gone", "twice", "method"))
    if what == "bytes":
        changed, done = _changed_bytes(content, rng)
        members[number], what = (name, bytes(changed)), f"bytes ({done})"
    elif what == "name":
        names = ("\x1b[2J.npy", f"{name}\n", "a\u202eb", "../../x.npy", " ", "x" * 5000, name.upper())
        members[number] = (rng.choice(names), content)
    elif what == "gone":
        del members[number]
    elif what == "twice":
        members.append((name, rng.choice(members)[1]))
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of two members with one name
        for each, data in members:
            archive.writestr(each, data, compress_type=method if what == "method" else zipfile.ZIP_STORED)
    return f"{what} of {name}"


def _png(path: Path, rng: Random) -> str:
    """A PNG with one chunk changed, all checksums right."""
    content, at = path.read_bytes(), 8
    chunks = []
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    number = rng.randrange(len(chunks))
    kind, data = chunks[number]
    what = rng.choice(("bytes", "bytes", "bytes", "kind", "gone", "twice", "order"))
    if what == "bytes":
        chunks[number] = (kind, bytes(_changed_bytes(data, rng)[0]))
    elif what == "kind":
        chunks[number] = (rng.choice((b"zTXt", b"iTXt", b"iCCP", b"fcTL", b"tRNS", b"acTL", b"eXIf")), data)
    elif what == "gone":
        del chunks[number]
    elif what == "twice":
        chunks.insert(number, chunks[number])
    else:
        rng.shuffle(chunks)
    path.write_bytes(
        content[:8]
        + b"".join(
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
            for kind, data in chunks
        )
    )
    return f"{what} of {kind!r}"


def _npz(path: Path, rng: Random) -> str:
    if rng.random() < 0.3:
        return _archive(path, rng)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}
    name = rng.choice(list(arrays))
    array = arrays[name]
    if array.dtype.kind == "U" and rng.random() < 0.8:
        tree, done = changed_tree(json.loads(str(array)), rng)
        arrays[name] = np.array(_filled(json.dumps(tree)).decode("utf-8", "replace"))
    else:
        done, arrays[name] = _odd_array(array, rng)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    path.write_bytes(packed.getvalue())
    return f"{name} {done}"


def _odd_array(array: Any, rng: Random) -> tuple[str, Any]:
    done = rng.choice(
        ("flat", "empty", "other type", "first", "last", "more", "object", "number", "text", "extreme")
    )
    if done == "other type":
        return done, array.astype(rng.choice(("f2", "i1", "c16", "?", "U8")))
    if done == "extreme" and array.dtype.kind == "f":
        array = array.copy()
        array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf, 1e308, -1e30))
        return done, array
    if done == "object":
        return done, np.array([None, {}], dtype=object)
    simple = {"number": np.array(7), "text": np.array("seven"), "empty": array[:0] if array.ndim else array}
    parts = (
        {"first": array[:1], "last": array[..., :1], "more": np.concatenate([array, array])}
        if array.ndim
        else {}
    )
    return done, {**simple, **parts}.get(done, array.ravel())


_KINDS: dict[str, Callable[[Path, Random], str]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".yaml": _yaml,
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".png": _png,
    ".pth": _archive,  # a TorchScript file whose checksums are right is another program, and no damage
}
