# shellcheck shell=bash
# The nodes: their settings, start and end. Sourced by tests/kafka-cluster.
#
# Each node is broker and controller and has three listeners: CLIENT, secured as asked; INTERNAL, always
# plain, for the brokers among themselves and the tests' own tools; CONTROLLER.

# Below the kernel's ephemeral range, so that a node that is down finds its ports free again.
first_port=20000
last_port=29999
# A port may be taken between the look at it and the node's start.
start_attempts=5
ready_within_s=60
stop_within_s=60
answer_within_s=2
look_every_s=0.05

declare -A pid paused client_port internal_port controller_port

node_ids() { seq 1 "$nodes"; }
alive() { [ -n "${pid[$1]:-}" ] && kill -0 "${pid[$1]}" 2>/dev/null; }

# Whether somebody accepts connections there.
accepts() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Sets `port` to one that nobody listens on and that is not in `ports`, and puts it there.
pick_port() {
  while true; do
    port="$((first_port + RANDOM % (last_port - first_port + 1)))"
    [[ " $ports " != *" $port "* ]] || continue
    accepts "$port" || break
  done
  ports+=" $port"
}

pick_ports() {
  local id port ports=""
  voters="" bootstrap="" admin_bootstrap=""
  for id in $(node_ids); do
    pick_port && client_port[$id]="$port"
    pick_port && internal_port[$id]="$port"
    pick_port && controller_port[$id]="$port"
    voters+="${voters:+,}$id@127.0.0.1:${controller_port[$id]}"
    bootstrap+="${bootstrap:+,}127.0.0.1:${client_port[$id]}"
    admin_bootstrap+="${admin_bootstrap:+,}127.0.0.1:${internal_port[$id]}"
  done
}

properties() {
  local id="$1" replicas=1 in_sync=1
  [ "$nodes" = 1 ] || replicas=3 in_sync=2
  local client="CLIENT://127.0.0.1:${client_port[$id]}"
  local internal="INTERNAL://127.0.0.1:${internal_port[$id]}"
  cat <<PROPERTIES
node.id=$id
process.roles=broker,controller
listeners=$client,$internal,CONTROLLER://127.0.0.1:${controller_port[$id]}
advertised.listeners=$client,$internal
listener.security.protocol.map=CLIENT:$(client_protocol),INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
controller.quorum.voters=$voters
log.dirs=$dir/node-$id/data

auto.create.topics.enable=false
num.partitions=$partitions
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
# A killed node that comes back is refused until its session has expired; 9 s by default.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
PROPERTIES
  security_properties
  # Of two lines with the same key the last counts.
  [ "${#settings[@]}" = 0 ] || printf '%s\n' "${settings[@]}"
}

# Gives every node a folder with its settings and empty storage.
format_nodes() {
  local id cluster node users
  # 16 random bytes as Kafka writes them: base64, here without signs that mean something elsewhere.
  cluster="$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab')"
  mapfile -t users < <(format_users)
  for id in $(node_ids); do
    node="$dir/node-$id"
    rm -rf "$node"
    mkdir "$node"
    properties "$id" >"$node/server.properties"
    (
      cd "$node"
      rehearsal="" # which is about brokers only
      java_with WARN "${short_lived[@]}" kafka.tools.StorageTool format --cluster-id "${cluster%==}" \
        --config server.properties "${users[@]}" </dev/null >format.log 2>&1
    ) &
    pid[$id]="$!"
  done
  for id in $(node_ids); do
    wait "${pid[$id]}" || fail "node $id cannot be formatted: $(tail -n 20 "$dir/node-$id/format.log")"
  done
}

# Starts a node without waiting for it.
launch() {
  local id="$1" heap=512m compile=()
  [ "$nodes" = 1 ] || heap=384m
  [ -z "$quick" ] || compile=(-XX:TieredStopAtLevel=1)
  (
    cd "$dir/node-$id"
    java_with INFO "-Xmx$heap" -XX:+UseG1GC -XX:MaxGCPauseMillis=20 "${compile[@]}" \
      kafka.Kafka server.properties </dev/null >>node.log 2>&1
  ) &
  pid[$id]="$!"
}

