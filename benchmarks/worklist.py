"""How long the worklist takes with few cases and with many: `python -m benchmarks.worklist`.

Every case is a link to one phantom in NIfTI; a quarter have a label. The rooms are asked without HTTP. On a
busy machine the time of the processor tells more than the clock's.
"""

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from slem_app import phantom
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning.leases import Leases
from slem_app.serving.pages.thumbnails import Thumbnails
from slem_app.serving.pages.worklist import Worklist, WorklistQuery
from slem_app.store.labels import META_FILE
from slem_app.weights import BRAIN_LABELS, load_card, model_folder

COUNTS = (20, 20_000)
QUERIES = {
    "first page": WorklistQuery(),
    "the same again": WorklistQuery(),
    "a page in the middle": WorklistQuery(page=400),
    "find by text": WorklistQuery(text="0199"),
    "submitted ones": WorklistQuery(state="submitted"),
    "last saved first": WorklistQuery(sort="saved"),
}


def prepare(folder: Path, count: int) -> Worklist:
    """A server's state over `count` cases, without a network."""
    head = phantom.make(seed=1, shape=(24, 28, 20), spacing=(8.0, 8.0, 8.0))
    studies, store = folder / "studies", folder / "store"
    phantom.write_nifti(head, studies, "c00000")
    for number in range(1, count):
        (studies / f"c{number:05}").symlink_to(studies / "c00000")
    for number in range(0, count, 4):
        place = store / "labels" / f"c{number:05}" / "final" / "000001"
        place.mkdir(parents=True)
        (place / META_FILE).write_text('{"ts": 1.0}', encoding="utf-8")
    cases = Cases(studies, store / "uploads")
    datastore = CaseDatastore(cases, store, {"slem_brain": BRAIN_LABELS})
    chooser = SimpleNamespace(leases=Leases(store / "leases.json", 30))
    cards = {"slem_brain": load_card(model_folder("slem_brain"))}
    serving = SimpleNamespace(cases=cases, datastore=datastore, chooser=chooser, cards=cards)
    return Worklist(serving, Thumbnails(cases, datastore))  # type: ignore[arg-type]


def main() -> None:
    """Print a table."""
    print("| cases | query | ms | ms of the processor | shown | of |")
    print("|---|---|---|---|---|---|")
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            worklist = prepare(Path(folder), count)
            for name, query in QUERIES.items():
                begun, worked = time.perf_counter(), time.process_time()
                page = worklist.page(query)
                took, work = time.perf_counter() - begun, time.process_time() - worked
                cells = (f"{1000 * took:.0f}", f"{1000 * work:.0f}", len(page.rows) - page.pending)
                print(f"| {count} | {name} | {' | '.join(map(str, cells))} | {page.matched} |", flush=True)


if __name__ == "__main__":
    main()
