"""The viewer's files: each is itself, addresses of the viewer's own making are its start page, nothing else
of the machine is served.
"""

import re

import pytest
from fastapi import Request

from slem_app.errors import NotFound
from slem_app.serving.http.viewer import FOLDER, MODE, mode_script, ohif


def get(path: str, host: bytes = b"reader.example:8765"):
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/ohif/{path}",
        "query_string": b"",
        "headers": [(b"host", host)],
        "scheme": "http",
    }
    return ohif(Request(scope), path)


def test_a_file_is_itself() -> None:
    assert str(get("assets/favicon.ico").path) == str(FOLDER / "assets/favicon.ico")


def test_the_settings_are_the_viewers_own_and_name_our_mode_beside_the_stock_ones() -> None:
    body = get("app-config.js").body.decode()
    shipped = (FOLDER / "app-config.js").read_text(encoding="utf-8")
    assert body.startswith(shipped)
    for name in re.findall(r"push\('/ohif-slem/(.*)'\)", body):
        assert mode_script(name).media_type == "text/javascript"
    assert re.findall(r"config\.(\w+)\.push", body) == ["extensions", "modes"]


def test_every_script_of_the_mode_that_another_one_imports_is_there() -> None:
    scripts = sorted(path.name for path in MODE.glob("*.js"))
    imported = {
        name for one in scripts for name in re.findall(r"from '\./(.*)'", (MODE / one).read_text("utf-8"))
    }
    assert imported | {"mode.js", "extension.js"} == set(scripts)


@pytest.mark.parametrize("name", ["nothing.js", "..", "README.md"])
def test_nothing_else_is_served_beside_the_mode(name: str) -> None:
    with pytest.raises(NotFound, match=re.escape(repr(name))):
        mode_script(name)


def test_a_style_sheet_asks_nothing_of_other_servers() -> None:
    answer = get("app.bundle.css")
    shipped = (FOLDER / "app.bundle.css").read_text(encoding="utf-8")
    assert answer.media_type == "text/css"
    assert re.sub(r"@import url\(https://fonts[^)]*\);", "", shipped) == answer.body.decode()
    assert "https://fonts" in shipped
    assert "@import url(http" not in answer.body.decode()


def test_a_worker_of_the_viewer_may_load_its_decoders() -> None:
    # a worker has the policy of its own script's answer, not that of its page
    script = next(path.name for path in FOLDER.glob("*.bundle.*.js") if "importScripts" in path.read_text())
    policy = get(script).headers["content-security-policy"]
    assert re.search(r"script-src [^;]*'self'", policy)
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["", "monai-label", "index.html", "viewer/dicomweb"])
def test_the_start_page_tells_the_viewer_where_the_server_is(path: str) -> None:
    answer = get(path)
    page = answer.body.decode()
    shipped = (FOLDER / "index.html").read_text()
    fonts = re.findall(r"<link [^>]*https://fonts[^>]*>", shipped)
    assert len(fonts) == 2
    for link in fonts:  # asked of Google
        shipped = shipped.replace(link, "")
    shipped, count = re.subn(r'<link rel="manifest"[^>]*>', "", shipped)
    assert count == 1  # its pictures are not where it says
    assert page.replace('<script defer src="/ohif-save.js"></script>', "") == shipped
    assert answer.headers["set-cookie"].startswith(
        "MONAILABEL_SERVER_URL=http%3A%2F%2Freader.example%3A8765%2F; Path=/ohif;"
    )


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js",
        "assets/nothing.png",
        "../../../main.py",
        "../../../../../../../../etc/mime.txt",
        "a\x00.js",
    ],
)
def test_other_files_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        get(path)


@pytest.mark.parametrize("path", ["../../../../../../../../etc/passwd", "/etc/passwd"])
def test_files_outside_are_never_served(path: str) -> None:
    assert b"<title>OHIF Viewer</title>" in get(path).body
