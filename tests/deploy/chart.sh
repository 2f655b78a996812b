# shellcheck shell=bash disable=SC2154,SC2034 # variables of `run` and of what it sources
# The chart: what it makes is valid, says what it should, and nonsense is refused with words that help. Sourced.

# A helm that is built from source takes the cluster for one of years ago.
render() { "$helm" template here --namespace there --kube-version "$kubernetes_version" "$@"; }

check_chart() {
  local values name
  # Into a package, as users get it: links must have been followed.
  "$helm" package "$chart" --destination "$work" >/dev/null 2>"$work/errors" || { cat "$work/errors"; fail "helm package"; }
  local packaged
  packaged="$(echo "$work"/millstream-*.tgz)"
  for values in "$chart"/ci/*-values.yaml; do
    name="$(basename "$values" -values.yaml)"
    "$helm" lint --strict --quiet --kube-version "$kubernetes_version" "$chart" --values "$values" >"$work/lint" 2>&1 || { cat "$work/lint"; fail "helm lint with $name"; }
    render "$packaged" --values "$values" >"$work/$name.yaml" 2>"$work/errors" \
      || { cat "$work/errors"; fail "helm template with $name"; }
    conforms "$work/$name.yaml" >"$work/conform" 2>&1 || { cat "$work/conform"; fail "kubeconform with $name"; }
    ok "chart with $name: lint, template, $(sed -n 's/^Summary: \([0-9]* resources\).*/\1/p' "$work/conform") valid"
    check_configuration "$name"
  done
  misspelt readOnlyRootFilesystem readOnlyRootFileSystem kafka
  misspelt pollingInterval pollInterval scaler
  PYTHONPATH="$python_path" python3 "$here/chart_says.py" "$work" "$root" || fail "the chart: see above"
  ok "the chart says what it should"
  refusals
}

conforms() {
  "$kubeconform" -strict -summary -schema-location "$schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$@"
}

# misspelt FIELD SO NAME: the schemas see it; a cluster would drop it without a word.
misspelt() {
  mkdir -p "$work/misspelt"
  sed "s/$1:/$2:/" "$work/$3.yaml" >"$work/misspelt/$3.yaml"
  ! conforms "$work/misspelt/$3.yaml" >"$work/conform" 2>&1 || fail "the schemas take $2 for $1"
  grep -q "$2" "$work/conform" || { cat "$work/conform"; fail "the schemas refuse something else than $2"; }
}

# What the chart writes is what the host reads: `check` refuses an unknown key, a wrong type, a number like 1000.0.
check_configuration() {
  local folder="$work/config-$1"
  mkdir "$folder"
  PYTHONPATH="$python_path" python3 "$here/chart_says.py" --configuration "$work/$1.yaml" >"$folder/millstream.toml"
  [ -s "$folder/millstream.toml" ] || return 0 # a ConfigMap of the user's
  # The plugins are not here: that, and only that, may be wrong.
  (cd "$folder" && MILLSTREAM_ADMIN_TOKEN=0123456789abcdef MILLSTREAM_METRICS_TOKEN=fedcba9876543210 KAFKA_PASSWORD=x POD_NAME=here-0 \
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
  if render "$chart" --values "$chart/ci/kafka-values.yaml" "$@" >/dev/null 2>"$work/errors"; then
    fail "the chart takes $*"
  fi
  grep -qF -- "$words" "$work/errors" || { grep -v walk.go "$work/errors"; fail "the message for $* does not have: $words"; }
}

refusals() {
  refused "at '/kind': value must be one of 'Deployment', 'StatefulSet'" --set kind=DaemonSet
  refused "at '/autoscaling/kind': value must be one of 'none', 'millstream', 'kafka'" --set autoscaling.kind=hpa
  refused "additional properties 'replica' not allowed" --set replica=3
  refused "at '/replicas': minimum: got -1, want 0" --set replicas=-1
  refused "config.log.client has sasl.password as it is" --set 'config.log.client.sasl\.password=s3cret'
  refused "at '/config/pipelines/more': missing property 'source'" --set config.pipelines.more.plugin=x.wasm
  refused "at '/config/pipelines/orders/drain': 'soon' does not match pattern" --set config.pipelines.orders.drain=soon
  refused "at '/terminationMarginSeconds': minimum: got 0, want 10" --set terminationMarginSeconds=0
  refused "at '/image/digest': 'latest' does not match pattern" --set image.digest=latest
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
  refused "the network policy lets nobody reach the metrics" --set networkPolicy.adminFrom=null
  ok "nonsense is refused with words that help: 19 cases"
}
