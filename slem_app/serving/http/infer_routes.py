"""The routes that use the network: requests are read in the event loop, wait for their turn, and are answered
by one thread at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.responses import FileResponse, Response
from requests_toolbelt import MultipartEncoder
from starlette.background import BackgroundTask

from slem_app.errors import BadSetting, NotFound, TookTooLong
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.dicom.seg_reply import check_source, seg_of_answer
from slem_app.serving.http.form_fields import Fields, check_id, parse_fields
from slem_app.serving.http.infer_request import parse_infer
from slem_app.serving.http.received_files import IMAGES, LABELS, keep
from slem_app.serving.models.inference import InferFacts, InferRequest, Reply
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.queue import Kind, RequestQueue
from slem_app.serving.server import NO_IMAGE, Serving

__all__ = ["SEQUENCES", "infer_router"]

Output = Literal["image", "json", "all", "dicom_seg"]
"""What a reply is made of."""
ANSWERS: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {
            "content": {
                "multipart/form-data": {},
                "application/octet-stream": {},
                "application/json": {},
                "application/dicom": {},
            }
        }
    },
}
"""What is described of the answers: by `output`, and what is asked for in `params`."""
SEQUENCES = "Slem-Sequences"
MOST = 6  # notes, and warnings, that go into the header: proxies refuse headers of more than 8 kB


def infer_router(serving: Serving, queue: RequestQueue) -> APIRouter:
    """The routes over a server's models; `queue` is in front of them."""
    router = APIRouter(tags=["Infer"])

    @router.post("/infer/{model}", summary="Run Inference for supported model", **ANSWERS)
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
        check_id("case", image)
        if not (image or session_id or file or fields.get("image")):
            raise BadSetting(NO_IMAGE)
        names = serving.task(model).predictor.card.labels.names
        call = InferenceCall(
            serving, parse_infer(model, image, fields, names), session_id, file, label, output
        )
        return await call.run(queue, request)

    for what in ("undo", "redo", "start_over"):
        router.add_api_route(
            f"/slem/{what}/{{model}}", _going_back(serving, queue, what), methods=["POST"], **ANSWERS
        )
    return router


def _going_back(
    serving: Serving, queue: RequestQueue, what: str
) -> Callable[..., Coroutine[Any, Any, Response]]:
    """The answer of the routes 'undo', 'redo' and 'start_over'."""

    async def go_back(
        request: Request,
        model: str,
        image: str = "",
        session_id: str = "",
        client_id: str = "",
        output: Output | None = None,
        compress: bool = True,
    ) -> Response:
        """Take a reader's last step on an image back, do it again, or take all back (which is a step itself,
        so that it can be undone too).

        Answers like `/infer/{model}`. `client_id` must be the one that the clicks came with; `compress` is of
        the label map in itself.
        """
        if not image and not session_id:
            raise BadSetting(NO_IMAGE)
        check_id("case", image)
        asked = InferRequest(
            model,
            image,
            client_id=client_id,
            reply=Reply(compress=compress),
            undo=what == "undo",
            redo=what == "redo",
            start_over=what == "start_over",
        )
        return await InferenceCall(serving, asked, session_id, None, None, output).run(queue, request)

    return go_back


def told(facts: InferFacts) -> str:
    """What the header SEQUENCES says: the sequences that were used and those that were missing, and the first
    notes and warnings, as JSON, percent-encoded.

    OHIF asks for the label map alone, so that it gets no `params`; the bar in it (`assets/save.js`) shows the
    reader this.
    """
    said = {
        "used": facts.used,
        "missing": facts.missing,
        "notes": facts.notes[:MOST],
        "warnings": [one.table() for one in facts.warnings[:MOST]],
    }
    return quote(json.dumps(said))


class InferenceCall:
    """One request for the network, from its files to its answer."""

    def __init__(
        self,
        serving: Serving,
        asked: InferRequest,
        session_id: str,
        file: UploadFile | None,
        label: UploadFile | None,
        output: Output | None,
    ) -> None:
        self.serving, self.asked, self.session_id = serving, replace(asked, session=session_id), session_id
        self.file, self.label, self.output = file, label, output
        self.lost = False

    async def run(self, queue: RequestQueue, request: Request) -> Response:
        """The answer, once it is this reader's turn."""
        try:
            reader = reader_of(self.asked.client_id)
            return await queue.run(reader, self._work, _gone(request), self._kind())
        except TookTooLong:
            self.lost = True
            raise

    def _kind(self) -> Kind:
        """How urgent this is: nobody waits in front of a screen for a result that is to be saved at once."""
        task = self.serving.tasks.get(self.asked.model)
        if isinstance(task, InteractiveTask):
            return Kind.CLICK if task.begun(self.asked) else Kind.FIRST_CLICK
        return Kind.BACKGROUND if self.asked.save_label else Kind.AUTOMATIC

    def _work(self) -> Response:
        sent: list[Path] = []
        try:
            asked = self._with_files(sent)
            case = self.serving.case_of(asked) if self.output == "dicom_seg" else None
            if case is not None:
                check_source(case)
            answer = self.serving.infer(asked)
        finally:
            for path in sent:
                path.unlink(missing_ok=True)
        headers = {SEQUENCES: told(answer.facts)}
        if answer.file is not None and (self.lost or self.output in ("json", "dicom_seg")):
            answer.file.unlink(missing_ok=True)
        if case is not None:
            content = seg_of_answer(case, self.serving.cards[asked.model], answer)
            return Response(content, media_type="application/dicom", headers=headers)
        if answer.file is None or self.lost or self.output == "json":
            return Response(
                json.dumps(answer.facts.to_json()), media_type="application/json", headers=headers
            )
        if self.output == "image":
            return _file_alone(answer.file, headers)
        return _file_and_facts(answer.file, answer.facts, headers)

    def _with_files(self, sent: list[Path]) -> InferRequest:
        """The request with what was uploaded, whose paths are added to `sent`. A file is made of the answer
        only where somebody will read it.
        """
        asked = self.asked
        if self.output in ("json", "dicom_seg") and not asked.save_label:
            asked = replace(asked, reply=None)
        if self.file is not None:
            sent.append(keep(self.file, IMAGES))
            asked = replace(asked, volume=sent[-1])
        if self.label is not None:
            sent.append(keep(self.label, LABELS))
            asked = replace(asked, label=None, label_file=sent[-1])
        if self.session_id:
            session = self.serving.sessions.get_session(self.session_id)
            if session is not None:
                return replace(asked, volume=Path(session.image))
            if not asked.image and asked.volume is None:
                raise NotFound(
                    f"no session {self.session_id!r}: it has expired or was removed; send the volume again"
                )
        return asked


def _file_alone(path: Path, headers: Mapping[str, str]) -> Response:
    """A file that is gone once it is sent."""
    gone = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(
        path, media_type="application/octet-stream", filename=path.name, headers=headers, background=gone
    )


def _file_and_facts(path: Path, facts: InferFacts, headers: Mapping[str, str]) -> Response:
    """A file and what is told beside it, as MONAI Label's clients take them apart."""
    with path.open("rb") as file:
        fields = {
            "params": (None, json.dumps(facts.to_json()), "application/json"),
            "image": (path.name, file, "application/octet-stream"),
        }
        body = MultipartEncoder(fields=fields)
        content = body.to_string()
    path.unlink()
    return Response(content, media_type=body.content_type, headers=headers)


async def _gone(request: Request) -> None:
    """Ends when the client of a request that was read to its end is there no more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
