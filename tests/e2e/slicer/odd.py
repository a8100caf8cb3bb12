"""Opens cases in the module SLeM Label, one after the other, and keeps a picture and the words of each.

QT_QPA_PLATFORM=offscreen .venv-slicer/bin/python tests/e2e/slicer/odd.py --server URL --out FOLDER
    --cases CASE ...

Writes seen.json and a picture for each case.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PySide6 import QtWidgets
from windows import Window


def opened(window: Window, case: str) -> str:
    """What the panel says once a case was opened and segmented."""
    panel = window.panel
    names = [panel.cases.item(row, 0).text() for row in range(panel.cases.rowCount())]
    panel.cases.selectRow(names.index(case))
    window.press("Open")
    window.picture(case)
    labels = window.widget.parent.findChildren(QtWidgets.QLabel)
    texts = [QtWidgets.QLabel.text(one).strip() for one in labels if one.isVisible()]
    return " | ".join(text for text in texts if text)


def main() -> None:
    """Connect, open, write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--server", required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--cases", nargs="+", required=True)
    given = options.parse_args()
    window = Window(given.out)
    window.panel.address.setText(given.server)
    window.press("Connect")
    seen = {case: opened(window, case) for case in given.cases}
    window.widget.exit()
    window.widget.cleanup()
    given.out.joinpath("seen.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
