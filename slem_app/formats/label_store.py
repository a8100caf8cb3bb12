"""The reader's labels on disk: every version is kept, none is ever half written.

    <store>/labels/<case>/<tag>/000001/label.nii.gz + meta.json

A version is made in a folder beside its place (`.new-...`), flushed to the disk, and renamed into place as the last step. So whatever
happens to the process or the machine, a version is there completely or not at all, and earlier ones are never touched. Two processes may
save at the same time: a rename onto a number that is taken fails, and the next number is tried.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from slem_app.errors import BadSetting, NotFound, StorageFailed
from slem_app.formats.atomic import atomic_file

__all__ = ["LabelStore", "Version", "file_name", "replace_file", "sync"]

LABEL_FILE = "label.nii.gz"
META_FILE = "meta.json"
STALE = 24 * 3600  # seconds after which a folder that a killed process left behind is taken away
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True)
class Version:
    """One saved label."""

    number: int
    """1, 2, 3 ... within case and tag."""
    folder: Path
    """Where it lies."""

    @property
    def label(self) -> Path:
        """The label map, NIfTI."""
        return self.folder / LABEL_FILE

    @property
    def meta(self) -> dict[str, object]:
        """What was saved with it."""
        return json.loads((self.folder / META_FILE).read_text(encoding="utf-8"))


class LabelStore:
    """All labels of a server, below one folder that is made when the first label comes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(self, case: str, tag: str, write: Callable[[Path], None], meta: Mapping[str, object]) -> Version:
        """Add a version.

        Args:
            case: case id.
            tag: e.g. 'final'.
            write: writes the label map to the path that it is given.
            meta: what to keep with it; JSON.

        Raises:
            BadSetting: a tag that cannot be a name.
            StorageFailed: the disk refused; all earlier versions are as they were.
        """
        place = self._place(case, tag)
        new = place / f".new-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            with _storage(place):
                _make(place)
                _sweep(place)
                new.mkdir()
                write(new / LABEL_FILE)
                (new / META_FILE).write_text(json.dumps(dict(meta), indent=1), encoding="utf-8")
                for path in (new / LABEL_FILE, new / META_FILE, new):
                    sync(path)
                return _publish(new, place)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def versions(self, case: str, tag: str) -> tuple[Version, ...]:
        """All versions, oldest first."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = [path for path in self._place(case, tag).iterdir() if path.name.isdigit()]
            return tuple(Version(int(path.name), path) for path in sorted(found))
        return ()

    def latest(self, case: str, tag: str) -> Version:
        """The newest version.

        Raises:
            NotFound: there is none.
        """
        versions = self.versions(case, tag)
        if not versions:
            raise NotFound(f"case {case!r} has no label with tag {tag!r}; it has {', '.join(self.tags(case)) or 'no labels'}")
        return versions[-1]

    def tags(self, case: str) -> tuple[str, ...]:
        """Tags under which the case has labels."""
        with contextlib.suppress(FileNotFoundError):
            names = (path.name for path in (self.root / "labels" / file_name(case)).iterdir() if TAG.fullmatch(path.name))
            return tuple(sorted(name for name in names if self.versions(case, name)))
        return ()

    def cases(self) -> tuple[str, ...]:
        """Cases that have labels."""
        with contextlib.suppress(FileNotFoundError):
            return tuple(sorted(unquote(path.name) for path in (self.root / "labels").iterdir() if self.tags(unquote(path.name))))
        return ()

    def annotate(self, case: str, tag: str, info: Mapping[str, object]) -> None:
        """Add fields to what is kept with the newest version.

        Raises:
            NotFound: there is no label.
            StorageFailed: the disk refused.
        """
        version = self.latest(case, tag)
        replace_file(version.folder / META_FILE, json.dumps({**version.meta, **info}, indent=1))

    def remove(self, case: str, tag: str) -> Path:
        """Take all versions of a tag out of sight, into `removed`, where a person can still find them.

        Raises:
            NotFound: there is no label.
            StorageFailed: the disk refused.
        """
        self.latest(case, tag)
        grave = self.root / "removed" / f"{file_name(case)}-{tag}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        with _storage(grave):
            _make(grave.parent)
            os.rename(self._place(case, tag), grave)
            sync(grave.parent)
        return grave

    def _place(self, case: str, tag: str) -> Path:
        if not TAG.fullmatch(tag):
            raise BadSetting(f"tag {tag!r} cannot be used: letters, digits and _ . - only, at most 64, beginning with a letter or digit")
        return self.root / "labels" / file_name(case) / tag


def file_name(identifier: str) -> str:
    """An id as the name of one file or folder; `unquote` gives it back. Never hidden, never a path.

    Example:
        >>> file_name("sub-1/ses-2"), file_name("..")
        ('sub-1%2Fses-2', '%2E.')
    """
    name = quote(identifier, safe=" ()+,=@")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def replace_file(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new one, never a part.

    Raises:
        StorageFailed: the disk refused; the old text is still there.
    """
    with _storage(path):
        _make(path.parent)
        with atomic_file(path) as file:
            file.write(text.encode("utf-8"))


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(new: Path, place: Path) -> Version:
    """Rename a finished version to the next free number."""
    number = max([0, *(int(path.name) for path in place.iterdir() if path.name.isdigit())])
    while True:
        number += 1
        target = place / f"{number:06d}"
        if target.exists():  # another process was faster
            continue
        try:
            os.rename(new, target)  # refuses a folder that is not empty
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            continue
        sync(place)
        return Version(number, target)


def _make(folder: Path) -> None:
    """Make a folder with its parents so that they survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def _sweep(place: Path) -> None:
    """Take away what killed processes left behind long ago."""
    for path in place.glob(".new-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space" if error.errno in FULL else "give the server a folder that it may write to with `--conf store DIR`"
        raise StorageFailed(f"cannot write {path}: {error.strerror or error}; nothing that was there before is lost; {hint}") from error
