"""The small language in which corrections are told: a `Reader` says positive("edema", (i, j, k)),
negative((i, j, k)), undo() and looks at the result.
"""

import numpy as np

from slem_app.phantom import Phantom
from slem_app.predict import Predictor, Refiner, Result
from slem_app.prompts import BACKGROUND, Box, Click, Mask, Prompts, Scribble
from slem_app.volumes.prepare import Prepared, Volume, prepare
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, Model

Voxel = tuple[int, int, int]


class Reader:
    """Someone before a screen: what is said goes to the refiner, `shown` is the label map on the displayed
    image.
    """

    def __init__(self, refiner: Refiner, prepared: Prepared, mask: Mask | None = None) -> None:
        self.refiner, self.prepared, self.detail = refiner, prepared, refiner.detail(prepared)
        self.history = [refiner.start(prepared, mask)]

    @property
    def result(self) -> Result:
        return self.history[-1]

    @property
    def shown(self) -> np.ndarray:
        return self.result.prediction.array

    @property
    def before(self) -> np.ndarray:
        return self.history[-2].prediction.array

    def say(self, prompts: Prompts) -> None:
        self.history.append(self.refiner.refine(self.prepared, self.result, prompts, self.detail))

    def positive(self, label: str, *voxels: Voxel) -> None:
        prompts = self.result.prompts
        for voxel in voxels:
            prompts = prompts.with_click(Click.on(self.prepared.reference, voxel, label, BRAIN_LABELS))
        self.say(prompts)

    def negative(self, *voxels: Voxel) -> None:
        self.positive(BACKGROUND, *voxels)

    def paint(self, label: str, painted: np.ndarray) -> None:
        self.say(self.result.prompts.with_scribble(Scribble.of(label, painted, self.prepared.reference)))

    def limit(self, first: Voxel, second: Voxel, *labels: str) -> None:
        self.say(self.result.prompts.with_box(Box.on(self.prepared.reference, first, second, labels)))

    def undo(self) -> None:
        self.history.pop()


def prepared(case: Phantom, card: Card, reference: str = "t1c") -> Prepared:
    volumes = {name: Volume(image, case.grids[name]) for name, image in case.images.items()}
    return prepare(volumes, BRAIN_SEQUENCES, card.preparation, case.grids[reference])


def refiner(model: Model) -> Refiner:
    return Refiner(Predictor(model, precision="float32"))


def reader(model: Model, case: Phantom, reference: str = "t1c", mask: Mask | None = None) -> Reader:
    return Reader(refiner(model), prepared(case, model.card, reference), mask)


def middle(case: Phantom, value: int) -> Voxel:
    """The labelled voxel nearest to the middle of its label."""
    index = np.argwhere(case.labels == value)
    return tuple(int(v) for v in index[((index - np.median(index, axis=0)) ** 2).sum(axis=1).argmin()])
