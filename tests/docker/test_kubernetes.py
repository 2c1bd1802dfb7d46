"""The files of docker/kubernetes are valid by Kubernetes' schemas and agree with airflow.env, images and code."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bloodcell.review.guards import MAX_BODY_BYTES
from bloodcell.settings import Settings
from tests.conftest import ROOT

DOCKER = ROOT / "docker"
FOLDER = DOCKER / "kubernetes"
README = (FOLDER / "README.md").read_text()
FILES = (
    *("init-job.yaml", "watcher.yaml", "pod-template.yaml", "pod-template-gpu.yaml", "network-policy.yaml"),
    *("desk.yaml", "desk-ingress.yaml", "orders.yaml"),
)
MANIFESTS: dict[str, Any] = {
    name if number == 1 else f"{name}, {number}": document
    for name in FILES
    for number, document in enumerate(yaml.safe_load_all((FOLDER / name).read_text()), start=1)
}
"""Documents by their file; the second of a file is "desk.yaml, 2"."""
PODS = [name for name, manifest in MANIFESTS.items() if manifest["kind"] in ("Deployment", "Job", "Pod")]
DNS = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
KEYS = {
    "metadataSecretName": "connection",
    "resultBackendSecretName": "connection",
    "brokerUrlSecretName": "connection",
    "fernetKeySecretName": "fernet-key",
    "apiSecretKeySecretName": "api-secret-key",
    "jwtSecretName": "jwt-secret",
    "passwordSecretName": "password",
}
"""Value with the name of a secret -> the key of that secret that the chart reads."""
OWN_ADDRESS = "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"


def _values(executor: str) -> dict[str, Any]:
    """The shared values and those of one executor as Helm merges them: maps are merged, everything else is replaced."""

    def merge(below: Any, above: Any) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            return {key: merge(below.get(key), above.get(key, below.get(key))) for key in below | above}
        return above

    shared, own = (yaml.safe_load((FOLDER / name).read_text()) for name in ("values.yaml", f"values-{executor}.yaml"))
    merged: dict[str, Any] = merge(shared, own)
    return merged


VALUES = {executor: _values(executor) for executor in ("celery-keda", "kubernetes-executor")}
CELERY: dict[str, Any] = VALUES["celery-keda"]["workers"]["celery"]


def pods_by_file() -> dict[str, dict[str, Any]]:
    return {
        name: MANIFESTS[name]["spec"]
        if MANIFESTS[name]["kind"] == "Pod"
        else MANIFESTS[name]["spec"]["template"]["spec"]
        for name in PODS
    }


def inside(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yields each key with its value, at any depth."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key, value
            yield from inside(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from inside(value)


def everything() -> list[Any]:
    """All manifests and values, with the templates that the values contain as text."""
    texts = [yaml.safe_load(values["extraEnvFrom"]) for values in VALUES.values()]
    return [*MANIFESTS.values(), *VALUES.values(), *texts]


def _variables() -> dict[str, str]:
    """Every variable that is set to a text somewhere."""
    return {
        entry["name"]: entry["value"]
        for key, value in inside(everything())
        if key == "env"
        for entry in value
        if "value" in entry
    }


def _fleet() -> dict[str, str]:
    """The variables of airflow.env that are neither secrets nor addresses of the compose file."""
    lines = re.findall(r"^(\w+)=(.*)$", (DOCKER / "airflow.env").read_text(), re.M)
    return {name: value for name, value in lines if not name.endswith("_CMD") and "http://" not in value}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_valid_by_the_schema_of_kubernetes(name: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], kubernetes_validate.latest_version(), strict=True)


def test_every_file_of_the_folder_is_checked() -> None:
    values = {"values.yaml", *(f"values-{executor}.yaml" for executor in VALUES)}
    assert {file.name for file in FOLDER.glob("*.yaml")} == {*FILES} | values
    named = set(re.findall(r"(?:docker/kubernetes|site)/([\w-]+\.yaml)", README))
    assert named == {*FILES} | values


@pytest.mark.parametrize("name", PODS)
def test_each_pod_is_confined_and_limited(name: str) -> None:
    pod = pods_by_file()[name]
    assert pod["securityContext"] == VALUES["celery-keda"]["securityContexts"]["pod"]
    assert pod["automountServiceAccountToken"] is False, "its token would be mounted inside /run/secrets"
    for container in pod["containers"]:
        assert container["securityContext"] == VALUES["celery-keda"]["securityContexts"]["containers"]
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    written = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    assert written >= {"data", "tmp"}
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounts.get("drops", True)


def test_workers_reach_nothing_outside_but_postgres() -> None:
    policy = MANIFESTS["network-policy.yaml"]["spec"]
    for name in ("pod-template.yaml", "pod-template-gpu.yaml"):
        assert policy["podSelector"]["matchLabels"].items() <= MANIFESTS[name]["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Egress"]
    peers = [(kind, rule.get("ports")) for rule in policy["egress"] for peer in rule["to"] for kind in peer]
    postgres = [{"protocol": "TCP", "port": 5432}]
    assert peers == [("podSelector", None), ("namespaceSelector", DNS), ("ipBlock", postgres)]
    assert policy["egress"][2]["to"][0]["ipBlock"] == {"cidr": "POSTGRES/32"}


def test_only_the_ingress_reaches_the_desk_and_the_desk_reaches_only_postgres() -> None:
    pod, service, policy = (MANIFESTS[f"desk.yaml{number}"] for number in ("", ", 2", ", 3"))
    labels = pod["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == labels
    (ingress,) = policy["spec"]["ingress"]
    admitted = VALUES["celery-keda"]["apiServer"]["networkPolicy"]["ingress"]["from"]
    assert ingress["from"] == [peer for peer in admitted if "namespaceSelector" in peer]
    (port,) = pod["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert port["containerPort"] == service["spec"]["ports"][0]["port"]
    assert Settings.model_fields["desk_url"].default.endswith(f":{port['containerPort']}")
    allowed = [(kind, rule["ports"]) for rule in policy["spec"]["egress"] for peer in rule["to"] for kind in peer]
    assert allowed == [("namespaceSelector", DNS), ("ipBlock", [{"protocol": "TCP", "port": 5432}])]


def test_the_ingress_leads_to_the_desk_under_its_public_address_with_its_limit_of_bodies() -> None:
    env = {each["name"]: each["value"] for each in pods_by_file()["desk.yaml"]["containers"][0]["env"]}
    for name in ("desk-ingress.yaml", "desk-ingress.yaml, 2"):
        manifest = MANIFESTS[name]
        (rule,) = manifest["spec"]["rules"]
        assert f"https://{rule['host']}" == env["BLOODCELL_DESK_PUBLIC_URL"]
        assert manifest["spec"]["tls"][0]["hosts"] == [rule["host"]]
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"]["name"] == MANIFESTS["desk.yaml, 2"]["metadata"]["name"]
        annotations = manifest["metadata"]["annotations"]
        assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == f"{MAX_BODY_BYTES // 1024}k"


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_each_part_of_the_chart_is_confined_limited_and_probed(values: dict[str, Any]) -> None:
    pod, container = values["securityContexts"]["pod"], values["securityContexts"]["containers"]
    assert pod["runAsNonRoot"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["readOnlyRootFilesystem"]
    assert not container["allowPrivilegeEscalation"]
    assert values["networkPolicies"]["enabled"]
    parts = [values[name] for name in ("apiServer", "scheduler", "dagProcessor", "triggerer")]
    parts += [CELERY, *CELERY["sets"], values["redis"]] if values["executor"] == "CeleryExecutor" else []
    for part in parts:
        assert part["resources"]["limits"].keys() >= {"cpu", "memory"}
    for part in parts[1:4]:
        assert part["livenessProbe"]["command"][0] == "healthy.py"
        assert not part["logGroomerSidecar"]["enabled"], "the image has no /clean-logs"


def test_only_a_scheduler_that_starts_pods_has_a_token() -> None:
    for name, values in VALUES.items():
        tokens = {
            part: values[part]["serviceAccount"]["automountServiceAccountToken"]
            for part in ("apiServer", "scheduler", "dagProcessor", "triggerer")
        }
        assert {part for part, has in tokens.items() if has} == ({"scheduler"} if name != "celery-keda" else set())
    assert not CELERY["serviceAccount"]["automountServiceAccountToken"]


def test_processes_run_as_the_user_of_the_images() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    uid, gid = (int(re.findall(rf"--{kind} (\d+)", dockerfile)[0]) for kind in ("uid", "gid"))
    for values in VALUES.values():
        assert (values["uid"], values["gid"]) == (uid, gid)
        context = values["securityContexts"]["pod"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (uid, gid, gid)
        assert f"AIRFLOW_HOME={values['airflowHome']} " in dockerfile


def test_probes_and_commands_are_those_of_the_images() -> None:
    parts = set(re.findall(r'^        "([\w-]+)": ', (DOCKER / "healthy.py").read_text(), re.M))
    commands = [value for key, value in inside(everything()) if key == "command" and value is not None]
    assert len(commands) > 5
    for command in commands:
        if command[0] == "healthy.py":
            assert command[1] in parts
        elif command[0].endswith(".py"):
            assert (DOCKER / command[0]).is_file()
        else:
            assert command in [COMPOSE["services"][name]["command"] for name in ("watcher", "desk", "orders")]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_config_agrees_with_airflow_env(values: dict[str, Any]) -> None:
    expected = {name: value for name, value in _fleet().items() if name.startswith("AIRFLOW__")}
    assert len(expected) > 10
    assert expected.pop("AIRFLOW__CORE__EXECUTOR") == VALUES["celery-keda"]["executor"]
    # a queued task may first need a node, which it would lose if it were sent again after ten minutes
    for name in ("TASK_QUEUED_TIMEOUT", "TASK_QUEUED_TIMEOUT_CHECK_INTERVAL", "NUM_STUCK_IN_QUEUED_RETRIES"):
        del expected[f"AIRFLOW__SCHEDULER__{name}"]
    assert values["config"]["scheduler"]["task_queued_timeout"] == "3600"
    config = {
        f"AIRFLOW__{section}__{key}".upper(): str(value)
        for section, settings in values["config"].items()
        for key, value in settings.items()
    }
    assert {name: config.get(name) for name in expected} == expected


def test_variables_agree_with_airflow_env() -> None:
    set_here = {name: value for name, value in _variables().items() if name != "AIRFLOW__CORE__EXECUTOR"}
    shared = _fleet().keys() & set_here.keys()
    assert len(shared) >= 4
    assert {name: set_here[name] for name in shared} == {name: _fleet()[name] for name in shared}
    assert set_here[OWN_ADDRESS].removesuffix("/execution/") == set_here["BLOODCELL_AIRFLOW_URL"]


def test_every_variable_of_bloodcell_is_a_setting() -> None:
    names = {name.removeprefix("BLOODCELL_") for name in _variables() if name.startswith("BLOODCELL_")}
    assert len(names) >= 4
    of_init = set(re.findall(r"\"BLOODCELL_(\w+)\"", (DOCKER / "init.py").read_text()))
    assert {name.lower() for name in names - of_init} <= set(Settings.model_fields)


def _secrets() -> dict[str, set[str]]:
    """Each secret that is read, with the keys that are read by name."""
    found: dict[str, set[str]] = {}
    for key, value in inside(everything()):
        if key in KEYS:
            found.setdefault(value, set()).add(KEYS[key])
        elif key == "secretKeyRef":
            found.setdefault(value["name"], set()).add(value["key"])
        elif key in ("secret", "secretRef"):
            keys = found.setdefault(value.get("name") or value["secretName"], set())
            keys.update(item["key"] for item in value.get("items", []))
    return found


def test_the_page_makes_every_secret_that_is_read() -> None:
    made: dict[str, dict[str, str]] = {}
    for name, sources in re.findall(r"secret generic (\S+)((?:[ \\\n]+--from-\S+)+)", README):
        made[name] = {key or file: file for key, file in re.findall(r"--from-file=(?:([^=\s]+)=)?(\S+)", sources)}
    read = _secrets()
    assert read.keys() == made.keys()
    for name, keys in read.items():
        assert keys <= made[name].keys(), name
    files = {file for keys in made.values() for file in keys.values()}
    compose = [yaml.safe_load(file.read_text()) for file in DOCKER.glob("compose*.yaml")]
    named_by_compose = {name for each in compose for name in each.get("secrets", {})}
    assert files - named_by_compose == {"keda_url", "exchange/receivers", "exchange/orders"}


def test_files_in_run_secrets_are_settings_or_read_by_a_script() -> None:
    paths = {item["path"] for key, value in inside(everything()) if key == "items" for item in value}
    whole = {"bloodcell-database", "bloodcell-desk", "bloodcell-init", "bloodcell-watcher"}
    for name, sources in re.findall(r"secret generic (\S+)((?:[ \\\n]+--from-\S+)+)", README):
        if name in whole:
            paths.update(re.findall(r"--from-file=([^=\s]+)", sources))
    init = (DOCKER / "init.py").read_text()
    by_scripts = set(re.findall(r"/run/secrets/(\w+)", (DOCKER / "healthy.py").read_text()))
    by_scripts |= {f"{name}_password" for name in re.findall(r'\("(\w+)", "\w+"\)', init)}
    settings = {f"bloodcell_{name}" for name in Settings.model_fields}
    assert paths == {"bloodcell_database_url", "redis_url", "admin_password", "watcher_password"}
    assert paths <= settings | by_scripts


def test_no_secret_is_in_any_file() -> None:
    plain = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "bloodcell.storage.wire.WIRE"}
    for name, value in _variables().items():
        if re.search(r"PASSWORD|SECRET|_KEY|TOKEN|CONN", name) and not name.endswith("_FILE"):
            assert value == plain.get(name, "postgresql+psycopg2://nobody@none.invalid/none"), name
    held_by_values = {"fernetKey", "apiSecretKey", "jwtSecret", "webserverSecretKey", "brokerUrl", "password", "pass"}
    keys = {key for key, _ in inside(everything())}
    assert not keys & (held_by_values | {"stringData", "metadataConnection", "extraSecrets"})
    for file in FOLDER.iterdir():
        text = file.read_text()
        assert all(password.startswith("$") for password in re.findall(r"://\w*:([^@\s]+)@", text)), file
        for word in re.findall(r"[\w-]{32,}", text):  # values from make-secrets.sh have lower-case and capital letters
            assert word.isupper() or word.islower(), file


def test_workers_cannot_reach_airflows_database() -> None:
    for values in VALUES.values():
        assert not values["enableBuiltInSecretEnvVars"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        assert not values["enableBuiltInSecretEnvVars"]["AIRFLOW_CONN_AIRFLOW_DB"]
        for part in ("apiServer", "scheduler", "dagProcessor", "triggerer"):
            of_ingress = ["FORWARDED_ALLOW_IPS"] if part == "apiServer" else []
            database = [f"AIRFLOW__DATABASE__SQL_ALCHEMY_{name}" for name in ("CONN", "CONNECT_ARGS")]
            assert [entry["name"] for entry in values[part]["env"]] == [*database, *of_ingress]
            assert not values[part]["waitForMigrations"]["enabled"], "it has no access to the database"
    assert not CELERY["waitForMigrations"]["enabled"]
    tasks = [
        CELERY,
        *(pods_by_file()[name]["containers"][0] for name in ("pod-template.yaml", "pod-template-gpu.yaml")),
    ]
    for task in tasks:
        env = {entry["name"]: entry.get("value", "") for entry in task["env"]}
        assert ".invalid/" in env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        assert all(value != "bloodcell-metadata" for _, value in inside(task))


def test_images_are_bloodcells_with_placeholders_for_registry_and_release() -> None:
    compose = COMPOSE["services"]
    ours = set(re.findall(r"bloodcell-(?:airflow|worker)[\w-]*", str([s["image"] for s in compose.values()])))
    images = {container["image"] for pod in pods_by_file().values() for container in pod["containers"]}
    images |= {":".join(values["images"]["airflow"].values()) for values in VALUES.values()}
    assert images == {f"SITE/{name}:RELEASE" for name in ours}


def test_the_page_lists_every_claim() -> None:
    claims = {value for key, value in inside(everything()) if key in ("claimName", "existingClaim")}
    assert len(claims) == 6
    assert claims == set(re.findall(r"^\| `([\w-]+)` \|", README.split("## Install")[0].split("| claim |")[1], re.M))


def test_every_queue_of_the_dags_has_workers_and_gpu_has_gpus() -> None:
    dags = "".join(file.read_text() for file in (ROOT / "dags").glob("*.py"))
    queues = set(re.findall(r'queue="(\w+)"', dags))
    assert queues == {"gpu"} == {workers["queue"] for workers in CELERY["sets"]}
    (gpu,) = CELERY["sets"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in CELERY["resources"]["limits"]
    assert gpu["args"][:5] == ["airflow", "celery", "worker", "--queues", "gpu"]
    assert "queue = 'gpu'" in gpu["keda"]["query"]
    assert gpu["keda"]["maxReplicaCount"] == int(_variables()["BLOODCELL_GPUS"])
    assert CELERY["keda"]["minReplicaCount"] == 0
    longest_h = max(int(hours) for hours in re.findall(r"execution_timeout=timedelta\(hours=(\d+)\)", dags))
    assert gpu["terminationGracePeriodSeconds"] >= longest_h * 3600


OF_SITE = {"exchange", "receivers", "rules", "identity-keys"}
"""Volumes of those who send results and count by the laboratory's rules: test_kubernetes_site.py."""


