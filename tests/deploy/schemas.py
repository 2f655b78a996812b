#!/usr/bin/env python3
"""Makes JSON schemas for kubeconform: from Kubernetes' OpenAPI (version 2) and from definitions of custom resources.

Strict: a field that an object does not have is an error, as a misspelt one is dropped in silence by a cluster. One
file for each kind, `{kind}-{group}-{version}.json`, with everything it refers to in it.
"""

import argparse
import json
import pathlib
import sys

import yaml

# What the chart makes. A kind that is not here fails kubeconform, which then says that it has no schema.
KINDS = {
    "ConfigMap", "Secret", "Service", "ServiceAccount", "Deployment", "StatefulSet", "PodDisruptionBudget",
    "NetworkPolicy",
}
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"


def strict(schema):
    """No properties but those that are named, wherever some are named."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items() if key != "description"}
    # A key `properties` with a type beside it is a schema; without, it is a field of that name.
    if isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object":
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    return out


def write(folder, kind, group, version, schema):
    group = group.split(".")[0]
    name = "-".join(part for part in (kind.lower(), group, version) if part)
    (folder / f"{name}.json").write_text(json.dumps(schema))


def from_openapi(file, folder):
    definitions = json.loads(file.read_text())["definitions"]
    plain = {name: strict(schema) for name, schema in definitions.items()}
    plain[INT_OR_STRING] = {"type": ["string", "integer"]}
    plain[QUANTITY] = {"type": ["string", "number"]}
    written = set()
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            if kind["kind"] not in KINDS or not kind["version"].startswith("v1") or len(kind["version"]) > 2:
                continue
            needed = {}
            collect(plain[name], plain, needed)
            whole = dict(plain[name])
            whole["definitions"] = needed
            properties = dict(whole["properties"])
            properties["apiVersion"] = {"enum": ["/".join(filter(None, (kind["group"], kind["version"])))]}
            properties["kind"] = {"enum": [kind["kind"]]}
            whole["properties"] = properties
            whole["required"] = sorted({*whole.get("required", []), "apiVersion", "kind", "metadata"})
            write(folder, kind["kind"], kind["group"], kind["version"], whole)
            written.add(kind["kind"])
    if written != KINDS:
        sys.exit(f"{file} has no {', '.join(sorted(KINDS - written))}")


def collect(schema, plain, needed):
    """Everything that a schema refers to, and what that refers to."""
    if isinstance(schema, list):
        for item in schema:
            collect(item, plain, needed)
    elif isinstance(schema, dict):
        name = str(schema.get("$ref", "")).removeprefix("#/definitions/")
        if name and name not in needed:
            needed[name] = plain[name]
            collect(plain[name], plain, needed)
        for value in schema.values():
            collect(value, plain, needed)


def from_definition(file, folder):
    definition = yaml.safe_load(file.read_text())["spec"]
    for version in definition["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        schema["required"] = sorted({*schema.get("required", []), "apiVersion", "kind", "metadata"})
        write(folder, definition["names"]["kind"], definition["group"], version["name"], schema)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--openapi", type=pathlib.Path, required=True)
    arguments.add_argument("--crd", type=pathlib.Path, action="append", default=[])
    given = arguments.parse_args()
    from_openapi(given.openapi, given.out)
    for file in given.crd:
        from_definition(file, given.out)


main()
