#!/usr/bin/env python3
"""Runs every query of the dashboard, and the parts of every alert, against a Prometheus; Python's own library only.

    queries.py URL DASHBOARD ALERTS [--set NAME=VALUE]... [--duration 1m]

A query that is an error, has no data, or has only NaN fails. An alert is quiet on a healthy host, so its parts are
asked for without what they are compared with: that each names series which are there. EMPTY has what is rightly
empty, with the reason; one of those that has data is told, and does not fail.
"""

import argparse
import json
import math
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

# A piece of the query, and why a healthy host shows nothing for it.
EMPTY = {
    "millstream_held_up_seconds": "there only while a commit stands still",
    "millstream_log_errors_total": "there from the first failed call to the log on",
    "millstream_scaler_": "a host on the embedded log has no scaler",
    "offset 1h": "the host of a test is not an hour old",
    "offset 30m": "the host of a test is not half an hour old",
    "offset 15m": "the host of a test is not a quarter of an hour old",
    "offset 10m": "the host of a test is not ten minutes old",
}


def ask(url, path, **arguments):
    address = f"{url}{path}?{urllib.parse.urlencode(arguments)}"
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as error:
        body = json.load(error)
    if body["status"] != "success":
        raise ValueError(body["error"])
    return body["data"]


def values(data):
    if data["resultType"] == "scalar":
        return [float(data["result"][1])]
    return [float(series["value"][1]) for series in data["result"]]


def filled_in(query, variables, duration):
    """As Grafana does: variables of the dashboard, and the step's own."""
    for name, value in variables.items():
        query = re.sub(rf"\$\{{?{name}(:[a-z]+)?\}}?(?![A-Za-z_])", lambda _: value, query)
    for name in ("__rate_interval", "__interval", "__range"):
        query = re.sub(rf"\${name}\b", duration, query)
    if left := re.findall(r"\$\{?[A-Za-z_]+", query):
        raise ValueError(f"{', '.join(left)} is no variable of the dashboard")
    return query


def of_dashboard(file, variables, duration):
    with open(file, encoding="utf-8") as text:
        dashboard = json.load(text)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"], True
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", filled_in(target["expr"], variables, duration), False


def of_alerts(file):
    """`alert` and `expr: |` with what is indented below, as deploy/prometheus/alerts.yaml is written."""
    name, expression, indent = None, [], None
    with open(file, encoding="utf-8") as text:
        for line in [*text, "end"]:
            depth = len(line) - len(line.lstrip())
            if indent is not None and line.strip() and depth <= indent:
                yield name, "".join(expression)
                expression, indent = [], None
            if indent is not None:
                expression.append(line)
            elif found := re.match(r" *- alert: (\w+)", line):
                name = found[1]
            elif re.match(r" *expr: \|", line):
                indent = depth


SELECTOR = re.compile(r"\b((?:millstream_\w+|up)(?:\{[^}]*\})?(?:\[\w+\])?(?: offset \w+)?)(?=[\s)]|$)")


def selectors(expression):
    """Every series that an alert looks at, as it selects them."""
    return sorted(set(SELECTOR.findall(expression)))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("url")
    arguments.add_argument("dashboard")
    arguments.add_argument("alerts")
    arguments.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments.add_argument("--duration", default="1m", help="for $__rate_interval")
    given = arguments.parse_args()
    variables = dict(pair.split("=", 1) for pair in given.set)
    asked, failed, empty = 0, [], []

    def run(what, query, may_compare=False):
        nonlocal asked
        asked += 1
        try:
            found = values(ask(given.url, "/api/v1/query", query=query))
        except (ValueError, OSError) as error:
            failed.append(f"{what}: {error}\n    {query}")
            return
        reason = next((why for piece, why in EMPTY.items() if piece in query), None)
        if any(not math.isnan(value) for value in found):
            if reason:
                empty.append(f"{what} has data though it need not ({reason})")
        elif reason or may_compare:
            empty.append(f"{what} has none: {reason or 'quiet'}")
        else:
            failed.append(f"{what}: {'only NaN' if found else 'no data'}\n    {query}")

    for what, query, is_variable in of_dashboard(given.dashboard, variables, given.duration):
        if not is_variable:
            run(what, query)
            continue
        asked += 1
        call = re.fullmatch(r"label_values\((?:(.+), *)?(\w+)\)", query)
        if call is None:
            failed.append(f"{what}: not of the form label_values(SELECTOR, LABEL): {query}")
            continue
        selector = filled_in(call[1] or "up", variables, given.duration)
        if not ask(given.url, f"/api/v1/label/{call[2]}/values", **{"match[]": selector}):
            failed.append(f"{what}: no data\n    {query}")

    alerts = 0
    for name, expression in of_alerts(given.alerts):
        alerts += 1
        # The whole of it: that it can be evaluated with real series, many-to-many joins above all.
        run(f"alert {name}", expression, may_compare=True)
        for selector in selectors(expression):
            run(f"alert {name}", re.sub(r"^(.*)(\[\w+\])", r"rate(\1\2)", selector) if "[" in selector else selector)
    if alerts < 10 or asked < 40:
        failed.append(f"only {alerts} alerts and {asked} queries were found: the files were not understood")

    for line in empty:
        print(f"empty  {line}")
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    print(f"{asked - len(failed)} queries answered, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
