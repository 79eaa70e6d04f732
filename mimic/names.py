"""File names that every system takes: which are refused, and how names of inputs become names of results."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_STEM_BYTES = 180
"""Of a result's name in UTF-8: what is added to it (``_side_by_side``, a number, ``.partial``, a suffix)
fits into the 255 bytes that file systems take."""

_RESERVED = re.compile(
    r"^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?$", re.IGNORECASE
)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')


def fault_of(name: str) -> str | None:
    """Why a file cannot be called so on every system, in words; None where it can.

    Windows refuses most: some characters, names of devices, a space or full stop at the end.
    """
    found = _FORBIDDEN.search(name)
    num_bytes = len(name.encode("utf-8", "surrogatepass"))
    faults = {
        f"it has {found[0] if found else ''!a} in it, which not every system takes in a file name": found,
        "nothing but spaces and full stops is no file name": not name.strip(". "),
        "it begins or ends with a space, or ends with a full stop, which not every system keeps": (
            name != name.strip() or name.endswith(".")
        ),
        "Windows keeps that name for a device": _RESERVED.match(name),
        "programs take a name that begins with - for an option": name.startswith("-"),
        f"it takes {num_bytes} bytes, and {MAX_STEM_BYTES} are left for it in a file name": (
            num_bytes > MAX_STEM_BYTES
        ),
    }
    return next((fault for fault, is_there in faults.items() if is_there), None)


def made_safe(name: str) -> str:
    """A name that every system takes, as near to the given one as can be."""
    safe = _FORBIDDEN.sub("_", name).strip().strip(".").lstrip("-").strip() or "case"
    if _RESERVED.match(safe):
        safe = f"_{safe}"
    return shortened(safe)


def shortened(name: str, max_bytes: int = MAX_STEM_BYTES) -> str:
    """The beginning of a name, at most `max_bytes` in UTF-8; no character is cut in two."""
    cut = name.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")
    return cut.rstrip(" .") or "case"


def same_place(name: str) -> str:
    """What two names have in common that are one file on some system: case and Unicode's form are lost."""
    return unicodedata.normalize("NFC", name).casefold()


def first_clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that are one file on some system."""
    seen: dict[str, str] = {}
    for name in names:
        key = same_place(name)
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None
