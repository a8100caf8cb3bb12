"""The viewer's files: each is itself, addresses of the viewer's own making are its start page, nothing else
of the machine is served.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slem_app.errors import BadSetting, NotFound
from slem_app.serving.http.viewer import MODE, Viewer, answer, mode_script, static_folder
from slem_app.serving.settings import parse_settings

FOLDER = static_folder() / "ohif"
SERVER = "http://reader.example:8765/"
BUNDLED = Viewer(FOLDER)
# what a viewer built for the root of a site says of it: its page, a script that loads others, a style sheet
FILES = {
    "index.html": '<head><script>window.PUBLIC_URL="/"</script><link href="/app.css"></head>'
    '<script src="/app.js"></script><a href="//elsewhere.example/"></a>',
    "app.js": 'a = "/"; __webpack_require__.p = "/"; b = c.p = "/d";',
    "plain.js": 'a = "/";',
    "app.css": "a{src:url(/font.woff2)} b{src:url(./near.woff2)} @import url(https://fonts.example/x);",
    "app-config.js": "window.config = {extensions: [], modes: [], dataSources: ['of somebody else']};",
}


def get(path: str, viewer: Viewer = BUNDLED) -> Any:
    return answer(viewer, path, SERVER)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a viewer that was built for the root of a site."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


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


def test_a_viewer_built_for_the_root_is_served_below_ohif(own: Path) -> None:
    viewer = Viewer(own, own=True)
    page = get("", viewer).body.decode()
    assert 'window.PUBLIC_URL="/ohif/"' in page
    assert '<link href="/ohif/app.css">' in page
    assert 'src="/ohif/app.js"' in page
    assert 'href="//elsewhere.example/"' in page
    assert page.index("/ohif-save.js") < page.index("</head>")
    script = get("app.js", viewer)
    assert script.body.decode() == 'a = "/"; __webpack_require__.p = "/ohif/"; b = c.p = "/d";'
    assert "frame-ancestors 'none'" in script.headers["content-security-policy"]
    assert str(get("plain.js", viewer).path) == str(own / "plain.js")
    assert get("app.css", viewer).body.decode() == "a{src:url(/ohif/font.woff2)} b{src:url(./near.woff2)} "


def test_a_viewer_of_the_operators_finds_this_servers_studies_and_our_mode(own: Path) -> None:
    body = get("app-config.js", Viewer(own, own=True)).body.decode()
    assert body.startswith(FILES["app-config.js"])
    ours = json.loads(re.search(r"Object\.assign\(window\.config, (.*)\);", body)[1])
    assert ours["routerBasename"] == "/ohif/"
    [studies] = ours["dataSources"]
    assert studies["sourceName"] == ours["defaultDataSourceName"]
    assert studies["configuration"]["qidoRoot"] == "/proxy/dicom/qido"
    assert body.index("Object.assign") < body.index("window.config.modes.push('/ohif-slem/mode.js')")


def test_a_viewer_built_for_another_place_is_refused(own: Path) -> None:
    (own / "index.html").write_text(FILES["index.html"].replace('URL="/"', 'URL="/viewer/"'))
    with pytest.raises(BadSetting, match="is built for /viewer/: expected one for / or /ohif/"):
        Viewer(own, own=True)


def test_a_folder_without_a_viewer_is_refused_as_a_setting(own: Path) -> None:
    assert parse_settings({"ohif": str(own)}).ohif == own
    (own / "app-config.js").unlink()
    with pytest.raises(BadSetting, match=r"holds no built OHIF, without app-config.js: give the folder"):
        parse_settings({"ohif": str(own)})
