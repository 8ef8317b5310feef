"""The import of Great Expectations."""

import subprocess
import sys

CODE = """
import sys
from jobs.quality._library import import_library
import_library()
assert "scipy.stats._stats_py" not in sys.modules
from scipy.stats import rankdata
assert rankdata([3, 1, 2]).tolist() == [3, 1, 2]
"""


def test_the_statistics_of_scipy_are_loaded_when_they_are_used_and_not_before():
    assert subprocess.run([sys.executable, "-c", CODE], check=False).returncode == 0
