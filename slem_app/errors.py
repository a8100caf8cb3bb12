"""Every error a user can cause. Its text says which thing, what was expected, what came, what to do; `status`
is the HTTP answer.
"""

from __future__ import annotations

__all__ = [
    *(
        "BadCard",
        "BadGrid",
        "BadLabel",
        "BadPrompt",
        "BadSetting",
        "BadStudy",
        "BadVolume",
        "BadWeights",
        "Gone",
        "NoMemory",
        "NotAllowed",
        "NotFound",
    ),
    *(
        "NotLoggedIn",
        "NotOffered",
        "PacsFailed",
        "ProviderFailed",
        "SlemError",
        "StorageFailed",
        "TooLarge",
        "TooMany",
        "TooOften",
        "TookTooLong",
        "WorkerLost",
    ),
]


class SlemError(Exception):
    """Base: something the caller can understand and mend."""

    status = 400


class NotFound(SlemError):
    """A case, sequence, label or file that does not exist, or an id that leaves its folder."""

    status = 404


class BadStudy(SlemError):
    """A study that cannot be used: no known sequence, a tie, files that do not belong together."""

    status = 422


class BadVolume(SlemError):
    """A file that is not a readable 3D image: truncated, 4D, NaN, constant."""

    status = 422


class BadGrid(SlemError):
    """Geometry that cannot be used: zero or sheared axes, no overlap, a label on another grid."""

    status = 422


class BadLabel(SlemError):
    """Label values or names that are unknown, or whose coding cannot be decided."""

    status = 422


class BadPrompt(SlemError):
    """A click, scribble or box outside the image, with NaN or with an unknown name."""

    status = 422


class BadCard(SlemError):
    """A model card with an unknown or missing key, or values that contradict each other."""

    status = 500


class BadWeights(SlemError):
    """Weights that are damaged or do not fit their card."""

    status = 500


class BadSetting(SlemError):
    """An unknown setting or request field, or a value out of range."""


class StorageFailed(SlemError):
    """The disk refused a write; nothing that was there before is lost."""

    status = 507


class NotLoggedIn(SlemError):
    """A request without a log-in, or with one that has ended."""

    status = 401


class NotAllowed(SlemError):
    """What this user's role does not permit, or what a page of another site asked for."""

    status = 403


class TooLarge(SlemError):
    """An upload beyond the limit."""

    status = 413


class TooMany(SlemError):
    """More requests than can be served in a reasonable time; the same request may succeed later."""

    status = 503


class TooOften(SlemError):
    """Too many attempts in a short time."""

    status = 429


class TookTooLong(SlemError):
    """Work that was not done in the time that it may take."""

    status = 504


class WorkerLost(SlemError):
    """A process of a cluster ended with work in hand; another one may do it."""

    status = 503


class Gone(SlemError):
    """The client left before its answer; nobody reads this."""

    status = 499


class NotOffered(SlemError):
    """A route of MONAI Label that this server does not have, on purpose."""

    status = 501


class PacsFailed(SlemError):
    """The PACS does not answer, refuses, or sends something else than was asked for; nothing of
    it is kept.
    """

    status = 502


class ProviderFailed(SlemError):
    """The service that says who somebody is does not answer, or answers what cannot be used."""

    status = 502


class NoMemory(SlemError):
    """The GPU's memory is too small for this case."""

    status = 503
