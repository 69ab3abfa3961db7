{{/*
A collector beside an application, for the `initContainers` of its pod: `include "graphmeter.sidecar" .` in this chart, or,
where this chart is a dependency, `include "graphmeter.sidecar" (dict "Values" .Values.graphmeter "Chart" .Subcharts.graphmeter.Chart "Release" .Release)`.

A native sidecar: an init container that is always restarted starts before the containers of the pod, and ends after them, so
that nothing an application sends at its first or last breath is lost. It listens on the pod's loopback, so no keys are
needed; probes and Prometheus come by a port of their own, where there is nothing else.
*/}}
{{- define "graphmeter.sidecar" -}}
- name: graphmeter
  image: {{ include "graphmeter.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: [serve]
  env:
    - {name: GRAPHMETER_HOST, value: "127.0.0.1"}
    # On loopback; also where keys for other collectors are in the same database.
    - {name: GRAPHMETER_ALLOW_ANONYMOUS, value: "true"}
    # An outage of Postgres keeps no application from starting: what it sends waits in the spool.
    - {name: GRAPHMETER_ASSUME_DATABASE, value: "true"}
    - {name: GRAPHMETER_METRICS_PORT, value: {{ .Values.sidecar.metricsPort | quote }}}
    - {name: GRAPHMETER_CONFIG, value: /etc/graphmeter/graphmeter.yaml}
    - {name: GRAPHMETER_DATA_DIR, value: /var/lib/graphmeter}
    - {name: GRAPHMETER_SPOOL_MAX_BYTES, value: {{ ternary (int64 .Values.sidecar.spoolMaxBytes) 0 .Values.spool.enabled | toString | quote }}}
    - {name: GRAPHMETER_DRAIN_TIMEOUT_S, value: {{ .Values.drainSeconds | quote }}}
    - {name: GRAPHMETER_LOG_FORMAT, value: json}
    {{- include "graphmeter.databaseEnv" . | nindent 4 }}
    {{- with .Values.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with .Values.extraEnvFrom }}
  envFrom: {{ toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - {name: graphmeter, containerPort: {{ .Values.sidecar.metricsPort }}, protocol: TCP}
  # The application's containers wait for it.
  startupProbe:
    httpGet: {path: /ready, port: graphmeter}
    periodSeconds: 1
    failureThreshold: 120
  livenessProbe:
    httpGet: {path: /health, port: graphmeter}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  # No readiness probe: a collector that is full is no reason to take the application out of its service.
  resources: {{ toYaml .Values.sidecar.resources | nindent 4 }}
  securityContext: {{ include "graphmeter.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: graphmeter-data, mountPath: /var/lib/graphmeter}
    - {name: graphmeter-config, mountPath: /etc/graphmeter, readOnly: true}
    - {name: graphmeter-tmp, mountPath: /tmp}
    {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end -}}

{{/* The volumes that it needs, for the `volumes` of the pod. */}}
{{- define "graphmeter.sidecarVolumes" -}}
# The spool: it outlives the container, and is gone with the pod. What waits there when a pod goes while Postgres is away is lost;
# where that matters use collectors of their own.
- name: graphmeter-data
  emptyDir: {sizeLimit: {{ .Values.sidecar.spoolSize }}}
- name: graphmeter-config
  configMap: {name: {{ include "graphmeter.fullname" . }}}
- name: graphmeter-tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
