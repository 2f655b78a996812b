{{/*
The configuration file from values. Helm's own `toToml` writes 1000 as 1000.0, since a number from YAML is a
fraction to it, and the host refuses that; so values are written one by one. A text in JSON is a text in TOML.
*/}}
{{- define "millstream.toml.value" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }},{{ end }} {{ $key | toJson }} = {{ include "millstream.toml.value" (index $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{- range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "millstream.toml.value" $item }}{{ end }}]
{{- else if kindIs "string" . -}}
{{ . | toJson }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if kindIs "invalid" . -}}
{{ fail "config: a key has no value: give it one, or take it out with its line" }}
{{- else if eq (float64 .) (float64 (int64 .)) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* `key = value` for each key but those that are left empty, as values.yaml has them. */}}
{{- define "millstream.toml.table" -}}
{{- range $key := keys . | sortAlpha }}
{{- $value := index $ $key }}
{{- if not (and (or (kindIs "map" $value) (kindIs "string" $value)) (empty $value)) }}
{{ $key | toJson }} = {{ include "millstream.toml.value" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "millstream.toml" -}}
[host]
data_dir = "/var/lib/millstream"
admin = "0.0.0.0:{{ .Values.admin.port }}"
admin_token = "${MILLSTREAM_ADMIN_TOKEN}"
{{- if .Values.admin.metricsKey }}
metrics_token = "${MILLSTREAM_METRICS_TOKEN}"
{{- end }}
{{- if and (eq .Values.kind "StatefulSet") (eq .Values.config.log.kind "kafka") }}
id = "${POD_NAME}"
{{- end }}

[log]
{{- include "millstream.toml.table" .Values.config.log }}
{{- with .Values.config.traces }}

[traces]
{{- include "millstream.toml.table" . }}
{{- end }}
{{- range $name := keys .Values.config.pipelines | sortAlpha }}

[pipelines.{{ $name | toJson }}]
{{- include "millstream.toml.table" (index $.Values.config.pipelines $name) }}
{{- end }}
{{ end -}}

{{/* Whole seconds of a duration as docs/configuration.md writes it, rounded up: `1m 30s`, `250ms`. */}}
{{- define "millstream.seconds" -}}
{{- $ms := 0 -}}
{{- $unit := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $parts := regexFindAll "[0-9]+ *(ms|s|m|h|d)" . -1 -}}
{{- if or (empty $parts) (regexReplaceAll "[0-9]+ *(ms|s|m|h|d) *" . "") -}}
{{- fail (printf "config: drain %q is no duration that the chart can read: write it as 250ms, 10s or 1m 30s" .) -}}
{{- end -}}
{{- range $part := $parts -}}
{{- $number := regexFind "[0-9]+" $part | int64 -}}
{{- $ms = add $ms (mul $number (index $unit (regexFind "[a-z]+" $part))) -}}
{{- end -}}
{{- div (add $ms 999) 1000 -}}
{{- end -}}

{{/* The longest drain, and what comes beside it: joining a group to leave it (10 s), a transaction (20 s), the admin API (5 s). */}}
{{- define "millstream.gracePeriod" -}}
{{- $drain := 0 -}}
{{- if .Values.existingConfig.configMap -}}
{{- $drain = .Values.existingConfig.drainSeconds | int64 -}}
{{- else -}}
{{- range .Values.config.pipelines -}}
{{- $drain = max $drain (include "millstream.seconds" (.drain | default "10s") | int64) -}}
{{- end -}}
{{- end -}}
{{- add $drain (.Values.terminationMarginSeconds | int64) -}}
{{- end -}}

{{/* Pipelines that scale. */}}
{{- define "millstream.scaledPipelines" -}}
{{- .Values.autoscaling.pipelines | default (keys .Values.config.pipelines | sortAlpha) | toJson -}}
{{- end -}}
