"""The newest publication: loaded at the start, and again whenever marts.refreshes has a new row."""

import threading

from jobs.errors import UserError
from jobs.progress import log
from jobs.serve.snapshot import REFRESHES, Snapshot, read_manifest
from jobs.storage import delta

POLL_SECONDS = 2.0


class Follower:
    """Holds a snapshot that a thread replaces; whoever takes `snapshot` once has one publication throughout."""

    def __init__(self, lake: str):
        """Load the newest publication. Raises UserError where nothing is published."""
        self._lake = lake
        self._version, self._manifest = self._read_newest()
        self.snapshot = Snapshot(lake, self._manifest)
        self._ended = threading.Event()

    def _read_newest(self) -> tuple[int, dict]:
        """Return the version of marts.refreshes, and the row that was written last."""
        path = delta.table_path(self._lake, REFRESHES)
        return delta.read_version(path) if delta.is_written(path) else -1, read_manifest(self._lake)

    def start(self) -> None:
        """Look for a new publication every POLL_SECONDS until stop()."""
        threading.Thread(target=self._follow, daemon=True, name="follow").start()

    def stop(self) -> None:
        """Stop looking."""
        self._ended.set()

    def look(self) -> None:
        """Load the newest publication, if there is a new one."""
        if delta.read_version(delta.table_path(self._lake, REFRESHES)) == self._version:
            return
        version, manifest = self._read_newest()
        if manifest != self._manifest:
            self.snapshot = Snapshot(self._lake, manifest)
            log(f"serve: {self.snapshot.day} is served, {self.snapshot.n_customers:,} customers")
        self._version, self._manifest = version, manifest

    def _follow(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            try:
                self.look()
            except (UserError, OSError, ValueError, KeyError) as error:  # of a lake that is away or being restored
                log(f"serve: the newest publication cannot be read ({type(error).__name__}); {self.snapshot.day} stays")
