# shellcheck shell=bash
# The chart: what it makes is valid, says what it should, and nonsense is refused with words that help. Sourced.

check_chart() {
  local values name
  # Into a package, as users get it: links must have been followed.
  "$helm" package "$chart" --destination "$work" >/dev/null 2>"$work/errors" || { cat "$work/errors"; fail "helm package"; }
  local packaged
  packaged="$(echo "$work"/millstream-*.tgz)"
  for values in "$chart"/ci/*-values.yaml; do
    name="$(basename "$values" -values.yaml)"
    "$helm" lint --strict --quiet "$chart" --values "$values" >"$work/lint" 2>&1 || { cat "$work/lint"; fail "helm lint with $name"; }
    "$helm" template here "$packaged" --namespace there --values "$values" >"$work/$name.yaml" 2>"$work/errors" \
      || { cat "$work/errors"; fail "helm template with $name"; }
    "$kubeconform" -strict -summary -schema-location "$schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$work/$name.yaml" \
      >"$work/conform" 2>&1 || { cat "$work/conform"; fail "kubeconform with $name"; }
    ok "chart with $name: lint, template, $(sed -n 's/^Summary: \([0-9]* resources\).*/\1/p' "$work/conform") valid"
    check_configuration "$name"
  done
  PYTHONPATH="$python_path" python3 "$here/chart_says.py" "$work" "$root" || fail "the chart: see above"
  ok "the chart says what it should"
  refusals
}

# What the chart writes is what the host reads: `check` refuses an unknown key, a wrong type, a number like 1000.0.
check_configuration() {
  local folder="$work/config-$1"
  mkdir "$folder"
  PYTHONPATH="$python_path" python3 "$here/chart_says.py" --configuration "$work/$1.yaml" >"$folder/millstream.toml"
  [ -s "$folder/millstream.toml" ] || return 0 # a ConfigMap of the user's
  # The plugins are not here: that, and only that, may be wrong.
  (cd "$folder" && MILLSTREAM_ADMIN_TOKEN=0123456789abcdef KAFKA_PASSWORD=x POD_NAME=here-0 \
    timeout 1m "$millstream" check --offline >said 2>&1) || true
  grep -q '^error\[MS2001\]' "$folder/said" || { cat "$folder/said"; fail "millstream check says nothing of the missing plugin"; }
  if grep -E '^error\[' "$folder/said" | grep -v '^error\[MS2001\]'; then
    cat "$folder/said"
    fail "the host refuses the configuration that the chart writes with $1"
  fi
  ok "chart with $1: the host reads its configuration"
}

# refused WORDS ARGUMENT...: with these values nothing is made, and the message has these words.
refused() {
  local words="$1"
  shift
  if "$helm" template here "$chart" --values "$chart/ci/kafka-values.yaml" "$@" >/dev/null 2>"$work/errors"; then
    fail "the chart takes $*"
  fi
  grep -qF -- "$words" "$work/errors" || { cat "$work/errors"; fail "the message for $* does not have: $words"; }
}

refusals() {
  refused "kind must be one of" --set kind=DaemonSet
  refused "autoscaling.kind must be one of" --set autoscaling.kind=hpa
  refused "Additional property replica is not allowed" --set replica=3
  refused "replicas: Must be greater than or equal to 0" --set replicas=-1
  refused "config.pipelines.orders: source is required" --set config.pipelines.orders.source=null
  refused "config.pipelines.orders.drain: Does not match pattern" --set config.pipelines.orders.drain=soon
  refused "terminationMarginSeconds: Must be greater than or equal to 10" --set terminationMarginSeconds=0
  refused "image.digest: Does not match pattern" --set image.digest=latest
  refused "config.log.bootstrap_servers is empty" --set config.log.bootstrap_servers=
  refused "set kind=StatefulSet and persistence.enabled=true" --set config.log.kind=embedded
  refused "the embedded log belongs to one host" --set config.log.kind=embedded,kind=StatefulSet,persistence.enabled=true
  refused "persistence.enabled needs kind=StatefulSet" --set persistence.enabled=true
  refused "plugins.from=init, and plugins.init.image is empty" --set plugins.from=init,plugins.configMap=
  refused "it would have no effect" --set plugins.persistentVolumeClaim=claim
  refused "would leave retries that are due without a host" --set autoscaling.kind=kafka,autoscaling.minReplicas=0
  refused "is above autoscaling.maxReplicas" --set autoscaling.kind=kafka,autoscaling.minReplicas=9
  refused 'which is not in config.pipelines (audit, orders)' --set 'autoscaling.kind=kafka,autoscaling.pipelines={order}'
  refused "name those that scale" --set existingConfig.configMap=mine,autoscaling.kind=millstream
  ok "nonsense is refused with words that help: 18 cases"
}
