# shellcheck shell=bash disable=SC2154,SC2034 # variables of `run` and of what it sources
# A real host under a real Prometheus: the chart's probe, every query of the dashboard, every alert. Sourced.

token=0123456789abcdef0123456789abcdef
metrics_token=fedcba9876543210fedcba9876543210

# wait_for SECONDS WHAT LOG COMMAND...: if it does not come the log is shown.
wait_for() {
  local deadline=$((SECONDS + $1)) what="$2" log="$3"
  shift 3
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { cat "$log"; fail "$what did not come"; }
    sleep 0.2
  done
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

check_queries() {
  [ -x "$millstream" ] || fail "there is no program $millstream: build it, or name it in MILLSTREAM"
  local folder="$work/host"
  mkdir "$folder"
  get_plugin "$folder/orders.wasm"
  start_host "$folder"
  probe_answers
  start_prometheus
  keep_producing "$folder" &
  children+=("$!")
  every_query
  every_rule
}

get_plugin() {
  if [ -n "${PLUGIN:-}" ]; then
    cp "$PLUGIN" "$1"
  else
    CARGO_TARGET_DIR="$CARGO_TARGET_DIR/../guest-target" timeout 10m nice -n 10 \
      "$millstream" plugin build "$root/examples/orders" --out "$1" || fail "examples/orders cannot be built"
  fi
}

# As the chart has it: reached by all addresses, so that metrics and health need the token.
start_host() {
  cat >"$1/millstream.toml" <<'TOML'
[host]
data_dir = "data"
admin = "0.0.0.0:0"
admin_token = "${MILLSTREAM_ADMIN_TOKEN}"
metrics_token = "${MILLSTREAM_METRICS_TOKEN}"

[log]
kind = "embedded"
durability = "100ms"

[pipelines.orders]
source = { topics = ["orders.created"] }
plugin = "orders.wasm"
outputs = { default = "orders.priced" }
retry = { delays = ["250ms", "500ms"] }
idempotency = { key = "json:/order_id", ttl = "1h" }
TOML
  (cd "$1" && MILLSTREAM_ADMIN_TOKEN="$token" MILLSTREAM_METRICS_TOKEN="$metrics_token" exec "$millstream" run) >"$1/said" 2>&1 &
  children+=("$!")
  wait_for 60 "the host's admin address" "$1/said" grep -q 'admin API and metrics at' "$1/said"
  port="$(sed -n 's|.*admin API and metrics at http://0\.0\.0\.0:||p' "$1/said")"
}

probe_answers() {
  local probe="$chart/files/probe.sh"
  MILLSTREAM_ADMIN_TOKEN="$token" timeout 10 bash "$probe" live "$port" || fail "the probe: the host is not live"
  export MILLSTREAM_ADMIN_TOKEN="$token"
  wait_for 30 "the probe's word that the host is ready" "$work/host/said" timeout 10 bash "$probe" ready "$port"
  unset MILLSTREAM_ADMIN_TOKEN
  local said
  if said="$(timeout 10 bash "$probe" live "$port")"; then fail "the probe passes without the token"; fi
  [[ "$said" == *401*token* ]] || fail "the probe does not say why it failed: $said"
  # Nobody listens there.
  if timeout 10 bash "$probe" live "$(free_port)" 2>/dev/null; then fail "the probe passes where no host is"; fi
  ok "the chart's probe tells live and ready from refused and absent"
}

# Orders good, flaky, poison, rejected and sent twice, until it is ended.
keep_producing() {
  local round=0 producer=""
  trap '[ -z "$producer" ] || kill "$producer" 2>/dev/null; exit 0' TERM
  while true; do
    round=$((round + 1))
    python3 - "$round" >"$1/orders.jsonl" <<'PYTHON'
import json, sys
round = int(sys.argv[1])
for number in range(100):
    order = {"order_id": f"{round}-{number if number % 10 else 0}", "item": "bolt", "quantity": 3, "unit_price": 250}
    if number % 20 == 3:
        order["flaky"] = 1
    if number % 50 == 7:
        order["poison"] = True
    if number % 50 == 11:
        order["quantity"] = 0
    print(json.dumps({"key": f"customer-{number % 17}", "value": json.dumps(order)}))
PYTHON
    (cd "$1" && MILLSTREAM_ADMIN_TOKEN="$token" MILLSTREAM_METRICS_TOKEN="$metrics_token" exec timeout 60 "$millstream" produce orders.created <orders.jsonl) \
      >"$1/produced" 2>&1 &
    producer="$!"
    wait "$producer" || true
    producer=""
  done
}

start_prometheus() {
  local listen
  listen="127.0.0.1:$(free_port)"
  url="http://$listen"
  cat >"$work/prometheus.yml" <<YAML
global: { scrape_interval: 1s, evaluation_interval: 2s }
rule_files: ["$root/deploy/prometheus/alerts.yaml"]
scrape_configs:
  - job_name: millstream
    authorization: { credentials: $metrics_token }
    static_configs: [{ targets: ["127.0.0.1:$port"] }]
YAML
  "$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --web.listen-address="$listen" \
    --log.level=warn >"$work/prometheus.log" 2>&1 &
  children+=("$!")
  wait_for 60 "an answer of Prometheus" "$work/prometheus.log" timeout 5 python3 -c \
    'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/-/ready", timeout=3)' "$url"
}

ask_all() {
  timeout 1m python3 "$here/queries.py" "$url" "$root/deploy/grafana/millstream.json" "$root/deploy/prometheus/alerts.yaml" \
    --set pipeline='.*' --set topic='.*' --duration 30s >"$work/asked" 2>&1
}

# Rates need two samples, dead letters need their retries: until there is data for all of them, or two minutes.
every_query() {
  local deadline=$((SECONDS + 120))
  until ask_all; do
    [ "$SECONDS" -lt "$deadline" ] || { cat "$work/asked" "$work/host/produced"; fail "queries: see above"; }
    sleep 1
  done
  cat "$work/asked"
  ok "$(sed -n 's/ failed$/ failed, of dashboard and alerts/p' "$work/asked")"
}

every_rule() {
  timeout 1m python3 - "$url" <<'PYTHON' || fail "Prometheus cannot evaluate the rules: see above"
import json, sys, urllib.request
with urllib.request.urlopen(sys.argv[1] + "/api/v1/rules", timeout=30) as answer:
    rules = [rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]
wrong = [f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}" for rule in rules if rule["health"] != "ok"]
sys.exit("\n".join(wrong) if wrong or not rules else 0)
PYTHON
  ok "Prometheus evaluates each rule over a host's real series"
}
