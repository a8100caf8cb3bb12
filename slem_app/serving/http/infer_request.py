"""The fields of an inference request as one typed value. Fields that are not known are passed over: clients
send options of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from slem_app.errors import BadPrompt, BadSetting
from slem_app.serving.cases.label_names import segment_names
from slem_app.serving.models.inference import PRIOR, InferRequest, Reply
from slem_app.serving.values import boolean, first_of
from slem_app.store.record import DRAFT

__all__ = ["parse_infer", "parse_reply"]

KNOWN = frozenset(
    {"model", "image", "client_id", "sequence", "label", "label_info", "roi", "scribbles", "reaches"}
)


def parse_infer(model: str, image: str, fields: Mapping[str, object], names: tuple[str, ...]) -> InferRequest:
    """One request.

    Args:
        model: under which clients know the model.
        image: id of the image; the field `image` counts before it.
        fields: the field `params`.
        names: labels of the model.

    Raises:
        BadSetting, BadPrompt, BadLabel: a field that cannot be read.
    """
    client_id = _text("client_id", fields.get("client_id"))
    sequence = first_of(fields.get("sequence"))
    label = fields.get("label")
    return InferRequest(
        model=model,
        image=_text("image", fields.get("image")) or image,
        client_id=client_id,
        sequence=None if sequence in (None, "", "auto") else _text("sequence", sequence),
        reply=parse_reply(fields),
        save_label=boolean("save_label", fields.get("save_label")),
        check_here=boolean("check_here", fields.get("check_here")),
        label_tag=_text("label_tag", first_of(fields.get("label_tag"))) or DRAFT,
        points=_points(fields, names),
        label=None if label is None else str(label),
        box=fields.get("roi"),
        segments=segment_names(fields.get("label_info")),
        painted_label=_text("selected_label_name", fields.get("selected_label_name")),
        scribbles=fields.get("scribbles"),
        reaches=fields.get("reaches"),
        undo=_flag("undo", fields),
        redo=_flag("redo", fields),
        start_over=_flag("start_over", fields),
        start_from=_start(fields.get("start_from")),
        # OHIF never names a reader and always says this
        repeats_points=not client_id and fields.get("restore_label_idx") is False,
    )


def parse_reply(fields: Mapping[str, object]) -> Reply:
    """The `result_...` fields of a request.

    Raises:
        BadSetting: an unknown value.
    """
    dtype = fields.get("result_dtype", "uint8")
    if dtype != "uint8":
        raise BadSetting(f"result_dtype {dtype!r} is unknown: label maps are uint8")
    compress = boolean("result_compress", fields.get("result_compress"), default=True)
    crop = boolean("result_crop", fields.get("result_crop"))
    return Reply(str(fields.get("result_extension", ".nrrd")), compress, crop)


def _points(fields: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """Fields that hold points, or should."""
    own = {*names, "foreground", "background"}
    return {
        name: value
        for name, value in fields.items()
        if name in own or (name not in KNOWN and isinstance(value, (list, tuple)))
    }


def _start(value: object) -> str:
    """What to begin with; clients that offer a choice send all of it at first."""
    wanted = first_of(value)
    if wanted in (None, "", "auto"):
        return ""
    if wanted != PRIOR:
        raise BadSetting(f"start_from is {str(wanted)[:80]!r}: use auto or {PRIOR}")
    return PRIOR


def _text(name: str, value: object) -> str:
    """A field that is text; empty where nothing is said."""
    if value is None:
        return ""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise BadSetting(f"{name} is {str(value)[:80]!r}: text is needed")
    return str(value)


def _flag(name: str, fields: Mapping[str, object]) -> bool:
    try:
        return boolean(name, fields.get(name))
    except BadSetting as error:
        raise BadPrompt(str(error)) from error
