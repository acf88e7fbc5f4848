{{/* The prefix of every object's name. 40 characters leave room for what is added. */}}
{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component. Call with (list . "operator"). */}}
{{- define "holdfast.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The labels of an object of a component. Call with (list . "operator"). */}}
{{- define "holdfast.labels" -}}
{{- $root := index . 0 -}}
{{- $own := include "holdfast.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "holdfast" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own $root.Values.commonLabels) -}}
{{- end -}}

{{/*
The labels of a component's pods: nothing that changes with the version, or every release would replace pods whose
specification is the same. Call with (list . "operator").
*/}}
{{- define "holdfast.podLabels" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- $own := include "holdfast.selectorLabels" . | fromYaml -}}
{{- toYaml (merge $own $values.podLabels $root.Values.commonLabels) -}}
{{- end -}}

{{/* The group that the engine's control socket belongs to: the agent's. */}}
{{- define "holdfast.agentGroup" -}}65533{{- end -}}

{{/* What every container has. */}}
{{- define "holdfast.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where an agent serves its metrics; empty: nowhere. $(HOST_IP) may be of either family. */}}
{{- define "holdfast.metricsAddress" -}}
{{- with .Values.speaker.metricsPort -}}
{{- $address := default "InternalIP" $.Values.speaker.metricsAddress -}}
{{- if eq $address "InternalIP" }}[$(HOST_IP)]{{ else if ne $address "All" }}[{{ $address }}]{{ end }}:{{ . }}
{{- end -}}
{{- end -}}

{{/* The Secret with the certificate of the metrics. */}}
{{- define "holdfast.metricsSecret" -}}
{{- .Values.metrics.tls.secretName | default (printf "%s-metrics" (include "holdfast.fullname" .)) -}}
{{- end -}}

{{/* The name in it. */}}
{{- define "holdfast.metricsServerName" -}}
{{- .Values.metrics.tls.serverName | default (printf "%s-metrics" (include "holdfast.fullname" .)) -}}
{{- end -}}

{{/*
The values that came after the first release, with their defaults. `helm upgrade --reuse-values` renders this chart with
the values of the release before, in which they are not.
*/}}
{{- define "holdfast.laterValues" -}}
controlPlanes: false
metrics:
  tls: {enabled: false, secretName: "", serverName: ""}
pools: {required: null}
rbac: {aggregateEditTo: "", aggregateView: true}
serviceNetworks: []
services: {enabled: true, withoutClass: false}
speaker:
  allowedNetworks: []
  allowedProbeNetworks: []
  apiServerAddresses: []
  metricsAddress: InternalIP
{{- end -}}

{{/* Give them their defaults where they are not there. Every template begins with it: none knows whether it is first. */}}
{{- define "holdfast.complete" -}}
{{- include "holdfast.fill" (list .Values (include "holdfast.laterValues" . | fromYaml)) -}}
{{- end -}}

{{/* Call with (list of a map and its defaults): adds what the map lacks, at any depth. */}}
{{- define "holdfast.fill" -}}
{{- $there := index . 0 -}}
{{- range $name, $default := index . 1 -}}
{{- if not (hasKey $there $name) -}}
{{- $_ := set $there $name $default -}}
{{- else if kindIs "map" $default -}}
{{- include "holdfast.fill" (list (index $there $name) $default) -}}
{{- end -}}
{{- end -}}
{{- end -}}
