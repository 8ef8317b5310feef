"""What a person sees of a run on the terminal."""

import signal
import time
from pathlib import Path
from typing import TextIO


class Progress:
    """Prints a line per step: its name when it starts, then how it ended and the seconds it took.

    `error` is the message of the failed step, if any; `is_stopped` says whether a signal stopped the run.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.error: str | None = None
        self.is_stopped = False
        self._terminal = terminal
        self._run_started = self._step_started = time.monotonic()
        self._open_step: str | None = None
        self._ended_steps: list[str] = []

    def watch(self, task) -> None:
        """Have Airflow call this object when the task starts and ends."""
        task.on_execute_callback = [self._start]
        task.on_success_callback = [lambda context: self._end(context, "done")]
        task.on_skipped_callback = [lambda context: self._end(context, "skipped")]
        task.on_failure_callback = [*(task.on_failure_callback or []), lambda context: self._end(context, "failed")]

    def summary(self, dag, log: Path) -> str:
        """Return the last line: the seconds of all steps, and the steps that did not run."""
        not_run = [task.task_id for task in dag.topological_sort() if task.task_id not in self._ended_steps]
        suffix = f"; not run: {', '.join(not_run)}; see {log}" if not_run else ""
        return f"{'all':<16}{'':<8}{time.monotonic() - self._run_started:8.1f} s{suffix}"

    def _start(self, context) -> None:
        # Airflow has just set its own handlers, which would end the step and continue the run.
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._open_step, self._step_started = context["ti"].task_id, time.monotonic()
        self._print(f"{self._open_step:<16}", end="")

    def _stop(self, number, frame) -> None:
        self.is_stopped = True
        stop(number, frame)

    def _end(self, context, outcome: str) -> None:
        step = context["ti"].task_id
        if self._open_step != step:  # the step failed before its process started
            self._print(f"{step:<16}", end="")
        self._open_step = None
        self._ended_steps.append(step)
        self._print(f"{outcome:<8}{time.monotonic() - self._step_started:8.1f} s")
        if outcome == "failed":
            self.error = str(context.get("exception") or "").removeprefix("error: ").split("\n")[0]

    def _print(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self._terminal, flush=True)


def stop(number, frame) -> None:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt
