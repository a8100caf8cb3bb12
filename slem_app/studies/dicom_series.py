"""DICOM files to series: by SeriesInstanceUID, and further where one UID holds volumes that lie differently,
or several images of the same slices.

Some data sets give one UID to several images: CHAOS's in- and out-phase, multi-echo, magnitude and phase,
dynamic series. So a group whose slice positions repeat is split by the first property below that tells its
images apart. A group whose positions do not repeat is never split: discs spread the slices of one image over
many folders.
"""

from __future__ import annotations

import filecmp
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from slem_app.studies.dicom_header import Header
from slem_app.studies.dicom_slices import in_order, position, summary
from slem_app.studies.naming import plain_id, unique
from slem_app.studies.series import Origin, Series

__all__ = ["assemble"]

VOLUME = 12  # slices from which on what lies alike counts as a volume; a localiser has fewer a plane
SAME_DIRECTION = 0.01  # of direction cosines, as `dicom_slices.grid` has it


def _image_type(part: Header) -> str:
    kind = part.get("ImageType", ())
    return "-".join(kind) if isinstance(kind, tuple) else str(kind)


SPLITTERS: Mapping[str, Callable[[Header], str]] = {
    "folder": lambda part: str(part["path"].parent),
    "image type": _image_type,
    "echo time": lambda part: f"TE{part.get('EchoTime', '')}",
    "echo": lambda part: f"echo{part.get('EchoNumbers', '')}",
    "diffusion weighting": lambda part: f"b{part.get('DiffusionBValue', '')}",
    "inversion time": lambda part: f"TI{part.get('InversionTime', '')}",
    "flip angle": lambda part: f"FA{part.get('FlipAngle', '')}",
    "time point": lambda part: f"time{part.get('TemporalPositionIdentifier', '')}",
    "acquisition": lambda part: f"acquisition{part.get('AcquisitionNumber', '')}",
    "trigger time": lambda part: f"trigger{part.get('TriggerTime', '')}",
    "matrix": lambda part: f"{part.get('Columns', '')}x{part.get('Rows', '')}",
}
"""Property -> its value of a slice, in the order they are tried."""


def assemble(slices: Iterable[Header], origins: Mapping[str, Origin] | None = None) -> tuple[Series, ...]:
    """The series that the slices of one study make, sorted by SeriesNumber and id.

    Args:
        slices: headers of all files.
        origins: by SeriesInstanceUID, where the files are fetched from; none where they lie here.
    """
    groups: dict[str, list[Header]] = defaultdict(list)
    for part in slices:
        groups[str(part.get("SeriesInstanceUID", ""))].append(part)
    found: list[tuple[int, Series]] = []
    for uid, group in groups.items():
        parts = [
            ((*plane, *words), part)
            for plane, aligned in by_orientation(group)
            for words, part in split(aligned)
        ]
        ids = unique(["_".join([uid, *words]) for words, _ in parts])
        found += [
            (int(group[0].get("SeriesNumber", 0)), _series(id, words, part, (origins or {}).get(uid)))
            for id, (words, part) in zip(ids, parts)
        ]
    return tuple(series for _, series in sorted(found, key=lambda pair: (pair[0], pair[1].id)))


def _series(id: str, words: Sequence[str], group: Sequence[Header], origin: Origin | None) -> Series:
    ordered = in_order(group)
    header = summary(ordered)
    name = str(header.get("SeriesDescription") or header.get("ProtocolName") or "")
    paths = tuple(dict.fromkeys(part["path"] for part in ordered))
    return Series.described(id, " ".join([name, *words]).strip(), header, paths, ordered, origin)


def by_orientation(group: Sequence[Header]) -> list[tuple[tuple[str, ...], Sequence[Header]]]:
    """(plane, its slices) of the volumes under one UID that lie differently, each of `VOLUME` slices at
    least.

    One volume with a few slices beside it that lie differently, such as a localiser's, is that volume, and
    the few are a part of their own, which is no volume. A group that is a localiser altogether stays whole,
    so that it is known as one.
    """
    lying: dict[tuple[float, ...] | None, list[Header]] = defaultdict(list)
    for part in group:
        place = position(part)
        direction = None if place is None else tuple(place[:6])
        known = next(
            (
                one
                for one in lying
                if one and direction and max(abs(a - b) for a, b in zip(one, direction)) < SAME_DIRECTION
            ),
            direction,
        )
        lying[known].append(part)
    volumes = [direction for direction, slices in lying.items() if direction and len(slices) >= VOLUME]
    rest = [part for direction, slices in lying.items() if direction not in volumes for part in slices]
    if (
        len(lying) < 2
        or not volumes
        or len(rest) > len(group) / 4
        or any(position(part) is None for part in rest)
    ):
        return [((), group)]
    found = [((_plane(direction),) if len(volumes) > 1 else (), lying[direction]) for direction in volumes]
    return [*found, *([(("other planes",), rest)] if rest else [])]


def _plane(direction: Sequence[float]) -> str:
    across = np.abs(np.cross(direction[:3], direction[3:]))
    return ("sag", "cor", "ax")[int(across.argmax())]


def split(group: Sequence[Header]) -> list[tuple[tuple[str, ...], Sequence[Header]]]:
    """(what tells it apart from the rest, its slices) of every image in the group; what nothing tells apart
    stays together.
    """
    repeats = _repeats(group)
    if repeats < 2:
        return [((), group)]
    best: tuple[int, dict[str, list[Header]]] | None = None
    for value in SPLITTERS.values():
        parts: dict[str, list[Header]] = defaultdict(list)
        for part in group:
            parts[value(part)].append(part)
        left = max(_repeats(part) for part in parts.values())
        if len(parts) > 1 and left < (best[0] if best else repeats):
            best = left, parts
        if left == 1 and len(parts) > 1:
            break
    if best is None:
        return [((), _without_twins(group))]
    kept = _without_copies(best[1])
    if len(kept) == 1:
        return split(next(iter(kept.values())))
    return [
        ((plain_id(Path(word).name), *more), part)
        for word, members in kept.items()
        for more, part in split(members)
    ]


def _without_copies(parts: Mapping[str, list[Header]]) -> dict[str, list[Header]]:
    """The parts without those that only repeat files of a larger one (a folder that was copied).

    Whole parts, not single slices: two images may well have the same slice of empty air, and some data sets
    reuse even the SOPInstanceUID for other pixels.
    """
    kept: dict[str, list[Header]] = {}
    for word in sorted(parts, key=lambda word: (-len(parts[word]), word)):
        before = [part for members in kept.values() for part in members]
        if not before or not all(_twin(part, before) for part in parts[word]):
            kept[word] = parts[word]
    return {word: kept[word] for word in sorted(kept)}


def _without_twins(group: Sequence[Header]) -> list[Header]:
    """The slices without second copies of a file in the same folder."""
    kept: list[Header] = []
    for part in group:
        if not _twin(part, kept):
            kept.append(part)
    return kept


def _twin(part: Header, others: Sequence[Header]) -> bool:
    """Whether one of the others is the same file, byte for byte."""
    alike = (
        one
        for one in others
        if one.get("SOPInstanceUID") == part.get("SOPInstanceUID") and one["path"] != part["path"]
    )
    return any(filecmp.cmp(one["path"], part["path"], shallow=False) for one in alike)


def _repeats(group: Sequence[Header]) -> int:
    """How many slices share the most crowded position."""
    places = Counter(place for part in group if (place := position(part)) is not None)
    return max(places.values(), default=1)
