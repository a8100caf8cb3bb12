"""Where models lie, known without opening one: nothing here needs torch, so that a wrong name is answered at
once.
"""

from __future__ import annotations

import os
from pathlib import Path

from slem_app.errors import NotFound

__all__ = ["CARD_FILE", "DETAIL_FILE", "find", "model_folder", "model_names", "shelves"]

CARD_FILE = "card.yaml"
DETAIL_FILE = "detail.yaml"  # a model that only looks again at what another found; nobody asks for it by name
BUNDLED = Path(__file__).parent.parent / "pretrained"  # in the repository, a link to the folder of that name


def shelves() -> tuple[Path, ...]:
    """Folders that hold models, in order of precedence: those of the environment variable SLEM_MODELS, then
    the bundled ones.
    """
    return (*(Path(part) for part in os.environ.get("SLEM_MODELS", "").split(os.pathsep) if part), BUNDLED)


def model_names() -> tuple[str, ...]:
    """Names of all models that `find` knows."""
    return tuple(sorted({card.parent.name for shelf in shelves() for card in shelf.glob(f"*/{CARD_FILE}")}))


def find(name: str, file: str = CARD_FILE) -> Path:
    """The folder of the model called `name`; `file` is what its card is called.

    Raises:
        NotFound: there is none, or the name is a path.
    """
    if name and Path(name).name == name and name != "..":
        for shelf in shelves():
            if (shelf / name / file).is_file():
                return shelf / name
    raise NotFound(
        f"no model {name!r}; known: {', '.join(model_names()) or 'none'} (looked in "
        f"{', '.join(map(str, shelves()))}; more folders: SLEM_MODELS)"
    )


def model_folder(folder_or_name: Path | str) -> Path:
    """The folder itself if it holds a card, else that of the model with this name.

    Raises:
        NotFound: neither.
    """
    folder = Path(folder_or_name)
    return folder if (folder / CARD_FILE).is_file() else find(str(folder_or_name))
