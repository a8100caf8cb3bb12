"""The OHIF viewer below `/ohif`: the one that MONAI Label ships, or a newer one in a folder of its own
(setting `ohif`: `@ohif/app` as its makers publish it).

Files are served as they are, because MONAI Label's own route joins their paths wrongly and answers with the
start page. The start page gets one script of ours, with which a reader of the stock modes saves
(`assets/save.js`). The viewer's settings name a mode of ours beside the stock ones (`clients/ohif`): OHIF
imports it by its address when it starts, so nothing has to be built. The viewer's server box is filled
through the cookie in which it keeps it, for its own guess is always port 8000. MONAI Label's package need
only lie there, its code is not loaded; without it and without the setting there is no viewer, and all else
works.

A viewer that was built for the root of a site has that root in its files: it is exchanged for `/ohif/` as
they are read (`Viewer.moved`), and the studies in its settings are this server's.
"""

from __future__ import annotations

import importlib.util
import json
import mimetypes
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

import slem_app
from slem_app.errors import BadSetting, NotFound
from slem_app.serving.http.security_headers import WORKER_POLICY, viewer_policy

__all__ = ["Viewer", "static_folder", "viewer_router"]

NONE = "this server has no viewer: it comes with the package `monailabel` (pip install --no-deps monailabel)"
ASSETS = Path(__file__).parent / "assets"
MODE = Path(slem_app.__file__).parent / "ohif_client"
SETTINGS = "app-config.js"
PLACE = "/ohif/"
WITH_MODE = """
window.config.extensions.push('/ohif-slem/extension.js');
window.config.modes.push('/ohif-slem/mode.js');
"""
STUDIES = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "dicomweb",
    "configuration": {
        "friendlyName": "SLeM Label",
        "name": "SLeM Label",
        "qidoRoot": "/proxy/dicom/qido",
        "wadoRoot": "/proxy/dicom/wado",
        "wadoUriRoot": "/proxy/dicom/wado",
        "qidoSupportsIncludeField": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": False,
        "supportsFuzzyMatching": True,
        "supportsWildcard": True,
        "bulkDataURI": {"enabled": True},
    },
}
"""Where a viewer that is not MONAI Label's finds the studies."""
SAVE_BAR = '<script defer src="/ohif-save.js"></script>'
FOREIGN = re.compile(r'<link [^>]*href="https?://[^>]*>')  # Google's fonts
MANIFEST = re.compile(r'<link rel="manifest"[^>]*>')  # names pictures that the wheel has elsewhere
FOREIGN_STYLE = re.compile(r"@import url\(https?://[^)]*\);?")  # the same, out of a style sheet
ROOT = re.compile(r"PUBLIC_URL ?= ?['\"]([^'\"]*)['\"]")
OF_ROOT = {  # where a viewer built for "/" names that root; all but the last group stays
    ".html": re.compile(r"((?:src|href|content)=\"|PUBLIC_URL ?= ?['\"])/(?!/)"),
    ".js": re.compile(r"(__webpack_require__\.p ?= ?['\"])/(?=['\"])"),
    ".css": re.compile(r"(url\(['\"]?)/(?!/)"),
}
COOKIE = "MONAILABEL_SERVER_URL"


def static_folder() -> Path:
    """What MONAI Label serves to browsers; a folder that is not there where it is not installed."""
    found = importlib.util.find_spec("monailabel")
    package = Path(found.origin).resolve().parent if found and found.origin else Path("/nonexistent")
    return package / "endpoints/static"


