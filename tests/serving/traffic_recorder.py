"""Requests to a server and what came, in a form that stays the same from run to run."""

import gzip
import hashlib
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import nrrd
import pydicom
import requests
from requests_toolbelt import MultipartDecoder

HEADERS = ("content-type", "content-encoding", "cache-control", "location", "www-authenticate", "retry-after")


CHANGING = re.compile(
    r".*ts|expiry|leased_until|seconds|at|read|prepare|network|restore|view|merge|memory|write|total|facts"
)


def scrub(text: str, place: Path) -> str:
    """Without what differs from run to run: folders, ids, times."""
    text = text.replace(str(place), "PLACE")
    text = re.sub(r"/tmp/[^\"' ]*", "TMP", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "HEX", text)
    text = re.sub(r"(\d+\.){4,}\d+", "UID", text)
    text = re.sub(r"http://127.0.0.1:\d+", "URL", text)
    return re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", "TIME", text)


def still(value: Any, name: str = "") -> Any:
    """A JSON value with changing numbers taken out."""
    if isinstance(value, dict):
        return {key: still(one, str(key)) for key, one in value.items()}
    if isinstance(value, list):
        return [still(one, name) for one in value]
    return "CHANGES" if CHANGING.fullmatch(name) and type(value) in (int, float) else value


def shape(value: Any, name: str = "") -> Any:
    """Keys and types of a JSON value; a list by its first entry."""
    if name == "latencies":
        return sorted(value)
    if isinstance(value, dict) and value and all(re.fullmatch("[0-9A-F]{8}", key) for key in value):
        return " ".join(sorted(value))  # DICOM in JSON
    if isinstance(value, dict):
        return {key: shape(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0], name)] if value else []
    return type(value).__name__


class Recorder:
    """Asks, and writes down what came."""

    def __init__(self, url: str, place: Path) -> None:
        self.url, self.place, self.rows = url, place, []

    def ask(self, name: str, method: str, path: str, **fields: Any) -> requests.Response:
        headers = {"Connection": "close", **fields.pop("headers", {})}
        answer = requests.request(
            method, self.url + path, timeout=120, headers=headers, allow_redirects=False, **fields
        )
        self.rows.append(
            {"name": name, "status": answer.status_code}
            | {"headers": {key: self.header(answer, key) for key in HEADERS if key in answer.headers}}
            | {"names": sorted(answer.headers)}
            | dict(zip(("body", "shape"), self.body(answer)))
        )
        return answer

    def infer(
        self,
        name: str,
        model: str,
        query: str,
        params: dict,
        files: dict | None = None,
        headers: dict | None = None,
    ) -> None:
        body = {"data": {"params": json.dumps(params)}, "files": files, "headers": headers or {}}
        self.ask(name, "POST", f"/infer/{model}{query}", **body)

    def header(self, answer: requests.Response, key: str) -> str:
        return re.sub(r"boundary=.*", "boundary=", scrub(answer.headers[key], self.place))

    def body(self, answer: requests.Response) -> tuple[Any, Any]:
        kind, content = answer.headers.get("content-type", ""), answer.content
        if kind.startswith("multipart/form-data"):
            parts = MultipartDecoder(content, kind).parts
            told = [self.part(one.content, one.headers[b"Content-Type"].decode()) for one in parts]
            names = [
                scrub(one.headers[b"Content-Disposition"].decode(), self.place).replace("\\", "")
                for one in parts
            ]
            return [[name, one[0]] for name, one in zip(names, told)], [one[1] for one in told]
        return self.part(content, kind)

    def part(self, content: bytes, kind: str) -> tuple[Any, Any]:
        if "json" in kind and content:
            value = json.loads(content)
            return scrub(json.dumps(still(value)), self.place), shape(value)
        if kind.startswith("application/dicom"):
            return dicom(content), "DICOM"
        if content.startswith(b"NRRD"):
            header = nrrd.read_header(BytesIO(content))
            return [hashlib.sha256(content).hexdigest(), scrub(str(header), self.place)], "NRRD"
        if content.startswith(b"\x1f\x8b"):
            return hashlib.sha256(gzip.decompress(content)).hexdigest(), "gzip"
        if kind.startswith("multipart/related"):
            return len(content), "multipart"
        return hashlib.sha256(scrub(content.decode("latin-1"), self.place).encode()).hexdigest(), kind


def dicom(content: bytes) -> list:
    """A DICOM file without what is drawn or told by the clock."""
    data = pydicom.dcmread(BytesIO(content))
    lines = [str(one) for one in data.iterall() if one.VR not in ("DA", "TM", "DT", "UI", "OB", "OW")]
    return [hashlib.sha256("\n".join(lines).encode()).hexdigest(), int(data.pixel_array.sum())]
