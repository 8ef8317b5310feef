"""The command line: `shoal <step> --day D` for every step of jobs/flow.py, and a few commands that help a person.

Exit codes: 0 done, 2 an error that the user can mend (one line, `error: ...`), 75 another command writes the lake (one line),
99 nothing to do today, 1 anything else.
"""

import atexit
import ctypes
import os
import re
import signal
import sys
import traceback
from pathlib import Path

if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    # A submitted file has its own folder on the path; the package needs the folder above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from jobs import flow
from jobs.cli.parser import build_parser
from jobs.errors import LakeBusy, NotDue, UserError, hide_values


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    _die_with_parent()
    if os.environ.get("SHOAL_REMOTE"):
        # A thin client ends in order, so that its server stops working for it.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        _keep_files_private()
        arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", flush=True)
        return flow.LAKE_BUSY_EXIT_CODE if isinstance(error, LakeBusy) else 2
    except NotDue as reason:
        print(f"not due: {reason}", flush=True)
        return flow.NOT_DUE_EXIT_CODE
    except Exception:  # a message of Spark's may quote a cell of a file
        print(hide_values(traceback.format_exc()), file=sys.stderr, flush=True)
        return 1
    return 0


def _keep_files_private() -> None:
    """Let new files be for the user who runs Shoal alone, or as the octal umask in SHOAL_UMASK says."""
    umask = os.environ.get("SHOAL_UMASK") or "077"
    if not re.fullmatch("0?[0-7]{3}", umask):
        raise UserError(f"settings: SHOAL_UMASK is '{umask}'; give three octal digits, as in 027 for a group that reads the lake")
    os.umask(int(umask, 8))


def _die_with_parent() -> None:
    """Let the kernel end this process when the process that submitted it is killed. Linux only."""
    if sys.platform == "linux" and os.environ.get("SHOAL_PARENT") == "watch":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _skip_teardown(exit_codes: list[int]) -> None:
    """End this process with the exit code that main() has returned, before the interpreter frees its objects.

    To free those of Great Expectations or torch takes up to a second, and the operating system does it at once.
    """
    if exit_codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_codes[0])


if __name__ == "__main__":
    returned: list[int] = []
    atexit.register(_skip_teardown, returned)  # registered first, called last: after the exit functions of all libraries
    returned.append(main())
    sys.exit(returned[0])
