"""docker-compose.yml names only what exists: each command, path and variable is looked up, no container is started."""

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

from dags.local import EDGE, WORKER
from tests.dags.stand_in import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
VARIABLES = {m[1]: m[2] for m in re.finditer(r"\$\{(\w+)(:[?-][^}]*)?\}", (ROOT / "docker-compose.yml").read_text())}
SPARK_HOME = next((ROOT / ".venv" / "spark" / "lib").glob("python3*/site-packages/pyspark"))


def commands(service: dict) -> list[list[str]]:
    """Every command of a service as words: what it runs and its health check."""
    kind, *check = service.get("healthcheck", {}).get("test", ["CMD"])
    lines = [check] if kind == "CMD" else [shlex.split(check[0])]
    command = service.get("command", [])
    lines += [shlex.split(part) for part in command[2].split("&&")] if command[:1] == ["bash"] else [command]
    return [line for line in lines if line]


def test_there_is_a_service_for_each_part_of_the_topology():
    assert set(SERVICES) == {
        "postgres", "airflow-init", "api-server", "scheduler", "dag-processor", "triggerer", "gpu-worker",
        "spark-master", "spark-worker", "thrift-server",
    }  # fmt: skip


def test_every_lasting_service_has_a_health_check_and_every_dependency_exists():
    lasting = {name for name, s in SERVICES.items() if s.get("restart") != "no"}
    assert lasting == {name for name, s in SERVICES.items() if "healthcheck" in s}
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy" if needed in lasting else "service_completed_successfully"


def test_every_secret_is_required_and_the_example_lists_every_variable():
    example = re.findall(r"^(\w+)=(.*)$", (ROOT / "docker" / ".env.example").read_text(), re.M)
    assert sorted(example) == sorted((name, "") for name in VARIABLES)
    assert {name for name, default in VARIABLES.items() if not (default or "").startswith(":?")} == {"ALERT_URL", "PUBLISHED_BY"}


def test_every_airflow_setting_exists_in_this_airflow():
    from airflow.configuration import conf
    from airflow.jobs import scheduler_job_runner
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    known = {(section, key) for section, about in conf.configuration_description.items() for key in about["options"]}
    named = {
        tuple(name.lower().split("__")[1:])
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if name.startswith("AIRFLOW__")
    }
    ours = {("shoal", "alert_url"), ("shoal", "published_by")}
    assert named - known == {*ours, ("scheduler", "num_stuck_in_queued_retries")}
    assert "num_stuck_in_queued_retries" in inspect.getsource(scheduler_job_runner)  # read, though not described
    assert all(f'conf.get("{section}", "{key}"' in (ROOT / "dags" / "steps.py").read_text() for section, key in ours)


def test_the_connection_is_the_spark_master_of_this_file():
    connection = json.loads(SERVICES["scheduler"]["environment"]["AIRFLOW_CONN_SPARK_DEFAULT"])
    assert connection["host"] == "spark://spark-master:7077" == SERVICES["spark-worker"]["command"][-1]
    master = SERVICES["spark-master"]["command"]
    assert [master[master.index(o) + 1] for o in ("--host", "--port")] == ["spark-master", "7077"]


def test_every_executor_and_the_worker_of_its_queue_exist():
    from airflow._shared.module_loading import import_string

    executors = SERVICES["scheduler"]["environment"]["AIRFLOW__CORE__EXECUTOR"].split(",")
    assert executors[0] == "LocalExecutor"
    assert import_string(executors[1])
    assert SERVICES["gpu-worker"]["command"][3:5] == ["--queues", "gpu"]
    assert {name: SERVICES["scheduler"]["environment"].get(name) for name in EDGE} == EDGE


def test_the_worker_has_neither_the_database_nor_the_log_folder_of_the_others():
    worker, scheduler = SERVICES["gpu-worker"], SERVICES["scheduler"]
    assert not [value for value in worker["environment"].values() if "postgres" in value]
    assert worker["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == WORKER["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert {v.split(":")[0] for v in worker["volumes"]} == {"lake", "models"}
    same = worker["environment"].keys() & scheduler["environment"].keys() - {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}
    assert {n: worker["environment"][n] for n in same} == {n: scheduler["environment"][n] for n in same}


def test_airflow_itself_accepts_every_airflow_command():
    from airflow.cli.cli_parser import get_parser

    asked = {tuple(words) for s in SERVICES.values() for words in commands(s) if words[0] == "airflow"}
    assert len(asked) == 10
    for words in asked:
        assert get_parser().parse_args(words[1:]).func, words  # an unknown command or option exits
    assert "\nexec airflow api-server" in (ROOT / "docker" / "api-server.sh").read_text()


def test_the_pools_of_the_dag_are_made():
    from dags.daily_refresh import refresh

    made = {words[3] for words in commands(SERVICES["airflow-init"]) if words[1:3] == ["pools", "set"]}
    assert made == {task.pool for task in refresh.tasks} - {"default_pool"}


def test_every_spark_command_and_class_is_in_the_spark_environment():
    asked = [s["command"] for s in SERVICES.values() if s.get("image") == "shoal-spark"]
    programs, words = {command[0] for command in asked}, [word for command in asked for word in command]
    assert programs == {"spark-class", ".venv/spark/bin/python"}
    assert (SPARK_HOME / "bin" / "spark-class").exists()
    classes = {word.replace(".", "/") + ".class" for word in words if word.startswith("org.apache.spark.")}
    assert len(classes) == 2
    inside = set()
    for jar in SPARK_HOME.glob("jars/spark-*.jar"):
        inside |= set(zipfile.ZipFile(jar).namelist())
    assert classes <= inside


def test_every_path_in_the_compose_file_and_the_images_exists():
    sources = [path for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.M) for path in line.split()[:-1]]
    assert sources
    run = [word for s in SERVICES.values() for c in commands(s) for word in c if word.startswith("docker/")]
    assert run == ["docker/api-server.sh"]
    missing = [path for path in [*sources, *run] if not (ROOT / path).exists()]
    assert missing == []
    assert os.access(ROOT / "docker" / "api-server.sh", os.X_OK)
    modules = re.findall(r"python -m (jobs\.\w+)", DOCKERFILE)
    assert [m for m in modules if not (ROOT / f"{m.replace('.', '/')}.py").exists()] == []


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
    named = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if not v.startswith("$")}
    assert named == set(COMPOSE["volumes"])


def test_compose_itself_accepts_the_file_and_refuses_a_missing_secret(tmp_path):
    program = shutil.which("docker-compose")
    if not program:
        pytest.skip("docker-compose is not installed here")

    def config(*names: str) -> subprocess.CompletedProcess:
        (tmp_path / ".env").write_text("".join(f"{name}=/x\n" for name in names))
        command = [program, "--file", ROOT / "docker-compose.yml", "--env-file", tmp_path / ".env", "config", "--quiet"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert config(*VARIABLES).returncode == 0
    for name in VARIABLES:
        if name not in ("ALERT_URL", "PUBLISHED_BY"):
            refused = config(*(other for other in VARIABLES if other != name))
            assert refused.returncode != 0, name
            assert name in refused.stderr
