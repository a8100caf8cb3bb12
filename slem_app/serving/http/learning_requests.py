"""The fields of requests for training, for batches and for the next case as typed values. Fields that are not
known are passed over: clients send options of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from slem_app.devices import device_name, device_or_cpu
from slem_app.errors import BadSetting, NotFound
from slem_app.rounds.job import LIMITS
from slem_app.selection import DEFAULT, STRATEGIES
from slem_app.serving.learning.next_case import ANY
from slem_app.serving.learning.request_types import BatchRequest, NextCaseRequest, TrainRequest
from slem_app.serving.values import boolean, first_of, whole_number
from slem_app.store.record import DRAFT

__all__ = ["parse_batch", "parse_next_case", "parse_train"]

MOST_BATCH = 256  # patches of a step on one GPU
MOST_CASES = 1_000_000  # of a batch
MOST_GPUS = 64


def parse_train(fields: Mapping[str, object]) -> TrainRequest:
    """A request for a learning round.

    Raises:
        BadSetting: a field that cannot be read, or a number out of range.
    """
    name = first_of(fields.get("name"))
    return TrainRequest(
        name=None if name in (None, "") else str(name),
        max_epochs=_number(fields, "max_epochs", *LIMITS["max_epochs"]),
        epoch_steps=_number(fields, "epoch_steps", *LIMITS["epoch_steps"]),
        early_stop_patience=_number(fields, "early_stop_patience", *LIMITS["early_stop_patience"]),
        batch=_number(fields, "train_batch_size", 1, MOST_BATCH),
        device=device_name(str(first_of(fields.get("device")) or "auto")),
        gpus=_gpus(fields),
        multi_gpu=boolean("multi_gpu", first_of(fields.get("multi_gpu")), default=True),
        fields=dict(fields),
    )


def parse_batch(fields: Mapping[str, object]) -> BatchRequest:
    """A request for drafts of many cases.

    Raises:
        BadSetting: a field that cannot be read, or a number out of range.
    """
    images, tag = fields.get("images") or "unlabeled", first_of(fields.get("label_tag")) or DRAFT
    wanted = first_of(fields.get("device"))
    return BatchRequest(
        images="all" if isinstance(images, list) else _word(images),
        ids=tuple(str(one) for one in images) if isinstance(images, list) else (),
        label_tag=_word(tag),
        device=device_or_cpu(str(wanted)) if wanted else None,
        gpus=_gpus(fields),
        multi_gpu=boolean("multi_gpu", first_of(fields.get("multi_gpu")), default=True),
        limit=_number(fields, "max_batch_size", 0, MOST_CASES) or 0,
        fields=dict(fields),
    )


def parse_next_case(fields: Mapping[str, object]) -> NextCaseRequest:
    """A request for the next case.

    Raises:
        BadSetting: a field that cannot be read.
        NotFound: no such strategy.
    """
    strategy = str(fields.get("strategy") or DEFAULT)
    if strategy not in STRATEGIES:
        raise NotFound(f"no strategy {strategy!r}; this server has {', '.join(STRATEGIES)}")
    model, tag, labels = first_of(fields.get("model")), fields.get("label_tag"), fields.get("labels") or ()
    if not isinstance(labels, (list, tuple)):
        raise BadSetting(f"labels is {str(labels)[:80]!r}: a list of names is needed")
    return NextCaseRequest(
        strategy=strategy,
        client_id=str(fields.get("client_id") or ""),
        model=None if model in (None, "", [], ANY) else str(model),
        label_tag=str(tag) if tag else None,
        labels=tuple(str(one) for one in labels),
    )


def _number(fields: Mapping[str, object], name: str, least: int, most: int) -> int | None:
    value = first_of(fields.get(name))
    return None if value is None or value == "" else whole_number(name, value, least, most)


def _word(value: object) -> str:
    """Text, or a member of one of MONAI Label's enumerations."""
    return str(getattr(value, "value", value))


def _gpus(fields: Mapping[str, object]) -> tuple[str, ...]:
    """The GPUs that were chosen; empty: all."""
    gpus = str(first_of(fields.get("gpus")) or "all")[:1000].replace(" ", "")
    if gpus == "all":
        return ()
    numbers = tuple(gpus.split(","))
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in numbers):
        raise BadSetting(f"gpus {gpus[:40]!r} cannot be read: use all, or numbers like 0,2")
    if len(set(numbers)) < len(numbers) or len(numbers) > MOST_GPUS:
        raise BadSetting(f"gpus {gpus[:40]!r} cannot be used: each GPU once, at most {MOST_GPUS}")
    return numbers
