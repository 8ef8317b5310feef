"""The processes of Airflow on one machine: `python -m dags.local.components`.

Airflow's own `standalone` also starts a server of logs for each of scheduler and triggerer, on all addresses of the machine.
Here all processes share one folder of logs, which the API server reads.
"""

import signal
import subprocess
import sys
import time

from dags.local.airflow_home import AIRFLOW

COMMANDS = (("api-server",), ("scheduler", "--skip-serve-logs"), ("dag-processor",), ("triggerer", "--skip-serve-logs"))
_END_SECONDS = 20


def main() -> int:
    """Run all components until one ends or a signal comes; end the others then. Return 0 after a signal."""
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: signals.append(received))
    components = [subprocess.Popen([AIRFLOW, *command]) for command in COMMANDS]
    while not signals and all(component.poll() is None for component in components):
        time.sleep(0.2)
    ended = next((component for component in components if component.poll() is not None), None)
    if ended and not signals:
        print(f"{' '.join(map(str, ended.args))} ended with exit code {ended.returncode}", flush=True)
    end_all(components)
    return 0 if signals else 1


def end_all(components: list[subprocess.Popen]) -> None:
    """End the components in order, by force after a while."""
    for component in components:
        component.terminate()
    end = time.monotonic() + _END_SECONDS
    for component in components:
        try:
            component.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            component.kill()


if __name__ == "__main__":
    sys.exit(main())
