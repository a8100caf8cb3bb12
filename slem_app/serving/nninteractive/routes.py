"""nnInteractive's HTTP API (release 2.6 of its client and server), spoken by our models.

A client is told one address and adds the names of the routes to it: `/nninteractive`, or
`/nninteractive/OBJECT` or `/nninteractive/OBJECT/SEQUENCE`, which say what it segments (`ConnectionTarget`).
Its API key, if it has one, is sent as a bearer token: a token of `/auth/token` is one. Arrays come and go as
`arrays` says, with their options as JSON in the header X-Meta. The client shows its user the text of the
errors 410 and 503 alone, and of all others the number.

Concurrency: bodies are read in the event loop, unpacked in threads, and what needs the network waits in the
queue. A session does one thing at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from slem_app import __version__
from slem_app.errors import BadPrompt, BadSetting, NotOffered, TookTooLong, TooLarge
from slem_app.serving.cases.known_volumes import KnownVolumes
from slem_app.serving.models.queue import Kind, RequestQueue
from slem_app.serving.nninteractive import arrays
from slem_app.serving.nninteractive.interactions import (
    read_box,
    read_flag,
    read_image,
    read_mask,
    read_point,
    read_spacing,
    read_target_shape,
)
from slem_app.serving.nninteractive.opening import VolumeOpener
from slem_app.serving.nninteractive.segmenting import ConnectionTarget, ScreenChange, Segmenting
from slem_app.serving.nninteractive.sessions import LIVENESS, ObjectSession, ObjectSessions
from slem_app.serving.server import Serving
from slem_app.strict_json import LARGEST, parse_object
from slem_app.studies.header_index import INDEX_FOLDER
from slem_app.unpack import megabytes

__all__ = ["nninteractive_router"]

T = TypeVar("T")

META, LEASE = "X-Meta", "X-Lease-Token"
PREFIXES = ("", "/{object}", "/{object}/{sequence}")
SLACK = 2**20  # bytes by which a packed array may be longer than an unpacked one
MASK_VOXEL = 8  # bytes of a voxel of a mask, at most
BINARY = "application/octet-stream"
CHANNELS = {
    "prev_seg": 0,
    "bbox2d": [1, 2],
    "bbox3d": [1, 2],
    "lasso": [1, 2],
    "points": [3, 4],
    "scribble": [5, 6],
}
"""Of nnInteractive's own network; clients read it, and nothing here depends on it."""
LICENSE = "SLeM Label {version}: {object}. Research use only, not for diagnostic use."
"""What a client shows below its button."""
OFF = "this server does not serve nnInteractive's clients: the setting `nninteractive_sessions` is 0"
Token = Annotated[str | None, Header(alias=LEASE)]


def nninteractive_router(serving: Serving, queue: RequestQueue) -> APIRouter:
    """The routes over a server's click tools; `queue` is in front of them."""
    protocol = Protocol(serving, queue)
    router = APIRouter(prefix="/nninteractive", tags=["nnInteractive"])
    get: dict[str, Callable[..., Any]] = {
        "healthz": protocol.healthz,
        "capabilities": protocol.capabilities,
        "lease_status": protocol.lease_status,
    }
    post: dict[str, Callable[..., Any]] = {
        "claim": protocol.claim,
        "release": protocol.release,
        "heartbeat": protocol.heartbeat,
        "set_image": protocol.set_image,
        "set_target_buffer": protocol.set_target_buffer,
        "set_do_autozoom": protocol.set_do_autozoom,
        "reset_interactions": protocol.reset_interactions,
        "undo": protocol.undo,
        "predict": protocol.predict,
        "add_point_interaction": protocol.add_point,
        "add_bbox_interaction": protocol.add_box,
        "add_scribble_interaction": protocol.add_scribble,
        "add_lasso_interaction": protocol.add_lasso,
        "add_initial_seg_interaction": protocol.add_initial_segmentation,
    }
    for prefix in PREFIXES:
        for method, routes in (("GET", get), ("POST", post)):
            for name, answer in routes.items():
                router.add_api_route(
                    f"{prefix}/{name}",
                    answer,
                    methods=[method],
                    response_model=None,
                    include_in_schema=not prefix,
                )
    return router


@dataclass(frozen=True)
class Interaction:
    """What all interactions say."""

    positive: bool
    """It is about what belongs to the object; else about what does not."""
    run: bool
    """Answer at once; else it waits for the next prediction."""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Interaction:
        """From the fields of a request.

        Raises:
            BadSetting: one that cannot be read, or `include_interaction` is missing.
        """
        if "include_interaction" not in fields:
            raise BadSetting("include_interaction is missing: true or false is needed")
        return cls(read_flag(fields, "include_interaction"), read_flag(fields, "run_prediction", True))


