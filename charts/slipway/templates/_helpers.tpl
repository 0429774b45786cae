{{/* Name of the operator's objects. */}}
{{- define "slipway.name" -}}
slipway-operator
{{- end }}

{{- define "slipway.labels" -}}
{{ include "slipway.selector" . }}
app.kubernetes.io/part-of: slipway
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "slipway.selector" -}}
app.kubernetes.io/name: slipway-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Reference of an image: include "slipway.image" (list . "operator"). One with a tag or a digest is taken as it is. */}}
{{- define "slipway.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.image (index . 1) -}}
{{- if regexMatch "(:[^/]+|@sha256:[0-9a-f]{64})$" $image -}}
{{ $image }}
{{- else -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ $image }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The operator as the API server knows it. */}}
{{- define "slipway.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "slipway.name" . }}
{{- end }}
