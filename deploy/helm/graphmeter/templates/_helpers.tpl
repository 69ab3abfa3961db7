{{/* Names and labels. */}}
{{- define "graphmeter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "graphmeter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "graphmeter.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "graphmeter.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "graphmeter.selector" -}}
app.kubernetes.io/name: {{ include "graphmeter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "graphmeter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{ include "graphmeter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "graphmeter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "graphmeter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "graphmeter.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* Whether collectors keep something: an SQLite file, or a spool. */}}
{{- define "graphmeter.keeps" -}}
{{- if or .Values.database.embedded .Values.spool.enabled }}true{{ end -}}
{{- end -}}

{{/* What cannot work is said before anything is installed. */}}
{{- define "graphmeter.check" -}}
{{- if and (not .Values.database.existingSecret) (not .Values.database.embedded) -}}
{{- fail "database.existingSecret: name a Secret whose key `url` holds postgresql://user:password@host/name, or set database.embedded=true to try it on SQLite" -}}
{{- end -}}
{{- if and .Values.database.existingSecret .Values.database.embedded -}}
{{- fail "database.embedded=true and database.existingSecret contradict each other: leave out one of them" -}}
{{- end -}}
{{- if eq .Values.mode "collectors" -}}
{{- if not (or .Values.auth.existingSecret .Values.auth.keysInDatabase .Values.auth.allowAnonymous) -}}
{{- fail "auth: name a Secret with API keys (auth.existingSecret), say that keys are in the database (auth.keysInDatabase=true), or let everybody in who reaches the collector (auth.allowAnonymous=true); see docs/security.md" -}}
{{- end -}}
{{- if and .Values.database.embedded (or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled) -}}
{{- fail "database.embedded=true is one collector on one file: set replicas=1 and leave autoscaling off, or use Postgres" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not (or .Values.serviceMonitor.keySecret .Values.auth.openMetrics .Values.auth.allowAnonymous)) -}}
{{- fail "serviceMonitor: Prometheus needs a key: name a Secret with one that may read (serviceMonitor.keySecret), or set auth.openMetrics=true" -}}
{{- end -}}
{{- else if .Values.database.embedded -}}
{{- fail "mode=sidecar: collectors of several pods share a Postgres (database.existingSecret); SQLite is for one collector" -}}
{{- end -}}
{{- end -}}

{{/* Of every container of ours. */}}
{{- define "graphmeter.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "graphmeter.databaseEnv" -}}
- name: GRAPHMETER_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.existingSecretKey }}
{{- end -}}

{{/* The pod of a collector, of the StatefulSet and of the Deployment alike. */}}
{{- define "graphmeter.pod" -}}
metadata:
  labels:
    {{- include "graphmeter.selector" . | nindent 4 }}
    app.kubernetes.io/component: collector
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "graphmeter.serviceAccountName" . }}
  automountServiceAccountToken: false
  # Of a Service called graphmeter, Kubernetes would make variables that look like settings: GRAPHMETER_PORT=tcp://…
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    # So that the volume is the collector's.
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  # What is left of a stopping collector's time after the balancers have heard of it, and some for the way out.
  terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.drainSeconds 10 }}
  containers:
    - name: collector
      image: {{ include "graphmeter.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        - {name: GRAPHMETER_HOST, value: "0.0.0.0"}
        - {name: GRAPHMETER_PORT, value: "4318"}
        - {name: GRAPHMETER_GRPC_PORT, value: "4317"}
        - {name: GRAPHMETER_CONFIG, value: /etc/graphmeter/graphmeter.yaml}
        - {name: GRAPHMETER_DATA_DIR, value: /var/lib/graphmeter}
        - {name: GRAPHMETER_SPOOL_MAX_BYTES, value: {{ ternary (int64 .Values.spool.maxBytes) 0 .Values.spool.enabled | toString | quote }}}
        - {name: GRAPHMETER_DRAIN_TIMEOUT_S, value: {{ .Values.drainSeconds | quote }}}
        - {name: GRAPHMETER_LOG_FORMAT, value: json}
        {{- if .Values.auth.existingSecret }}
        - {name: GRAPHMETER_API_KEYS_FILE, value: /run/secrets/graphmeter/keys}
        {{- end }}
        {{- if .Values.auth.allowAnonymous }}
        - {name: GRAPHMETER_ALLOW_ANONYMOUS, value: "true"}
        {{- end }}
        {{- if .Values.auth.openMetrics }}
        - {name: GRAPHMETER_OPEN_METRICS, value: "true"}
        {{- end }}
        {{- if not .Values.database.embedded }}
        {{- include "graphmeter.databaseEnv" . | nindent 8 }}
        {{- end }}
        {{- with .Values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with .Values.extraEnvFrom }}
      envFrom: {{ toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: http, containerPort: 4318, protocol: TCP}
        - {name: grpc, containerPort: 4317, protocol: TCP}
      # A migration of a large database may be part of the first start.
      startupProbe:
        httpGet: {path: /health, port: http}
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: {path: /health, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /ready, port: http}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      lifecycle:
        preStop:
          exec: {command: [sleep, {{ .Values.preStopSeconds | quote }}]}
      resources: {{ toYaml .Values.resources | nindent 8 }}
      securityContext: {{ include "graphmeter.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/graphmeter}
        - {name: config, mountPath: /etc/graphmeter, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if .Values.auth.existingSecret }}
        - {name: keys, mountPath: /run/secrets/graphmeter, readOnly: true}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - name: config
      configMap: {name: {{ include "graphmeter.fullname" . }}}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- if not (include "graphmeter.keeps" .) }}
    - name: data
      emptyDir: {sizeLimit: 64Mi}
    {{- end }}
    {{- if .Values.auth.existingSecret }}
    - name: keys
      secret:
        secretName: {{ .Values.auth.existingSecret }}
        defaultMode: 0440
        items: [{key: {{ .Values.auth.existingSecretKey }}, path: keys}]
    {{- end }}
    {{- with .Values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{ toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    {{- if .Values.affinity }}
    {{- toYaml .Values.affinity | nindent 4 }}
    {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels: {{ include "graphmeter.selector" . | nindent 16 }}
    {{- end }}
{{- end -}}
