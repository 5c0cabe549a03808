{{- define "microservice.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "microservice.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
