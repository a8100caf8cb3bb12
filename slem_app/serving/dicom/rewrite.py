"""Addresses inside a PACS's answers, led through this server: RetrieveURL (0008,1190) and BulkDataURI of the
DICOM JSON model (PS3.18 annex F).

A PACS names itself by whatever it takes for its own host, which a browser need not reach and often cannot.
Bodies are changed as they stream: a match is never longer than `HOLD`, so that much is held back and no more,
and everything else of an answer passes byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["FIRST", "KINDS", "Addresses", "dicomweb_path"]

# what a path of DICOMweb begins with; the last is where some servers keep long values
FIRST = ("studies", "series", "instances", "bulkdata")
PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._,-]{0,127}")  # a word, a UID, or numbers of frames; none is '..'
HOLD = 8192
KINDS = ("application/dicom+json", "application/json")  # the second is what older servers call it
STRING = rb'"((?:[^"\\]|\\.)*)"'
FOUND = re.compile(rb'"BulkDataURI"\s*:\s*' + STRING + rb'|"00081190"\s*:\s*\{[^{}]*\}')
ADDRESS = re.compile(rb'(?<=")(?:https?:)?(?:\\?/)(?:[^"\\]|\\.)*(?=")')
STUDY = re.compile(r"/(studies/[0-9.]+(?:/.*)?)$")


def dicomweb_path(path: str) -> bool:
    """Whether a path, without a slash before it, is one of DICOMweb."""
    parts = path.split("/")
    return parts[0] in FIRST and all(PART.fullmatch(part) for part in parts)


@dataclass(frozen=True)
class Addresses:
    """From the PACS's addresses to this server's."""

    pacs: str
    """The PACS's address, as this server knows it."""
    own: str
    """Where its paths are found here, as the client knows this server."""

    def led(self, address: str) -> str:
        """The same thing through this server; unchanged where it is relative, or nothing that this server
        would fetch.

        The host does not count: a PACS behind another name, or one that takes itself for 'localhost', means
        itself.
        """
        parts, below = urlsplit(address), urlsplit(self.pacs).path + "/"
        if parts.path.startswith(below) and dicomweb_path(parts.path[len(below) :]):
            path = parts.path[len(below) :]
        elif parts.path.startswith("/") and (study := STUDY.search(parts.path)) and dicomweb_path(study[1]):
            path = study[1]
        else:
            return address
        return f"{self.own}/{path}" + (f"?{parts.query}" if parts.query else "")

    async def change(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A JSON body with its addresses led through this server, as it comes."""
        held = b""
        async for piece in pieces:
            done, held = self._changed(held + piece)
            if done:
                yield done
        yield self._changed(held, last=True)[0]

    def _changed(self, text: bytes, last: bool = False) -> tuple[bytes, bytes]:
        """What of a text is done, and its end, in which an address may have begun."""
        done, begin = [], 0
        for found in FOUND.finditer(text):
            done += [text[begin : found.start()], ADDRESS.sub(self._replaced, found[0])]
            begin = found.end()
        end = len(text) if last else max(begin, len(text) - HOLD)
        return b"".join([*done, text[begin:end]]), text[end:]

    def _replaced(self, found: re.Match[bytes]) -> bytes:
        try:
            address = json.loads(b'"' + found[0] + b'"')
        except ValueError:  # no JSON, so nothing to be understood
            return found[0]
        return json.dumps(self.led(address))[1:-1].encode()
