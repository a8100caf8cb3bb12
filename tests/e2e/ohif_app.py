"""An OHIF that is not MONAI Label's: `@ohif/app` as its makers publish it, over a PACS, in a headless
Chromium; what it makes of a stored segmentation.

`make e2e` fetches it into `.ohif`. It reaches the PACS as a hospital's viewer would through this project: by
the proxy, from the viewer's own address.
"""

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.open_studies import open_studies
from slem_app.serving.dicom.proxy import proxy_router
from slem_app.serving.dicom.served import ServedStudies
from slem_app.serving.settings import Settings
from slem_app.studies.pacs import Pacs
from slem_app.types import Grid
from tests.e2e.ohif import LPS_TO_RAS, READY, VIEWPORT, browser_page
from tests.serving.conftest import served

FOLDER = Path(__file__).parents[2] / ".ohif"
ROOT = "/proxy/dicom"
SOURCE = {
    "friendlyName": "PACS",
    "name": "PACS",
    "wadoUriRoot": ROOT,
    "qidoRoot": ROOT,
    "wadoRoot": ROOT,
    "qidoSupportsIncludeField": True,
}
SOURCE |= {
    "imageRendering": "wadors",
    "thumbnailRendering": "wadors",
    "enableStudyLazyLoad": True,
    "bulkDataURI": {"enabled": True},
}
SETTINGS: dict[str, Any] = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
}
SETTINGS |= {
    "showLoadingIndicator": True,
    "strictZSpacingForVolumeViewport": True,
    "investigationalUseDialog": {"option": "never"},
}
SETTINGS |= {
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": SOURCE,
        }
    ],
}
LOADED = """() => {
    const [one] = window.services.segmentationService.getSegmentations();
    const images = one?.representationData?.Labelmap?.imageIds;
    const asked = document.body.innerText.includes('open this Segmentation?');
    return images?.length && images.every(id => window.cornerstone.cache.getImage(id)) && !asked;
}"""
READ = f"""() => {{
    const {{segmentationService}} = window.services, {{cache, metaData}} = window.cornerstone;
    const [one] = segmentationService.getSegmentations(), viewport = ({VIEWPORT})().viewport.id;
    const segments = Object.values(one.segments).map(segment => ({{
        number: segment.segmentIndex, name: segment.label,
        type: segment.cachedStats.type, algorithm: segment.cachedStats.algorithmType,
        color: [...segmentationService.getSegmentColor(
            viewport, one.segmentationId, segment.segmentIndex)]}}));
    const planes = one.representationData.Labelmap.imageIds.map(id => {{
        const image = cache.getImage(id), plane = metaData.get('imagePlaneModule', image.referencedImageId);
        let text = '';
        for (const value of image.voxelManager.getScalarData()) text += String.fromCharCode(value);
        return {{values: btoa(text), rows: image.rows, columns: image.columns,
                 position: [...plane.imagePositionPatient],
                 across: [...plane.rowCosines].map(part => part * plane.columnPixelSpacing),
                 down: [...plane.columnCosines].map(part => part * plane.rowPixelSpacing)}};
    }});
    return {{label: one.label, segments, planes}};
}}"""


@dataclass(frozen=True)
class Segment:
    """A segment as the viewer has it."""

    name: str
    """Its label."""
    type: str
    """Meaning of the code of what it is."""
    algorithm: str
    """How it came about."""
    color: tuple[int, ...]
    """Red, green, blue."""
    world: np.ndarray
    """(N, 3) its voxels, RAS mm, where the viewer's own headers of the images put them."""


@dataclass(frozen=True)
class Loaded:
    """A segmentation that the viewer has loaded."""

    label: str
    """What it is called."""
    segments: tuple[Segment, ...]
    """In the order of their numbers."""

    def names(self, grid: Grid) -> np.ndarray:
        """(I, J, K) names of the segments on a grid; every voxel must be a voxel of it."""
        names = np.full(grid.shape, "", dtype="<U32")
        for segment in self.segments:
            index = grid.to_index(segment.world)
            assert np.abs(index - np.round(index)).max(initial=0.0) < 0.05
            names[tuple(np.round(index).astype(int).T)] = segment.name
        return names


class IndependentViewer:
    """A page with that viewer, and every address that it asked."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.asked: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))

    def load(self, study: str, series: str) -> Loaded:
        """Open a study in the mode *Segmentation*, then a stored segmentation by a double click
        on its name.
        """
        page = self.page
        page.goto(f"{self.url}/segmentation?StudyInstanceUIDs={study}", wait_until="commit")
        page.wait_for_function(READY)
        page.locator('[data-cy^="study-browser-thumbnail"]').filter(has_text=series).first.dblclick()
        page.get_by_text("Yes", exact=True).click()
        page.wait_for_function(LOADED)
        raw = page.evaluate(READ)
        return Loaded(
            raw["label"],
            tuple(
                _segment(one, raw["planes"]) for one in sorted(raw["segments"], key=lambda one: one["number"])
            ),
        )


def _segment(raw: dict[str, Any], planes: list[dict[str, Any]]) -> Segment:
    world = [np.zeros((0, 3))]
    for plane in planes:
        values = np.frombuffer(base64.b64decode(plane["values"]), np.uint8).reshape(
            plane["rows"], plane["columns"]
        )
        down, across = np.nonzero(values == raw["number"])
        world.append(
            np.array(plane["position"])
            + across[:, None] * np.array(plane["across"])
            + down[:, None] * np.array(plane["down"])
        )
    ras = np.concatenate(world) @ LPS_TO_RAS[:3, :3]
    return Segment(
        raw["name"], raw["type"], raw["algorithm"], tuple(round(part) for part in raw["color"][:3]), ras
    )


@contextmanager
def ohif_app(pacs: str) -> Iterator[IndependentViewer]:
    """The viewer in a browser of its own, over the DICOMweb of a PACS at that address."""
    app = FastAPI()
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(open_studies(pacs, Settings(), Path(folder)), Path(folder) / "uploads")
    app.include_router(proxy_router(Pacs(pacs), ServedStudies(cases, Pacs(pacs))))

    @app.get("/app-config.js")
    def settings() -> Response:
        return Response(f"window.config = {json.dumps(SETTINGS)};", media_type="text/javascript")

    @app.get("/{path:path}")
    def files(path: str) -> FileResponse:
        file = FOLDER / path
        return FileResponse(file if file.is_file() else FOLDER / "index.html")

    with served(app) as url, browser_page() as page:
        yield IndependentViewer(page, url)
