"""The chain before a network, for its own sake: studies as images on one grid, cut to the brain or defaced,
in a public layout.
"""

from slem_app.preprocess.case import PreprocessedCase, PreprocessSettings, preprocess
from slem_app.preprocess.folder import FolderOutcome, preprocess_all
from slem_app.preprocess.layouts import PREPROCESSED

__all__ = [
    "PREPROCESSED",
    "FolderOutcome",
    "PreprocessSettings",
    "PreprocessedCase",
    "preprocess",
    "preprocess_all",
]