# The next bytes of the connection 3, in hexadecimal.
answer_bytes() { timeout "$answer_within_s" head -c "$1" <&3 | od -v -An -tx1 | tr -d ' \n'; }

# What a node answers to a Metadata request (version 4, for no topic), in hexadecimal.
metadata() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/${internal_port[$1]}"
    printf '\0\0\0\x0f\0\3\0\4\0\0\0\1\0\0\0\0\0\0\0' >&3
    answer_bytes "$((16#$(answer_bytes 4)))"
  ) 2>/dev/null || true
}

# Whether all nodes that run know a node as one that works. A start of a Java tool would take longer
# than the broker's own.
known() {
  local other entry
  alive "$1" && accepts "${client_port[$1]}" || return 1
  # In the answer: id, length of the host, host (127.0.0.1), port.
  entry="$(printf '%08x00093132372e302e302e31%08x' "$1" "${internal_port[$1]}")"
  for other in $(node_ids); do
    if alive "$other" && [ -z "${paused[$other]:-}" ]; then
      [[ "$(metadata "$other")" == *"$entry"* ]] || return 1
    fi
  done
}

# Prints why a node does not work.
complain() {
  local log="$dir/node-$1/node.log"
  {
    echo "node $1 $2; what its log warns of:"
    grep -E "^\[[^]]*\] (WARN|ERROR|FATAL)|Exception|^Error" "$log" | tail -n 20 | cut -c 1-500
    echo "and how it ends:"
    tail -n 20 "$log"
  } >&2
}

# Waits until these nodes work. 1 and the reason on stderr if they do not, 2 if a port was taken.
await() {
  local id other deadline="$((SECONDS + ready_within_s))"
  for id in "$@"; do
    until known "$id"; do
      for other in "$@"; do
        alive "$other" && continue
        ! grep -q "Address already in use" "$dir/node-$other/node.log" || return 2
        complain "$other" "has ended by itself"
        return 1
      done
      if [ "$SECONDS" -ge "$deadline" ]; then
        complain "$id" "does not answer after $ready_within_s s"
        return 1
      fi
      sleep "$look_every_s"
    done
  done
}

# SIGKILL, and gone when this returns; likewise for one that has ended already or was paused.
kill_node() {
  local id="$1"
  [ -n "${pid[$id]:-}" ] || return 0
  kill -KILL "${pid[$id]}" 2>/dev/null || true
  # The shell would report the signal.
  wait "${pid[$id]}" 2>/dev/null || true
  unset "pid[$id]" "paused[$id]"
}

kill_nodes() {
  local id
  for id in $(node_ids); do kill_node "$id"; done
}

pause_node() {
  alive "$1" || return 0
  kill -STOP "${pid[$1]}"
  paused[$1]=1
}

resume_node() {
  ! alive "$1" || kill -CONT "${pid[$1]}"
  unset "paused[$1]"
}

# SIGTERM to all of these nodes, then waits for their ends.
stop_nodes() {
  local id deadline="$((SECONDS + stop_within_s))"
  for id in "$@"; do
    ! alive "$id" || kill -TERM "${pid[$id]}"
  done
  for id in "$@"; do
    while alive "$id"; do
      if [ "$SECONDS" -ge "$deadline" ]; then
        complain "$id" "has not ended $stop_within_s s after SIGTERM"
        fail "node $id does not stop"
      fi
      sleep "$look_every_s"
    done
    kill_node "$id"
  done
}

# Starts those of these nodes that do not run, on the ports and data they had.
start_nodes() {
  local id
  for id in "$@"; do
    alive "$id" || launch "$id"
  done
  await "$@" || fail "not all of these nodes could be started: $*"
}

# Formats and starts all nodes, with other ports if somebody took one meanwhile.
start_cluster() {
  local id attempt status
  for attempt in $(seq 1 "$start_attempts"); do
    pick_ports
    format_nodes
    for id in $(node_ids); do launch "$id"; done
    status=0
    # shellcheck disable=SC2046 # one word for each node
    await $(node_ids) || status="$?"
    [ "$status" != 0 ] || return 0
    [ "$status" = 2 ] || break
    echo "a port was taken meanwhile (attempt $attempt of $start_attempts)" >&2
    kill_nodes
  done
  fail "Kafka does not start"
}
