"""DICOMweb over the studies folder (PS3.18: QIDO-RS, WADO-RS, and STOW-RS of segmentations), for OHIF and any
other viewer.

What is listed is what `studies` lists, so a viewer and the models see the same files. Everything is looked up
below its study: two patients' series never mix. `dicomweb_client.DICOMfileClient` would do the same, but
refuses files of implicit VR, which most scanners write.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from slem_app.errors import BadSetting, NotFound, NotOffered
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom.stow import stow_router
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.store.dicom_results import DicomResults
from slem_app.studies import Series, Study
from slem_app.studies.dicom_json import Attributes, Instance, elements, read_frames, read_instance, selected
from slem_app.studies.dicom_query import LEVELS, Query

__all__ = ["PREFIXES", "Archive", "install"]

PREFIXES = ("/dicom-web", "/proxy/dicom/qido", "/proxy/dicom/wado")
"""Where it is served; the last two are where MONAI Label's OHIF looks, whichever of them is meant for which
request.
"""
JSON = "application/dicom+json"
KEPT = 256 * 2**20  # bytes of headers, as JSON


@dataclass(frozen=True)
class Held:
    """A series with the headers of its files."""

    instances: tuple[Instance, ...]
    """In the order of the slices."""
    nbytes: int
    """About what they take."""


class Archive:
    """The DICOM studies of a server, by their UIDs.

    Args:
        cases: all cases; those that are not DICOM do not appear.
        dicom_results: segmentations of them that were stored here.
    """

    def __init__(self, cases: Cases, dicom_results: DicomResults | None = None) -> None:
        self.cases = cases
        self.dicom_results = dicom_results
        self.held: ByteCache[Held] = ByteCache(KEPT, lambda held: held.nbytes)

    def studies(self, query: Query) -> list[Attributes]:
        """Studies that match, newest listing first opened only where the query may fit."""
        return query.page(facts for _, facts in self._studies(query))

    def series(self, query: Query, study: str = "") -> list[Attributes]:
        """Series that match, of one study or of all."""
        return query.page(above | facts for above, _, facts in self._series(query, study))

    def instances(self, query: Query, study: str = "", series: str = "") -> list[Attributes]:
        """Instances that match, of one series, of one study or of all."""
        return query.page(self._instances(query, study, series))

    def find(self, study: str, series: str = "", instance: str = "") -> list[Instance]:
        """Files by UIDs, slice by slice.

        Raises:
            NotFound: no such study, series or instance.
        """
        groups = self._groups(self._study(study))
        if series and series not in groups:
            raise NotFound(f"study {study} has no series {series}; it has {len(groups)} others")
        found = [
            one
            for uid in ([series] if series else groups)
            for one in self._read(groups[uid]).instances
            if instance in ("", one.uid)
        ]
        if not found:
            raise NotFound(f"series {series} has no instance {instance}")
        return found

    def _study(self, uid: str) -> Study:
        case = self.cases.dicom_studies().get(uid)
        if case is None:
            raise NotFound(f"no study {uid} among the {len(self.cases.dicom_studies())} DICOM studies here")
        return self.cases.study(case)

    def _studies(self, query: Query, only: str = "") -> Iterator[tuple[Study, dict]]:
        known, wanted = self.cases.dicom_studies(), only or query.filters.get("StudyInstanceUID", "")
        for uid in (
            known if wanted in ("", "*") else [uid for uid in re.split(r"[,\\]", wanted) if uid in known]
        ):
            study = self.cases.study(known[uid])
            groups = self._groups(study)
            first = read_instance(study.series[0].paths[0]).attributes
            counts: dict[str, Sequence[str | int]] = {
                "ModalitiesInStudy": sorted(
                    {str(one.header.get("Modality", "OT")) for group in groups.values() for one in group}
                ),
                "NumberOfStudyRelatedSeries": [len(groups)],
                "NumberOfStudyRelatedInstances": [sum(len(_paths(group)) for group in groups.values())],
            }
            facts = selected(first, LEVELS["study"]) | elements(counts)
            if query.matches(facts, LEVELS["study"]):
                yield study, facts

    def _series(
        self, query: Query, study: str, only: str = ""
    ) -> Iterator[tuple[dict, Sequence[Series], dict]]:
        for one, above in self._studies(query, study):
            for uid, group in self._groups(one).items():
                if only not in ("", uid):
                    continue
                first = read_instance(group[0].paths[0]).attributes
                facts = selected(first, LEVELS["series"]) | elements(
                    {"NumberOfSeriesRelatedInstances": [len(_paths(group))]}
                )
                if query.matches(facts, LEVELS["series"]):
                    yield above, group, facts

    def _instances(self, query: Query, study: str, series: str) -> Iterator[Attributes]:
        for above, group, facts in self._series(query, study, series):
            for instance in self._read(group).instances:
                own = selected(instance.attributes, LEVELS["instance"])
                if query.matches(own, LEVELS["instance"]):
                    yield above | facts | own

    def _groups(self, study: Study) -> dict[str, list[Series]]:
        """SeriesInstanceUID -> the images under it, which may be several, or the segmentation."""
        found: dict[str, list[Series]] = {}
        stored = (
            self.dicom_results.series(str(study.series[0].header.get("StudyInstanceUID", "")))
            if self.dicom_results
            else []
        )
        for series in (*study.series, *stored):
            found.setdefault(str(series.header.get("SeriesInstanceUID", series.id)), []).append(series)
        return found

    def _read(self, group: Sequence[Series]) -> Held:
        key, state = tuple(one.id for one in group), tuple(one.state for one in group)
        held = self.held.get(key, state)
        if held is None:
            instances = tuple(read_instance(path) for path in _paths(group))
            # objects take about ten times their text
            held = Held(instances, 10 * sum(len(one.json) for one in instances))
            self.held.put(key, state, held)
        return held


def _paths(group: Sequence[Series]) -> list[Path]:
    return list(dict.fromkeys(path for series in group for path in series.paths))


def install(
    app: FastAPI,
    cases: Cases,
    dicom_results: DicomResults | None = None,
    stored: Callable[[str], None] | None = None,
) -> None:
    """Serve the studies of `cases` under `PREFIXES`, and nothing else under MONAI Label's proxy, which would
    ask the folder as a server.

    Args:
        app: the application.
        cases: the studies.
        dicom_results: where segmentations may be stored; None: nowhere.
        stored: told the case of a segmentation that came.
    """
    archive = Archive(cases, dicom_results)
    for prefix in PREFIXES:
        if dicom_results is not None:
            app.include_router(
                stow_router(cases, dicom_results, stored or (lambda case: None)),
                prefix=prefix,
                include_in_schema=False,
            )
        app.include_router(_searches(archive), prefix=prefix, include_in_schema=False)
        app.include_router(_retrievals(archive), prefix=prefix, include_in_schema=False)
    app.add_api_route(
        "/proxy/dicom/{path:path}", _refuse, methods=["GET", "POST", "PUT", "DELETE"], include_in_schema=False
    )


async def _refuse(path: str) -> Response:
    raise NotOffered(
        f"{path}: not offered; the studies folder is served to be read: QIDO-RS, and WADO-RS "
        f"metadata, instances and frames"
    )


def _searches(archive: Archive) -> APIRouter:
    """QIDO-RS. Handlers are functions, so FastAPI runs them in threads."""
    router = APIRouter()

    @router.get("/studies")
    def studies(request: Request) -> Response:
        return _json(archive.studies(Query.parse(request.query_params.multi_items(), "study")))

    @router.get("/series")
    @router.get("/studies/{study}/series")
    def series(request: Request) -> Response:
        return _json(
            archive.series(
                Query.parse(request.query_params.multi_items(), "series"),
                request.path_params.get("study", ""),
            )
        )

    @router.get("/instances")
    @router.get("/studies/{study}/instances")
    @router.get("/studies/{study}/series/{series}/instances")
    def instances(request: Request) -> Response:
        query, path = Query.parse(request.query_params.multi_items(), "instance"), request.path_params
        return _json(archive.instances(query, path.get("study", ""), path.get("series", "")))

    return router


def _retrievals(archive: Archive) -> APIRouter:
    """WADO-RS."""
    router = APIRouter()

    @router.get("/studies/{study}/metadata")
    @router.get("/studies/{study}/series/{series}/metadata")
    @router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
    def metadata(request: Request) -> Response:
        return Response(
            f"[{','.join(one.json for one in archive.find(**request.path_params))}]", media_type=JSON
        )

    @router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{numbers}")
    def frames(study: str, series: str, instance: str, numbers: str) -> Response:
        if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", numbers):
            raise BadSetting(f"frames {numbers!r}: expected numbers from 1, separated by commas")
        # each frame once, however often it is asked for
        wanted = list(dict.fromkeys(int(number) for number in numbers.split(",")))
        parts, syntax = read_frames(archive.find(study, series, instance)[0].path, wanted)
        return _multipart("application/octet-stream", parts, f"; transfer-syntax={syntax}")

    @router.get("/studies/{study}")
    @router.get("/studies/{study}/series/{series}")
    @router.get("/studies/{study}/series/{series}/instances/{instance}")
    def files(request: Request) -> Response:
        return _multipart(
            "application/dicom", (one.path.read_bytes() for one in archive.find(**request.path_params))
        )

    return router


def _json(found: list[Attributes]) -> Response:
    return JSONResponse(found, media_type=JSON)


def _multipart(kind: str, parts: Iterable[bytes | memoryview], more: str = "") -> Response:
    """A multipart/related body, PS3.18 section 8.6.1.2, sent part by part: one is in memory at a time."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: {kind}{more}\r\n\r\n".encode()

    def body() -> Iterator[bytes]:
        for part in parts:
            yield head
            yield bytes(part)
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(body(), media_type=f'multipart/related; type="{kind}"; boundary={boundary}')
