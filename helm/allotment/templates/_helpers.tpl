{{/* Labels of every object; the argument is a dict of the root context and the component's name. */}}
{{- define "allotment.labels" -}}
app.kubernetes.io/name: allotment
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: allotment
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What a program's Service, PodDisruptionBudget and NetworkPolicy select its pods by. */}}
{{- define "allotment.selector" -}}
app.kubernetes.io/name: allotment
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "allotment.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The user names under which the two programs reach the API server. */}}
{{- define "allotment.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:allotment-operator
{{- end }}
{{- define "allotment.schedulerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:allotment-scheduler
{{- end }}

{{/* The restricted Pod Security profile, and more: nothing in a pod of ours runs as root or writes to its image. */}}
{{- define "allotment.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "allotment.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What both programs are told about themselves. */}}
{{- define "allotment.identityEnv" -}}
# Nothing in the working directory can be imported in place of a library.
- name: PYTHONSAFEPATH
  value: "1"
- name: PYTHONUNBUFFERED
  value: "1"
- name: ALLOTMENT_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
# The pod's name and uid are the holder's identity in the leader's Lease.
- name: ALLOTMENT_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: ALLOTMENT_POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: ALLOTMENT_HTTP_PORT
  value: "8080"
{{- end }}

{{- define "allotment.probes" -}}
# A start may take minutes on a large cluster: state is rebuilt from lists before the program is ready.
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* How a validating policy is bound: refused, and in the audit log if wanted. */}}
{{- define "allotment.validationActions" -}}
{{- if .Values.admission.audit }}[Deny, Audit]{{ else }}[Deny]{{ end -}}
{{- end }}

{{/* The namespaces that belong to a tenant, and those that do not. */}}
{{- define "allotment.tenantNamespaces" -}}
namespaceSelector:
  matchExpressions:
    - {key: allotment.dev/tenant, operator: Exists}
{{- end }}
{{- define "allotment.otherNamespaces" -}}
namespaceSelector:
  matchExpressions:
    - {key: allotment.dev/tenant, operator: DoesNotExist}
{{- end }}

{{/*
Whether a namespace is the cluster's own, which no tenant can have. The argument is a dict of the root context and the
CEL expression of the name.
*/}}
{{- define "allotment.isTheClusters" -}}
{{- $name := .name -}}
{{- $names := list "default" .root.Release.Namespace -}}
{{- $prefixes := list "kube-" -}}
{{- range .root.Values.admission.protectedNamespaces -}}
{{- if hasSuffix "*" . -}}{{- $prefixes = append $prefixes (trimSuffix "*" .) -}}{{- else -}}{{- $names = append $names . -}}{{- end -}}
{{- end -}}
({{ range $prefixes }}{{ $name }}.startsWith({{ squote . }}) || {{ end }}{{ $name }} in [{{ range $i, $each := $names }}{{ if $i }}, {{ end }}{{ squote $each }}{{ end }}])
{{- end }}

{{/*
Whether the requester administers the platform. Asked of the authorizer, not of a list of groups, so that it follows
RBAC: cluster-admin, allotment-platform-admin, and whoever else was given the verb on all tenants.
*/}}
{{- define "allotment.isPlatformAdmin" -}}
authorizer.group('allotment.dev').resource('tenants').check('manage').allowed()
{{- end }}
