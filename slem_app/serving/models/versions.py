"""Which version of a model answers whom: the served one, but to a reader at work on a case the one that he
began it with.

A case is in a reader's hand from his first request about it until he has submitted its final label and gone
on to another one. Only what he corrects stays with the version of its beginning, also when the server is
started again meanwhile (`hands`); an automatic segmentation is always made by the served one, and is what the
first click is then about.

Concurrency: a version is loaded beside the one that serves, by whoever calls `Follower.look` (a thread of its
own), and takes its place by one assignment. A request uses what `Served` gave it to its end, so a switch
changes no request that has begun, and none waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from slem_app.errors import SlemError
from slem_app.predict import Predictor
from slem_app.serving.background import outlive
from slem_app.serving.models.assignments import Hand, HandFile, Row
from slem_app.weights.published import Published

__all__ = ["Follower", "Served"]

logger = logging.getLogger(__name__)

Hands = Mapping[tuple[str, str], Hand]
"""By reader and case."""
MOST_HANDS = 256  # cases in readers' hands; those that were not touched for longest are given up first
MOST_VERSIONS = 3  # earlier versions that are kept in memory for them
POLL = 1.0  # s between looks at what is to be served


class Served:
    """The version that is served, and those that readers are still at work with.

    Args:
        predictor: of the served one.
        hands: cases that are in readers' hands already, the one that was touched last at the end.
        keep: told all of them when they may have changed.
    """

    def __init__(
        self,
        predictor: Predictor,
        hands: Hands | None = None,
        keep: Callable[[Hands], None] = lambda hands: None,
    ) -> None:
        self.now = predictor
        self.hands: OrderedDict[tuple[str, str], Hand] = OrderedDict(hands or {})
        self.keep = keep
        self.guard = threading.Lock()
        self._trim()

    def switch(self, predictor: Predictor) -> None:
        """Serve another version from the next request on."""
        with self.guard:
            self.now = predictor
            self._trim()
            self.keep(self.hands)

    def automatic(self, reader: str, case: str) -> Predictor:
        """For a segmentation without interaction: the served version."""
        with self.guard:
            self._leave(reader, case)
            hand = self.hands.get((reader, case))
            if hand is None or not hand.working:
                self._put((reader, case), Hand(self.now))
            self.keep(self.hands)
            return self.now

    def interactive(self, reader: str, case: str) -> Predictor:
        """For a correction: the version that the reader has begun the case with."""
        with self.guard:
            self._leave(reader, case)
            hand = self.hands.get((reader, case)) or Hand(self.now)
            self._put((reader, case), replace(hand, working=True))
            self.keep(self.hands)
            return hand.predictor

    def begun_with(self, reader: str, case: str) -> Predictor:
        """The version that `interactive` would give, without any change."""
        with self.guard:
            hand = self.hands.get((reader, case))
            return hand.predictor if hand else self.now

    def submitted(self, reader: str, case: str) -> None:
        """The reader has submitted the final label; what he still corrects stays with the version until he
        goes on to another case.
        """
        with self.guard:
            if (reader, case) in self.hands:
                self.hands[reader, case] = replace(self.hands[reader, case], submitted=True)
                self.keep(self.hands)

    def _leave(self, reader: str, case: str) -> None:
        """The reader is at another case now: the submitted ones are done."""
        for key in [
            key for key, hand in self.hands.items() if key[0] == reader and key[1] != case and hand.submitted
        ]:
            del self.hands[key]

    def _put(self, key: tuple[str, str], hand: Hand) -> None:
        self.hands[key] = hand
        self.hands.move_to_end(key)
        self._trim()

    def _trim(self) -> None:
        while len(self.hands) > MOST_HANDS:
            self.hands.popitem(last=False)
        earlier = list(
            dict.fromkeys(
                hand.predictor for hand in reversed(self.hands.values()) if hand.predictor is not self.now
            )
        )
        for key in [key for key, hand in self.hands.items() if hand.predictor in earlier[MOST_VERSIONS:]]:
            del self.hands[key]


class Follower:
    """Keeps a model's `Served` at the version that the disk says is to be served.

    Args:
        published: the versions.
        device: where the network runs.
        switched: called after each switch.
        hands: the file that keeps what is in readers' hands; None: that ends with the server.

    Raises:
        NotFound, BadCard, BadWeights: not even the bundled version can be used.
    """

    def __init__(
        self,
        published: Published,
        device: str | torch.device = "cpu",
        switched: Callable[[], None] = lambda: None,
        hands: Path | None = None,
    ) -> None:
        self.published, self.device, self.switched = published, device, switched
        self.stamp = published.stamp()
        loaded = published.load(device)
        self.number, self.note = loaded.number, loaded.note
        self.served = self._serve(Predictor(loaded.model, device), HandFile(hands) if hands else None)
        self.guard, self.stopping = threading.Lock(), threading.Event()
        self.thread: threading.Thread | None = None
        self._tell()

    def look(self) -> bool:
        """Take up another version if one is to be served now; True if it was."""
        with self.guard:
            stamp = self.published.stamp()
            if stamp == self.stamp:
                return False
            loaded = self.published.load(self.device)
            same = loaded.model.card.sha256 == self.served.now.card.sha256 and loaded.number == self.number
            self.stamp, self.number, self.note = stamp, loaded.number, loaded.note
            if not same:
                self.served.switch(Predictor(loaded.model, self.device))
            self._tell()
        if not same:
            self.switched()
        return not same

    def start(self) -> None:
        """Look every second, in a thread."""
        if self.thread is None:
            self.thread = threading.Thread(
                target=self._run, name=f"versions of {self.published.name}", daemon=True
            )
            self.thread.start()

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(timeout=30)

    def _run(self) -> None:
        while not self.stopping.wait(POLL):
            # a GPU may have no memory for two: the version that is there goes on serving
            outlive(self.look, f"loading another version of {self.published.name}")

    def _serve(self, now: Predictor, file: HandFile | None) -> Served:
        """The served version, and those that readers had cases in their hands with when the server ended."""
        if file is None:
            return Served(now)
        predictors: dict[tuple[str, str], Predictor | None] = {(now.card.version, now.card.sha256): now}
        for row in reversed(file.rows):  # the latest first: of the others no more are loaded than are kept
            if (row.version, row.sha256) not in predictors and len(predictors) <= MOST_VERSIONS:
                predictors[row.version, row.sha256] = self._earlier(row)
        begun = [(row, predictors.get((row.version, row.sha256))) for row in file.rows]
        hands = {
            (row.reader, row.case): Hand(found, row.working, row.submitted) for row, found in begun if found
        }
        return Served(now, hands, file.write)

    def _earlier(self, row: Row) -> Predictor | None:
        """The version that a case was begun with, if it is still there."""
        for one in self.published.versions():
            if one.card and (one.card.version, one.card.sha256) == (row.version, row.sha256):
                try:
                    return Predictor(self.published.load_version(one.number, self.device), self.device)
                except (
                    SlemError,
                    RuntimeError,
                    MemoryError,
                ) as error:  # a GPU without memory for another one
                    logger.warning(
                        "version %d of %s cannot be loaded again: %s", one.number, self.published.name, error
                    )
        return None

    def _tell(self) -> None:
        if self.note:
            logger.warning(self.note)
        logger.info(
            "%s: version %d (%s) is served", self.published.name, self.number, self.served.now.card.version
        )
