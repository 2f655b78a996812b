{{/* What every container may: nothing but run. */}}
{{- define "millstream.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- end -}}

{{- define "millstream.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "millstream.env" -}}
- name: MILLSTREAM_ADMIN_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "millstream.tokenSecret" . }}
      key: {{ .Values.admin.secretKey }}
{{- with .Values.admin.metricsKey }}
- name: MILLSTREAM_METRICS_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "millstream.tokenSecret" $ }}
      key: {{ . }}
{{- end }}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where a pod goes: the same for hosts and scaler. */}}
{{- define "millstream.place" -}}
serviceAccountName: {{ include "millstream.serviceAccount" . }}
# Nothing here asks the cluster's API.
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "millstream.probe" -}}
exec:
  command: [/bin/bash, /etc/millstream/probe.sh, {{ .what }}, {{ .root.Values.admin.port | quote }}]
{{ toYaml .times }}
{{- end -}}

{{/* The pod of a host, without its `metadata.name`. */}}
{{- define "millstream.pod" -}}
metadata:
  labels:
    {{- include "millstream.selector" (dict "root" . "component" "host") | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The configuration is read once, at start: another one is another pod.
    millstream/config-digest: {{ include "millstream.toml" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "millstream.place" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "millstream.gracePeriod" . }}
  securityContext: {{ include "millstream.podSecurity" . | nindent 4 }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{ include "millstream.selector" (dict "root" . "component" "host") | nindent 10 }}
    {{- end }}
  {{- if eq .Values.plugins.from "init" }}
  initContainers:
    - name: plugins
      image: {{ .Values.plugins.init.image | quote }}
      {{- with .Values.plugins.init.command }}
      command: {{ toJson . }}
      {{- end }}
      {{- with .Values.plugins.init.args }}
      args: {{ toJson . }}
      {{- end }}
      {{- with .Values.plugins.init.env }}
      env: {{ toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{ include "millstream.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - { name: plugins, mountPath: {{ .Values.plugins.mountPath | quote }} }
        - { name: tmp, mountPath: /tmp }
  {{- end }}
  containers:
    - name: millstream
      image: {{ include "millstream.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, --config, /etc/millstream/{{ .Values.existingConfig.configMap | empty | ternary "millstream.toml" .Values.existingConfig.key }}, --data-dir, /var/lib/millstream]
      env: {{ include "millstream.env" . | nindent 8 }}
      {{- with .Values.envFrom }}
      envFrom: {{ toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - { name: admin, containerPort: {{ .Values.admin.port }}, protocol: TCP }
      startupProbe: {{ include "millstream.probe" (dict "root" . "what" "live" "times" .Values.probes.startup) | nindent 8 }}
      livenessProbe: {{ include "millstream.probe" (dict "root" . "what" "live" "times" .Values.probes.liveness) | nindent 8 }}
      readinessProbe: {{ include "millstream.probe" (dict "root" . "what" "ready" "times" .Values.probes.readiness) | nindent 8 }}
      resources: {{ toYaml .Values.resources | nindent 8 }}
      securityContext: {{ include "millstream.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/millstream, readOnly: true }
        - { name: data, mountPath: /var/lib/millstream }
        - { name: tmp, mountPath: /tmp }
        {{- if ne .Values.plugins.from "none" }}
        - { name: plugins, mountPath: {{ .Values.plugins.mountPath | quote }}, readOnly: true }
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      projected:
        sources:
          - configMap: { name: {{ include "millstream.configMap" . }} }
          - configMap: { name: {{ include "millstream.fullname" . }}-probe }
    - name: tmp
      emptyDir: { sizeLimit: 64Mi }
    {{- if not .Values.persistence.enabled }}
    - name: data
      emptyDir: { sizeLimit: {{ .Values.emptyDirSizeLimit }} }
    {{- end }}
    {{- if ne .Values.plugins.from "none" }}
    - name: plugins
      {{- if eq .Values.plugins.from "configMap" }}
      configMap: { name: {{ .Values.plugins.configMap }} }
      {{- else if eq .Values.plugins.from "persistentVolumeClaim" }}
      persistentVolumeClaim: { claimName: {{ .Values.plugins.persistentVolumeClaim }}, readOnly: true }
      {{- else if eq .Values.plugins.from "volume" }}
      {{- toYaml .Values.plugins.volume | nindent 6 }}
      {{- else }}
      emptyDir: { sizeLimit: 512Mi }
      {{- end }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
