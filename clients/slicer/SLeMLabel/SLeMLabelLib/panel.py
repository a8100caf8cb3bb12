"""The widgets of the module: they show what the controller tells, and call it. The only file that imports Qt.

Nothing is decided here. `SlicerPanel` is the `Panel` of `panel_protocol`.
"""

from __future__ import annotations

import getpass
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ctk
import qt
import slicer

from . import views
from .controller import Controller
from .drawing import CLICK, LASSO, SCRIBBLE, ViewMouse
from .session import BACKGROUND, Case

__all__ = ["SlicerPanel"]

POLL = 50  # ms between two looks whether an answer has come
LEARNING = 5000  # ms between two looks at the learning
STATES = ("all", "new", "draft", "submitted", "rejected", "approved", "held")
COLORS = {"busy": "#808080", "good": "#2E7D32", "refused": "#C62828", "": ""}
TOOLS = ((CLICK, "Click"), (SCRIBBLE, "Scribble"), (LASSO, "Lasso"))
SETTINGS = "SLeMLabel"


class SlicerPanel:
    """All widgets of one module.

    Args:
        layout: where they go.
    """

    def __init__(self, layout: qt.QVBoxLayout) -> None:
        self.controller = Controller(self)
        self.mice: list[ViewMouse] = []
        self.places: list[Sequence[float]] = []
        self.page: Mapping[str, Any] = {"page": 1, "pages": 1, "rows": []}
        self.status = _text(layout)
        self._server(_section(layout, "Server"))
        self._worklist(_section(layout, "Worklist"))
        self._segments(_section(layout, "Segments and tools"))
        self._check(_section(layout, "Check here"))
        self._editor(_section(layout, "Brush and eraser (Segment Editor)", closed=True))
        self._save(_section(layout, "Save"))
        self._learning(_section(layout, "Learning", closed=True))
        layout.addStretch(1)
        self.timers = [_timer(POLL, self.controller.poll), _timer(LEARNING, self.controller.look_at_learning)]
        self.show_case(None, "")

    # life

    def enter(self) -> None:
        """The reader comes to this module: its layout, its mouse in the views."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        views.arrange(manager.layoutLogic().GetLayoutNode())
        if not self.mice:
            for name in views.NAMES:
                widget = manager.sliceWidget(name)
                interactor = widget.sliceView().interactorStyle().GetInteractor()
                self.mice.append(ViewMouse(widget.mrmlSliceNode(), interactor, self.controller.draw))
        main = slicer.util.mainWindow()
        self.shortcuts = [_shortcut(main, keys, call) for keys, call in self._keys().items()]

    def exit(self) -> None:
        """The reader goes to another module: the mouse is Slicer's again."""
        self._choose_tool("")
        for shortcut in getattr(self, "shortcuts", ()):
            shortcut.setParent(None)
        self.shortcuts = []

    def close(self) -> None:
        """End all."""
        for timer in self.timers:
            timer.stop()
        for mouse in self.mice:
            mouse.remove()
        self.mice = []
        self.controller.close()

    def _keys(self) -> dict[str, Callable[[], None]]:
        undo, redo, less, more = (getattr(self.controller, name) for name in ("undo", "redo", "less", "more"))
        return {"Ctrl+Z": undo, "Ctrl+Y": redo, "Ctrl+Down": less, "Ctrl+Up": more}

    # building

    def _server(self, form: qt.QFormLayout) -> None:
        settings = qt.QSettings()
        self.address = qt.QLineEdit(settings.value(f"{SETTINGS}/server") or "http://127.0.0.1:8000")
        self.reader = qt.QLineEdit(settings.value(f"{SETTINGS}/reader") or getpass.getuser())
        self.reader.setToolTip(
            "Who you are at a server without log-in; different readers need different names"
        )
        form.addRow("Address", self.address)
        form.addRow("Your name", self.reader)
        form.addRow(_button("Connect", self._connect))

    def _worklist(self, form: qt.QFormLayout) -> None:
        self.filter, self.state, self.strategy = qt.QLineEdit(), qt.QComboBox(), qt.QComboBox()
        self.filter.setPlaceholderText("part of a case's name")
        self.filter.connect("returnPressed()", self._list)
        self.state.addItems(list(STATES))
        self.state.connect("currentIndexChanged(int)", self._list)
        self.cases = _table(("Case", "State", "In hand", "Sequences"))
        self.cases.setMinimumHeight(110)
        self.cases.connect("cellDoubleClicked(int,int)", self._open)
        self.turning = qt.QLabel()
        form.addRow(_row(self.filter, self.state))
        form.addRow(self.cases)
        turn = [
            _button("<", lambda: self._list(step=-1)),
            self.turning,
            _button(">", lambda: self._list(step=1)),
        ]
        form.addRow(_row(*turn, _button("Open", self._open)))
        form.addRow(_row(_button("Next case", self._next), self.strategy))

    def _segments(self, form: qt.QFormLayout) -> None:
        self.title = _text(None)
        self.labels = _table(("ml", "Label"))
        self.labels.setMinimumHeight(140)
        self.labels.connect("itemSelectionChanged()", self._choose_label)
        self.tools = {
            tool: _button(text, lambda on, tool=tool: self._choose_tool(tool if on else ""), checkable=True)
            for tool, text in TOOLS
        }
        self.box = _button("Box", self._choose_box, checkable=True)
        self.undo = _button("Undo", self.controller.undo)
        self.redo = _button("Redo", self.controller.redo)
        self.reach = (_button("Less", self.controller.less), _button("More", self.controller.more))
        self.plane = qt.QComboBox()
        self.plane.addItems(list(views.PLANES))
        self.plane.connect("currentTextChanged(QString)", self._turn)
        form.addRow(self.title)
        form.addRow(self.labels)
        form.addRow(_row(*self.tools.values(), self.box))
        form.addRow(
            _row(self.undo, self.redo, *self.reach, _button("Start over", self.controller.start_over))
        )
        form.addRow("Plane", self.plane)

    def _check(self, form: qt.QFormLayout) -> None:
        self.warnings = _text(None, rich=True)
        self.list = qt.QListWidget()
        self.list.setMaximumHeight(120)
        self.list.connect("currentRowChanged(int)", self._jump)
        form.addRow(self.warnings)
        form.addRow(self.list)

    def _editor(self, form: qt.QFormLayout) -> None:
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
        self.editor.setSegmentationNodeSelectorVisible(False)
        form.addRow(self.editor)

    def _save(self, form: qt.QFormLayout) -> None:
        self.submit = _button("Submit", lambda: self.controller.submit())
        form.addRow(_row(self.submit, _button("Keep as draft", lambda: self.controller.submit("draft"))))

    def _learning(self, form: qt.QFormLayout) -> None:
        self.learning = _text(None)
        self.train = _button("Learn from the labels", self.controller.train)
        self.stop = _button("Stop", self.controller.stop_training)
        form.addRow(self.learning)
        form.addRow(_row(self.train, self.stop))

    # what the controller shows

    def show_status(self, text: str, kind: str) -> None:
        self.status.setText(text)
        self.status.setStyleSheet(f"color: {COLORS[kind]}" if COLORS[kind] else "")

    def show_server(self, info: Mapping[str, Any], user: str) -> None:
        self.strategy.clear()
        for name, about in info.get("strategies", {}).items():
            self.strategy.addItem(name)
            self.strategy.setItemData(
                self.strategy.count - 1, about.get("description", ""), qt.Qt.ToolTipRole
            )

    def show_worklist(self, page: Mapping[str, Any]) -> None:
        self.page = page
        rows = page["rows"]
        self.cases.setRowCount(len(rows))
        for number, row in enumerate(rows):
            there = [*row["found"], *(f"no {name}" for name in row["missing"])]
            told = row["problem"] or ("being read" if row["pending"] else " ".join(there))
            state = "confirmed" if row["confirmed"] else row["state"]
            for column, text in enumerate((row["case"], state, row["holder"], told)):
                self.cases.setItem(number, column, qt.QTableWidgetItem(text))
        self.turning.setText(f"{page['page']} / {page['pages']}, {page['matched']} cases")

    def show_case(self, case: Case | None, holder: str) -> None:
        names = () if case is None else (*case.labels, BACKGROUND)
        self.labels.setRowCount(len(names))
        for number, name in enumerate(names):
            item = qt.QTableWidgetItem("nothing is here" if name == BACKGROUND else name)
            if name != BACKGROUND:
                item.setIcon(_swatch(case.colors[name]))
            self.labels.setItem(number, 1, item)
            self.labels.setItem(number, 0, qt.QTableWidgetItem(""))
        other = f", in the hands of {holder}" if holder not in ("", "you") else ""
        self.title.setText("" if case is None else f"{case.name}{other}")
        self._choose_tool("")
        for widget in (*self.tools.values(), self.box):
            widget.setEnabled(case is not None and case.follows)
        for widget in self.reach:
            widget.setEnabled(case is not None and case.reaches)
        self.box.setChecked(False)
        scene = self.controller.scene
        self.editor.setSegmentationNode(None if scene is None or case is None else scene.segmentation)
        self.editor.setSourceVolumeNode(None if scene is None or case is None else scene.reference)
        if names:
            self.labels.selectRow(0)
            self._fit()

    def show_result(self, facts: Mapping[str, Any]) -> None:
        lines = [
            f'<b style="color: #C62828">{html.escape(one["text"])}</b>' for one in facts.get("warnings", ())
        ]
        lines += [html.escape(str(note)) for note in facts.get("notes", ())]
        trust = facts.get("trust") or {}
        quality = trust.get("quality")
        if quality:
            dice = ", ".join(f"{name} {value:.2f}" for name, value in quality["dice"].items())
            lines.append(
                html.escape(f"Expected quality: {quality['step']}{f' (Dice {dice})' if dice else ''}")
            )
        self.warnings.setText("<br>".join(lines))
        self.places = [place["centre"] for place in trust.get("places", ())]
        self.list.clear()
        self.list.addItems([place["text"] for place in trust.get("places", ())])
        self.redo.setEnabled(True)

    def show_volumes(self, volumes: Mapping[str, float], confirms: bool) -> None:
        for number, ml in enumerate(volumes.values()):
            self.labels.item(number, 0).setText(f"{ml:.1f}")
        self.submit.setText("Confirm unchanged" if confirms else "Submit")

    def show_learning(self, text: str, runs: bool) -> None:
        self.learning.setText(text)
        self.train.setEnabled(not runs)
        self.stop.setEnabled(runs)

    def ask_log_in(self, why: str) -> tuple[str, str] | None:
        dialog = qt.QDialog(slicer.util.mainWindow())
        dialog.setWindowTitle("SLeM Label: log in")
        form, name, password = qt.QFormLayout(dialog), qt.QLineEdit(self.reader.text), qt.QLineEdit()
        password.setEchoMode(qt.QLineEdit.Password)
        form.addRow(qt.QLabel(why))
        form.addRow("Name", name)
        form.addRow("Password", password)
        buttons = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", dialog.accept)
        buttons.connect("rejected()", dialog.reject)
        form.addRow(buttons)
        return (name.text, password.text) if dialog.exec_() == qt.QDialog.Accepted else None

    def ask_leave(self, case: str) -> bool:
        text = f"What you changed of {case} is not submitted. Leave it?"
        return bool(slicer.util.confirmYesNoDisplay(text))

    # what the reader does

    @staticmethod
    def _fit() -> None:
        """Show the images whole."""
        manager = slicer.app.layoutManager()
        for name in views.NAMES if manager is not None else ():
            widget = manager.sliceWidget(name)
            if widget is not None:
                widget.sliceLogic().FitSliceToBackground()

    def _connect(self, *event: object) -> None:
        settings = qt.QSettings()
        settings.setValue(f"{SETTINGS}/server", self.address.text)
        settings.setValue(f"{SETTINGS}/reader", self.reader.text)
        self.controller.connect(self.address.text, self.reader.text)

    def _list(self, *event: object, step: int = 0) -> None:
        page = min(max(1, int(self.page["page"]) + step), int(self.page["pages"]))
        self.controller.list_cases(self.filter.text, self.state.currentText, page=page if step else 1)

    def _open(self, *event: object) -> None:
        row = self.cases.currentRow()
        if row >= 0:
            self.controller.open(self.page["rows"][row]["case"])

    def _next(self, *event: object) -> None:
        self.controller.next_case(self.strategy.currentText)

    def _choose_label(self) -> None:
        case = None if self.controller.session is None else self.controller.session.case
        row = self.labels.currentRow()
        if case is not None and row >= 0:
            self.controller.label = (*case.labels, BACKGROUND)[row]
            self._choose_tool(next((tool for tool, one in self.tools.items() if one.checked), ""))

    def _choose_tool(self, tool: str) -> None:
        for name, button in self.tools.items():
            button.setChecked(name == tool)
        scene = self.controller.scene
        for mouse in self.mice:
            mouse.tool = tool
            if scene is not None:
                mouse.color = scene.color(self.controller.label)

    def _choose_box(self, on: bool) -> None:
        if on:
            self.controller.add_box()
        else:
            self.controller.remove_box()

    def _turn(self, plane: str) -> None:
        if self.controller.scene is not None:
            views.turn(plane, self.controller.scene.reference)

    def _jump(self, row: int) -> None:
        if 0 <= row < len(self.places):
            self.controller.jump(self.places[row])


