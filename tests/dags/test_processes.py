"""How the project's processes are waited for and ended."""

import signal
import socket
import subprocess
import sys
import threading

import pytest
from airflow.sdk.exceptions import AirflowException

from dags import processes


def test_a_spark_connect_server_that_is_still_starting_is_waited_for():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        threading.Timer(0.5, server.listen).start()
        processes.wait_for_spark_server(*server.getsockname())


def test_a_spark_connect_server_that_never_answers_is_named(monkeypatch):
    monkeypatch.setattr(processes, "ANSWER_SECONDS", 0.3)
    with socket.socket() as server:  # it does not listen
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        with pytest.raises(AirflowException, match=f"error: no Spark Connect server answers at 127.0.0.1:{port} "):
            processes.wait_for_spark_server("127.0.0.1", port)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        processes.end_session(process.pid)
        assert process.wait(1) == -signal.SIGKILL
