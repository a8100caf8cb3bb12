"""MONAI Label's own way to serve a network: what `benchmarks/speed.py` and `benchmarks/clicks_speed.py`
compare with.

The transforms are those of the DeepEdit task in the wheel's sample app
(monailabel/sample-apps/radiology/lib/infers/deepedit.py, type segmentation or deepedit) and the network is
that app's DynUNet, with four image channels, as its comment says for BraTS, and the labels of this project.
The weights are random: they change what is drawn, not how long it takes.

Settings (`--conf KEY VALUE`): `size` 'I,J,K', voxels of the network's input; `clicks` 'true' for the task's
type deepedit, which takes clicks.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from monai.apps.deepedit.transforms import (
    AddGuidanceFromPointsDeepEditd,
    AddGuidanceSignalDeepEditd,
    DiscardAddGuidanced,
    ResizeGuidanceMultipleLabelDeepEditd,
)
from monai.inferers import Inferer, SimpleInferer
from monai.networks.nets import DynUNet
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    Orientationd,
    Resized,
    ScaleIntensityRanged,
    SqueezeDimd,
    ToNumpyd,
)
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask

LABELS = {"necrosis": 1, "edema": 2, "enhancing tumor": 3, "background": 0}
CHANNELS = 4


def restored() -> type:
    """MONAI Label's own `Restored`. Its module also imports torchvision for something else, which does not
    load beside a CPU build of torch.
    """
    try:
        importlib.import_module("torchvision.utils")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        package, tools = ModuleType("torchvision"), ModuleType("torchvision.utils")
        tools.make_grid = tools.save_image = None
        package.__spec__ = importlib.util.spec_from_loader("torchvision", None)
        package.utils = tools
        sys.modules |= {"torchvision": package, "torchvision.utils": tools}
    from monailabel.transform.post import Restored

    return Restored


class Stock(BasicInferTask):
    """The sample app's DeepEdit task, with clicks or without."""

    def __init__(self, size: tuple[int, int, int], clicks: bool = False) -> None:
        network = DynUNet(
            spatial_dims=3,
            in_channels=len(LABELS) + CHANNELS,
            out_channels=len(LABELS),
            kernel_size=[3, 3, 3, 3, 3, 3],
            strides=[1, 2, 2, 2, 2, [2, 2, 1]],
            upsample_kernel_size=[2, 2, 2, 2, [2, 2, 1]],
            norm_name="instance",
            deep_supervision=False,
            res_block=True,
        )
        super().__init__(
            path=None,
            network=network,
            type=InferType.DEEPEDIT if clicks else InferType.SEGMENTATION,
            labels=LABELS,
            dimension=3,
            description="stock",
            input_key="image",
            output_label_key="pred",
            output_json_key="result",
            load_strict=False,
        )
        self.size = size
        self.restored = restored()

    def pre_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable]:
        return [
            LoadImaged(keys="image", reader="ITKReader", image_only=False),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS"),
            ScaleIntensityRanged(keys="image", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True),
            *self.guidance(),
            EnsureTyped(keys="image", device=data.get("device") if data else None),
        ]

    def guidance(self) -> list[Callable]:
        resized = Resized(keys="image", spatial_size=self.size, mode="area")
        if self.type == InferType.SEGMENTATION:
            return [
                resized,
                DiscardAddGuidanced(keys="image", label_names=LABELS, number_intensity_ch=CHANNELS),
            ]
        return [
            AddGuidanceFromPointsDeepEditd(ref_image="image", guidance="guidance", label_names=LABELS),
            resized,
            ResizeGuidanceMultipleLabelDeepEditd(guidance="guidance", ref_image="image"),
            AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", number_intensity_ch=CHANNELS),
        ]

    def inferer(self, data: Mapping[str, Any] | None = None) -> Inferer:
        return SimpleInferer()

    def inverse_transforms(self, data: Mapping[str, Any] | None = None) -> list[Callable]:
        return []  # every transform that can be inverted

    def post_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable]:
        return [
            EnsureTyped(keys="pred", device=data.get("device") if data else None),
            Activationsd(keys="pred", softmax=True),
            AsDiscreted(keys="pred", argmax=True),
            SqueezeDimd(keys="pred", dim=0),
            ToNumpyd(keys="pred"),
            self.restored(keys="pred", ref_image="image"),
        ]


class StockApp(MONAILabelApp):
    """Serves the stock task."""

    def init_infers(self) -> dict[str, InferTask]:
        return {
            "stock": Stock(
                tuple(int(n) for n in self.conf["size"].split(",")), self.conf.get("clicks") == "true"
            )
        }
