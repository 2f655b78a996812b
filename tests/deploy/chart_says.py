#!/usr/bin/env python3
"""Looks at what the chart made of ci/*-values.yaml: what a schema cannot see.

    chart_says.py FOLDER ROOT              FOLDER has kafka.yaml, scaler.yaml, …
    chart_says.py --configuration FILE     prints the host's configuration in it
"""

import json
import pathlib
import sys
import tomllib

import yaml


def objects(file):
    return [one for one in yaml.safe_load_all(file.read_text()) if one]


def one(made, kind, name=None):
    found = [o for o in made if o["kind"] == kind and (name is None or o["metadata"]["name"] == name)]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} {name or ''}, not one"
    return found[0]


def equal(what, said, expected):
    assert said == expected, f"{what}: {said!r}, not {expected!r}"


def configuration(made):
    for o in made:
        if o["kind"] == "ConfigMap" and "millstream.toml" in o["data"]:
            return o["data"]["millstream.toml"]
    return ""


def pods(made):
    return [(o, o["spec"]["template"]["spec"]) for o in made if o["kind"] in ("Deployment", "StatefulSet")]


def may_do_nothing_but_run(made):
    """The restricted standard of pod security, and a file system that cannot be written."""
    for owner, pod in pods(made):
        name = owner["metadata"]["name"]
        equal(f"{name} runs as root", pod["securityContext"]["runAsNonRoot"], True)
        equal(f"{name} seccomp", pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        equal(f"{name} token of the cluster", pod["automountServiceAccountToken"], False)
        for container in pod["containers"] + pod.get("initContainers", []):
            security = container["securityContext"]
            equal(f"{name} escalation", security["allowPrivilegeEscalation"], False)
            equal(f"{name} capabilities", security["capabilities"], {"drop": ["ALL"]})
            equal(f"{name} root file system", security["readOnlyRootFilesystem"], True)


def selectors_find_their_pods(made):
    labels = [owner["spec"]["template"]["metadata"]["labels"] for owner, _ in pods(made)]
    for o in made:
        spec = o.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if o["kind"] in ("Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment", "StatefulSet"):
            selector = selector.get("matchLabels", selector)
            found = [l for l in labels if selector.items() <= l.items()]
            equal(f"pods that {o['kind']} {o['metadata']['name']} selects", len(found), 1)


def nobody_is_let_in_by_an_empty_rule(made):
    for o in made:
        if o["kind"] == "NetworkPolicy":
            for rule in o["spec"]["ingress"]:
                assert rule.get("from"), f"{o['metadata']['name']} has a rule that lets everybody in"


def grace(made):
    for _, pod in pods(made):
        if "terminationGracePeriodSeconds" in pod:
            return pod["terminationGracePeriodSeconds"]
    return None


def look(folder, root):
    made = {file.stem: objects(file) for file in folder.glob("*.yaml")}
    assert len(made) >= 5, f"only {sorted(made)} were made"
    for name, all_of_it in made.items():
        may_do_nothing_but_run(all_of_it)
        selectors_find_their_pods(all_of_it)
        nobody_is_let_in_by_an_empty_rule(all_of_it)

    kafka, scaler, keda = made["kafka"], made["scaler"], made["keda-kafka"]
    embedded, own = made["embedded"], made["existing-config"]
    equal("the longest drain is 1m 30s, and the margin 30 s", grace(kafka), 120)
    equal("drain as it is, and the margin", grace(scaler), 40)
    equal("the drain that was said", grace(own), 150)

    written = tomllib.loads(configuration(kafka))
    equal("a password stays a name", written["log"]["client"]["sasl.password"], "${KAFKA_PASSWORD}")
    equal("a large number", written["pipelines"]["orders"]["in_flight"], {"messages": 1000000})
    equal("hosts of a Deployment name themselves", "id" in written["host"], False)
    equal("hosts of a StatefulSet are named", tomllib.loads(configuration(scaler))["host"]["id"], "${POD_NAME}")
    equal("an embedded log has no ids", "id" in tomllib.loads(configuration(embedded))["host"], False)

    equal("replicas", one(kafka, "Deployment")["spec"]["replicas"], 2)
    strategy = one(kafka, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    equal("never a host too many", strategy["maxSurge"], 0)
    for who, kind in ((scaler, "StatefulSet"), (keda, "Deployment")):
        host = one(who, kind, "here-millstream")
        equal("the scaler says how many", "replicas" in host["spec"], False)
        equal("what is scaled", one(who, "ScaledObject")["spec"]["scaleTargetRef"], {"kind": kind, "name": "here-millstream"})
    push = one(scaler, "ScaledObject")["spec"]["triggers"]
    equal("our trigger", [(t["type"], t["metadata"]) for t in push],
          [("external-push", {"scalerAddress": "here-millstream-scaler.there.svc:9465", "pipeline": "orders", "drainWithin": "2m"})])
    topics = one(keda, "ScaledObject")["spec"]["triggers"]
    equal("a trigger for each topic", [t["metadata"]["topic"] for t in topics], ["orders.created", "orders.changed"])
    equal("their group", {t["metadata"]["consumerGroup"] for t in topics}, {"shop"})
    equal("where they begin", {t["metadata"]["offsetResetPolicy"] for t in topics}, {"latest"})
    equal("what values say goes before a default", {t["metadata"]["allowIdleConsumers"] for t in topics}, {"true"})
    equal("a large number", {t["metadata"]["lagThreshold"] for t in topics}, {"1000000"})
    equal("metadata are texts", {type(v) for t in topics for v in t["metadata"].values()}, {str})
    equal("their names differ", len({t["name"] for t in topics}), 2)

    equal("nobody may call", one(keda, "NetworkPolicy", "here-millstream")["spec"]["ingress"], [])
    equal("who may call", len(one(kafka, "NetworkPolicy")["spec"]["ingress"]), 1)
    equal("what may be called", one(kafka, "NetworkPolicy")["spec"]["policyTypes"], ["Ingress"])
    equal("egress", len(one(scaler, "NetworkPolicy", "here-millstream")["spec"]["egress"]), 2)

    claims = one(embedded, "StatefulSet")["spec"]["volumeClaimTemplates"]
    equal("the embedded log's volume", [claim["metadata"]["name"] for claim in claims], ["data"])
    volumes = {v["name"] for v in pods(embedded)[0][1]["volumes"]}
    equal("and no folder that is lost in its place", "data" in volumes, False)
    secret = one(kafka, "Secret")["data"]
    equal("Prometheus has a token of its own", sorted(secret), ["metrics-token", "token"])
    equal("and shows that one", one(kafka, "ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]["key"], "metrics-token")
    equal("a token that is given", [o for o in keda if o["kind"] == "Secret"], [])

    rules_are_the_same(kafka, scaler, root)
    dashboard = one(kafka, "ConfigMap", "here-millstream-dashboard")["data"]["millstream.json"]
    equal("the dashboard", json.loads(dashboard) == json.loads((root / "deploy/grafana/millstream.json").read_text()), True)


def rules_are_the_same(kafka, scaler, root):
    """The chart's rules are the plain file's, but for where a page is and what was left out."""
    plain = yaml.safe_load((root / "deploy/prometheus/alerts.yaml").read_text())
    for group in plain["groups"]:
        for rule in group["rules"]:
            page = rule["annotations"]["runbook_url"]
            rule["annotations"]["runbook_url"] = f"https://docs.example.com/millstream/{page}"
    equal("the rules", one(kafka, "PrometheusRule")["spec"], plain)
    names = {r["alert"] for g in one(scaler, "PrometheusRule")["spec"]["groups"] for r in g["rules"]}
    every = {r["alert"] for g in plain["groups"] for r in g["rules"]}
    # No host is what its scaler is asked for.
    equal("what was left out", every - names, {"MillstreamHotKey", "MillstreamPipelineWithoutHost"})


def main():
    if sys.argv[1] == "--configuration":
        print(configuration(objects(pathlib.Path(sys.argv[2]))), end="")
        return
    try:
        look(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    except AssertionError as error:
        sys.exit(f"what the chart made is not as expected: {error}")


main()
