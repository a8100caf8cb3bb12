"""The OHIF viewer that MONAI Label ships, as its files are: MONAI Label's own route joins their paths wrongly
and answers with the start page.

The start page gets one script of ours, with which a reader of the stock modes saves (`assets/save.js`). The
viewer's settings name a mode of ours beside the stock ones (`clients/ohif`): OHIF imports it by its address
when it starts, so nothing has to be built. The viewer's server box is filled through the cookie in which it
keeps it, for its own guess is always port 8000. MONAI Label's package need only lie there, its code is not
loaded; without it there is no viewer, and all else works.
"""

from __future__ import annotations

import importlib.util
import mimetypes
import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

import slem_app
from slem_app.errors import NotFound
from slem_app.serving.http.security_headers import WORKER_POLICY, viewer_policy

__all__ = ["router"]

NONE = "this server has no viewer: it comes with the package `monailabel` (pip install --no-deps monailabel)"
ASSETS = Path(__file__).parent / "assets"
MODE = Path(slem_app.__file__).parent / "ohif_client"
SETTINGS = "app-config.js"
WITH_MODE = """
window.config.extensions.push('/ohif-slem/extension.js');
window.config.modes.push('/ohif-slem/mode.js');
"""
SAVE_BAR = '<script defer src="/ohif-save.js"></script>'
FOREIGN = re.compile(r'<link [^>]*href="https?://[^>]*>')  # Google's fonts
MANIFEST = re.compile(r'<link rel="manifest"[^>]*>')  # names pictures that the wheel has elsewhere
FOREIGN_STYLE = re.compile(r"@import url\(https?://[^)]*\);?")  # the same, out of a style sheet
COOKIE = "MONAILABEL_SERVER_URL"


def static_folder() -> Path:
    """What MONAI Label serves to browsers; a folder that is not there where it is not installed."""
    found = importlib.util.find_spec("monailabel")
    package = Path(found.origin).resolve().parent if found and found.origin else Path("/nonexistent")
    return package / "endpoints/static"


FOLDER = static_folder() / "ohif"

router = APIRouter()


@cache
def start_page() -> tuple[str, str]:
    """The viewer's start page, with our script and without the fonts that it would fetch from elsewhere, and
    its Content Security Policy.
    """
    page = FOREIGN.sub("", (FOLDER / "index.html").read_text(encoding="utf-8"))
    page = MANIFEST.sub("", page)
    page = page.replace("</head>", f"{SAVE_BAR}</head>", 1)
    return page, viewer_policy(page)


@cache
def style_sheet(file: Path) -> str:
    """A style sheet of the viewer, without what it would fetch from elsewhere."""
    return FOREIGN_STYLE.sub("", file.read_text(encoding="utf-8"))


@router.get("/ohif-save.js", include_in_schema=False)
def save_bar() -> FileResponse:
    """The bar with which a reader saves in the viewer."""
    return FileResponse(
        ASSETS / "save.js", media_type="text/javascript", headers={"Cache-Control": "no-cache"}
    )


@router.get("/ohif-slem/{name}", include_in_schema=False)
def mode_script(name: str) -> FileResponse:
    """A script of our mode.

    Raises:
        NotFound: no such script.
    """
    file = MODE / name
    if file.suffix != ".js" or not file.is_file():
        raise NotFound(f"the viewer's mode has no file {name!r}")
    return FileResponse(file, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


@cache
def settings() -> str:
    """The viewer's settings, with our mode."""
    return (FOLDER / SETTINGS).read_text(encoding="utf-8") + WITH_MODE


@router.get("/ohif/{path:path}", include_in_schema=False)
def ohif(request: Request, path: str = "") -> Response:
    """A file of the viewer; its start page for the addresses of its own making, such as
    `monai-label?StudyInstanceUIDs=...`.

    Raises:
        NotFound: no such file, or one outside the viewer's folder; no viewer.
    """
    if not FOLDER.is_dir():
        raise NotFound(NONE)
    try:
        file = (FOLDER / path).resolve()
        there = file.is_relative_to(FOLDER) and file.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        there = False
    if there and file.suffix == ".css":
        return Response(style_sheet(file), media_type="text/css")
    if there and file == FOLDER / SETTINGS:
        return Response(settings(), media_type="text/javascript", headers={"Cache-Control": "no-cache"})
    if there and file.suffix == ".js":
        return FileResponse(file, headers={"Content-Security-Policy": WORKER_POLICY})
    if there and file.name != "index.html":
        return FileResponse(file)
    if not there and mimetypes.guess_type(path)[0]:
        raise NotFound(f"the viewer has no file {path!r}")
    content, policy = start_page()
    page = HTMLResponse(content, headers={"Cache-Control": "no-cache", "Content-Security-Policy": policy})
    page.set_cookie(COOKIE, quote(str(request.base_url), safe=""), path="/ohif", samesite="strict")
    return page