class Protocol:
    """The answers."""

    def __init__(self, serving: Serving, queue: RequestQueue) -> None:
        settings = serving.settings
        self.serving, self.queue = serving, queue
        self.largest = settings.volume_mb * 2**20
        idle = 60.0 * settings.nninteractive_minutes
        self.sessions = ObjectSessions(settings.nninteractive_sessions, idle)
        known = KnownVolumes(serving.cases, serving.datastore.root / INDEX_FOLDER / "volumes.sqlite")
        kept = max(1, int(idle + LIVENESS))
        self.opener = VolumeOpener(serving.cases, known, serving.sessions, settings.nninteractive_axes, kept)

    async def healthz(self) -> dict[str, bool]:
        """Whether the server answers."""
        return {"ok": True}

    async def capabilities(self, request: Request) -> dict[str, Any]:
        """What the model can do."""
        wanted = _target(request)
        named = ", ".join(part for part in (wanted.object, wanted.sequence) if part)
        return {
            "supported_interactions": dict.fromkeys(
                ("points", "scribble", "lasso", "bbox2d", "bbox3d"), True
            ),
            "channel_mapping": CHANNELS,
            "num_interaction_channels": 7,
            "supports_initial_label": True,
            "supports_zero_shot_label_refinement": True,
            "preferred_scribble_thickness": [2, 2, 2],
            "interaction_decay": 1.0,
            "patch_size": None,
            "do_autozoom": False,
            "inference_session_version": f"SLeM Label {__version__}",
            "license": LICENSE.format(version=__version__, object=named or "the first object"),
            "supports_undo": True,
        }

    async def claim(self, request: Request) -> dict[str, Any]:
        """A session."""
        wanted = _target(request)
        if not self.sessions.most:
            raise NotOffered(OFF)

        def begin(place: int) -> Segmenting:
            return Segmenting(self.serving, self.opener, wanted, f"nnInteractive {place}")

        token = self.sessions.claim(_user(request), begin)
        return {
            "lease_token": token,
            "idle_timeout_seconds": self.sessions.idle,
            "liveness_timeout_seconds": LIVENESS,
            "max_sessions": self.sessions.most,
        }

    async def release(self, request: Request, token: Token = None) -> dict[str, bool]:
        """The end of a session."""
        self.sessions.release(token, _user(request))
        return {"released": True}

    async def heartbeat(self, request: Request, token: Token = None) -> dict[str, float]:
        """The client is still there."""
        return {"remaining_seconds": self.sessions.left(self.sessions.get(token, _user(request)))}

    async def lease_status(self, request: Request, token: Token = None) -> dict[str, float]:
        """How long a session lasts yet."""
        session = self.sessions.get(token, _user(request))
        return {
            "remaining_seconds": self.sessions.left(session),
            "idle_timeout_seconds": self.sessions.idle,
        }

    async def set_image(self, request: Request, token: Token = None) -> dict[str, list[int]]:
        """The image that is segmented: a case, if it is the image of one."""
        session = self._session(request, token)
        spacing = read_spacing(_meta(request))
        async with session.lock:  # taken before the body: one at a time is in memory
            body = await _body(request, self.largest + SLACK, "the image")
            image = await run_in_threadpool(read_image, body, self.largest)
            del body
            volume = await run_in_threadpool(session.work.recognise, image[0], spacing)
            try:
                await self._run(request, token, session, lambda: session.work.begin(volume), Kind.AUTOMATIC)
            except BaseException:  # also where the client has gone: nothing stays behind
                self.opener.discard(volume)
                raise
        return {"original_image_shape": list(image.shape)}

    async def set_target_buffer(self, request: Request, token: Token = None) -> dict[str, Any]:
        """The array into which the client writes what changes."""
        session = self._session(request, token)
        shape = read_target_shape(await _fields(request))
        async with session.lock:
            if session.work.shape is not None and shape != session.work.shape:
                raise BadPrompt(
                    f"the target has the shape {list(shape)}, the image {list(session.work.shape)}: they "
                    f"must be the same"
                )
        return {}

    async def set_do_autozoom(self, request: Request, token: Token = None) -> dict[str, Any]:
        """Our models see the whole volume, so there is nothing to zoom."""
        self._session(request, token)
        read_flag(await _fields(request), "do_autozoom", True)
        return {}

    async def reset_interactions(self, request: Request, token: Token = None) -> dict[str, Any]:
        """A new object on the same image."""
        session = self._session(request, token)
        async with session.lock:
            session.work.reset()
        return {}

    async def undo(self, request: Request, token: Token = None) -> Response:
        """The last interaction is taken back."""
        session = self._session(request, token)
        return await self._changed(request, token, session, session.work.undo)

    async def predict(self, request: Request, token: Token = None) -> Response:
        """What was said with `run_prediction` false counts from now on."""
        session = self._session(request, token)
        return await self._changed(request, token, session, session.work.predict)

    async def add_point(self, request: Request, token: Token = None) -> Response:
        """A point that belongs to the object or not."""
        session, fields = self._session(request, token), await _fields(request)
        how, at = Interaction.of(fields), read_point(fields)
        return await self._changed(
            request, token, session, lambda: session.work.point(at, how.positive, how.run)
        )

    async def add_box(self, request: Request, token: Token = None) -> Response:
        """A box around the object, or around what is not."""
        session, fields = self._session(request, token), await _fields(request)
        how, (low, high) = Interaction.of(fields), read_box(fields)
        return await self._changed(
            request, token, session, lambda: session.work.box(low, high, how.positive, how.run)
        )

    async def add_scribble(self, request: Request, token: Token = None) -> Response:
        """Painted voxels that belong to the object or not."""
        session = self._session(request, token)
        async with session.lock:
            how, mask = await self._mask(request, session)
            return await self._change(
                request, token, session, lambda: session.work.scribble(mask, how.positive, how.run)
            )

    async def add_lasso(self, request: Request, token: Token = None) -> Response:
        """A line around the object, or around what is not; it comes filled."""
        session = self._session(request, token)
        async with session.lock:
            how, mask = await self._mask(request, session)
            return await self._change(
                request, token, session, lambda: session.work.outline(mask, how.positive, how.run)
            )

    async def add_initial_segmentation(self, request: Request, token: Token = None) -> Response:
        """A segmentation to go on from."""
        session, meta = self._session(request, token), _meta(request)
        run = read_flag(meta, "run_prediction")
        async with session.lock:
            mask = await self._array(request, session, {})
            return await self._change(request, token, session, lambda: session.work.start_from(mask, run))

    def _session(self, request: Request, token: str | None) -> ObjectSession:
        return self.sessions.get(token, _user(request), acts=True)

    async def _mask(self, request: Request, session: ObjectSession) -> tuple[Interaction, np.ndarray]:
        meta = _meta(request)
        return Interaction.of(meta), await self._array(request, session, meta)

    async def _array(self, request: Request, session: ObjectSession, meta: dict[str, Any]) -> np.ndarray:
        """(the client's axes) bool: a mask on the whole image. Called with the session's lock: one body at a
        time is in memory.
        """
        shape = session.work.shape
        if shape is None:
            raise BadPrompt("the session has no image: send one")
        most = MASK_VOXEL * int(np.prod(shape))
        body = await _body(request, most + SLACK, "the mask")
        return await run_in_threadpool(read_mask, body, meta, shape, most)

    async def _changed(
        self, request: Request, token: str | None, session: ObjectSession, work: Callable[[], ScreenChange]
    ) -> Response:
        async with session.lock:
            return await self._change(request, token, session, work)

    async def _change(
        self, request: Request, token: str | None, session: ObjectSession, work: Callable[[], ScreenChange]
    ) -> Response:
        """As `_changed`, for who has the session's lock."""
        change = await self._run(request, token, session, work, Kind.CLICK)
        return await run_in_threadpool(_answer, change)

    async def _run(
        self,
        request: Request,
        token: str | None,
        session: ObjectSession,
        work: Callable[[], T],
        kind: Kind,
    ) -> T:
        """Do what needs the network, in its turn. A session whose work goes on without it is over."""
        try:
            return await self.queue.run(session.work.reader, work, None, kind)
        except TookTooLong:
            self.sessions.release(token, _user(request))
            raise


