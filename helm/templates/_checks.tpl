{{/* What the schema cannot say: values that do not go together. */}}
{{- define "gate.checks" -}}
{{- $many := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- if and $many (eq .Values.records.database "sqlite") }}
{{- fail "records.database: sqlite serves one replica; use postgresql (records.url.secret), or none" }}
{{- end }}
{{- if and (eq .Values.records.database "postgresql") (not .Values.records.identity.secret) }}
{{- fail "records.identity.secret: replicas need the same signing key and audit secret; name a Secret with both (docs/kubernetes.md)" }}
{{- end }}
{{- if not (or .Values.allowUnauthenticated .Values.apiKeys.secret .Values.settings.jwt_jwks) }}
{{- fail "apiKeys.secret: nobody could call; name a Secret with keys, set settings.jwt_jwks, or allowUnauthenticated: true where something in front authenticates" }}
{{- end }}
{{- range list "host" "port" "metrics_port" "config" "state_folder" "drain_seconds" "allow_unauthenticated" "api_keys_file" "records_url" "records_key_file" "audit_secret_file" "bundle" }}
{{- if hasKey $.Values.settings . }}
{{- fail (printf "settings.%s: the chart sets it itself; see values.yaml for the value that it follows" .) }}
{{- end }}
{{- end }}
{{- if and .Values.settings.model (or .Values.model.claim .Values.model.image .Values.model.url) }}
{{- fail "settings.model: the model comes from model.claim, model.image or model.url already; leave one of both out" }}
{{- end }}
{{- if and (gt (int .Values.gpu.count) 1) (not .Values.sharedMemory) }}
{{- fail "sharedMemory: several GPUs exchange tensors through /dev/shm; set it, such as 8Gi" }}
{{- end }}
{{- end }}
