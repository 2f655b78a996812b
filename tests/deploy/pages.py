#!/usr/bin/env python3
"""Alerts, dashboard and pages belong together: what each names is there.

    pages.py ROOT
"""

import json
import pathlib
import re
import sys

import yaml

# The scaler's metrics have a page of their own.
PAGES = ("docs/metrics.md", "docs/scaling.md")
SUFFIXES = ("_bucket", "_sum", "_count")


def metrics_in(text):
    for name in re.findall(r"\bmillstream_[a-z_]+", text):
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
        yield name


def main():
    root = pathlib.Path(sys.argv[1])
    wrong = []
    rules = yaml.safe_load((root / "deploy/prometheus/alerts.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    documented = set()
    for page in (root / page for page in PAGES):
        if page.is_file():
            documented |= set(re.findall(r"^\| `(millstream_[a-z_]+)`", page.read_text(), re.M))
        else:
            documented |= {f"millstream_scaler_{name}" for name in ("up", "due_lag_messages", "wanted_replicas", "hosts")}
    if len(documented) < 25 or len(alerts) < 10:
        wrong.append("docs/metrics.md or the alerts could not be read")

    named = set()
    for rule in alerts:
        name, notes = rule["alert"], rule.get("annotations", {})
        for key in ("summary", "description", "runbook_url"):
            if not notes.get(key):
                wrong.append(f"{name} has no {key}")
        if rule.get("labels", {}).get("severity") not in ("critical", "warning"):
            wrong.append(f"{name} has no severity of critical or warning")
        if "for" not in rule:
            wrong.append(f"{name} does not say for how long")
        page = root / notes.get("runbook_url", "")
        named.add(page.name)
        if not page.is_file():
            wrong.append(f"{name}: there is no {notes.get('runbook_url')}")
        elif name not in page.read_text().splitlines()[0]:
            wrong.append(f"{page.name} does not have {name} in its heading")
        wrong += [f"{name}: no metric {m}" for m in metrics_in(rule["expr"]) if m not in documented]
    for page in sorted((root / "docs/runbooks").glob("*.md")):
        if page.name not in named | {"README.md"}:
            wrong.append(f"docs/runbooks/{page.name} belongs to no alert")

    dashboard = json.loads((root / "deploy/grafana/millstream.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        wrong.append("two panels of the dashboard have one id")
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            unknown = [m for m in metrics_in(target["expr"]) if m not in documented]
            wrong += [f"panel {panel['title']}: no metric {m}" for m in unknown]

    for one in wrong:
        print(one, file=sys.stderr)
    sys.exit(1 if wrong else 0)


main()
