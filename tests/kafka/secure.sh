# shellcheck shell=bash
# TLS, SASL and ACLs of the listener CLIENT. Sourced by tests/kafka-cluster.

# certificate NAME EXTENSION...: a key, and a certificate of the CA.
certificate() {
  local name="$1"
  shift
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" \
    -keyout "$tls/$name.key" -out "$tls/$name.csr"
  openssl x509 -req -in "$tls/$name.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial \
    -days 30 -extfile <(printf '%s\n' "$@") -out "$tls/$name.pem"
}

# A CA, a certificate for the brokers and one for the client `millstream`, as PEM, which Kafka reads.
make_certificates() {
  need openssl "Install it (Debian: apt-get install openssl)"
  mkdir "$tls"
  (
    set -e
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
      -subj "/CN=millstream tests" -keyout "$tls/ca.key" -out "$tls/ca.pem"
    certificate broker "subjectAltName=IP:127.0.0.1,DNS:localhost" "extendedKeyUsage=serverAuth"
    certificate millstream "extendedKeyUsage=clientAuth"
    # Kafka wants a key and its certificate in one file.
    cat "$tls/broker.key" "$tls/broker.pem" >"$tls/broker-store.pem"
  ) >"$tls/openssl.log" 2>&1 &
  wait "$!" || fail "openssl failed: $(cat "$tls/openssl.log")"
}

client_protocol() {
  local transport=PLAINTEXT
  [ -z "$with_tls" ] || transport=SSL
  echo "${sasl:+SASL_}$transport"
}

tls_properties() {
  local listener=listener.name.client.ssl
  cat <<PROPERTIES
$listener.keystore.type=PEM
$listener.keystore.location=$tls/broker-store.pem
$listener.truststore.type=PEM
$listener.truststore.location=$tls/ca.pem
PROPERTIES
  [ -n "$mutual_tls" ] || return 0
  # CN=millstream is User:millstream, as with SASL.
  cat <<PROPERTIES
$listener.client.auth=required
$listener.principal.mapping.rules=RULE:^CN=([^,]+).*\$/\$1/
PROPERTIES
}

sasl_properties() {
  local listener=listener.name.client security=org.apache.kafka.common.security
  case "$sasl" in
    plain)
      cat <<PROPERTIES
$listener.sasl.enabled.mechanisms=PLAIN
$listener.plain.sasl.jaas.config=$security.plain.PlainLoginModule required \
  user_admin="admin-secret" user_millstream="millstream-secret";
PROPERTIES
      ;;
    scram)
      cat <<PROPERTIES
$listener.sasl.enabled.mechanisms=SCRAM-SHA-512
$listener.scram-sha-512.sasl.jaas.config=$security.scram.ScramLoginModule required;
PROPERTIES
      ;;
    oauth)
      # Believes every token without a signature: its `sub` is the principal.
      cat <<PROPERTIES
$listener.sasl.enabled.mechanisms=OAUTHBEARER
$listener.oauthbearer.sasl.jaas.config=$security.oauthbearer.OAuthBearerLoginModule required;
$listener.oauthbearer.sasl.server.callback.handler.class=\
$security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler
PROPERTIES
      ;;
  esac
}

security_properties() {
  [ -z "$with_tls" ] || tls_properties
  [ -z "$sasl" ] || sasl_properties
  [ -n "$acl" ] || return 0
  # Brokers, controllers and the tests' own tools, all on plain listeners, are User:ANONYMOUS.
  cat <<'PROPERTIES'
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
PROPERTIES
}

# The users that must be in the storage before the first start: arguments of StorageTool, one a line.
format_users() {
  [ "$sasl" = scram ] || return 0
  local user
  for user in admin millstream; do
    printf '%s\n' --add-scram "SCRAM-SHA-512=[name=$user,password=$user-secret]"
  done
}
