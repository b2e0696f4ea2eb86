"""Transcripts as they are written down: mending characters, and comparing what was said."""

from __future__ import annotations

import re
import unicodedata


def _windows_1252() -> dict[int, str]:
    """Control characters U+0080 to U+009F to what their bytes mean in Windows-1252, where they mean anything."""
    table = {}
    for code in range(0x80, 0xA0):
        try:
            table[code] = bytes([code]).decode("cp1252")
        except UnicodeDecodeError:  # 81, 8D, 8F, 90 and 9D have no meaning
            table[code] = ""
    return table


_MEANT = _windows_1252()


def mend_controls(text: str) -> str:
    """Text whose control characters U+0080 to U+009F became what Windows-1252 means by them (U+0092: an apostrophe).

    They come from texts in Windows-1252 that were taken for Latin-1, and no tokenizer knows them.
    """
    return text.translate(_MEANT)


def normalise(text: str) -> str:
    """What was said, less how it is written: small letters and digits with single spaces, no punctuation or accents.

    Apostrophes go without a space (``Don't`` and ``dont`` are the same); texts that hold nothing else become empty.
    """
    plain = unicodedata.normalize("NFKD", mend_controls(text)).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[^\w\s]|_", " ", re.sub("['\u2018\u2019`\u00b4]", "", plain)).split())
