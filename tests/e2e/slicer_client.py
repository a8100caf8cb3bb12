"""The wheel's own client library for 3D Slicer, and a world for it: a server over phantoms of every kind."""

import importlib.util
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import requests
import SimpleITK as sitk

from slem_app.regions import PostProcess
from slem_app.weights import save_model
from tests.untrained import SMALL, noisy, small_card

PROJECT = Path(__file__).parents[2]
CLIENT = Path(sys.prefix) / "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"
BUNDLED = (PROJECT / "pretrained/slem_brain/card.yaml").is_file()
NAMES = ["necrosis", "edema", "enhancing tumor"]
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")


def load_client() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports cgi
        spec = importlib.util.spec_from_file_location("monailabel_slicer_client", CLIENT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def untrained(folder: Path) -> Path:
    """A model that was never trained: its threshold is the share that it starts from, so that its labels are
    noise, and many.
    """
    card = small_card(
        3.0,
        name="slem_brain",
        version="test",
        description="untrained",
        postprocess=PostProcess(threshold=SMALL.prior),
    )
    save_model(folder / "slem_brain", card, noisy())
    return folder


@dataclass
class World:
    """A server, its client and what it serves."""

    client: object
    error: type
    url: str
    studies: Path
    phantoms: dict
    model: Path

    def image(self, key: str, folder: Path) -> sitk.Image:
        """Download an image as a viewer does."""
        answer = requests.get(f"{self.url}/datastore/image", params={"image": key}, timeout=60)
        answer.raise_for_status()
        path = folder / f"image-{abs(hash(key))}.nii.gz"
        path.write_bytes(answer.content)
        return sitk.ReadImage(str(path))

    def infer(self, key: str, **options: object) -> tuple[sitk.Image, dict]:
        file, params = self.client.infer(
            "slem_brain", key, {"result_extension": ".nrrd", "result_dtype": "uint8", **options}
        )
        return sitk.ReadImage(file), params

    def refusal(self, method: str, path: str, **arguments: object) -> tuple[int, str]:
        """Status and text of an answer that must be an error in JSON."""
        answer = requests.request(method, f"{self.url}{path}", timeout=120, **arguments)
        return answer.status_code, answer.json()["detail"]
