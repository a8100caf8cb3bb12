"""The MONAI Label app. It hands every call on to `slem_app.serving.server.Serving`; there is no logic here.

MONAI Label looks for the class whose direct base is named MONAILabelApp. `slem serve` does without this file.
"""

from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp

from slem_app.serving.app_folder import open_serving
from slem_app.serving.monai import adapters, app, requests
from slem_app.serving.server import DESCRIPTION, NAME


class SlemLabel(MONAILabelApp):
    """SLeM Label: segmentation of cases of several sequences."""

    def __init__(self, app_dir, studies, conf):
        self.serving = open_serving(studies, conf, Path(app_dir))
        super().__init__(app_dir, studies, conf, name=NAME, description=DESCRIPTION)

    def init_datastore(self):
        return self.serving.datastore

    def init_infers(self):
        return adapters.infer_tasks(self.serving)

    def init_trainers(self):
        return adapters.trainers(self.serving)

    def init_strategies(self):
        return adapters.strategies(self.serving.chooser)

    def infer(self, request, datastore=None):
        return requests.infer(self.serving, request)

    def batch_infer(self, request, datastore=None):
        return requests.batch_infer(self.serving, request)

    def next_sample(self, request):
        return super().next_sample(requests.next_sample_request(request))

    def on_save_label(self, image_id, label_id):
        super().on_save_label(image_id, label_id)
        return app.saved(self.serving, label_id)

    def sessions(self):
        return self.serving.sessions

    def cleanup_sessions(self):
        self.serving.sessions.remove_expired()

    def on_init_complete(self):
        super().on_init_complete()
        app.install(self.serving, self.app_dir)
