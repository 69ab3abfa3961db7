"""deploy/helm/graphmeter and deploy/kubernetes: rendered by Helm, fit for Kubernetes, hardened, true to the collector.

Everything is rendered and judged by one process; each test looks at what it said.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from graphmeter_collector.settings import Settings
from graphmeter_config import load
from support import promtool, tooling

Objects = list[dict[str, Any]]

VERSIONS = ["1.29", "1.37"]
"""The oldest that the chart takes, and the newest whose schemas there are."""
MANIFEST = "deploy/kubernetes/sidecar.yaml"
WORKLOADS = {"Deployment", "StatefulSet", "Job"}
CRDS = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
POSTGRES = {"database": {"existingSecret": "db"}}
IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "no database": ({"auth": {"allowAnonymous": True}}, "database.existingSecret: name a Secret"),
    "two databases": ({"database": {"existingSecret": "db", "embedded": True}}, "contradict each other"),
    "no keys": (POSTGRES, "auth: name a Secret with API keys (auth.existingSecret)"),
    "two collectors on a file": (
        {"database": {"embedded": True}, "auth": {"allowAnonymous": True}},
        "set replicas=1 and leave autoscaling off",
    ),
    "a scraper without a key": (
        POSTGRES | {"auth": {"existingSecret": "keys"}, "serviceMonitor": {"enabled": True}},
        "Prometheus needs a key",
    ),
    "sidecars on a file": ({"mode": "sidecar", "database": {"embedded": True}}, "share a Postgres"),
    "a misspelt value": ({"databse": {}}, "'databse' not allowed"),
    "a misspelt value further down": ({"database": {"existingsecret": "db"}}, "'existingsecret' not allowed"),
    "no number": ({"replicas": "two"}, "got string, want integer"),
}
OWN = {
    "own rules": POSTGRES
    | {
        "auth": {"keysInDatabase": True},
        "prometheusRule": {"enabled": True, "files": {"mine.rules.yml": "groups: []\n"}},
        "dashboards": {"enabled": True, "files": {"mine.json": '{"title": "{{ mine }}"}'}},
    }
}


@pytest.fixture(scope="module")
def said(root: Path) -> dict[str, Any]:
    """What Helm and the schemas said of the chart with each file of `ci`, and of the plain manifest."""
    chart = root / "deploy" / "helm" / "graphmeter"
    values = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((chart / "ci").glob("*.yaml"))}
    asked = values | OWN | {name: given for name, (given, _) in IMPOSSIBLE.items()}
    files = [str(root / MANIFEST)]
    return tooling.charting({"chart": str(chart), "render": asked, "files": files, "versions": VERSIONS})


@pytest.fixture(scope="module")
def releases(said: dict[str, Any]) -> dict[str, Objects]:
    """Name of the values → every object of the release; the plain manifest among them."""
    return {Path(name).name: found for name, found in said["rendered"].items() if isinstance(found, list)}


def one(objects: Objects, kind: str) -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def pods(objects: Objects) -> list[tuple[str, dict[str, Any]]]:
    """Every pod template: kind and name of its owner, and its spec."""
    return [
        (f"{each['kind']} {each['metadata']['name']}", each["spec"]["template"]["spec"])
        for each in objects
        if each["kind"] in WORKLOADS
    ]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def ours(pod: dict[str, Any]) -> dict[str, Any]:
    """The container that runs the collector."""
    (found,) = [each for each in containers(pod) if each.get("args") == ["serve"]]
    return found


def plain_environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def test_helm_finds_nothing_to_say_and_kubernetes_accepts_every_object(
    said: dict[str, Any], releases: dict[str, Objects]
) -> None:
    assert {"embedded", "production", "stateless", "sidecar", "own rules", "sidecar.yaml"} == set(releases)
    assert {} == {name: found for name, found in said["faults"].items() if found}
    for name in releases.keys() & said["lint"].keys():
        worst = [message for message in said["lint"][name]["messages"] if message["severity"] > 1]
        assert [] == worst, name


def test_a_planted_fault_is_found(root: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted.yaml"
    planted.write_text((root / MANIFEST).read_text().replace("restartPolicy", "restartPolicies"))
    chart = root / "deploy" / "helm" / "graphmeter"
    answer = tooling.charting({"chart": str(chart), "render": {}, "files": [str(planted)], "versions": VERSIONS})
    assert any("'restartPolicies' was unexpected" in fault for fault in answer["faults"][str(planted)])


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_work_is_said_before_anything_is_installed(said: dict[str, Any], name: str) -> None:
    sentence = said["rendered"][name]
    assert isinstance(sentence, str), "it was rendered"
    assert IMPOSSIBLE[name][1] in sentence


def test_the_operators_resources_fit_their_schemas(releases: dict[str, Objects]) -> None:
    schemas = Path(__file__).parent / "schemas"
    seen = set()
    for objects in releases.values():
        for each in objects:
            if each["kind"] in CRDS:
                seen.add(each["kind"])
                schema = json.loads((schemas / f"{each['kind'].lower()}.json").read_text())
                validator = jsonschema.Draft7Validator(schema)
                assert [] == [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(each)]
                planted = copy.deepcopy(each)
                planted["spec"]["planted"] = 1
                assert not validator.is_valid(planted)
    assert CRDS == seen


def test_rules_and_dashboards_are_the_generated_ones(releases: dict[str, Objects], root: Path, tmp_path: Path) -> None:
    objects = releases["production"]
    rules = sorted((root / "alerts" / "generated").glob("*.rules.yml"))
    rendered = [each["spec"] for each in objects if each["kind"] == "PrometheusRule"]
    assert [yaml.safe_load(path.read_text()) for path in rules] == rendered
    for number, spec in enumerate(rendered):
        (tmp_path / f"{number}.yml").write_text(yaml.safe_dump(spec))
    checked = promtool.check_rules(*sorted(tmp_path.glob("*.yml")))
    assert checked.ok, checked.output

    boards = [each for each in objects if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    held = {file: json.loads(text) for each in boards for file, text in each["data"].items()}
    generated = {path.name: json.loads(path.read_text()) for path in (root / "dashboards" / "generated").glob("*.json")}
    assert generated == held
    assert {"LangGraph"} == {each["metadata"]["annotations"]["grafana_folder"] for each in boards}
    # etcd takes no larger objects.
    assert max(len(json.dumps(each)) for each in boards) < 1_000_000


def test_rules_and_dashboards_of_ones_own_take_their_place(releases: dict[str, Objects]) -> None:
    objects = releases["own rules"]
    assert ("g-graphmeter-mine", {"groups": []}) == (
        (rule := one(objects, "PrometheusRule"))["metadata"]["name"],
        rule["spec"],
    )
    assert [{"mine.json": '{"title": "{{ mine }}"}'}] == [
        each["data"] for each in objects if "grafana_dashboard" in each["metadata"]["labels"]
    ]


def test_no_container_can_more_than_it_must(releases: dict[str, Objects]) -> None:
    for release, objects in releases.items():
        for owner, pod in pods(objects):
            name = f"{release}: {owner}"
            assert pod["automountServiceAccountToken"] is False, name
            # Or GRAPHMETER_PORT is tcp://10.0.0.7:4318.
            assert pod["enableServiceLinks"] is False, name
            assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"], name
            for container in containers(pod):
                security = container["securityContext"]
                assert security["allowPrivilegeEscalation"] is False, name
                assert {"drop": ["ALL"]} == security["capabilities"], name
                if container["image"].rpartition(":")[0].endswith("graphmeter"):
                    merged = pod["securityContext"] | security
                    assert (True, True, 10001) == (
                        security["readOnlyRootFilesystem"],
                        merged["runAsNonRoot"],
                        merged["runAsUser"],
                    ), name
                    assert container["resources"]["limits"]["memory"], name
                    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name


def test_secrets_come_by_reference(releases: dict[str, Objects]) -> None:
    for release, objects in releases.items():
        assert "Secret" not in {each["kind"] for each in objects}, release
        for _, pod in pods(objects):
            for container in containers(pod):
                for variable, value in plain_environment(container).items():
                    assert not re.search("PASSWORD|SECRET|TOKEN|API_KEYS$|DATABASE_URL", variable), variable
                    assert "postgresql://" not in value, variable


def test_collectors_read_every_variable_that_they_are_given_and_have_time_to_drain(
    releases: dict[str, Objects], monkeypatch: pytest.MonkeyPatch
) -> None:
    for objects in releases.values():
        for pod in [pod for owner, pod in pods(objects) if not owner.startswith("Job")]:
            collector = ours(pod)
            with monkeypatch.context() as patched:
                for variable, value in plain_environment(collector).items():
                    assert variable.removeprefix("GRAPHMETER_").lower() in Settings.model_fields, variable
                    patched.setenv(variable, value)
                settings = Settings()
            stop = collector.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
            assert settings.drain_timeout_s + int(stop[1]) < pod["terminationGracePeriodSeconds"]


def test_pods_are_replaced_when_the_configuration_changes_and_it_is_one(
    releases: dict[str, Objects], tmp_path: Path
) -> None:
    marks = {}
    for release in ("production", "stateless", "sidecar"):
        objects = releases[release]
        held = next(each["data"] for each in objects if "graphmeter.yaml" in each.get("data", {}))
        (tmp_path / "graphmeter.yaml").write_text(held["graphmeter.yaml"])
        load(tmp_path / "graphmeter.yaml")
        (template,) = [each["spec"]["template"] for each in objects if each["kind"] in WORKLOADS - {"Job"}]
        marks[release] = template["metadata"]["annotations"]["checksum/config"]
        assert hashlib.sha256(held["graphmeter.yaml"].rstrip("\n").encode()).hexdigest() == marks[release]
    assert marks["production"] != marks["stateless"] == marks["sidecar"]


def test_probes_ask_what_the_collector_answers(releases: dict[str, Objects]) -> None:
    for release in ("embedded", "production", "stateless"):
        collector = ours(pods(releases[release])[0][1])
        ports = {port["name"]: port["containerPort"] for port in collector["ports"]}
        assert {"http": 4318, "grpc": 4317} == ports
        asked = {probe: collector[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
        assert {"startup": "/health", "liveness": "/health", "readiness": "/ready"} == {
            probe: get["path"] for probe, get in asked.items()
        }
        assert {"http"} == {get["port"] for get in asked.values()}


def test_a_spool_is_on_a_volume_and_without_one_there_is_a_deployment(releases: dict[str, Objects]) -> None:
    keeps = one(releases["production"], "StatefulSet")
    (claim,) = keeps["spec"]["volumeClaimTemplates"]
    collector = ours(keeps["spec"]["template"]["spec"])
    mounts = {mount["name"]: mount["mountPath"] for mount in collector["volumeMounts"]}
    assert plain_environment(collector)["GRAPHMETER_DATA_DIR"] == mounts[claim["metadata"]["name"]]
    assert keeps["spec"]["serviceName"] in {each["metadata"]["name"] for each in releases["production"]}
    assert {"whenDeleted": "Retain", "whenScaled": "Retain"} == keeps["spec"]["persistentVolumeClaimRetentionPolicy"]

    keeps_not = one(releases["stateless"], "Deployment")["spec"]["template"]["spec"]
    assert "0" == plain_environment(ours(keeps_not))["GRAPHMETER_SPOOL_MAX_BYTES"]


def test_what_selects_pods_selects_them(releases: dict[str, Objects]) -> None:
    objects = releases["production"]
    labels = one(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    policy, budget = one(objects, "NetworkPolicy"), one(objects, "PodDisruptionBudget")
    selectors = [each["spec"]["selector"] for each in objects if each["kind"] == "Service"]
    selectors += [policy["spec"]["podSelector"]["matchLabels"], budget["spec"]["selector"]["matchLabels"]]
    for selector in selectors:
        assert selector.items() <= labels.items()
    service = one([each for each in objects if each["metadata"]["name"] == "g-graphmeter"], "Service")
    monitor = one(objects, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    # The other Service has the same pods: each would be scraped twice.
    headless = one([each for each in objects if each["metadata"]["name"] == "g-graphmeter-pods"], "Service")
    assert not monitor["selector"]["matchLabels"].items() <= headless["metadata"]["labels"].items()
    assert one(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "g-graphmeter"
    assert "replicas" not in one(objects, "StatefulSet")["spec"]


def test_the_schema_is_brought_up_to_date_before_pods_are_replaced(releases: dict[str, Objects]) -> None:
    job = one(releases["production"], "Job")
    assert "pre-install,pre-upgrade" == job["metadata"]["annotations"]["helm.sh/hook"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert ["migrate"] == container["args"]
    assert ["GRAPHMETER_DATABASE_URL"] == [each["name"] for each in container["env"]]
    assert "Job" not in {each["kind"] for each in releases["embedded"]}


@pytest.mark.parametrize("release", ["sidecar", "sidecar.yaml"])
def test_a_sidecar_starts_first_ends_last_and_is_reached_by_its_own_pod_alone(
    release: str, releases: dict[str, Objects]
) -> None:
    deployment = one(releases[release], "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (sidecar,), (application,) = pod["initContainers"], pod["containers"]
    assert "Always" == sidecar["restartPolicy"]
    given = plain_environment(sidecar)
    assert "127.0.0.1" == given["GRAPHMETER_HOST"]
    assert "http://127.0.0.1:4318" == plain_environment(application)["GRAPHMETER_ENDPOINT"]
    # No keys, whatever is in the database, and no outage of it keeps the application from starting.
    assert ("true", "true") == (given["GRAPHMETER_ALLOW_ANONYMOUS"], given["GRAPHMETER_ASSUME_DATABASE"])

    (port,) = sidecar["ports"]
    assert given["GRAPHMETER_METRICS_PORT"] == str(port["containerPort"])
    assert {port["name"]} == {sidecar[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "liveness")}
    assert "readinessProbe" not in sidecar

    spool = next(mount for mount in sidecar["volumeMounts"] if mount["mountPath"] == given["GRAPHMETER_DATA_DIR"])
    volume = next(each for each in pod["volumes"] if each["name"] == spool["name"])
    assert int(given["GRAPHMETER_SPOOL_MAX_BYTES"]) < int(volume["emptyDir"]["sizeLimit"].removesuffix("Mi")) * 1024**2
    assert "true" == deployment["spec"]["template"]["metadata"]["labels"]["graphmeter.io/sidecar"]


def test_a_chart_of_ones_own_includes_the_sidecar_as_the_documentation_says(root: Path, tmp_path: Path) -> None:
    documented = re.findall(
        r"^    ((?:initContainers|volumes): \{\{.*)$", (root / "docs" / "kubernetes.md").read_text(), re.M
    )
    assert 2 == len(documented)
    (tmp_path / "templates").mkdir()
    (tmp_path / "charts").mkdir()
    shutil.copytree(root / "deploy" / "helm" / "graphmeter", tmp_path / "charts" / "graphmeter")
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
    pod = "".join(f"  {line}\n" for line in documented)
    (tmp_path / "templates" / "pod.yaml").write_text(
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: shop}}\nspec:\n{pod}  containers: [{{name: shop, image: shop:1.0}}]\n"
    )
    values = {"graphmeter": {"mode": "sidecar", **POSTGRES}}
    answer = tooling.charting({"chart": str(tmp_path), "render": {"shop": values}, "files": [], "versions": VERSIONS})
    assert [] == answer["faults"]["shop"]
    rendered = answer["rendered"]["shop"]
    spec = one(rendered, "Pod")["spec"]
    (volume,) = [each for each in spec["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] in {each["metadata"]["name"] for each in rendered if each["kind"] == "ConfigMap"}
    assert "127.0.0.1" == plain_environment(spec["initContainers"][0])["GRAPHMETER_HOST"]


def test_prometheus_finds_sidecars_by_their_label_and_port(releases: dict[str, Objects]) -> None:
    objects = releases["sidecar"]
    monitor = one(objects, "PodMonitor")["spec"]
    template = one(objects, "Deployment")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == template["spec"]["initContainers"][0]["ports"][0]["name"]
    # Its label `service` would take the place of ours.
    assert endpoint["honorLabels"] is True
    assert {"action": "replace", "targetLabel": "job", "replacement": "graphmeter"} in endpoint["relabelings"]
    annotations = one(releases["sidecar.yaml"], "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert "9464" == annotations["prometheus.io/port"]


def test_the_charts_version_is_the_projects(root: Path) -> None:
    chart = yaml.safe_load((root / "deploy" / "helm" / "graphmeter" / "Chart.yaml").read_text())
    project = re.search(r'^version = "([^"]+)"', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    assert (project[1], project[1]) == (chart["version"], chart["appVersion"])
    assert f"graphmeter:{project[1]}" in (root / MANIFEST).read_text()
