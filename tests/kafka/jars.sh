# shellcheck shell=bash
# Kafka's jars and how to run a class of them. Sourced by tests/kafka-cluster.

kafka_version=4.3.1
cache="${XDG_CACHE_HOME:-$HOME/.cache}/millstream/kafka-$kafka_version"
jars="$cache/lib"
others="$cache/others"
# Set while `fetch` starts a broker to see which classes that takes: the file to write them to.
rehearsal="${MILLSTREAM_KAFKA_REHEARSAL:-}"

need() { command -v "$1" >/dev/null || fail "missing: $1. $2"; }

need_java_and_maven() {
  if ! { command -v java && command -v mvn; } >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      { apt-get update -qq && apt-get install -y -qq default-jre-headless maven; } >&2
    fi
  fi
  need_java
  need mvn "Install Maven (Debian: apt-get install maven)"
  local version
  version="$(java -XshowSettings:properties -version 2>&1 | awk '$1 == "java.specification.version" { print $3 }')"
  # Java 8 calls itself 1.8.
  [ "${version%%.*}" -ge 17 ] || fail "Kafka $kafka_version needs Java 17 or later, and \`java\` is $version"
}

need_java() {
  need java "Install Java 17 or later (Debian: apt-get install default-jre-headless)"
}

# Where the classes of a started broker are kept in the form they have in memory (Java calls it class
# data sharing): that halves the work of every start. Good for this very Java only, hence the name.
class_archive() {
  echo "$cache/classes-$(stat --dereference --format '%s-%Y' "$(command -v java)").jsa"
}

# Puts the jars into the cache, and the archive of classes; both as a whole or not at all. A second
# process waits for the first.
fetch() {
  if [ -d "$jars" ] && command -v java >/dev/null; then
    if [ -n "$rehearsal" ] || [ -f "$(class_archive)" ]; then return; fi
  fi
  need flock "Install util-linux"
  mkdir -p "$cache"
  (
    flock 9
    rm -rf "$cache"/partial.*
    [ -d "$jars" ] || fetch_jars
    need_java
    [ -f "$(class_archive)" ] || make_class_archive
  ) 9>"$cache/lock"
}

# The jars of Kafka Streams and Kafka Connect, whose dead letters are read: as a whole or not at all.
fetch_others() {
  [ ! -d "$others" ] || return 0
  mkdir -p "$cache"
  (
    flock 9
    [ ! -d "$others" ] || exit 0
    need_java_and_maven
    partial="$(mktemp -d "$cache/partial.XXXXXX")"
    echo "fetching Kafka Streams and Connect $kafka_version into $others" >&2
    mvn -q -B -f "$here/kafka/others.pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$partial" >&2 \
      || fail "Maven could not fetch Kafka Streams and Connect; what it said stands above"
    chmod 755 "$partial"
    mv -T "$partial" "$others"
  ) 9>"$cache/others.lock"
}

# other CLASS ARGUMENT...: a program of Kafka Streams or Connect; replaces this shell.
other() {
  exec java -cp "$others/*" "${short_lived[@]}" \
    -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" -Dmillstream.level=ERROR "$@"
}

fetch_jars() {
  need_java_and_maven
  local partial
  partial="$(mktemp -d "$cache/partial.XXXXXX")"
  echo "fetching Kafka $kafka_version into $jars" >&2
  mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$partial" >&2 \
    || fail "Maven could not fetch Kafka $kafka_version; what it said stands above"
  chmod 755 "$partial"
  mv -T "$partial" "$jars"
}

make_class_archive() {
  local partial="$cache/partial.jsa"
  echo "starting a broker once, so that later starts are quick" >&2
  # Java writes the archive when the broker has ended by itself.
  echo "stop 1" | MILLSTREAM_KAFKA_REHEARSAL="$partial" "$here/kafka-cluster" run --quick >/dev/null
  # Those of a Java that was there before are of no use any more.
  rm -f "$cache"/classes-*.jsa
  mv "$partial" "$(class_archive)"
}

# java_with LEVEL OPTION... CLASS ARGUMENT...: replaces this shell.
java_with() {
  local level="$1" sharing
  shift
  if [ -n "$rehearsal" ]; then
    sharing="-XX:ArchiveClassesAtExit=$rehearsal"
  else
    sharing="-XX:SharedArchiveFile=$(class_archive)"
  fi
  # An archive that does not fit is not used; nobody wants to read that.
  exec "${guard[@]}" java -cp "$jars/*" "$sharing" -Xshare:auto -Xlog:disable -Xlog:all=error:stderr \
    -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" -Dmillstream.level="$level" "$@"
}

# What a process that lives for a second is best run with.
short_lived=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC)

# tool NAME|CLASS ARGUMENT...: replaces this shell.
tool() {
  local class
  case "${1:-}" in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
    consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    acls) class=org.apache.kafka.tools.AclCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    delete-records) class=org.apache.kafka.tools.DeleteRecordsCommand ;;
    get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    *.*) class="$1" ;;
    *)
      fail "no tool \`${1:-}\`; there are topics, console-consumer, console-producer, consumer-groups, acls,
configs, delete-records, get-offsets, and any class by its full name"
      ;;
  esac
  shift
  java_with ERROR "${short_lived[@]}" "$class" "$@"
}
