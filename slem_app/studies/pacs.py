"""A PACS as its DICOMweb server shows it (PS3.18: QIDO-RS, WADO-RS, STOW-RS), by dicomweb-client.

Whatever only reads is tried again where the reason may pass: no answer, a cut connection, a status of 429 or
5xx, an image that came incomplete. So is storing, for an instance that is already there is stored once.
Errors never hold more of a patient than UIDs.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import BytesIO
from json import JSONDecodeError
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from slem_app.errors import BadSetting, NotFound, PacsFailed
from slem_app.studies.whose import Whose

__all__ = ["PARALLEL", "Attributes", "Pacs", "text"]

logger = logging.getLogger(__name__)
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it tells of every request

Attributes = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")
PARALLEL = 8  # requests to the PACS at one time
PAGE = 500  # answers of one query
MOST = 1_000_000  # studies that are listed
MOST_RESULTS = 100_000  # segmentations that are listed
PASSING = frozenset({408, 429, 500, 502, 503, 504})  # a status that may be another one the next time
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
# as it is stored: a PACS that cannot transcode has no other, and nothing is lost on the way
ANY_SYNTAX = (("application/dicom", "*"),)


class _Incomplete(Exception):
    """An answer that is cut or is not what was asked for."""


UNUSABLE = (
    *(
        requests.RequestException,
        _Incomplete,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        EOFError,
        OSError,
    ),
    *(NotImplementedError, StopIteration),
)
"""What reading an answer may raise that is no answer."""


class _Patience(HTTPAdapter):
    """Requests do not wait for ever."""

    def __init__(self, timeout: float) -> None:
        super().__init__(pool_maxsize=PARALLEL)
        self.timeout = timeout

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = (min(5.0, self.timeout), self.timeout)
        return super().send(request, *args, **kwargs)


@dataclass(frozen=True)
class Pacs:
    """A DICOMweb server.

    Raises:
        BadSetting: an address or a query that is none.
    """

    url: str
    """Where QIDO-RS, WADO-RS and STOW-RS are, such as http://pacs:8042/dicom-web."""
    query: str = "ModalitiesInStudy=MR"
    """What the studies must match, as QIDO-RS has it: ModalitiesInStudy=MR&StudyDate=20250101-."""
    user: str = ""
    """For basic authentication; '' for none."""
    password: str = field(default="", repr=False)
    """The user's."""
    timeout: float = 30.0
    """Seconds without a byte after which a request has failed."""
    attempts: int = 4
    """How often a request is made, at most."""
    pause: float = 0.3
    """Seconds before the second attempt; twice as long before each further one."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise BadSetting(
                "the address of the PACS must be http://HOST:PORT/PATH or https://, without a query, user or "
                "password in it: filter with `--conf pacs_query`, and give the user in "
                "MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD"
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))
        if self.query and not parse_qsl(self.query, strict_parsing=False):
            raise BadSetting(
                f"pacs_query {self.query!r} is not a query: use KEYWORD=VALUE&KEYWORD=VALUE, e.g. "
                f"ModalitiesInStudy=MR&StudyDate=20250101-"
            )

    @classmethod
    def from_environment(cls, url: str, **settings: Any) -> Pacs:
        """A PACS, with the user and password that MONAI Label too reads from the environment."""
        user, password = (
            os.environ.get(f"MONAI_LABEL_DICOMWEB_{key}", "") for key in ("USERNAME", "PASSWORD")
        )
        return cls(url, user=user, password=password, **settings)

    @cached_property
    def client(self) -> DICOMwebClient:
        """The client, with one pool of connections for all threads."""
        session = requests.Session()
        session.trust_env = False  # no proxy of the environment and no .netrc: only this server is spoken to
        session.max_redirects = 0  # nor any other that this one names
        session.mount("http://", _Patience(self.timeout))
        session.mount("https://", _Patience(self.timeout))
        if self.user:
            session.auth = (self.user, self.password)
        client = DICOMwebClient(self.url, session=session, permissive_uid=True)
        client.set_http_retry_params(retry=False)  # it would not try again after a cut connection
        return client

    def check(self) -> None:
        """Ask for one study, to see whether it answers.

        Raises:
            PacsFailed: it does not, or not as it should.
        """
        self._ask("a study", partial(self.client.search_for_studies, limit=1), 1)

    def studies(self, once: bool = False) -> list[str]:
        """StudyInstanceUIDs of all studies that match the query, oldest first.

        Args:
            once: do not try again.
        """
        filters = dict(parse_qsl(self.query))
        found: dict[str, None] = {}
        while len(found) < MOST:
            ask = partial(
                self.client.search_for_studies, search_filters=filters, limit=PAGE, offset=len(found)
            )
            page = self._ask("its studies", ask, 1 if once else self.attempts)
            new = [
                uid
                for uid in (text(one, "0020000D") for one in page)
                if UID.fullmatch(uid) and uid not in found
            ]
            found |= dict.fromkeys(new)
            if (
                len(page) < PAGE or not new
            ):  # some servers know no offset and answer with the first page for ever
                break
        return list(found)

    def series(self, study: str, once: bool = False) -> list[Attributes]:
        """The series of a study; [] when there is no such study.

        Args:
            study: StudyInstanceUID.
            once: do not try again.
        """
        fields = ["SeriesDescription", "NumberOfSeriesRelatedInstances", "SeriesNumber"]
        found = self._ask(
            f"the series of study {study}",
            lambda: self.client.search_for_series(study, fields=fields),
            1 if once else self.attempts,
        )
        return [
            one
            for one in found
            if UID.fullmatch(text(one, "0020000E")) and text(one, "0020000D") in ("", study)
        ]

    def patient(self, study: str) -> tuple[str, str]:
        """PatientID and PatientName of a study, as the PACS has them.

        Raises:
            NotFound: the PACS has no such study.
        """
        found = self._ask(
            f"study {study}",
            lambda: self.client.search_for_studies(search_filters={"StudyInstanceUID": study}),
        )
        for one in found:
            if text(one, "0020000D") == study:
                return text(one, "00100020"), _name(one)
        raise NotFound(f"the PACS has no study {study}")

    def studies_of(self, patient: str) -> dict[str, Whose]:
        """StudyInstanceUID -> whose it is and when it was taken, of a patient's studies that match the query.

        Args:
            patient: PatientID.
        """
        filters = {**dict(parse_qsl(self.query)), "PatientID": patient}
        found = self._ask(
            "the studies of one patient",
            lambda: self.client.search_for_studies(search_filters=filters, limit=PAGE),
        )
        return {
            text(one, "0020000D"): Whose(patient, _name(one), text(one, "00080020"), text(one, "00080030"))
            for one in found
            if text(one, "00100020") == patient and UID.fullmatch(text(one, "0020000D"))
        }

    def study_of(self, series: str) -> str | None:
        """StudyInstanceUID of a series; None where the PACS has no such series, or several
        studies have it.
        """
        found = self._ask(
            f"series {series}",
            lambda: self.client.search_for_series(search_filters={"SeriesInstanceUID": series}),
        )
        studies = {text(one, "0020000D") for one in found if text(one, "0020000E") == series}
        return studies.pop() if len(studies) == 1 else None

    def segmentations(self) -> list[tuple[str, str]]:
        """(study, series) of the segmentations of all studies.

        Raises:
            PacsFailed: no answer, or the PACS lists no series but those of one study.
        """
        ask = partial(self.client.search_for_series, search_filters={"Modality": "SEG"}, limit=MOST_RESULTS)
        found = self._ask("its segmentations", ask, 1)
        return [
            (text(one, "0020000D"), text(one, "0020000E")) for one in found if text(one, "00080060") == "SEG"
        ]

    def instances(self, study: str, series: str) -> list[str]:
        """SOPInstanceUIDs of a series."""
        found = self._ask(
            f"the images of series {series}", lambda: self.client.search_for_instances(study, series)
        )
        return [uid for uid in (text(one, "00080018") for one in found) if UID.fullmatch(uid)]

    def metadata(self, study: str, series: str) -> list[Attributes]:
        """The headers of a series, in the DICOM JSON model.

        Raises:
            NotFound: the PACS has no such series.
            PacsFailed: no answer, or one of another study.
        """

        def ask() -> list[Attributes]:
            found = self.client.retrieve_series_metadata(study, series)
            for one in found:
                if (text(one, "0020000D"), text(one, "0020000E")) != (study, series) or not UID.fullmatch(
                    text(one, "00080018")
                ):
                    raise _Incomplete("headers of another series")
            return list(found)

        return self._ask(f"the headers of series {series}", ask)

    def instance(self, study: str, series: str, instance: str) -> bytes:
        """An image or result as a DICOM file, whole, in the transfer syntax in which it is stored.

        Raises:
            NotFound: the PACS has no such instance.
            PacsFailed: no answer, or something else than was asked for.
        """

        def ask() -> bytes:
            dataset = self.client.retrieve_instance(study, series, instance, media_types=ANY_SYNTAX)
            _check(dataset, (study, series, instance))
            content = BytesIO()
            dataset.save_as(content, write_like_original=True)
            return content.getvalue()

        return self._ask(f"image {instance} of series {series}", ask)

    def store(self, dataset: Dataset) -> None:
        """Store an instance (STOW-RS).

        Raises:
            PacsFailed: it is not known to be stored; storing it again does no harm.
        """
        study, instance = str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)

        def ask() -> None:
            answer = self.client.store_instances([dataset], study_instance_uid=study)
            for failed in answer.get("FailedSOPSequence") or ():
                raise PacsFailed(
                    f"the PACS at {self.url} did not accept {instance}: reason "
                    f"{int(failed.get('FailureReason', 0)):#06x} of DICOM PS3.18 I.2.2"
                )

        self._ask(f"storing {instance}", ask)

    def _ask(self, what: str, ask: Callable[[], T], attempts: int | None = None) -> T:
        """Do `ask`, again where that may help, and say plainly what went wrong."""
        trying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(attempts or self.attempts),
            wait=wait_exponential(multiplier=self.pause, max=8.0) + wait_random(0, self.pause),
            reraise=True,
        )
        try:
            return trying(ask)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 404:
                raise NotFound(f"the PACS has nothing at {what}") from error
            hint = (
                "check the user in MONAI_LABEL_DICOMWEB_USERNAME and its password"
                if status in (401, 403)
                else "check its log, and try again"
            )
            raise PacsFailed(f"the PACS at {self.url} answers {status} to {what}: {hint}") from error
        except UNUSABLE as error:
            raise PacsFailed(
                f"the PACS at {self.url} gives no usable answer to {what} ({_reason(error)}): "
                f"check that it runs, and try again"
            ) from error


def text(attributes: Attributes, tag: str) -> str:
    """The first value of an element as text; '' without one."""
    values = attributes.get(tag, {}).get("Value") or [""]
    return "" if values[0] is None else str(values[0])


def _name(attributes: Attributes) -> str:
    """PatientName, in letters; '' without one."""
    name = (attributes.get("00100010", {}).get("Value") or [{}])[0] or {}
    return str(name.get("Alphabetic", "")) if isinstance(name, Mapping) else str(name)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in PASSING
    cut = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        JSONDecodeError,
        StopIteration,
    )
    return isinstance(error, (*cut, _Incomplete))


def _reason(error: BaseException) -> str:
    """Without addresses that the text of a lower layer may hold."""
    if isinstance(error, requests.Timeout):
        return "it takes too long"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or one that was cut"
    return str(error) or type(error).__name__


def _check(dataset: Dataset, wanted: tuple[str, str, str]) -> None:
    """Refuse an instance that is another one, or not whole."""
    found = tuple(
        str(dataset.get(key, "")) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    if found != wanted:
        raise _Incomplete("another image than was asked for, or a part of one")
    if "PixelData" not in dataset:
        raise _Incomplete("the image came without its pixels, or cut")
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        raise _Incomplete("a file that does not tell its transfer syntax")
    if syntax in UNCOMPRESSED:
        bits = (
            int(dataset.Rows)
            * int(dataset.Columns)
            * int(dataset.get("SamplesPerPixel", 1))
            * int(dataset.BitsAllocated)
        )
        needed = (bits * int(dataset.get("NumberOfFrames") or 1) + 7) // 8
        if len(dataset.PixelData) < needed:
            raise _Incomplete(f"{len(dataset.PixelData)} bytes of pixels where {needed} are promised")
