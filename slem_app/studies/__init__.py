"""Where cases come from: folders of NIfTI files or DICOM series, seen as studies of series. Names and headers
only, never pixels.
"""

from slem_app.studies.open import LAYOUTS, open_source
from slem_app.studies.series import Series, Study
from slem_app.studies.source import StudySource

__all__ = ["LAYOUTS", "Series", "Study", "StudySource", "open_source"]
