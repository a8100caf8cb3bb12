"""What a request makes of the moment at which a reader's work stands: which prompts count then, and from what
they start.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slem_app.predict import Result
from slem_app.prompts import Click, Mask, Prompts
from slem_app.result_warning import lasting
from slem_app.serving.models.history import Moment, Work, less
from slem_app.serving.models.prompt_request import PromptRequest

__all__ = ["heard", "wanted", "with_mask"]


def wanted(work: Work, ask: PromptRequest, begun: Result) -> tuple[Work, Moment]:
    """The moment that a request asks for, and the work from which it is reached.

    Args:
        work: where the reader stands.
        ask: the request, which does not ask for a step back.
        begun: the automatic result.
    """
    if ask.exact is not None:
        return work, _exactly(work, ask.exact, begun)
    now = Moment(begun) if ask.start_over else work.now
    mask = None if ask.mask is None else _completed(ask.mask, ask, work.array)
    if mask is not None and (ask.start_over or not np.array_equal(work.array, mask.array)):
        work = with_mask(work, mask)  # a step of its own: undoing a click does not take the edit with it
        now = work.now
    return work, _listed(now, ask)


def _exactly(work: Work, prompts: Prompts, begun: Result) -> Moment:
    """The moment of these prompts and no others, from the start that they name: the remembered one, with
    which the way from there is remembered, too.
    """
    starts = (work.now.start, *(step.moment.start for step in reversed(work.past)), begun)
    start = next((one for one in starts if one.prompts.mask is prompts.mask), None)
    if start is None and prompts.mask is not None:
        start = _from_mask(begun, prompts.mask)
    return Moment(start or begun, prompts)


def with_mask(work: Work, mask: Mask) -> Work:
    """The work with a segmentation from the client in place of its own; all prompts so far are
    part of that.
    """
    result = _from_mask(work.now.start, mask)
    listed = [click for clicks in work.now.clicks.values() for click in clicks]
    known = tuple(dict.fromkeys((*listed, *work.now.scribbles, *work.now.prompts.entries, *work.now.settled)))
    return work.ahead(
        Moment(result, result.prompts, work.now.clicks, work.now.scribbles, known), result.prediction.array
    )


def _completed(mask: Mask, ask: PromptRequest, shown: np.ndarray) -> Mask:
    """The mask with what the reader saw below his paint, which hides it in a label map."""
    if not ask.painted_over:
        return mask
    array = mask.array.copy(order="K")
    for scribble in ask.scribbles or ():
        below = tuple(scribble.voxels(mask.grid).T)
        array[below] = shown[below]
    return Mask(array, mask.grid)


def heard(work: Work, ask: PromptRequest) -> Work:
    """The work with what the client lists noted, and no more."""
    if not ask.clicks:
        return work
    new = less(ask.clicks, (*work.now.settled, *work.now.prompts.entries))
    return replace(
        work, now=replace(work.now, clicks=_clicks(work.now, ask), settled=(*work.now.settled, *new))
    )


def _clicks(moment: Moment, ask: PromptRequest) -> dict:
    """All that clients list by now."""
    if ask.painted_over:  # the tool that paints lists no clicks
        return dict(moment.clicks)
    return (
        {None: ask.clicks}
        if ask.only is None
        else {
            **{name: listed for name, listed in moment.clicks.items() if name is not None},
            ask.only: ask.clicks,
        }
    )


def _listed(moment: Moment, ask: PromptRequest) -> Moment:
    """The moment with the prompts that the client lists now, less those that are settled; they keep their
    order.
    """
    clicks = _clicks(moment, ask)
    scribbles = moment.scribbles if ask.scribbles is None else ask.scribbles
    listed = (*dict.fromkeys(click for each in clicks.values() for click in each), *scribbles)
    # what is painted over the mask is sent whole each time, so it holds again; what is listed may be part of
    # the mask by now
    over = [one for one in moment.settled if isinstance(one, Click) or not ask.painted_over]
    effective = less(listed, over)
    settled = less(listed, effective)
    prompts = Prompts(effective, ask.box, moment.start.prompts.mask).ordered_like(moment.prompts)
    return Moment(moment.start, prompts, clicks, scribbles, settled)


def _from_mask(start: Result, mask: Mask) -> Result:
    """A segmentation from the client in place of a start."""
    prediction = replace(
        start.prediction, array=np.asfortranarray(mask.array), warnings=lasting(start.prediction.warnings)
    )
    return Result(prediction, start.probabilities, Prompts(mask=mask))
