#!/usr/bin/env bash
# Asks the host in this container `/health/live` or `/health/ready`: exit code 0 if it answers 200.
#
# Why not the kubelet itself: beyond loopback the admin API answers nobody without the token, and a probe's
# headers cannot come from a secret. The token stays in this container's environment.
set -euo pipefail
what="$1" port="$2"
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /health/%s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n' \
  "$what" "$port" "${MILLSTREAM_ADMIN_TOKEN:-}" >&3
answer="$(cat <&3)"
status="${answer%%$'\r'*}"
[[ "$status" == *" 200 "* ]] && exit 0
# The kubelet shows this in the pod's events: the reason, not the head.
echo "$status: ${answer##*$'\r\n'}"
exit 1