def _target(request: Request) -> ConnectionTarget:
    return ConnectionTarget(request.path_params.get("object", ""), request.path_params.get("sequence", ""))


def _user(request: Request) -> str:
    login = request.scope.get("slem.login")
    return login.user.name if login else ""


def _meta(request: Request) -> dict[str, Any]:
    return parse_object(request.headers.get(META, ""), f"the header {META}")


async def _fields(request: Request) -> dict[str, Any]:
    return parse_object(bytes(await _body(request, LARGEST, "the request")), "the body of the request")


async def _body(request: Request, most: int, what: str) -> bytearray:
    """The body, as long as it is not longer than it may be.

    Raises:
        TooLarge: it is.
    """
    told = request.headers.get("content-length", "")
    body, size = bytearray(), int(told) if told.isdigit() else 0
    if size <= most:
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                break
        size = len(body)
    if size > most:
        raise TooLarge(f"{what} has {megabytes(size)} or more, the limit is {megabytes(most)}")
    return body


def _answer(change: ScreenChange) -> Response:
    meta: dict[str, Any] = {"ran_prediction": change.ran, "bbox": change.box}
    if change.warnings:
        meta["warnings"] = [warning.code for warning in change.warnings]
    content = b""
    if change.part is not None:
        meta |= {"dtype": change.part.dtype.name, "shape": list(change.part.shape)}
        content = arrays.pack(change.part)
    headers = {META: json.dumps(meta, separators=(",", ":"))}
    return Response(content, media_type=BINARY, headers=headers)
