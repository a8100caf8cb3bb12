"""The routes that use the network: requests are read in the event loop, wait for their turn, and are answered
by one thread at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.responses import FileResponse, Response
from requests_toolbelt import MultipartEncoder
from starlette.background import BackgroundTask

from slem_app.errors import BadSetting, NotFound, TookTooLong
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.catalogue import Case
from slem_app.serving.dicom.seg_reply import check_source, seg_of_reply
from slem_app.serving.http.form_fields import Fields, parse_fields
from slem_app.serving.http.received_files import IMAGES, LABELS, keep
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.queue import Kind, RequestQueue
from slem_app.serving.server import Serving

__all__ = ["SEQUENCES", "infer_router"]

Output = Literal["image", "json", "all", "dicom_seg"]
"""What a reply is made of."""
SEQUENCES = "Slem-Sequences"
NOTES = 6  # that go into the header: proxies refuse headers of more than 8 kB
NO_IMAGE = "the request names no image: give `image=ID`, or `session_id=ID` of an upload that is still there"


def infer_router(serving: Serving, queue: RequestQueue) -> APIRouter:
    """The routes over a server's models; `queue` is in front of them."""
    router = APIRouter(tags=["Infer"])

    @router.post("/infer/{model}", summary="Run Inference for supported model")
    async def infer(
        request: Request,
        model: str,
        image: str = "",
        session_id: str = "",
        params: Fields = "{}",
        file: Annotated[UploadFile | None, File()] = None,
        label: Annotated[UploadFile | None, File()] = None,
        output: Output | None = None,
    ) -> Response:
        """Segment an image of the server, of a session, or one that is sent with the request."""
        fields = parse_fields(params)
        if not (image or session_id or file or fields.get("image")):
            raise BadSetting(NO_IMAGE)
        job = InferenceCall(
            serving, {"model": model, "image": image, **fields}, session_id, file, label, output
        )
        return await job.run(queue, request)

    @router.post("/slem/{what}/{model}")
    async def go_back(
        request: Request,
        what: Literal["undo", "start_over"],
        model: str,
        image: str = "",
        session_id: str = "",
        client_id: str = "",
        output: Output | None = None,
        compress: bool = True,
    ) -> Response:
        """Take a reader's last step on an image back, or all (which is a step itself, so that it can be
        undone too).

        Answers like `/infer/{model}`. `client_id` must be the one that the clicks came with; `compress` is of
        the label map in itself.
        """
        if not image and not session_id:
            raise BadSetting(NO_IMAGE)
        fields = {what: True, "result_compress": compress, **({"client_id": client_id} if client_id else {})}
        return await InferenceCall(
            serving, {"model": model, "image": image, **fields}, session_id, None, None, output
        ).run(queue, request)

    return router


def told(params: Mapping[str, Any]) -> str:
    """What the header SEQUENCES says: the sequences that were used and those that were missing, and the first
    notes, as JSON, percent-encoded.

    OHIF asks for the label map alone, so that it gets no `params`; the bar in it (`assets/save.js`) shows the
    reader this.
    """
    said = {name: list(params[name]) for name in ("used", "missing", "notes")}
    return quote(json.dumps(said | {"notes": said["notes"][:NOTES]}))


class InferenceCall:
    """One request for the network, from its fields to its answer."""

    def __init__(
        self,
        serving: Serving,
        fields: Mapping[str, Any],
        session_id: str,
        file: UploadFile | None,
        label: UploadFile | None,
        output: Output | None,
    ) -> None:
        self.serving, self.fields, self.session_id = serving, dict(fields), session_id
        self.file, self.label, self.output = file, label, output
        self.lost = False

    async def run(self, queue: RequestQueue, request: Request) -> Response:
        """The answer, once it is this reader's turn."""
        if Path(str(self.fields.get("image", ""))).is_absolute():
            raise NotFound(f"no case {self.fields['image']!r}: paths of the server are no ids")
        try:
            reader = reader_of(self.fields.get("client_id"))
            return await queue.run(reader, self._work, _gone(request), self._kind())
        except TookTooLong:
            self.lost = True
            raise

    def _kind(self) -> Kind:
        """How urgent this is: nobody waits in front of a screen for a result that is to be saved at once."""
        if isinstance(self.serving.tasks.get(str(self.fields.get("model"))), InteractiveTask):
            return Kind.CLICK
        return Kind.BACKGROUND if self.fields.get("save_label") else Kind.AUTOMATIC

    def _work(self) -> Response:
        sent: list[Path] = []
        try:
            request = self._request(sent)
            case = self._dicom_case(request) if self.output == "dicom_seg" else None
            result = self.serving.infer(request)
        finally:
            for path in sent:
                path.unlink(missing_ok=True)
        path, headers = Path(result["file"]), {SEQUENCES: told(result["params"])}
        if case is not None:
            try:
                content = seg_of_reply(
                    case, self.serving.cards[str(request["model"])], path, result["params"]
                )
            finally:
                path.unlink(missing_ok=True)
            return Response(content, media_type="application/dicom", headers=headers)
        if self.lost or self.output == "json":
            path.unlink(missing_ok=True)
            return Response(json.dumps(result["params"]), media_type="application/json", headers=headers)
        if self.output == "image":
            gone = BackgroundTask(path.unlink, missing_ok=True)
            return FileResponse(
                path,
                media_type="application/octet-stream",
                filename=path.name,
                headers=headers,
                background=gone,
            )
        with path.open("rb") as file:
            fields = {
                "params": (None, json.dumps(result["params"]), "application/json"),
                "image": (path.name, file, "application/octet-stream"),
            }
            body = MultipartEncoder(fields=fields)
            content = body.to_string()
        path.unlink()
        return Response(content, media_type=body.content_type, headers=headers)

    def _dicom_case(self, request: Mapping[str, Any]) -> Case | None:
        """The image to which a DICOM segmentation of the answer will refer; None for an unknown model, which
        is said elsewhere.
        """
        card = self.serving.cards.get(str(request.get("model")))
        if card is None:
            return None
        case, _ = self.serving.case_of(request, card.reference_order)
        check_source(case)
        return case

    def _request(self, sent: list[Path]) -> dict[str, Any]:
        """MONAI Label's request, with the paths of what was uploaded."""
        request = dict(self.fields)
        if self.file is not None:
            sent.append(keep(self.file, IMAGES))
            request["image"] = str(sent[-1])
        if self.label is not None:
            sent.append(keep(self.label, LABELS))
            request["label"] = str(sent[-1])
        if self.session_id:
            session = self.serving.sessions.get_session(self.session_id)
            if session is None and not request.get("image"):
                raise NotFound(
                    f"no session {self.session_id!r}: it has expired or was removed; send the volume again"
                )
            if session is not None:
                request["image"] = session.image
        return request


async def _gone(request: Request) -> None:
    """Ends when the client of a request that was read to its end is there no more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