def _section(layout: qt.QVBoxLayout, title: str, closed: bool = False) -> qt.QFormLayout:
    button = ctk.ctkCollapsibleButton()
    button.text = title
    button.collapsed = closed
    layout.addWidget(button)
    return qt.QFormLayout(button)


def _text(layout: qt.QVBoxLayout | None, rich: bool = False) -> qt.QLabel:
    label = qt.QLabel()
    # what comes from a server is never markup unless it was escaped
    label.setTextFormat(qt.Qt.RichText if rich else qt.Qt.PlainText)
    label.setWordWrap(True)
    if layout is not None:
        layout.addWidget(label)
    return label


def _button(text: str, pressed: Callable[..., None], checkable: bool = False) -> qt.QPushButton:
    button = qt.QPushButton(text)
    button.setCheckable(checkable)
    button.connect("clicked(bool)", pressed if checkable else lambda on: pressed())
    return button


def _row(*widgets: qt.QWidget) -> qt.QWidget:
    holder = qt.QWidget()
    line = qt.QHBoxLayout(holder)
    line.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        line.addWidget(widget)
    return holder


def _table(columns: Sequence[str]) -> qt.QTableWidget:
    table = qt.QTableWidget()
    table.setColumnCount(len(columns))
    table.setHorizontalHeaderLabels(list(columns))
    table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.verticalHeader().setVisible(False)
    table.horizontalHeader().setStretchLastSection(True)
    table.setMaximumHeight(180)
    return table


def _swatch(color: Sequence[int]) -> qt.QIcon:
    picture = qt.QPixmap(16, 16)
    picture.fill(qt.QColor(*color))
    return qt.QIcon(picture)


def _timer(pause: int, call: Callable[[], None]) -> qt.QTimer:
    timer = qt.QTimer()
    timer.setInterval(pause)
    timer.connect("timeout()", call)
    timer.start()
    return timer


def _shortcut(window: qt.QWidget, keys: str, call: Callable[[], None]) -> qt.QShortcut:
    shortcut = qt.QShortcut(qt.QKeySequence(keys), window)
    shortcut.connect("activated()", call)
    return shortcut