@dataclass(frozen=True)
class Viewer:
    """A built OHIF.

    Raises:
        BadSetting: `own`, and the viewer in the folder is built for another place than `/` or `/ohif/`.
    """

    folder: Path
    """Where its files lie."""
    own: bool = False
    """The operator named it; else it is the one in MONAI Label's package, which need not be there."""

    def __post_init__(self) -> None:
        if self.own and self.root not in ("/", PLACE):
            raise BadSetting(
                f"ohif: the viewer in {self.folder} is built for {self.root or 'an unknown place'}: "
                f"expected one for / or {PLACE}"
            )

    @cached_property
    def root(self) -> str:
        """The place on a site for which it is built."""
        found = ROOT.search((self.folder / "index.html").read_text(encoding="utf-8"))
        return found[1] if found else ""

    def moved(self, text: str, suffix: str) -> str:
        """A file's text with `/ohif/` as its root."""
        if self.root == PLACE or suffix not in OF_ROOT:
            return text
        return OF_ROOT[suffix].sub(rf"\g<1>{PLACE}", text)

    @cached_property
    def start_page(self) -> tuple[str, str]:
        """The viewer's start page, with our script and without the fonts that it would fetch from elsewhere,
        and its Content Security Policy.
        """
        page = FOREIGN.sub("", (self.folder / "index.html").read_text(encoding="utf-8"))
        page = self.moved(MANIFEST.sub("", page), ".html")
        page = page.replace("</head>", f"{SAVE_BAR}</head>", 1)
        return page, viewer_policy(page)

    @cached_property
    def settings(self) -> str:
        """The viewer's settings, with our mode."""
        text = (self.folder / SETTINGS).read_text(encoding="utf-8")
        if self.own:
            ours = {"routerBasename": PLACE, "showStudyList": True, "defaultDataSourceName": "dicomweb"}
            text += f"\nObject.assign(window.config, {json.dumps({**ours, 'dataSources': [STUDIES]})});"
        return text + WITH_MODE

    def file(self, path: str) -> Path | None:
        """The file at an address; None: no such file, or one outside the folder."""
        try:
            file = (self.folder / path).resolve()
            return file if file.is_relative_to(self.folder) and file.is_file() else None
        except (OSError, ValueError):  # a name that no file system takes
            return None


@lru_cache(maxsize=512)
def changed_text(viewer: Viewer, file: Path) -> str | None:
    """A script or style sheet of a viewer as it is served; None: as it is on disk."""
    if file.suffix == ".css":
        return viewer.moved(FOREIGN_STYLE.sub("", file.read_text(encoding="utf-8")), ".css")
    if file.suffix != ".js" or viewer.root == PLACE:
        return None
    text = file.read_text(encoding="utf-8")
    moved = viewer.moved(text, ".js")
    return None if moved == text else moved


def viewer_router(folder: Path | None = None) -> APIRouter:
    """The routes of the viewer and of our mode in it.

    Args:
        folder: of a built OHIF; None: the one in MONAI Label's package.

    Raises:
        BadSetting: it is built for another place.
    """
    viewer = Viewer(static_folder() / "ohif") if folder is None else Viewer(folder.resolve(), own=True)
    router = APIRouter()

    @router.get("/ohif-save.js", include_in_schema=False)
    def save_bar() -> FileResponse:
        """The bar with which a reader saves in the viewer."""
        return FileResponse(
            ASSETS / "save.js", media_type="text/javascript", headers={"Cache-Control": "no-cache"}
        )

    @router.get("/ohif-slem/{name}", include_in_schema=False)
    def mode(name: str) -> FileResponse:
        return mode_script(name)

    @router.get("/ohif/{path:path}", include_in_schema=False)
    def ohif(request: Request, path: str = "") -> Response:
        return answer(viewer, path, str(request.base_url))

    return router


def mode_script(name: str) -> FileResponse:
    """A script of our mode.

    Raises:
        NotFound: no such script.
    """
    file = MODE / name
    if file.suffix != ".js" or not file.is_file():
        raise NotFound(f"the viewer's mode has no file {name!r}")
    return FileResponse(file, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


def answer(viewer: Viewer, path: str, server: str) -> Response:
    """A file of the viewer; its start page for the addresses of its own making, such as
    `monai-label?StudyInstanceUIDs=...`.

    Args:
        viewer: that is served.
        path: below `/ohif/`.
        server: address of this server, for the viewer's server box.

    Raises:
        NotFound: no such file, or one outside the viewer's folder; no viewer.
    """
    if not viewer.folder.is_dir():
        raise NotFound(NONE)
    file = viewer.file(path)
    if file is not None and file.name == SETTINGS:
        return Response(viewer.settings, media_type="text/javascript", headers={"Cache-Control": "no-cache"})
    if file is not None and file.suffix in (".js", ".css"):
        headers = {"Content-Security-Policy": WORKER_POLICY} if file.suffix == ".js" else {}
        text, kind = changed_text(viewer, file), mimetypes.guess_type(file.name)[0]
        return FileResponse(file, headers=headers) if text is None else Response(text, 200, headers, kind)
    if file is not None and file.name != "index.html":
        return FileResponse(file)
    if file is None and mimetypes.guess_type(path)[0]:
        raise NotFound(f"the viewer has no file {path!r}")
    content, policy = viewer.start_page
    page = HTMLResponse(content, headers={"Cache-Control": "no-cache", "Content-Security-Policy": policy})
    page.set_cookie(COOKIE, quote(server, safe=""), path="/ohif", samesite="strict")
    return page
