"""The app's folder, `apps/slem`: which models it configures, one file a model in `lib/configs`."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path

import slem_app
from slem_app.errors import BadSetting
from slem_app.serving.cases.sessions import UploadSessions
from slem_app.serving.server import Configure, ModelConfig, Serving
from slem_app.serving.settings import read_environment

__all__ = ["APP", "model_configs", "open_serving"]

APP = Path(slem_app.__file__).parent / "monailabel_app"
"""The app of this package; in the repository, a link to `apps/slem`."""


def open_serving(studies: str, conf: Mapping[str, str], app: Path = APP) -> Serving:
    """A server's state.

    Args:
        studies: the studies folder, or the address of a PACS.
        conf: the settings.
        app: the app's folder.

    Raises:
        SlemError: as `Serving`; a variable of the environment that cannot be read.
    """
    environment = read_environment()
    sessions = UploadSessions(environment.sessions, environment.session_expiry)
    return Serving(studies, conf, model_configs(app), sessions)


def model_configs(app: Path) -> dict[str, Configure]:
    """What makes each model's configuration, by the model's name.

    Raises:
        BadSetting: a file without one class derived from `ModelConfig`.
    """
    return {file.stem: _config_class(file) for file in sorted((app / "lib/configs").glob("[a-z]*.py"))}


def _config_class(file: Path) -> type[ModelConfig]:
    """The class in a file."""
    spec = importlib.util.spec_from_file_location(f"slem_configs.{file.stem}", file)
    if spec is None or spec.loader is None:
        raise BadSetting(f"{file} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [
        one
        for _, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, ModelConfig) and one.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise BadSetting(f"{file} must have one class derived from ModelConfig; it has {len(found)}")
    return found[0]
