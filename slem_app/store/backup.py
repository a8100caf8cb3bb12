"""A store as one file, and back, also while a server works on it.

Every file of a store is replaced by a rename, never changed where it lies, and a label version appears as
a whole. So a second name for each file (a hard link) holds the store as it was at that moment, whatever the
server does next; the names are made within moments, and the archive is written from them at leisure. Only
the audit log grows in its place: it is copied to the end of its last whole line. Published models are linked
while nobody publishes.

What is in the archive: all that cannot be made again (labels, removed ones, drafts, DICOM results, uploads,
models, rounds, notes, the audit log). Copies and caches of images are not (`OMITTED`).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from slem_app.errors import BadSetting, BadVolume, NotFound, StorageFailed
from slem_app.files import atomic_file, exclusive, is_leftover, writer
from slem_app.store.lock import StoreLock

__all__ = ["OMITTED", "Kept", "backup", "restore"]

OMITTED = (
    *("images", "pacs", "scores", "export", "batch", "thumbnails", "index"),
    *("training/cache", "training/cache-detail", "training/cache-editor", "training/archive"),
    *("training/work", "training/lock"),
)
"""Below the store: what is made or fetched again."""
LOCKS = ("server.lock", ".lock", "writable")
FIRST = ("labels", "drafts", "removed")  # a label that is taken away meanwhile is in one of them
MANIFEST = "MANIFEST.json"
FORMAT = 1
STAGE = ".backup-"
PIECE = 2**20
NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True)
class Kept:
    """What an archive holds."""

    files: int
    """How many files."""
    size: int
    """Their bytes."""
    versions: int
    """Label versions among them."""


def backup(store: Path, file: Path) -> Kept:
    """Write a store into one file; a server may work on it.

    Args:
        store: its folder.
        file: the archive (tar) to make or to replace; it is there whole or not at all.

    Raises:
        NotFound: there is no such store.
        StorageFailed: a disk refused.
    """
    if not (store / "labels").is_dir() and not (store / "models").is_dir() and not (store / "audit").is_dir():
        raise NotFound(f"{store} is not the store of a server: give the folder with `labels` in it")
    try:
        with _staged(store) as stage, atomic_file(file) as out:
            return _write(stage, out)
    except OSError as error:
        raise StorageFailed(f"{store} cannot be saved in {file}: {error.strerror or error}") from error


def restore(file: Path, store: Path) -> Kept:
    """Make a store from an archive. It is checked whole before anything appears at its place.

    Args:
        file: from `backup`.
        store: the folder to make; there must be none, or an empty one.

    Raises:
        NotFound: there is no such archive.
        BadVolume: it is damaged, or something else.
        BadSetting: there is a store already, or a server serves it.
        StorageFailed: the disk refused.
    """
    _check_free(store)
    new = store.with_name(f".{store.name}.restored-{writer()}-{uuid.uuid4().hex[:8]}")
    try:
        new.mkdir(parents=True, mode=0o700)
        kept = _read(file, new)
        os.sync()  # all files at once: waiting for each takes hours for a large store
        os.replace(new, store)
        return kept
    except FileNotFoundError as error:
        raise NotFound(f"there is no archive {file}") from error
    except (tarfile.TarError, EOFError) as error:
        raise BadVolume(f"{file} is not the archive of a store: {error}") from error
    except OSError as error:
        raise StorageFailed(f"{store} cannot be made: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _staged(store: Path) -> Iterator[Path]:
    """A folder in which every file of the store has a second name."""
    for left in store.glob(f"{STAGE}*"):
        if is_leftover(left):
            shutil.rmtree(left, ignore_errors=True)
    stage = store / f"{STAGE}{writer()}-{uuid.uuid4().hex[:8]}"
    stage.mkdir(mode=0o700)
    try:
        names = [name for name in FIRST if (store / name).is_dir()]
        names += sorted(path.name for path in store.iterdir() if path.name not in (*FIRST, *LOCKS))
        for name in names:
            if not name.startswith((STAGE, ".new-")) and not name.endswith(".part"):
                _link_models(store, stage) if name == "models" else _link(store, PurePosixPath(name), stage)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _link_models(store: Path, stage: Path) -> None:
    """Each model's versions as they are between two publications."""
    for model in sorted((store / "models").iterdir()):
        if not model.is_dir():
            _link(store, PurePosixPath("models", model.name), stage)
            continue
        with exclusive(model / ".lock"):  # as `weights.published` takes it
            _link(store, PurePosixPath("models", model.name), stage)


