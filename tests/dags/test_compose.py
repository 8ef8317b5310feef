"""docker-compose.yml names only commands, paths and variables that exist. No container is started."""

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
import zipfile

import pytest
import yaml

from dags.local.airflow_home import EDGE_SETTINGS, WORKER_SETTINGS
from tests.dags.stand_in import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
VARIABLES = {m[1]: m[2] for m in re.finditer(r"\$\{(\w+)(:[?-][^}]*)?\}", (ROOT / "docker-compose.yml").read_text())}
SPARK_HOME = next((ROOT / ".venv" / "spark" / "lib").glob("python3*/site-packages/pyspark"))


def commands(service: dict) -> list[list[str]]:
    """Return every command of a service as words: its health check and the command that it runs."""
    kind, *check = service.get("healthcheck", {}).get("test", ["CMD"])
    lines = [check] if kind == "CMD" else [shlex.split(check[0])]
    command = service.get("command", [])
    lines += [shlex.split(part) for part in command[2].split("&&")] if command[:1] == ["bash"] else [command]
    return [line for line in lines if line]


def test_each_part_of_the_topology_has_a_service():
    assert set(SERVICES) == {
        "postgres", "airflow-init", "api-server", "scheduler", "dag-processor", "triggerer", "gpu-worker",
        "spark-master", "spark-worker", "thrift-server",
    }  # fmt: skip


def test_every_long_running_service_has_a_health_check_and_every_dependency_exists():
    long_running = {name for name, s in SERVICES.items() if s.get("restart") != "no"}
    assert long_running == {name for name, s in SERVICES.items() if "healthcheck" in s}
    for service in SERVICES.values():
        for dependency, options in service.get("depends_on", {}).items():
            assert options["condition"] == "service_healthy" if dependency in long_running else "service_completed_successfully"


def test_every_secret_is_required_and_the_example_lists_every_variable():
    example = re.findall(r"^(\w+)=(.*)$", (ROOT / "docker" / ".env.example").read_text(), re.M)
    assert sorted(example) == sorted((name, "") for name in VARIABLES)
    assert {name for name, default in VARIABLES.items() if not (default or "").startswith(":?")} == {"ALERT_URL", "PUBLISHED_BY"}


def test_every_airflow_setting_exists_in_this_airflow():
    from airflow.configuration import conf
    from airflow.jobs import scheduler_job_runner
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    described = {
        (section, key) for section, description in conf.configuration_description.items() for key in description["options"]
    }
    settings = {
        tuple(name.lower().split("__")[1:])
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if name.startswith("AIRFLOW__")
    }
    ours = {("shoal", "alert_url"), ("shoal", "published_by")}
    assert settings - described == {*ours, ("scheduler", "num_stuck_in_queued_retries")}
    assert "num_stuck_in_queued_retries" in inspect.getsource(scheduler_job_runner)  # Airflow reads it without describing it
    assert all(f'conf.get("{section}", "{key}"' in (ROOT / "dags" / "alerts.py").read_text() for section, key in ours)


def test_the_connection_names_the_spark_master_of_this_file():
    connection = json.loads(SERVICES["scheduler"]["environment"]["AIRFLOW_CONN_SPARK_DEFAULT"])
    assert connection["host"] == "spark://spark-master:7077" == SERVICES["spark-worker"]["command"][-1]
    master = SERVICES["spark-master"]["command"]
    assert [master[master.index(option) + 1] for option in ("--host", "--port")] == ["spark-master", "7077"]


def test_every_executor_and_the_worker_of_its_queue_exist():
    from airflow._shared.module_loading import import_string

    executors = SERVICES["scheduler"]["environment"]["AIRFLOW__CORE__EXECUTOR"].split(",")
    assert executors[0] == "LocalExecutor"
    assert import_string(executors[1])
    assert SERVICES["gpu-worker"]["command"][3:5] == ["--queues", "gpu"]
    assert {name: SERVICES["scheduler"]["environment"].get(name) for name in EDGE_SETTINGS} == EDGE_SETTINGS


