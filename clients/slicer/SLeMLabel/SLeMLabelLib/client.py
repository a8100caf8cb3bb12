"""The routes of a SLeM Label server, with what Slicer's Python has: `requests`.

Every refusal is a `ServerError` with the server's own sentence. A client is used by one thread at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

__all__ = ["Client", "LogInNeeded", "Reply", "ServerError"]

PROGRAM = "SLeM Label for 3D Slicer"
CONNECT = 10.0  # seconds
ANSWER = 900.0  # seconds; a first result of a large case on a processor takes minutes
DOWNLOAD = 1 << 20  # bytes
GZIP = b"\x1f\x8b"


class ServerError(Exception):
    """What the server refused, or why it cannot be reached, in a sentence for the reader.

    Args:
        text: the sentence.
        status: of HTTP; 0: no answer came.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class LogInNeeded(ServerError):
    """Nobody is logged in, or no longer."""


@dataclass(frozen=True)
class Reply:
    """A segmentation."""

    file: bytes
    """The label map, NRRD."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the server tells beside it: label_names, volumes_ml, warnings, notes, trust, steps, ..."""


class Client:
    """One reader at one server.

    Args:
        url: address of the server, e.g. http://127.0.0.1:8000.
        reader: who works here; readers of one machine need different names unless they log in.
    """

    def __init__(self, url: str, reader: str) -> None:
        self.url, self.reader = url.strip().rstrip("/"), reader
        self.http = requests.Session()
        self.http.headers["User-Agent"] = PROGRAM
        # a cookie would make another reader of this one after each restart of Slicer
        self.http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    # who

    def log_in_wanted(self) -> bool:
        """Whether this server lets in only those who log in."""
        return bool(self._json("GET", "/auth/").get("enabled"))

    def log_in(self, name: str, password: str) -> None:
        """Log in; from then on every request carries the token.

        Raises:
            ServerError: wrong name or password, or too many tries.
        """
        form = {"username": name, "password": password}
        token = self._json("POST", "/auth/token", data=form).get("access_token")
        if token:
            self.http.headers["Authorization"] = f"Bearer {token}"

    def user(self) -> str:
        """Who is logged in."""
        return str(self._json("GET", "/auth/token/valid").get("username", ""))

    # cases

    def info(self) -> dict[str, Any]:
        """What the server offers: models with labels and colors, strategies, trainers, train_stats."""
        return self._json("GET", "/info/")

    def worklist(self, text: str = "", state: str = "all", sort: str = "case", page: int = 1) -> dict:
        """A page of the worklist."""
        query = {"q": text, "state": state, "sort": sort, "page": page, "client_id": self.reader}
        return self._json("GET", "/slem/worklist", params=query)

    def take(self, case: str) -> str:
        """Take a case into this reader's hands; who has it: 'you', or another reader, who keeps it."""
        query = {"image": case, "client_id": self.reader}
        return str(self._json("POST", "/slem/worklist/take", params=query)["holder"])

    def next_case(self, strategy: str) -> dict[str, Any]:
        """The next case by a strategy; empty: there is none."""
        body = {"client_id": self.reader}
        return self._json("POST", f"/activelearning/{quote(strategy, safe='')}", json=body)

    def case(self, case: str) -> dict[str, Any]:
        """Facts of a case: its sequences, the reference among them, the models that it is for."""
        return self._json("GET", "/datastore/image/info", params={"image": case})

    def image(self, image: str, folder: Path) -> Path:
        """Download one sequence of a case into a folder; its path."""
        answer = self._ask("GET", "/datastore/image", params={"image": image}, stream=True)
        with answer:
            pieces = answer.iter_content(DOWNLOAD)
            first = next(pieces, b"")
            path = folder / (quote(image, safe="") + (".nii.gz" if first.startswith(GZIP) else ".nii"))
            with path.open("wb") as file:
                file.write(first)
                for piece in pieces:
                    file.write(piece)
        return path

    # segmentation

    def segment(self, model: str, image: str, fields: Mapping[str, object], label: bytes | None) -> Reply:
        """The segmentation of an image.

        Args:
            model: which.
            image: CASE/SEQUENCE; the result lies on its grid.
            fields: prompts.
            label: the label map as the reader sees it, NRRD; None: none.
        """
        params = {**fields, "client_id": self.reader, "client": PROGRAM, "result_extension": ".nrrd"}
        files = {} if label is None else {"label": ("shown.nrrd", label)}
        form = {"params": json.dumps(params)}
        path = f"/infer/{quote(model, safe='')}"
        return _reply(self._ask("POST", path, params={"image": image}, data=form, files=files))

    def step(self, what: str, model: str, image: str) -> Reply:
        """'undo', 'redo' or 'start_over'."""
        query = {"image": image, "client_id": self.reader}
        return _reply(self._ask("POST", f"/slem/{what}/{quote(model, safe='')}", params=query))

    # labels

    def versions(self, case: str) -> list[dict[str, Any]]:
        """Every version of the case's labels."""
        return self._ask("GET", "/slem/labels", params={"image": case}).json()

    def label(self, image: str, tag: str) -> bytes:
        """The newest label of a tag, laid on an image of the case, NIfTI."""
        return self._ask("GET", "/datastore/label", params={"label": image, "tag": tag}).content

    def submit(self, image: str, label: bytes, names: list[str], model: str, tag: str = "final") -> None:
        """Save a label map as a new version.

        Args:
            image: CASE/SEQUENCE on whose grid it lies.
            label: NRRD.
            names: of its values, value 1 first.
            model: whose labels these are.
            tag: 'final': it is done; any other: a draft.
        """
        info = [{"name": name, "idx": value} for value, name in enumerate(names, 1)]
        params = {"label_info": info, "model": model, "client_id": self.reader, "client": PROGRAM}
        self._ask(
            "PUT",
            "/datastore/label",
            params={"image": image, "tag": tag},
            data={"params": json.dumps(params)},
            files={"label": ("label.nrrd", label)},
        )

    # learning

    def train(self, model: str) -> None:
        """Start a round of learning."""
        self._ask("POST", f"/train/{quote(model, safe='')}", json={})

    def stop_training(self) -> None:
        """Stop the round that runs."""
        self._ask("DELETE", "/train/")

    def training(self) -> bool:
        """Whether a round runs now."""
        try:
            self._ask("GET", "/train/", params={"check_if_running": "true"})
        except ServerError as error:
            if error.status == 404:
                return False
            raise
        return True

    def close(self) -> None:
        """Give the connections back."""
        self.http.close()

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return self._ask(method, path, **more).json()

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """An answer that is no error."""
        try:
            answer = self.http.request(method, self.url + path, timeout=(CONNECT, ANSWER), **more)
        except requests.exceptions.Timeout as error:
            raise ServerError(f"{self.url} does not answer: try again, or ask whoever runs it") from error
        except (requests.exceptions.RequestException, ValueError) as error:
            raise ServerError(
                f"there is no server at {self.url}: start it with `make serve`, or correct the address"
            ) from error
        if answer.ok:
            return answer
        kind = LogInNeeded if answer.status_code == 401 else ServerError
        raise kind(_sentence(answer), answer.status_code)


def _sentence(answer: requests.Response) -> str:
    """Why the server refused, as it says itself."""
    try:
        told = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        told = ""
    if isinstance(told, list):  # FastAPI's own: one entry a field
        told = "; ".join(f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg', '')}" for one in told)
    return str(told) or f"the server answered {answer.status_code} {answer.reason}, without a reason"


def _reply(answer: requests.Response) -> Reply:
    """The parts of a multipart answer (RFC 7578)."""
    kind = answer.headers.get("content-type", "")
    _, found, boundary = kind.partition("boundary=")
    if not found:
        raise ServerError(f"a label map was expected, {kind or 'nothing'} came: is this a SLeM Label server?")
    facts: dict[str, Any] = {}
    file = b""
    for part in answer.content.split(b"--" + boundary.strip('"').encode())[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        body = body[:-2]  # the line end before the next boundary
        if b'name="params"' in head:
            facts = json.loads(body)
        elif b'name="image"' in head:
            file = body
    return Reply(file, facts)
