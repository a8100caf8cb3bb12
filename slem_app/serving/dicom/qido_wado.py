"""DICOMweb over the studies folder (PS3.18: QIDO-RS, WADO-RS, and STOW-RS of segmentations), for OHIF and any
other viewer.

What is listed is what `studies` lists, so a viewer and the models see the same files; images that are no
DICOM are virtual series (`served_series`). Everything is looked up below its study: two patients' series
never mix. `dicomweb_client.DICOMfileClient` would do the same, but refuses files of implicit VR, which most
scanners write.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from slem_app.errors import BadSetting, NotFound, NotOffered
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom.served_series import (
    FileSeries,
    HeaderCache,
    ImageSeries,
    ServedInstance,
    ServedSeries,
    VoxelCache,
)
from slem_app.serving.dicom.stow import stow_router
from slem_app.serving.streams import Stream
from slem_app.store.dicom_results import DicomResults
from slem_app.studies import Series
from slem_app.studies.dicom_json import Attributes, elements, selected
from slem_app.studies.dicom_query import LEVELS, Query

__all__ = ["PREFIXES", "DicomArchive", "install"]

PREFIXES = ("/dicom-web", "/proxy/dicom/qido", "/proxy/dicom/wado")
"""Where it is served; the last two are where MONAI Label's OHIF looks, whichever of them is meant for which
request.
"""
JSON = "application/dicom+json"


class DicomArchive:
    """The studies of a server, by their UIDs.

    Args:
        cases: all cases; those that are not DICOM appear as virtual series, if their geometry allows it.
        dicom_results: segmentations of them that were stored here.
    """

    def __init__(self, cases: Cases, dicom_results: DicomResults | None = None) -> None:
        self.cases = cases
        self.dicom_results = dicom_results
        self.headers, self.voxels = HeaderCache(), VoxelCache()

    def studies(self, query: Query) -> list[Attributes]:
        """Studies that match, newest listing first opened only where the query may fit."""
        return query.page(facts for _, facts in self._studies(query))

    def series(self, query: Query, study: str = "") -> list[Attributes]:
        """Series that match, of one study or of all."""
        return query.page(above | facts for above, _, facts in self._series(query, study))

    def instances(self, query: Query, study: str = "", series: str = "") -> list[Attributes]:
        """Instances that match, of one series, of one study or of all."""
        return query.page(self._instances(query, study, series))

    def find(self, study: str, series: str = "", instance: str = "") -> list[ServedInstance]:
        """Files by UIDs, slice by slice.

        Raises:
            NotFound: no such study, series or instance.
        """
        served = self._served(self._case(study))
        if series and series not in served:
            raise NotFound(f"study {study} has no series {series}; it has {len(served)} others")
        found = [
            one
            for uid in ([series] if series else served)
            for one in served[uid].instances()
            if instance in ("", one.uid)
        ]
        if not found:
            raise NotFound(f"series {series} has no instance {instance}")
        return found

    def _case(self, uid: str) -> str:
        case = self.cases.dicom_studies().get(uid)
        if case is None:
            raise NotFound(f"no study {uid} among the {len(self.cases.dicom_studies())} studies here")
        return case

    def _studies(self, query: Query, only: str = "") -> Iterator[tuple[dict[str, ServedSeries], dict]]:
        known, wanted = self.cases.dicom_studies(), only or query.filters.get("StudyInstanceUID", "")
        for uid in (
            known if wanted in ("", "*") else [uid for uid in re.split(r"[,\\]", wanted) if uid in known]
        ):
            served = self._served(known[uid])
            if not served:  # none of its images can be shown
                continue
            counts: dict[str, Sequence[str | int]] = {
                "ModalitiesInStudy": sorted({one.modality for one in served.values()}),
                "NumberOfStudyRelatedSeries": [len(served)],
                "NumberOfStudyRelatedInstances": [sum(one.count for one in served.values())],
            }
            first = next(iter(served.values())).attributes
            facts = selected(first, LEVELS["study"]) | elements(counts)
            if query.matches(facts, LEVELS["study"]):
                yield served, facts

    def _series(self, query: Query, study: str, only: str = "") -> Iterator[tuple[dict, ServedSeries, dict]]:
        for served, above in self._studies(query, study):
            for uid, one in served.items():
                if only not in ("", uid):
                    continue
                facts = selected(one.attributes, LEVELS["series"]) | elements(
                    {"NumberOfSeriesRelatedInstances": [one.count]}
                )
                if query.matches(facts, LEVELS["series"]):
                    yield above, one, facts

    def _instances(self, query: Query, study: str, series: str) -> Iterator[Attributes]:
        for above, one, facts in self._series(query, study, series):
            for instance in one.instances():
                own = selected(instance.attributes, LEVELS["instance"])
                if query.matches(own, LEVELS["instance"]):
                    yield above | facts | own

    def _served(self, case: str) -> dict[str, ServedSeries]:
        """SeriesInstanceUID -> what is under it: images, several under one UID as it may be, and stored
        segmentations.
        """
        view, files = self.cases.view(case), dict[str, list[Series]]()
        served: dict[str, ServedSeries] = {
            uid: ImageSeries(one, self.voxels) for uid, one in view.virtual.items()
        }
        stored = self.dicom_results.series(view.study) if self.dicom_results else []
        images = () if view.virtual or view.refused else self.cases.study(case).series
        for series in (*images, *stored):
            files.setdefault(str(series.header.get("SeriesInstanceUID", series.id)), []).append(series)
        return served | {uid: FileSeries(tuple(group), self.headers) for uid, group in files.items()}


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
    archive = DicomArchive(cases, dicom_results)
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
        f"{path}: not offered; the studies folder is read-only: QIDO-RS, and WADO-RS "
        f"metadata, instances and frames"
    )


def _searches(archive: DicomArchive) -> APIRouter:
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


def _retrievals(archive: DicomArchive) -> APIRouter:
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
        parts, syntax = archive.find(study, series, instance)[0].frames(wanted)
        return _multipart("application/octet-stream", parts, f"; transfer-syntax={syntax}")

    @router.get("/studies/{study}")
    @router.get("/studies/{study}/series/{series}")
    @router.get("/studies/{study}/series/{series}/instances/{instance}")
    def files(request: Request) -> Response:
        return _multipart("application/dicom", (one.content() for one in archive.find(**request.path_params)))

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

    return Stream(body(), media_type=f'multipart/related; type="{kind}"; boundary={boundary}')
