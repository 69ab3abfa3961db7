"""Run by the Python of .tools/python: charts rendered by Helm's own library, and objects judged by Kubernetes' schemas.

Standard input is a JSON object, standard output another one:

    {"chart": folder, "render": {name: values}, "files": [path], "versions": ["1.29"]}
    {"lint": {name: [finding]}, "rendered": {name: [object] or sentence}, "faults": {name: [sentence]}}

Objects of kinds that Kubernetes does not define itself (monitoring.coreos.com) are left to the caller.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml
from kubernetes_validate import utils

RELEASE, NAMESPACE = "g", "observability"

# It reads a megabyte of definitions for every object.
utils.schema_contents = functools.cache(utils.schema_contents)


def render(chart: Any, values: dict[str, Any]) -> list[dict[str, Any]] | str:
    """Every object of a release with these values, or why there is none."""
    try:
        chart.validate_schema(values)
        files = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    except helm_python.HelmError as problem:
        return str(problem)
    texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def faults(objects: list[dict[str, Any]], versions: list[str]) -> list[str]:
    """What the schemas of these versions of Kubernetes do not accept; unknown fields included."""
    found = []
    for each in objects:
        if each["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        for version in versions:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = "/".join(map(str, error.path))
                found.append(f"{each['kind']} {each['metadata']['name']}, {where}: {error.message} ({version})")
            except kubernetes_validate.SchemaNotFoundError as error:
                found.append(error.message)
    return found


def main() -> None:
    asked = json.load(sys.stdin)
    rendered: dict[str, Any] = {}
    lint: dict[str, list[Any]] = {}
    with helm_python.Chart.load(asked["chart"]) as chart:
        for name, values in asked["render"].items():
            rendered[name] = render(chart, values)
            lint[name] = helm_python.lint(asked["chart"], values)
    for path in asked["files"]:
        rendered[path] = [each for each in yaml.safe_load_all(Path(path).read_text(encoding="utf-8")) if each]
    judged = {name: faults(each, asked["versions"]) for name, each in rendered.items() if isinstance(each, list)}
    json.dump({"lint": lint, "rendered": rendered, "faults": judged}, sys.stdout)


if __name__ == "__main__":
    main()
