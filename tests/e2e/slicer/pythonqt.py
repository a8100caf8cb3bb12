"""`qt` and `ctk` with the manners that Slicer's PythonQt has, over PySide6: properties read without a call,
signals connected by their signatures. So the module's widgets are Qt's own; what is Slicer's or CTK's own is
stood in for.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

PROPERTIES = {
    "QLineEdit": ("text",),
    "QLabel": ("text",),
    "QComboBox": ("currentText", "count"),
    "QPushButton": ("checked", "text"),
}
WIDGETS = (
    "QAbstractItemView",
    "QComboBox",
    "QDialog",
    "QDialogButtonBox",
    "QFormLayout",
    "QHBoxLayout",
    "QLabel",
    "QLineEdit",
    "QListWidget",
    "QPushButton",
    "QTableWidget",
    "QTableWidgetItem",
    "QVBoxLayout",
    "QWidget",
)


class CollapsibleButton(QtWidgets.QGroupBox):
    """ctkCollapsibleButton: a title and what is below it."""

    text = property(lambda self: self.title(), lambda self, text: self.setTitle(text))
    collapsed = False


class SegmentEditor(QtWidgets.QLabel):
    """qMRMLSegmentEditorWidget: writes down what it is given."""

    def __init__(self) -> None:
        super().__init__("(Slicer's Segment Editor)")
        self.given: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in (
            "setMRMLScene",
            "setMRMLSegmentEditorNode",
            "setSegmentationNode",
            "setSegmentationNodeSelectorVisible",
            "setSourceVolumeNode",
        ):
            raise AttributeError(name)
        return lambda value: self.given.__setitem__(name, value)


def install() -> QtWidgets.QApplication:
    """Put `qt` and `ctk` where `import` finds them; the application, to be kept."""
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    application.setStyle("Fusion")
    qt = types.ModuleType("qt")
    for name in WIDGETS:
        setattr(qt, name, _pythonqt(getattr(QtWidgets, name)))
    for name in ("QColor", "QIcon", "QKeySequence", "QPixmap"):
        setattr(qt, name, getattr(QtGui, name))
    qt.QShortcut = _pythonqt(QtGui.QShortcut)
    qt.QTimer = _pythonqt(QtCore.QTimer)
    qt.Qt = QtCore.Qt
    kept: dict[str, Any] = {}
    qt.QSettings = lambda: types.SimpleNamespace(value=kept.get, setValue=kept.__setitem__)
    ctk = types.ModuleType("ctk")
    ctk.ctkCollapsibleButton = CollapsibleButton
    sys.modules |= {"qt": qt, "ctk": ctk}
    return application


def _pythonqt(kind: type) -> type:
    """A Qt class with PythonQt's manners."""
    body: dict[str, Any] = {}
    for name in PROPERTIES.get(kind.__name__, ()):
        getter = kind.isChecked if name == "checked" else getattr(kind, name)
        body[name] = property(lambda self, getter=getter: getter(self))
    if issubclass(kind, QtCore.QObject):
        body["connect"] = lambda self, signature, call: getattr(self, signature.partition("(")[0]).connect(
            call
        )
    return type(kind.__name__, (kind,), body)
