{{/* The environment of the service's container. */}}
{{- define "gate.secretEnvironment" -}}
{{- range $name, $from := .Values.secretEnvironment }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}
{{- end }}
- {name: HOME, value: /tmp}
- {name: HF_HOME, value: /cache/hub}
- {name: XDG_CACHE_HOME, value: /cache}
{{- end }}

{{- define "gate.recordsUrl" -}}
- name: VLM_GATE_RECORDS_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.records.url.secret }}, key: {{ .Values.records.url.key }}}
{{- end }}

{{- define "gate.environment" -}}
{{- if eq .Values.records.database "postgresql" }}
{{ include "gate.recordsUrl" . }}
{{- end }}
{{- include "gate.secretEnvironment" . | nindent 0 }}
{{- end }}

{{/* VLM_GATE_* of the ConfigMap: what the chart decides, then what values.settings says. */}}
{{- define "gate.settings" -}}
VLM_GATE_HOST: "0.0.0.0"
VLM_GATE_PORT: "8080"
VLM_GATE_METRICS_PORT: "9090"
VLM_GATE_STATE_FOLDER: /state
VLM_GATE_DRAIN_SECONDS: {{ .Values.shutdown.drainSeconds | quote }}
{{- if .Values.allowUnauthenticated }}
VLM_GATE_ALLOW_UNAUTHENTICATED: "true"
{{- end }}
{{- if .Values.apiKeys.secret }}
VLM_GATE_API_KEYS_FILE: /secrets/keys/{{ .Values.apiKeys.key }}
{{- end }}
{{- if eq .Values.records.database "none" }}
VLM_GATE_RECORDS_URL: ""
{{- end }}
{{- if .Values.records.identity.secret }}
VLM_GATE_RECORDS_KEY_FILE: /secrets/identity/{{ .Values.records.identity.signingKey }}
VLM_GATE_AUDIT_SECRET_FILE: /secrets/identity/{{ .Values.records.identity.auditSecret }}
{{- end }}
{{- range $what := list "model" "bundle" }}
{{- with include "gate.artifactPath" (dict "root" $ "what" $what) }}
VLM_GATE_{{ upper $what }}: {{ . }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- /* Helm holds every number as a float, and would write 25000000 as 2.5e+07. */}}
{{- $whole := and (kindIs "float64" $value) (eq (float64 (int64 $value)) $value) }}
VLM_GATE_{{ upper $name }}: {{ ternary (int64 $value) $value $whole | toString | quote }}
{{- end }}
{{- end }}
