"""Settings of the server: what `--conf KEY VALUE` may hold, parsed once, unknown keys refused."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slem_app.errors import BadSetting
from slem_app.store.review import APPROVED, SUBMITTED
from slem_app.weights.verdict import POLICIES

__all__ = ["Environment", "Settings", "parse_settings", "read_environment"]

CORS = "MONAI_LABEL_CORS_ORIGINS"
VIEWER_FILES = ("index.html", "app-config.js")
SIDES = {"L": "R", "P": "A", "I": "S"}
OF_MONAI_LABEL = frozenset({"server_mode"})
"""Keys that MONAI Label itself reads from the same table."""


@dataclass(frozen=True)
class Settings:
    """How one server behaves; every field is a key of `--conf`."""

    models: tuple[str, ...] = ()
    """Served models, separated by commas; empty: all models that the app configures and whose weights are
    present, those with the most sequences first.
    """
    models_dir: Path | None = None
    """Folder that is searched for models before the bundled ones."""
    store: Path | None = None
    """Where labels, uploads and the index of images are kept; default: `.slem` in the studies folder."""
    coding: str | None = None
    """Label coding of the studies, if it cannot be determined."""
    device: str = "auto"
    """'cpu', 'cuda', 'cuda:1' ...; 'auto' uses a GPU if there is one."""
    threads: int = 0
    """CPU threads of the network; 0: PyTorch's default."""
    cluster: str = ""
    """Compute in the processes of a Ray cluster: its address, `auto` (the one that runs on this machine, else
    a new one) or `local` (a new one on this machine); empty: in the server itself. The images must have the
    same paths on all its machines.
    """
    cluster_processes: int = 0
    """With a cluster: how many processes; 0: one for each of its GPUs, or machines."""
    cache_mb: int = 512
    """Memory for prepared volumes, MiB."""
    memory_mb: int = 1024
    """Memory for readers' corrections and their undo steps, MiB. The server may use as much again for what
    the first click on a case prepared, and a quarter of it for automatic results that may be requested again.
    """
    register: bool = False
    """Register the sequences of a case rigidly to each other before use."""
    hold_out_share: float = 0.2
    """Share of the labelled cases that are not used for training but for validation."""
    publish: str = "better"
    """Which newly trained models are served automatically: 'better', those that are not worse on the
    hold-out; 'always', all; 'never', none.
    """
    publish_tolerance: float = 0.0
    """With 'better': by how much the mean Dice may be worse."""
    learn: str = "submitted"
    """Which labels training uses: 'submitted', all final labels that no reviewer has rejected; 'approved',
    only those that a reviewer has approved.
    """
    confirmed_weight: float = 0.5
    """How often training uses a label that a reader only confirmed, relative to one that they drew or
    corrected; 0: never, and it is not used for validation either.
    """
    score_load: float = 0.5
    """Share of the time in which cases are scored in the background for the choice of the next one: 0 (never)
    to 1.
    """
    pacs_query: str = "ModalitiesInStudy=MR"
    """Which studies of a PACS are listed, as a QIDO-RS query, e.g.
    `ModalitiesInStudy=MR&StudyDate=20250101-`; empty: all.
    """
    pacs_cache_mb: int = 20_000
    """Disk space for images of a PACS, MiB; the least recently used are removed first."""
    pacs_timeout: float = 30.0
    """Seconds without a byte after which a request to the PACS has failed."""
    lease_minutes: float = 30.0
    """How long after a reader's last request their case is not offered to anybody else."""
    experts: tuple[str, ...] = ()
    """Readers (client ids, separated by commas) whose final labels take precedence over all others', in this
    order; empty: the newest label counts.
    """
    queue: int = 64
    """Requests that may wait for the network, at most half of them from one reader; further ones are asked to
    come again.
    """
    queue_seconds: float = 120.0
    """How long a request may wait for its turn."""
    infer_seconds: float = 600.0
    """How long the network may take for a request before it counts as failed."""
    upload_mb: int = 2048
    """The largest file that a client may send, MiB."""
    volume_mb: int = 1024
    """Memory that one image from a client may take after unpacking, MiB."""
    upload_quota_mb: int = 20_480
    """Disk space for the images that one user uploads, MiB; 0: no limit."""
    nninteractive_sessions: int = 8
    """Clients of nnInteractive's protocol that may be connected at once; 0: none."""
    nninteractive_minutes: float = 10.0
    """How long such a client may be idle before its session ends."""
    nninteractive_axes: str = "SPL"
    """Direction of each axis of a volume from such a client that is not a case of this server: three of the
    letters L or R, P or A, I or S.
    """
    connections: int = 100
    """Connections that may be open from one address."""
    ohif: Path | None = None
    """Folder of a built OHIF (`@ohif/app`) to serve at `/ohif/`, such as `make viewer` fetches; default: the
    viewer in MONAI Label's package.
    """
    proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies, separated by commas. Only these are believed when they say where a
    request comes from (`X-Forwarded-For`, `X-Forwarded-Proto`).
    """
    log: str = "text"
    """Lines of the log: 'text' or 'json'."""
    login: str = "auto"
    """Whether readers must log in: 'auto', if other machines can reach the server; 'required', always; 'off',
    never.
    """
    users: Path | None = None
    """The user file; default: where `slem users` keeps it."""
    login_hours: float = 10.0
    """How long a log-in lasts."""
    idle_minutes: float = 60.0
    """How long a log-in lasts without a request."""
    oidc_issuer: str = ""
    """Address of an OpenID Connect identity provider; empty: none."""
    oidc_client_id: str = "slem-label"
    """The id of this server at the identity provider. The secret is read from the environment variable
    SLEM_OIDC_SECRET.
    """
    oidc_claim: str = "roles"
    """The claim with the roles slem-reader, slem-reviewer, slem-trainer, slem-admin; separate the parts of
    its path by dots.
    """
    oidc_passwords: bool = False
    """Accept names and passwords of the identity provider in 3D Slicer's dialog (the password grant)."""

    def __post_init__(self) -> None:
        if self.cluster_processes < 0:
            raise BadSetting(f"cluster_processes must not be negative, got {self.cluster_processes}")
        if min(self.threads, self.cache_mb, self.memory_mb, self.pacs_cache_mb) < 0:
            amounts = f"{self.threads}, {self.cache_mb}, {self.memory_mb} and {self.pacs_cache_mb}"
            raise BadSetting(
                f"threads, cache_mb, memory_mb and pacs_cache_mb must not be negative, got {amounts}"
            )
        if not 0 < self.pacs_timeout < float("inf"):
            raise BadSetting(f"pacs_timeout must be a number of seconds above 0, got {self.pacs_timeout}")
        if self.login not in ("auto", "required", "off"):
            raise BadSetting(f"login cannot be {self.login!r}: expected auto, required or off")
        self._check_connections()
        self._check_viewer()
        if not (self.login_hours > 0 and self.idle_minutes > 0):
            raise BadSetting("login_hours and idle_minutes must be positive")
        if not (
            self.queue >= 1
            and self.queue_seconds > 0
            and self.infer_seconds > 0
            and self.upload_mb >= 1
            and self.volume_mb >= 1
        ):
            raise BadSetting("queue, queue_seconds, infer_seconds, upload_mb and volume_mb must be positive")
        if self.publish not in POLICIES or not (
            0 <= self.hold_out_share <= 1 and 0 <= self.publish_tolerance <= 1
        ):
            raise BadSetting(
                f"publish must be one of {', '.join(POLICIES)}, hold_out_share and publish_tolerance lie "
                f"between 0 and 1, got {self.publish!r}, {self.hold_out_share} and {self.publish_tolerance}"
            )
        if self.learn not in (SUBMITTED, APPROVED) or not 0 <= self.confirmed_weight <= 1:
            raise BadSetting(
                f"learn must be {SUBMITTED} or {APPROVED} and confirmed_weight lie between 0 and 1, got "
                f"{self.learn!r} and {self.confirmed_weight}"
            )
        if not 0 <= self.score_load <= 1 or not 0 <= self.lease_minutes < float("inf"):
            raise BadSetting(
                f"score_load must lie between 0 and 1, and lease_minutes not be negative, got "
                f"{self.score_load} and {self.lease_minutes}"
            )

    def _check_connections(self) -> None:
        if self.log not in ("text", "json"):
            raise BadSetting(f"log cannot be {self.log!r}: expected text or json")
        if self.connections < 1 or self.upload_quota_mb < 0:
            raise BadSetting(
                f"connections must be positive and upload_quota_mb not negative, got {self.connections} and "
                f"{self.upload_quota_mb}"
            )
        self._check_nninteractive()
        for address in self.proxies:
            try:
                ipaddress.ip_network(address)
            except ValueError as error:
                raise BadSetting(
                    f"proxies cannot be {address!r}: expected addresses such as 127.0.0.1 or networks "
                    f"such as 10.0.0.0/24"
                ) from error

    def _check_viewer(self) -> None:
        missing = [name for name in VIEWER_FILES if self.ohif and not (self.ohif / name).is_file()]
        if missing:
            raise BadSetting(
                f"ohif: {self.ohif} holds no built OHIF, without {' and '.join(missing)}: give the folder "
                f"that `make viewer` fetches"
            )

    def _check_nninteractive(self) -> None:
        if self.nninteractive_sessions < 0 or not 0 < self.nninteractive_minutes < float("inf"):
            raise BadSetting(
                f"nninteractive_sessions must not be negative and nninteractive_minutes be above 0, got "
                f"{self.nninteractive_sessions} and {self.nninteractive_minutes}"
            )
        if sorted(SIDES.get(letter, letter) for letter in self.nninteractive_axes) != ["A", "R", "S"]:
            raise BadSetting(
                f"nninteractive_axes cannot be {self.nninteractive_axes!r}: expected three of the letters "
                f"L or R, P or A, I or S, such as SPL"
            )