def test_the_worker_has_neither_the_database_nor_the_log_folder_of_the_other_services():
    worker, scheduler = SERVICES["gpu-worker"], SERVICES["scheduler"]
    assert not [value for value in worker["environment"].values() if "postgres" in value]
    assert worker["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == WORKER_SETTINGS["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert {v.split(":")[0] for v in worker["volumes"]} == {"lake", "models"}
    shared = worker["environment"].keys() & scheduler["environment"].keys() - {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}
    assert {n: worker["environment"][n] for n in shared} == {n: scheduler["environment"][n] for n in shared}


def test_airflow_accepts_every_airflow_command():
    from airflow.cli.cli_parser import get_parser

    airflow_commands = {tuple(words) for s in SERVICES.values() for words in commands(s) if words[0] == "airflow"}
    assert len(airflow_commands) == 10
    for words in airflow_commands:
        assert get_parser().parse_args(words[1:]).func, words  # an unknown command or option exits
    assert "\nexec airflow api-server" in (ROOT / "docker" / "api-server.sh").read_text()


def test_the_pools_of_the_dag_are_created():
    from dags.daily_refresh import refresh

    pools = {words[3] for words in commands(SERVICES["airflow-init"]) if words[1:3] == ["pools", "set"]}
    assert pools == {task.pool for task in refresh.tasks} - {"default_pool"}


def test_every_spark_command_and_class_is_in_the_spark_environment():
    spark_commands = [s["command"] for s in SERVICES.values() if s.get("image") == "shoal-spark"]
    programs, words = {command[0] for command in spark_commands}, [word for command in spark_commands for word in command]
    assert programs == {"spark-class", ".venv/spark/bin/python"}
    assert (SPARK_HOME / "bin" / "spark-class").exists()
    classes = {word.replace(".", "/") + ".class" for word in words if word.startswith("org.apache.spark.")}
    assert len(classes) == 2
    class_files = set()
    for jar in SPARK_HOME.glob("jars/spark-*.jar"):
        class_files |= set(zipfile.ZipFile(jar).namelist())
    assert classes <= class_files


def test_every_path_in_the_compose_file_and_the_images_exists():
    sources = [path for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.M) for path in line.split()[:-1]]
    assert sources
    scripts = [word for s in SERVICES.values() for c in commands(s) for word in c if word.startswith("docker/")]
    assert scripts == ["docker/api-server.sh"]
    missing = [path for path in [*sources, *scripts] if not (ROOT / path).exists()]
    assert missing == []
    assert os.access(ROOT / "docker" / "api-server.sh", os.X_OK)
    modules = re.findall(r"\.venv/spark/bin/python -m (\w+)", DOCKERFILE)
    assert modules == ["setup"]
    assert [module for module in modules if not (ROOT / module / "__main__.py").exists()] == []


def test_every_image_is_a_target_and_every_requirement_file_is_pinned_with_hashes():
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))
    assert {s["build"]["target"] for s in SERVICES.values() if "build" in s} == {"airflow", "spark", "train"} <= targets
    assert "pip install" in DOCKERFILE
    for line in re.findall(r".*pip install.*", DOCKERFILE):
        assert "--require-hashes" in line
        for file in re.findall(r"-r (\S+)", line):
            blocks = re.split(r"\n(?=[a-z])", (ROOT / file).read_text())
            assert all("--hash=sha256:" in block for block in blocks if not block.startswith("#")), file


def test_the_settings_file_names_the_mounted_folders():
    settings = tomllib.loads((ROOT / "conf" / "prod.toml").read_text())
    mounted = {volume.rsplit(":/", 1)[1].removesuffix(":ro") for volume in SERVICES["scheduler"]["volumes"]}
    assert {f"{settings[root]}".lstrip("/") for root in ("lake", "models", "reports", "input")} <= mounted
    assert "SHOAL_ENV=prod" in DOCKERFILE
    volumes = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if not v.startswith("$")}
    assert volumes == set(COMPOSE["volumes"])


def test_compose_itself_accepts_the_file_and_refuses_a_missing_secret(tmp_path):
    program = shutil.which("docker-compose")
    if not program:
        pytest.skip("docker-compose is not installed here")

    def check_config(*names: str) -> subprocess.CompletedProcess:
        (tmp_path / ".env").write_text("".join(f"{name}=/x\n" for name in names))
        command = [program, "--file", ROOT / "docker-compose.yml", "--env-file", tmp_path / ".env", "config", "--quiet"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert check_config(*VARIABLES).returncode == 0
    for name in VARIABLES:
        if name not in ("ALERT_URL", "PUBLISHED_BY"):
            refused = check_config(*(variable for variable in VARIABLES if variable != name))
            assert refused.returncode != 0, name
            assert name in refused.stderr
