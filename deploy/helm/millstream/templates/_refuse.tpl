{{/*
What types and bounds (values.schema.json) cannot refuse: values that do not go together. Each message says what to do.
*/}}
{{- define "millstream.refuse" -}}
{{- $v := .Values -}}
{{- $scales := ne $v.autoscaling.kind "none" -}}
{{- $own := empty $v.existingConfig.configMap -}}
{{- if and $own (empty $v.config.pipelines) -}}
{{- fail "config.pipelines is empty, so there is nothing to run: add a pipeline with `source` and `plugin`, or name a ConfigMap in existingConfig.configMap" -}}
{{- end -}}
{{- if and $own (eq $v.config.log.kind "kafka") (empty $v.config.log.bootstrap_servers) -}}
{{- fail "config.log.bootstrap_servers is empty: name the brokers, as kafka-1:9092,kafka-2:9092" -}}
{{- end -}}
{{- if $own -}}
{{- range $name, $pipeline := $v.config.pipelines -}}
{{- if or (empty $pipeline.plugin) (empty $pipeline.source) -}}
{{- fail (printf "config.pipelines.%s has no `plugin` or no `source`: both must be there" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := (default dict $v.config.log.client) -}}
{{- if and $own (regexMatch "password|secret|passphrase|key\\.pem$" $name) (not (contains "${" (toString $value))) -}}
{{- fail (printf "config.log.client has %s as it is, and would be in a ConfigMap for all to read: write ${NAME} and give NAME in envFrom or env" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := dig "headers" (dict) (default dict $v.config.traces) -}}
{{- if and $own (regexMatch "(?i)auth|cookie|key|password|secret|token" $name) (not (contains "${" (toString $value))) -}}
{{- fail (printf "config.traces.headers has %s as it is, and would be in a ConfigMap for all to read: write ${NAME} and give NAME in envFrom or env" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $own (eq $v.config.log.kind "embedded") -}}
{{- if or (ne $v.kind "StatefulSet") (not $v.persistence.enabled) -}}
{{- fail "the embedded log lies in the host's folder and is lost with it: set kind=StatefulSet and persistence.enabled=true" -}}
{{- end -}}
{{- if or $scales (ne (int $v.replicas) 1) -}}
{{- fail "the embedded log belongs to one host: set replicas=1 and autoscaling.kind=none" -}}
{{- end -}}
{{- end -}}
{{- if and $v.persistence.enabled (ne $v.kind "StatefulSet") -}}
{{- fail "persistence.enabled needs kind=StatefulSet: two pods of a Deployment would have one folder" -}}
{{- end -}}
{{- $given := dict "configMap" $v.plugins.configMap "persistentVolumeClaim" $v.plugins.persistentVolumeClaim "volume" $v.plugins.volume "init" $v.plugins.init.image -}}
{{- if and (ne $v.plugins.from "none") (empty (index $given $v.plugins.from)) -}}
{{- fail (printf "plugins.from=%s, and plugins.%s%s is empty: fill it" $v.plugins.from $v.plugins.from (ternary ".image" "" (eq $v.plugins.from "init"))) -}}
{{- end -}}
{{- range $from, $value := $given -}}
{{- if and $value (ne $from $v.plugins.from) -}}
{{- fail (printf "plugins.%s is given, and plugins.from=%s: it would have no effect; set plugins.from=%s or leave it out" $from $v.plugins.from $from) -}}
{{- end -}}
{{- end -}}
{{- if $scales -}}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas: exchange them" -}}
{{- end -}}
{{- if and (not $own) (empty $v.autoscaling.pipelines) -}}
{{- fail "autoscaling.pipelines is empty, and the chart cannot read the pipelines of existingConfig.configMap: name those that scale" -}}
{{- end -}}
{{- if and (eq $v.autoscaling.kind "kafka") (not $own) -}}
{{- fail "autoscaling.kind=kafka needs the pipelines' topics and groups, which the chart cannot read from existingConfig.configMap: use `config`, or autoscaling.kind=millstream" -}}
{{- end -}}
{{- if and (eq $v.autoscaling.kind "kafka") (eq (int $v.autoscaling.minReplicas) 0) -}}
{{- fail "autoscaling.kind=kafka with minReplicas=0 would leave retries that are due without a host: KEDA's trigger sees source topics only; set minReplicas=1, or autoscaling.kind=millstream" -}}
{{- end -}}
{{- if $own -}}
{{- range $v.autoscaling.pipelines -}}
{{- if not (hasKey $v.config.pipelines .) -}}
{{- fail (printf "autoscaling.pipelines names %q, which is not in config.pipelines (%s): correct it" . (keys $v.config.pipelines | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