def parse_settings(conf: Mapping[str, str]) -> Settings:
    """Read the table that `--conf` fills.

    Args:
        conf: key to text.

    Raises:
        BadSetting: an unknown key or a value that cannot be read.

    Example:
        >>> parse_settings({"models": "slem_brain", "cache_mb": "64"}).cache_mb
        64
    """
    known = {field.name: field for field in dataclasses.fields(Settings)}
    if unknown := sorted(set(conf) - set(known) - OF_MONAI_LABEL):
        raise BadSetting(f"unknown settings {', '.join(unknown)}; known: {', '.join(known)}")
    values: dict[str, Any] = {key: _read(key, str(text)) for key, text in conf.items() if key in known}
    return Settings(**values)


def _read(key: str, text: str) -> object:
    readers: dict[str, Callable[[str], object]] = {
        "models": _names,
        "experts": _names,
        "models_dir": lambda t: Path(t).expanduser().resolve(),
        "store": lambda t: Path(t).expanduser().resolve(),
        "ohif": lambda t: Path(t).expanduser().resolve(),
        "threads": int,
        "cluster_processes": int,
        "cache_mb": int,
        "memory_mb": int,
        "pacs_cache_mb": int,
        "pacs_timeout": float,
        "register": _boolean,
        "hold_out_share": float,
        "publish_tolerance": float,
        "confirmed_weight": float,
        "score_load": float,
        "lease_minutes": float,
        "queue": int,
        "queue_seconds": float,
        "infer_seconds": float,
        "upload_mb": int,
        "volume_mb": int,
        "upload_quota_mb": int,
        "nninteractive_sessions": int,
        "nninteractive_minutes": float,
        "nninteractive_axes": str.upper,
        "connections": int,
        "proxies": _names,
        "users": lambda t: Path(t).expanduser().resolve(),
        "login_hours": float,
        "idle_minutes": float,
        "oidc_passwords": _boolean,
    }
    try:
        return readers.get(key, str)(text.strip())
    except ValueError as error:
        raise BadSetting(f"setting {key} cannot be {text!r}: {error}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _boolean(text: str) -> bool:
    table = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in table:
        raise ValueError("expected true or false")
    return table[text.lower()]


@dataclass(frozen=True)
class Environment:
    """What the environment says, in the variables that MONAI Label reads."""

    sessions: Path
    """MONAI_LABEL_SESSION_PATH: folder of the volumes that clients upload for themselves."""
    session_expiry: int
    """MONAI_LABEL_SESSION_EXPIRY: seconds without a request after which one is removed."""
    origins: tuple[str, ...]
    """MONAI_LABEL_CORS_ORIGINS: sites whose pages may use the server, a JSON list of addresses."""


def read_environment(values: Mapping[str, str] = os.environ) -> Environment:
    """What the environment says.

    Raises:
        BadSetting: a variable that cannot be read.
    """
    folder = values.get("MONAI_LABEL_SESSION_PATH", "").strip()
    seconds, origins = values.get("MONAI_LABEL_SESSION_EXPIRY", "3600"), values.get(CORS) or "[]"
    try:
        sites = json.loads(origins)
    except ValueError:
        sites = None
    if not isinstance(sites, list) or not all(isinstance(site, str) and "://" in site for site in sites):
        example = '["https://viewer.example"]'
        raise BadSetting(f"{CORS} must be a JSON list of addresses, as {example}, got {origins!r}")
    if not seconds.strip().isdigit():
        raise BadSetting(f"MONAI_LABEL_SESSION_EXPIRY must be seconds, got {seconds!r}")
    return Environment(
        Path(folder or Path.home() / ".cache/monailabel/sessions"),
        int(seconds),
        tuple(site.rstrip("/") for site in sites),
    )
