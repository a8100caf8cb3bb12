"""Addresses in a PACS's answers: all of them lead through this server, however the text is cut into pieces,
and nothing else is changed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import pytest

from slem_app.serving.dicom.rewrite import HOLD, Addresses, dicomweb_path

OWN = "https://slem.example/proxy/dicom/wado"
ADDRESSES = Addresses("http://pacs:8042/dicom-web", OWN)


def changed(*pieces: bytes) -> list[bytes]:
    async def body(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def run() -> list[bytes]:
        return [piece async for piece in ADDRESSES.change(body(pieces))]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("http://pacs:8042/dicom-web/studies/1.2", "studies/1.2"),
        (
            "http://localhost/dicom-web/studies/1.2/series/3/instances/4/bulk/7fe00010?offset=2",
            "studies/1.2/series/3/instances/4/bulk/7fe00010?offset=2",
        ),
        ("https://archive.hospital/dcm4chee-arc/aets/PACS/rs/studies/1.2/series/3", "studies/1.2/series/3"),
        ("http://pacs:8042/dicom-web/bulkdata/a-b_c.raw", "bulkdata/a-b_c.raw"),
        ("/dicom-web/studies/1.2/metadata", "studies/1.2/metadata"),
        ("/other/studies/1.2", "studies/1.2"),
    ],
)
def test_an_address_of_the_pacs_becomes_one_of_this_server(address: str, path: str) -> None:
    assert ADDRESSES.led(address) == f"{OWN}/{path}"


@pytest.mark.parametrize(
    "address",
    [
        *(
            "../../bulkdata/1",
            "bulkdata/1",
            "http://elsewhere/values/1",
            "http://pacs:8042/admin",
            "http://pacs:8042/dicom-web/system",
            "",
        ),
        *(
            "http://pacs:8042/dicom-web/studies/../admin",
            "http://x/studies/1.2/..",
            "http://x/studies/1.2/a%0d",
            "file:///archive/1",
        ),
    ],
)
def test_what_this_server_would_not_fetch_is_left_alone(address: str) -> None:
    assert ADDRESSES.led(address) == address


BODY = json.dumps(
    [
        {
            "00081190": {
                "vr": "UR",
                "Value": [
                    "http://localhost/dicom-web/studies/1.2",
                    "http://pacs:8042/dicom-web/studies/1.2/series/3",
                ],
            },
            "00081140": {
                "vr": "SQ",
                "Value": [
                    {"00081190": {"Value": ["http://a/studies/4.5"], "vr": "UR"}},
                    {"00081190": {"vr": "UR"}},
                ],
            },
            "00104000": {
                "vr": "LT",
                "Value": [
                    (
                        'see http://pacs:8042/dicom-web/studies/1.2, "BulkDataURI":"http://a/studies/1" and '
                        '{"00081190":{"vr"}}'
                    )
                ],
            },
            "00201208": {"vr": "IS", "Value": [1.50, 10]},
            "7FE00010": {
                "vr": "OW",
                "BulkDataURI": "http://localhost/dicom-web/studies/1.2/series/3/instances/4/bulk/7fe00010",
            },
            "00420011": {"vr": "OB", "InlineBinary": "QUJD" * 10},
        }
    ]
)
EXPECTED = BODY
for before, after in (
    (
        '["http://localhost/dicom-web/studies/1.2", "http://pacs:8042/dicom-web/studies/1.2/series/3"]',
        f'["{OWN}/studies/1.2", "{OWN}/studies/1.2/series/3"]',
    ),
    ('["http://a/studies/4.5"]', f'["{OWN}/studies/4.5"]'),
    (
        '"http://localhost/dicom-web/studies/1.2/series/3/instances/4/bulk/7fe00010"',
        f'"{OWN}/studies/1.2/series/3/instances/4/bulk/7fe00010"',
    ),
):
    EXPECTED = EXPECTED.replace(before, after)


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("escaped", [False, True])
def test_addresses_are_found_however_the_body_is_cut(size: int, escaped: bool) -> None:
    body = (BODY.replace("/", "\\/") if escaped else BODY).encode()
    found = b"".join(changed(*(body[k : k + size] for k in range(0, len(body), size))))
    assert json.loads(found) == json.loads(EXPECTED)
    assert escaped or found == EXPECTED.encode()  # byte for byte: 1.50 is not made 1.5 by reading and writing


def test_a_long_body_streams() -> None:
    one = BODY[1:-1].encode()
    pieces = [b"[", *[b for _ in range(300) for b in (one, b",")][:-1], b"]"]
    answer = changed(*pieces)
    assert b"".join(answer) == ("[" + ",".join([EXPECTED[1:-1]] * 300) + "]").encode()
    assert max(map(len, answer)) < 2 * HOLD
    assert (
        b"".join(changed(b'[{"InlineBinary":"', *[b"QUJD" * 4096] * 50, b'"}]'))
        == b'[{"InlineBinary":"' + b"QUJD" * 4096 * 50 + b'"}]'
    )


BROKEN = (
    b"",
    b"[]",
    b"not json",
    b'{"BulkDataURI": "http://a/studies/1',
    b'"00081190": {',
    b'{"BulkDataURI":"\xff\xfe"}',
    b'{"BulkDataURI":"/\\u12"}',
)


@pytest.mark.parametrize("body", BROKEN)
def test_what_is_no_json_passes(body: bytes) -> None:
    assert b"".join(changed(body)) == body


def test_paths_of_dicomweb() -> None:
    assert dicomweb_path("studies/1.2/series/3/instances/4/frames/1,2")
    assert not any(map(dicomweb_path, ("", "admin", "studies/..", "studies/", "studies/1.2/a b", "/studies")))
