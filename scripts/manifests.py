"""Checks deploy/kubernetes and deploy/helm: renders and lints the chart by the SDK of Helm, and
validates all objects by the schemas of Kubernetes. Usage: manifests.py (in the repository)"""

import itertools
import pathlib
import sys

import kubernetes_validate
import yaml
from helm_python import chart as helm

CHART = "deploy/helm/streamgate"
# The oldest version that the chart supports, and a current one.
VERSIONS = ["1.25", "1.36"]
# Kinds of operators, which the schemas of Kubernetes do not have.
FOREIGN = {"monitoring.coreos.com/v1"}
SWITCHES = {
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "tls": {"existingSecret": "tls"},
    "redis": {"url": "redis://redis:6379"},
    "podDisruptionBudget": {"enabled": False},
}
# Values that the chart must refuse.
WRONG = [
    {"replicas": 0},
    {"unknown": 1},
    {"auth": {"existingSecret": ""}},
    {"redis": {"existingSecret": "", "url": ""}},
    {"settings": {"LOG": "json"}},
]


def check(name, text):
    """Validates all objects of a text, and returns their kinds."""
    kinds = []
    for thing in yaml.safe_load_all(text):
        if thing is None:
            continue
        kinds.append(thing["kind"])
        assert thing["metadata"]["name"], name
        if thing["apiVersion"] in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                sys.exit(f"{name}: {thing['kind']} ({version}): {error.message}")
    return kinds


def objects(rendered):
    return [kind for name, text in sorted(rendered.items()) if name.endswith(".yaml") for kind in check(name, text)]


def main():
    plain = [kind for path in sorted(pathlib.Path("deploy/kubernetes").glob("*.yaml")) for kind in check(path, path.read_text())]
    print("plain manifests:", ", ".join(plain))
    report = helm.lint(CHART, strict=True)
    bad = [message for message in report["messages"] if message["severity"] > 1]
    if bad or report["errors"]:
        sys.exit(f"helm lint: {bad} {report['errors']}")
    print("helm lint: no findings")
    with helm.Chart.load(CHART) as chart:
        count = 0
        for some in itertools.product([False, True], repeat=len(SWITCHES)):
            values = {name: SWITCHES[name] for name, on in zip(SWITCHES, some) if on}
            kinds = objects(chart.render(values, name="gate", namespace="default"))
            count += 1
            if all(some[:2]) and not some[-1]:
                assert sorted(kinds) == sorted(plain), (kinds, plain)
        print(f"chart: {count} combinations of values")
        for wrong in WRONG:
            try:
                chart.validate_schema(wrong)
                chart.render(wrong, name="gate", namespace="default")
            except Exception:  # the errors of the SDK differ by what is wrong
                continue
            sys.exit(f"the chart accepts {wrong}")


main()
