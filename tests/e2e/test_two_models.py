"""A brain and an abdomen on one server with a model for each, through Slicer's own client and in the real
OHIF.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk
import torch

from slem_app import phantom
from slem_app.finetune.recipe import load_recipe
from slem_app.formats import read_label_file
from slem_app.network import SegmenterConfig, build
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation
from slem_app.weights import find, save_model
from tests.e2e import ohif
from tests.e2e.slicer_client import load_client

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # the client leaves its sockets to the garbage collector
]
PARTS = ["necrosis", "edema", "enhancing tumor"]
ORGANS = ["liver", "right kidney", "left kidney", "spleen"]


@pytest.fixture(scope="module")
def belly() -> phantom.BodyPhantom:
    return phantom.make_abdomen(3, (8.0, 8.0, 10.0))


def models(folder: Path) -> Path:
    """The bundled model of the brain, and one of the abdomen that was never trained: its labels are noise,
    and many.
    """
    shutil.copytree(find("slem_brain"), folder / "slem_brain")
    config = SegmenterConfig(
        sequences=3,
        regions=4,
        channels=(4, 6),
        blocks=(1, 1),
        stem_channels=4,
        context_levels=(1,),
        deep_supervision=0,
        prompts=10,
    )
    torch.manual_seed(0)
    network = build(config)
    with torch.no_grad():
        network.head.weight.normal_(std=0.5)
    preparation = Preparation(spacing=(8.0, 8.0, 8.0), multiple=8, stripped=False)
    card = dataclasses.replace(
        load_recipe("chaos_clicks").card,
        network=config,
        preparation=preparation,
        postprocess=PostProcess(config.prior),
    )
    save_model(folder / "slem_abdomen", card, network)
    return folder


@pytest.fixture(scope="module")
def url(belly: phantom.BodyPhantom, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    studies = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(phantom.make(seed=1, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5)), studies, "ann")
    phantom.write_dicom(belly, studies, "ben")
    folder = models(tmp_path_factory.mktemp("models"))
    return start_server(
        studies,
        "--conf",
        "models_dir",
        str(folder),
        "--conf",
        "models",
        "slem_brain,slem_abdomen,slem_abdomen_clicks",
    ).url


def test_slicers_client_sees_each_models_labels_and_segments_each_case_with_its_own(
    url: str, belly: phantom.BodyPhantom, tmp_path: Path
) -> None:
    module = load_client()
    client = module.MONAILabelClient(url, tmpdir=str(tmp_path), client_id="reader")
    info = client.info()
    assert {
        name: [one for one in model["labels"] if one != "background"]
        for name, model in info["models"].items()
    } == {
        "slem_brain": PARTS,
        "slem_abdomen": ORGANS,
        "slem_abdomen_clicks": ORGANS,
    }
    given = {
        model: client.next_sample("balanced", {"model": model})["id"]
        for model in ("slem_brain", "slem_abdomen")
    }
    assert given == {"slem_brain": "ann", "slem_abdomen": "ben"}
    wanted = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    for case, model, names in (("ann", "slem_brain", PARTS), ("ben", "slem_abdomen", ORGANS)):
        file, params = client.infer(model, case, wanted)
        assert list(params["label_names"]) == names
        assert sitk.GetArrayFromImage(sitk.ReadImage(file)).any()
    array, grid, _ = read_label_file(Path(file))
    assert grid.same_as(belly.grids["t1_in"], 0.1)
    voxel = np.argwhere(array != 2)[len(array) // 2].tolist()
    clicked, _ = client.infer("slem_abdomen_clicks", "ben", {**wanted, "right kidney": [voxel]})
    assert read_label_file(Path(clicked))[0][tuple(voxel)] == 2
    with pytest.raises(module.MONAILabelClientException) as refused:
        client.infer("slem_abdomen", "ann", wanted)
    assert "case ann is not for slem_abdomen" in str(refused.value.msg) + str(refused.value.response)
    client.save_label(
        "ben",
        file,
        "final",
        {
            "label_info": [{"name": name, "idx": n} for n, name in enumerate(ORGANS, 1)],
            "model": "slem_abdomen",
        },
    )
    assert client.info()["datastore"]["completed"] == 1


@ohif.NEEDED
def test_ohif_shows_the_organs_under_their_names_on_the_series_that_is_looked_at(
    url: str, tmp_path: Path
) -> None:
    [study] = requests.get(f"{url}/dicom-web/studies", params={"PatientID": "ben"}, timeout=60).json()
    with ohif.viewer(url) as viewer:
        viewer.open(study["0020000D"]["Value"][0])
        assert set(viewer.descriptions()) >= {"AX T1 DUAL IN PHASE", "AX T1 DUAL OUT PHASE", "AX T2 SPIR"}
        viewer.connect()
        viewer.tab("Auto-Segmentation")
        viewer.page.select_option("select.selectBox:visible", "slem_abdomen")
        viewer.run("Segmentation")
        shown = viewer.shown()
        answer = requests.post(
            f"{url}/infer/slem_abdomen", params={"image": viewer.series, "output": "image"}, timeout=300
        )
        (tmp_path / "served.nrrd").write_bytes(answer.content)
        array, grid, _ = read_label_file(tmp_path / "served.nrrd")
    assert shown.grid.shape == grid.shape
    np.testing.assert_array_equal(shown.names, np.array(["", *ORGANS])[array])
