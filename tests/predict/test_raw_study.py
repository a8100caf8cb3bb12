"""A study as a scanner gives it, through the whole chain: DICOM, names, registration, brain mask, network,
and the result on the series' own grid.
"""

import numpy as np
import pytest

from slem_app.evaluate.scores import dice
from slem_app.grouping import group
from slem_app.phantom import make
from slem_app.phantom.heads import label_maps, read_map
from slem_app.phantom.raw import make_raw, write_raw_dicom
from slem_app.predict import Predictor, answer
from slem_app.studies import open_source
from slem_app.volumes.levels import Volume
from slem_app.weights import load_model, model_folder


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute of one core; many times that where others work on it
def test_a_raw_study_gives_the_tumour_on_the_grid_of_each_series(real_data, tmp_path):
    brain = make(3, (120, 144, 108), (1.5, 1.5, 1.5))
    images = {name: Volume(brain.images[name].astype(np.float32), brain.grid) for name in ("t1c", "t2f")}
    head = read_map(label_maps(real_data / "head_labels")[0])
    raw = make_raw(images, brain.labels, brain.grid, head, 4)
    write_raw_dicom(raw, tmp_path, "one", "ge")
    grouping = group(open_source(tmp_path).study("one"))
    assert set(grouping.sequences) == set(raw.images)
    predictor = Predictor(load_model(model_folder("slem_brain")))
    prepared, _ = predictor.prepare_case(grouping)
    assert prepared.report.mask
    assert not prepared.report.left_out
    assert prepared.report.onto == "t1c"
    assert set(prepared.report.moved) == {"t2f"}
    for name in images:
        found = answer(predictor.predict(prepared.shown_on(name, raw.images[name].grid))).array > 0
        assert dice(found, raw.truths[name] > 0) > 0.75
