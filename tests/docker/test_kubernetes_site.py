"""On a cluster, pods see the files of the site that they need, read-only, and only the sender reaches `orders`."""

from __future__ import annotations

import re

from bloodcell.exchange.exchange_file import OrderSource
from tests.docker.test_kubernetes import CELERY, MANIFESTS, OF_SITE, README, everything, inside, pods_by_file


def test_files_of_the_site_are_mounted_where_they_are_needed_and_read_only() -> None:
    of_celery = {"volumes": CELERY["extraVolumes"], "containers": [{"volumeMounts": CELERY["extraVolumeMounts"]}]}
    wanted = {
        "desk.yaml": {"rules"},
        "orders.yaml": {"exchange", "orders", "identity-keys"},
        "pod-template.yaml": OF_SITE,
        "pod-template-gpu.yaml": {"rules"},
    }
    pods = {**pods_by_file(), "celery": of_celery}
    for name, pod in pods.items():
        mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        found = mounts.keys() & {*OF_SITE, "orders"}
        assert found == wanted.get(name, OF_SITE if name == "celery" else set()), name
        for each in found - {"identity-keys"}:
            assert mounts[each] == {"name": each, "mountPath": f"/etc/bloodcell/{each}", "readOnly": True}
        if "identity-keys" in found:
            assert mounts["identity-keys"]["mountPath"] == "/var/lib/bloodcell/identity-keys"
    shared = {volume["name"]: volume for volume in CELERY["extraVolumes"]}
    assert [shared[name] for name in sorted(OF_SITE)] == [
        volume for volume in sorted(pods_by_file()["pod-template.yaml"]["volumes"], key=lambda v: str(v["name"]))
        if volume["name"] in OF_SITE
    ]  # fmt: skip


def test_the_page_makes_every_config_map_and_names_the_files() -> None:
    read = {
        value["name"]
        for key, value in inside(everything())
        if key in ("configMap", "configMapRef") and value["name"] != "bloodcell-config"  # the chart's
    }
    assert read <= set(re.findall(r"create configmap (\S+)", README))
    for variable, file in (
        ("EXCHANGE_FILE", "exchange/exchange.toml"),
        ("RULES_FILE", "rules/rules.toml"),
        ("QUALITY_FILE", "rules/quality.toml"),
    ):
        assert f"BLOODCELL_{variable}=/etc/bloodcell/{file}" in README


def test_only_the_sender_reaches_orders_and_orders_reaches_only_postgres() -> None:
    pod, service, policy = (MANIFESTS[f"orders.yaml{number}"] for number in ("", ", 2", ", 3"))
    labels = pod["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == labels
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    (port,) = pod["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert port["containerPort"] == service["spec"]["ports"][0]["port"] == OrderSource.model_fields["port"].default
    (ingress,) = policy["spec"]["ingress"]
    assert ingress["from"] == [{"ipBlock": {"cidr": "SENDER/32"}}]
    assert ingress["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert policy["spec"]["egress"] == MANIFESTS["desk.yaml, 3"]["spec"]["egress"]