def _link(store: Path, name: PurePosixPath, stage: Path) -> None:
    """Give a file, or all below a folder, a second name. What goes meanwhile is left out, a label version
    as a whole.
    """
    source, target = store / name, stage / name
    if str(name) in OMITTED or source.is_symlink():
        return
    if source.is_dir():
        target.mkdir(parents=True, mode=0o700)
        try:
            for one in sorted(os.listdir(source)):
                if one not in LOCKS and not one.startswith(".new-") and not one.endswith(".part"):
                    _link(store, name / one, stage)
        except FileNotFoundError:
            shutil.rmtree(target, ignore_errors=True)
            if not name.name.isdigit():  # else a label version that was taken away: the others stay
                target.mkdir(exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if name.parts[0] == "audit":
        _copy_lines(source, target)
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(source, target)


def _copy_lines(source: Path, target: Path) -> None:
    """Copy a file that grows, to the end of its last whole line."""
    content = source.read_bytes()
    target.write_bytes(content[: content.rfind(b"\n") + 1])


def _write(stage: Path, out: IO[bytes]) -> Kept:
    """The archive, with a list of its files and their digests at its end."""
    table: dict[str, dict[str, object]] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(stage.rglob("*")):
            name = path.relative_to(stage).as_posix()
            if path.is_dir():
                continue
            with path.open("rb") as file:
                about = archive.gettarinfo(arcname=name, fileobj=file)
                about.uid = about.gid = 0
                about.uname = about.gname = ""
                about.type = tarfile.REGTYPE  # never a link to another member
                digesting = _Digesting(file)
                archive.addfile(about, digesting)
            table[name] = {"size": about.size, "sha256": digesting.digest.hexdigest()}
        text = json.dumps({"format": FORMAT, "made": time.time(), "files": table}, indent=1).encode()
        last = tarfile.TarInfo(MANIFEST)
        last.size, last.mtime = len(text), int(time.time())
        archive.addfile(last, io.BytesIO(text))
    return _kept(table)


def _read(file: Path, new: Path) -> Kept:
    """Unpack an archive into a folder, and compare every file with the list at its end."""
    found: dict[str, dict[str, object]] = {}
    manifest: bytes | None = None
    with tarfile.open(file, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is None or not _plain(member.name):
                raise BadVolume(
                    f"{file} holds {member.name[:80]!r}, which does not belong to a store: "
                    "nothing was restored"
                )
            if member.name == MANIFEST:
                manifest = content.read()
                continue
            target = new / member.name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            digest = hashlib.sha256()
            with target.open("xb") as made:
                while piece := content.read(PIECE):
                    digest.update(piece)
                    made.write(piece)
            found[member.name] = {"size": member.size, "sha256": digest.hexdigest()}
    try:
        told = json.loads(manifest or b"")
        whole = told["format"] == FORMAT and told["files"] == found
    except (ValueError, KeyError, TypeError) as error:
        raise BadVolume(f"{file} is truncated: nothing was restored") from error
    if not whole:
        raise BadVolume(f"{file} is damaged: its files are not those that were saved; nothing was restored")
    return _kept(found)


class _Digesting(io.RawIOBase):
    """A file whose digest is made while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self.file.read(size)
        self.digest.update(piece)
        return piece


def _plain(name: str) -> bool:
    """A path below the folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\x00" not in name


def _kept(table: dict[str, dict[str, object]]) -> Kept:
    versions = sum(name.startswith("labels/") and name.endswith("/meta.json") for name in table)
    return Kept(len(table), sum(int(str(one["size"])) for one in table.values()), versions)


def _check_free(store: Path) -> None:
    if StoreLock(store).held():
        raise BadSetting(f"a server serves {store}: stop it, then restore")
    there = [path for path in store.iterdir() if path.name != "server.lock"] if store.is_dir() else []
    if there or (store.exists() and not store.is_dir()):
        raise BadSetting(
            f"{store} already exists: nothing is overwritten. Move it away, or restore to another place"
        )
    if store.is_dir():
        (store / "server.lock").unlink(missing_ok=True)