def without_volumes(pod: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Returns a pod without some of its volumes, all of which it has."""
    assert names <= {volume["name"] for volume in pod["volumes"]}
    changed = copy.deepcopy(pod)
    for place, key in ((changed, "volumes"), (changed["containers"][0], "volumeMounts")):
        place[key] = [each for each in place[key] if each["name"] not in names]
    return changed


def test_the_gpu_pod_differs_from_the_other_only_in_the_gpu_and_sees_only_the_rules_of_the_site() -> None:
    pods = copy.deepcopy([pods_by_file()[name] for name in ("pod-template-gpu.yaml", "pod-template.yaml")])
    gpu, other = pods
    assert gpu.pop("tolerations") == CELERY["sets"][0]["tolerations"]
    resources, _ = (pod["containers"][0].pop("resources") for pod in pods)
    assert resources["limits"]["nvidia.com/gpu"] == 1
    assert [pod["containers"][0].pop("image") for pod in pods] == [
        "SITE/bloodcell-worker-gpu:RELEASE",
        "SITE/bloodcell-worker:RELEASE",
    ]
    assert gpu == without_volumes(other, OF_SITE - {"rules"})  # the quality file says what its sentinels may differ by
    assert gpu["containers"][0]["name"] == "base", "KubernetesExecutor merges its own container by this name"


def test_the_hook_gives_tasks_in_the_queue_gpu_a_template_that_the_scheduler_has() -> None:
    values = VALUES["kubernetes-executor"]
    code: dict[str, Any] = {}
    exec(values["airflowLocalSettings"], code)  # noqa: S102 - the code under test
    chosen = {}
    for queue in ("gpu", "default"):
        task = SimpleNamespace(queue=queue, executor_config={})
        code["task_instance_mutation_hook"](task)
        chosen[queue] = Path(
            task.executor_config.get("pod_template_file", values["config"]["kubernetes_executor"]["pod_template_file"])
        )
    assert {queue: file.name for queue, file in chosen.items()} == {
        "gpu": "pod-template-gpu.yaml",
        "default": "pod-template.yaml",
    }
    (mount,) = values["scheduler"]["extraVolumeMounts"]
    assert {str(file.parent) for file in chosen.values()} == {mount["mountPath"]}
    assert all(f"--from-file=site/{file.name}" in README for file in chosen.values())


_EXECUTOR = """
import json, sys
from airflow.providers.cncf.kubernetes.kube_config import KubeConfig
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

made = {}
for file in sys.argv[1:]:
    pod = PodGenerator.construct_pod(
        dag_id="nightly_run", task_id="classify", pod_id="classify", try_number=1, kube_image=KubeConfig().kube_image,
        date=None, args=["python", "-m", "task"], pod_override_object=None, namespace="bloodcell", scheduler_job_id="1",
        base_worker_pod=PodGenerator.deserialize_model_file(file),
    )
    made[file] = PodGenerator.serialize_pod(pod)
print(json.dumps(made))
"""


@pytest.mark.airflow
def test_the_pods_that_kubernetes_executor_makes_keep_image_gpu_and_user_of_the_templates(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes", reason="needs bloodcell[kubernetes]")
    executor = VALUES["kubernetes-executor"]["config"]["kubernetes_executor"]
    env = os.environ | {f"AIRFLOW__KUBERNETES_EXECUTOR__{key}".upper(): value for key, value in executor.items()}
    files = [str(FOLDER / name) for name in ("pod-template.yaml", "pod-template-gpu.yaml")]
    done = subprocess.run(
        [sys.executable, "-c", _EXECUTOR, *files],
        env=env | {"AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    for file in files:
        template, pod = pods_by_file()[Path(file).name], made[file]["spec"]
        kubernetes_validate.validate(made[file], kubernetes_validate.latest_version(), strict=True)
        assert pod["containers"][0]["image"] == template["containers"][0]["image"]
        assert pod["containers"][0]["args"] == ["python", "-m", "task"]
        limits = pod["containers"][0]["resources"]["limits"]
        assert {name: str(limit) for name, limit in template["containers"][0]["resources"]["limits"].items()} == limits
        assert pod["securityContext"]["runAsUser"] == template["securityContext"]["runAsUser"]
