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

{{/* Reference of an image, which may have a tag or digest of its own: include "slipway.image" (list . "operator") */}}
{{- define "slipway.image" -}}
{{- $root := index . 0 -}}
{{- $repository := index $root.Values.image (index . 1) -}}
{{- $tagged := regexMatch "[:@]" (base $repository) -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ $repository }}
{{- if not $tagged }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The operator as the API server knows it. */}}
{{- define "slipway.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "slipway.name" . }}
{{- end }}
