{{/* Where the model and the bundle come from. Call with (dict "root" $ "what" "model"). */}}
{{- define "gate.artifactPath" -}}
{{- $one := get .root.Values .what -}}
{{- if or $one.claim $one.image -}}
/{{ .what }}{{ with $one.folder }}/{{ . }}{{ end }}
{{- else if $one.url -}}
/cache/{{ .what }}-{{ $one.sha256 | trunc 12 }}{{ with $one.folder }}/{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- define "gate.artifactVolume" -}}
{{- $one := get .root.Values .what -}}
{{- if $one.claim }}
- name: {{ .what }}
  persistentVolumeClaim: {claimName: {{ $one.claim }}, readOnly: true}
{{- else if $one.image }}
- name: {{ .what }}
  image: {reference: {{ $one.image | quote }}, pullPolicy: IfNotPresent}
{{- end }}
{{- end }}

{{- define "gate.artifactMount" -}}
{{- $one := get .root.Values .what -}}
{{- if or $one.claim $one.image }}
- {name: {{ .what }}, mountPath: /{{ .what }}, readOnly: true}
{{- end }}
{{- end }}

{{/* Fetches what `url` names; what is there already is checked and kept. */}}
{{- define "gate.artifactFetch" -}}
{{- $one := get .root.Values .what -}}
{{- if $one.url }}
- name: fetch-{{ .what }}
  image: {{ include "gate.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args:
    - fetch
    - {{ $one.url | quote }}
    - --out=/cache/{{ .what }}-{{ $one.sha256 | trunc 12 }}
    - --sha256={{ $one.sha256 }}
  env:
    {{- include "gate.secretEnvironment" .root | nindent 4 }}
  resources:
    requests: {cpu: 100m, memory: 256Mi}
    limits: {memory: 1Gi}
  securityContext:
    {{- include "gate.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: cache, mountPath: /cache}
    - {name: tmp, mountPath: /tmp}
{{- end }}
{{- end }}

{{/* A folder that may outlive the pod. Call with (dict "root" $ "what" "state"). */}}
{{- define "gate.folder" -}}
{{- $one := get .root.Values .what -}}
- name: {{ .what }}
{{- if or $one.claim $one.size }}
  persistentVolumeClaim: {claimName: {{ $one.claim | default (printf "%s-%s" (include "gate.name" .root) .what) }}}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end }}
