"""The reader's labels on disk: every version is kept, none is ever half written.

    <store>/labels/<case>/<tag>/000001/label.nii.gz + meta.json [+ corrections.npz: the clicks behind it]

A version is made in a folder beside its place (`.new-...`), flushed to the disk, and renamed into place as
the last step. So whatever happens to the process or the machine, a version is there completely or not at all,
and earlier ones are never touched. Two processes may save at the same time: a rename onto a number that is
taken fails, and the next number is tried. So two readers of one case have versions of their own, and which of
the final ones counts is decided by one rule (`counting`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from slem_app.errors import BadSetting, NotFound, SlemError, StorageFailed, TooLarge
from slem_app.files import atomic_file, exclusive, is_leftover, sweep, sync, writer
from slem_app.store.record import FINAL, NOTES, RECORD, check_meta
from slem_app.store.review import REJECTED, ReviewDecision, decide
from slem_app.store.version import LABEL_FILE, META_FILE, LabelVersion
from slem_app.strict_json import parse_object

__all__ = ["LabelStore", "LabelVersion", "file_name", "replace_file", "sync"]

logger = logging.getLogger(__name__)

LARGEST_META = 2**20  # bytes of what is kept with a version
CHECKED = 100_000  # versions of which it is remembered whether they can be read, the latest, at least
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class LabelStore:
    """All labels of a server, below one folder that is made when the first label comes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sound: dict[Path, tuple[int, int]] = {}  # records that were read, and their files' state then
        self.spoilt: dict[Path, str] = {}  # those that could not be, and why
        self.changes = 0  # labels that came and went by this object; other processes' are not known

    def save(
        self, case: str, tag: str, write: Callable[[Path], object], meta: Mapping[str, object]
    ) -> LabelVersion:
        """Add a version.

        Args:
            case: case id.
            tag: e.g. 'final'.
            write: writes the label map to the path that it is given, and what belongs to it beside that.
            meta: what to keep with it; JSON.

        Raises:
            BadSetting: a tag that cannot be a name, or something to keep that is no JSON.
            TooLarge: more to keep than `LARGEST_META`.
            StorageFailed: the disk refused; all earlier versions are as they were.
        """
        place, text = self._place(case, tag), _text(meta)
        new = place / f".new-{writer()}-{uuid.uuid4().hex[:8]}"
        try:
            with _storage(place):
                _make(place)
                new.mkdir()
                write(new / LABEL_FILE)
                (new / META_FILE).write_text(text, encoding="utf-8")
                for path in (*sorted(new.iterdir()), new):
                    sync(path)
                version = _publish(new, place)
                self.changes += 1
                return version
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def versions(self, case: str, tag: str) -> tuple[LabelVersion, ...]:
        """All versions, oldest first."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = [path for path in self._place(case, tag).iterdir() if path.name.isdigit()]
            versions = [LabelVersion(int(path.name), path) for path in sorted(found)]
            return tuple(version for version in versions if self._is_sound(version))
        return ()

    def _is_sound(self, version: LabelVersion) -> bool:
        """Whether what is kept with a version can be read. One that cannot is passed over, and named in the
        log: it spoils nothing else, and counts again once a person has mended it.
        """
        path = version.folder / META_FILE
        try:
            state = (path.stat().st_mtime_ns, path.stat().st_size)
            if self.sound.get(path) == state:
                return True
            check_meta(parse_object(path.read_bytes(), META_FILE, LARGEST_META))
        except (OSError, SlemError) as error:
            reason = str(error)
            if self.spoilt.get(path) != reason:
                self.spoilt[path] = reason
                _keep_latest(self.spoilt)
                logger.error(
                    "the label in %s is set aside, its record cannot be read: %s", path.parent, reason
                )
            return False
        self.sound[path] = state
        _keep_latest(self.sound)
        return True

    def latest(self, case: str, tag: str) -> LabelVersion:
        """The newest version.

        Raises:
            NotFound: there is none.
        """
        versions = self.versions(case, tag)
        if not versions:
            raise NotFound(
                f"case {case!r} has no label with tag {tag!r}; it has "
                f"{', '.join(self.tags(case)) or 'no labels'}"
            )
        return versions[-1]

    def history(self, case: str) -> tuple[LabelVersion, ...]:
        """All versions of a case, drafts and final labels of all readers, in the order in which they were
        saved.
        """
        found = [version for tag in self.tags(case) for version in self.versions(case, tag)]
        return tuple(sorted(found, key=lambda version: (version.record.ts, version.tag, version.number)))

    def counting(self, case: str, experts: Sequence[str] = ()) -> LabelVersion:
        """The final label that counts: for training, for export, and for whoever asks for the final label of
        the case.

        The newest one that no reviewer has rejected, whoever saved it; but one of an expert's goes before all
        others', the first expert's first.

        Args:
            case: case id.
            experts: readers by their own id (`LabelRecord.who`), the first is asked first.

        Raises:
            NotFound: there is no final label, or all were rejected.
        """
        self.latest(case, FINAL)
        good = [version for version in self.versions(case, FINAL) if version.state != REJECTED]
        if not good:
            raise NotFound(f"case {case!r} has no final label that counts: a reviewer has rejected it")
        if experts:
            by = {version.record.who: version for version in good}
            return next((by[name] for name in experts if name in by), good[-1])
        return good[-1]

    def has_final(self, case: str) -> bool:
        """Whether the case has a final label that no reviewer has rejected."""
        return any(version.state != REJECTED for version in self.versions(case, FINAL)[::-1])

    def decide(self, version: LabelVersion, decision: ReviewDecision) -> None:
        """Keep what a reviewer decided of a version.

        Raises:
            StorageFailed: the disk refused; earlier decisions are as they were.
            BadSetting: what is there of earlier decisions cannot be read.
        """
        decide(version.folder.parent, decision)
        self.changes += 1

    def shown(self, case: str, experts: Sequence[str] = ()) -> LabelVersion | None:
        """The version that stands for a case: the final label that counts, else the newest draft or rejected
        label; None without any.

        Args:
            case: case id.
            experts: as of `counting`.
        """
        if self.has_final(case):
            return self.counting(case, experts)
        return next(iter(self.history(case)[::-1]), None)

    def tags(self, case: str) -> tuple[str, ...]:
        """Tags under which the case has labels."""
        with contextlib.suppress(FileNotFoundError):
            names = (
                path.name
                for path in (self.root / "labels" / file_name(case)).iterdir()
                if TAG.fullmatch(path.name)
            )
            return tuple(sorted(name for name in names if self.versions(case, name)))
        return ()

    def cases(self) -> tuple[str, ...]:
        """Cases that have labels."""
        with contextlib.suppress(FileNotFoundError):
            return tuple(
                sorted(
                    unquote(path.name)
                    for path in (self.root / "labels").iterdir()
                    if self.tags(unquote(path.name))
                )
            )
        return ()

    def annotate(self, version: LabelVersion, info: Mapping[str, object]) -> None:
        """Add fields to what is kept with a version; who saved it, and when, stays as it is.

        Raises:
            StorageFailed: the disk refused.
        """
        more = {key: value for key, value in info.items() if key != RECORD}
        with exclusive(version.folder):
            replace_file(version.folder / META_FILE, _text({**version.meta, **more}))

    def note(self, version: LabelVersion, notes: Mapping[str, object]) -> None:
        """Keep what a client says of a version, in a place of its own, beside all that the server says.

        Raises:
            TooLarge: more notes than are kept.
            StorageFailed: the disk refused.
        """
        with exclusive(version.folder):
            meta = {**version.meta, NOTES: {**version.notes, **notes}}
            replace_file(version.folder / META_FILE, _text(meta))

    def sweep(self) -> int:
        """Take away what killed processes left behind half written, in all of the store but `training`; how
        many there were.
        """
        count = 0
        begun = (*(self.root / "labels").glob("*/*/.new-*"), *(self.root / "uploads").glob(".new-*"))
        for path in begun:
            if is_leftover(path):
                shutil.rmtree(path, ignore_errors=True)
                count += not path.exists()
        with contextlib.suppress(OSError):
            count += sum(
                sweep(folder)
                for folder in self.root.iterdir()
                if folder.is_dir() and folder.name != "training"
            )
            count += sweep(self.root, deep=False)
        return count

    def remove(self, case: str, tag: str) -> Path:
        """Take all versions of a tag out of sight, into `removed`, where a person can still find them.

        Raises:
            NotFound: there is no label.
            StorageFailed: the disk refused.
        """
        self.latest(case, tag)
        grave = (
            self.root
            / "removed"
            / f"{file_name(case)}-{tag}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        )
        with _storage(grave):
            _make(grave.parent)
            os.rename(self._place(case, tag), grave)
            sync(grave.parent)
        self.changes += 1
        return grave

    def _place(self, case: str, tag: str) -> Path:
        if not TAG.fullmatch(tag):
            raise BadSetting(
                f"tag {tag!r} cannot be used: letters, digits and _ . - only, at most 64, beginning with a "
                "letter or digit"
            )
        return self.root / "labels" / file_name(case) / tag


def _keep_latest(checked: dict[Path, Any]) -> None:
    """Forget the oldest where many are remembered; they are read again when they are asked for."""
    if len(checked) > 2 * CHECKED:
        for path in list(checked)[:-CHECKED]:
            checked.pop(path, None)


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


def _text(meta: Mapping[str, object]) -> str:
    """What is kept with a version, as it is written."""
    try:
        text = json.dumps(dict(meta), indent=1, allow_nan=False)
    except ValueError as error:
        raise BadSetting(f"what comes with a label cannot be kept as JSON: {error}") from error
    if len(text) > LARGEST_META:
        raise TooLarge(
            f"what comes with a label may have {LARGEST_META // 1024} KiB, {len(text) // 1024} came: say less"
        )
    return text


def _publish(new: Path, place: Path) -> LabelVersion:
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
        return LabelVersion(number, target)


def _make(folder: Path) -> None:
    """Make a folder with its parents so that they survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = (
            "free some space"
            if error.errno in FULL
            else "give the server a folder that it may write to with `--conf store DIR`"
        )
        raise StorageFailed(
            f"cannot write {path}: {error.strerror or error}; nothing that was there before is lost; {hint}"
        ) from error
