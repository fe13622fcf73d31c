{{/*
Rules on a pod's spec that depend on the tenant, for pods (admission/tenant-pods.yaml) and for what makes pods
(admission/tenant-workloads.yaml): a pod refused inside a controller shows only as an event there, so the template is
checked as well, where the user sees the message. Both define the variables `pod` (a PodSpec) and `annotations`.
*/}}
{{- define "allotment.podRules.variables" -}}
# Every image the pod would pull, volumes from images included.
- name: images
  expression: >-
    variables.pod.containers.map(c, c.?image.orValue(''))
    + variables.pod.?initContainers.orValue([]).map(c, c.?image.orValue(''))
    + variables.pod.?ephemeralContainers.orValue([]).map(c, c.?image.orValue(''))
    + variables.pod.?volumes.orValue([]).filter(v, has(v.image)).map(v, v.image.?reference.orValue(''))
- name: registries
  expression: params.spec.?allowedRegistries.orValue([])
# A prefix ends at a border of the name: registry.bank/retail admits registry.bank/retail/app and
# registry.bank/retail:1, not registry.bank/retail-evil/app; registry.bank admits no other port of that host.
- name: foreignImages
  expression: >-
    variables.registries.size() == 0 ? [] :
    variables.images.filter(i, !variables.registries.exists(p,
      i.startsWith(p.endsWith('/') ? p : p + '/')
      || i == p
      || (p.contains('/') && (i.startsWith(p + ':') || i.startsWith(p + '@')))))
# Kubernetes' own tolerations: those that every pod gets, and those that the DaemonSet controller adds.
- name: foreignTolerations
  expression: >-
    variables.pod.?tolerations.orValue([]).filter(t,
      !(t.?key.orValue('') in params.spec.?allowedTolerationKeys.orValue([]))
      && !(t.?key.orValue('') in ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']
           && t.?effect.orValue('') == 'NoExecute')
      && t.?key.orValue('') != 'node.kubernetes.io/memory-pressure'
      && !(request.userInfo.username == 'system:serviceaccount:kube-system:daemon-set-controller'
           && t.?key.orValue('').startsWith('node.kubernetes.io/')))
    .map(t, t.?key.orValue('') == '' ? '(every taint)' : t.key)
- name: maxRuntime
  expression: params.spec.?maxRuntimeSeconds.orValue(0)
- name: declaredRuntime
  expression: variables.annotations[?'allotment.dev/max-runtime'].orValue('')
{{- end }}

{{- define "allotment.podRules.validations" -}}
- expression: variables.foreignImages.size() == 0
  messageExpression: >-
    'tenant ' + params.spec.tenant + ' may not pull ' + variables.foreignImages.join(', ')
    + ': use an image whose name begins with ' + variables.registries.join(' or ')
    + ' (names without a registry do not count), or ask a platform admin to extend the tenant\'s policy.allowedRegistries'
- expression: variables.foreignTolerations.size() == 0
  messageExpression: >-
    'tenant ' + params.spec.tenant + ' may not tolerate ' + variables.foreignTolerations.join(', ')
    + ': remove the toleration'
    + (params.spec.?allowedTolerationKeys.orValue([]).size() == 0 ? '' : ', or use one of ' + params.spec.allowedTolerationKeys.join(', '))
    + '; the scheduler keeps the tenant\'s pods on its own node pools'
- expression: >-
    variables.maxRuntime == 0 || !variables.declaredRuntime.matches('^[1-9][0-9]{0,8}$')
    || int(variables.declaredRuntime) <= variables.maxRuntime
  messageExpression: >-
    'tenant ' + params.spec.tenant + ' allows runs of at most ' + string(variables.maxRuntime)
    + ' seconds: lower the annotation allotment.dev/max-runtime, which is ' + variables.declaredRuntime
- expression: variables.maxRuntime == 0 || variables.pod.?activeDeadlineSeconds.orValue(1) <= variables.maxRuntime
  messageExpression: >-
    'tenant ' + params.spec.tenant + ' allows runs of at most ' + string(variables.maxRuntime)
    + ' seconds: lower activeDeadlineSeconds, which is ' + string(variables.pod.activeDeadlineSeconds)
# So long a pod keeps its room after it was evicted. A pod that is there already cannot change it any more.
- expression: >-
    (request.kind.kind == 'Pod' && request.operation == 'UPDATE')
    || variables.pod.?terminationGracePeriodSeconds.orValue(30) <= {{ include "allotment.longestGrace" . }}
  messageExpression: >-
    'pods of a tenant have at most {{ include "allotment.longestGrace" . }} seconds to end: lower terminationGracePeriodSeconds, which is '
    + string(variables.pod.terminationGracePeriodSeconds)
{{- end }}

{{/* Seconds that a tenant's pod may take to end. Written as an integer: helm reads numbers as floats. */}}
{{- define "allotment.longestGrace" -}}
{{ int64 (.Values.admission.maxTerminationGracePeriodSeconds | default 3600) }}
{{- end }}

{{/* What Allotment's own labels and annotations may say; needs the variables `labels` and `annotations`. */}}
{{- define "allotment.claimRules.validations" -}}
- expression: variables.labels[?'allotment.dev/preemptible'].orValue('true') in ['true', 'false']
  messageExpression: >-
    'the label allotment.dev/preemptible must be "true" or "false", not "' + variables.labels['allotment.dev/preemptible'] + '"'
- expression: variables.annotations[?'allotment.dev/max-runtime'].orValue('1').matches('^[1-9][0-9]{0,8}$')
  messageExpression: >-
    'the annotation allotment.dev/max-runtime must be a whole number of seconds, at least 1, such as "3600"; it is "'
    + variables.annotations['allotment.dev/max-runtime'] + '"'
- expression: variables.labels[?'allotment.dev/pod-group'].orValue('x') != ''
  message: the label allotment.dev/pod-group must name a PodGroup of the same namespace; remove it or give a name
- expression: >-
    variables.annotations[?'allotment.dev/checkpointed-at'].orValue('2000-01-01T00:00:00Z')
    .matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$')
  messageExpression: >-
    'the annotation allotment.dev/checkpointed-at must be a time such as "2026-01-31T12:00:00Z"; it is "'
    + variables.annotations['allotment.dev/checkpointed-at'] + '"'
{{- end }}
