{{- /* What holds pods back: "v1" or "v1beta1" of MutatingAdmissionPolicy, or "webhook". */ -}}
{{- define "stint.gate" -}}
{{- $api := "admissionregistration.k8s.io" -}}
{{- if eq .Values.steering.gate "webhook" -}}
webhook
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1/MutatingAdmissionPolicy" $api) -}}
v1
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1beta1/MutatingAdmissionPolicy" $api) -}}
v1beta1
{{- else if eq .Values.steering.gate "policy" -}}
{{- fail "steering.gate is policy, and the cluster serves no MutatingAdmissionPolicy (Kubernetes 1.36, or 1.34 with its feature gate); set it to auto or webhook" -}}
{{- else -}}
webhook
{{- end -}}
{{- end }}
{{- /* Something where the operator itself serves the webhook. */ -}}
{{- define "stint.serves-gate" -}}
{{- if and .Values.steering.enabled (eq (include "stint.gate" .) "webhook") -}}yes{{- end -}}
{{- end }}
{{- /* CEL: the JSON patch that labels one template. Given its value and its path, both as CEL. */ -}}
{{- define "stint.labels-template" -}}
{{- $t := index . 0 -}}{{- $p := index . 1 -}}
!has({{ $t }}.metadata) ?
  JSONPatch{op: "add", path: {{ $p }} + "/metadata", value: {"labels": {"stint.dev/managed": "true"}}} :
!has({{ $t }}.metadata.labels) ?
  JSONPatch{op: "add", path: {{ $p }} + "/metadata/labels", value: {"stint.dev/managed": "true"}} :
  JSONPatch{op: "add", path: {{ $p }} + "/metadata/labels/stint.dev~1managed",
    value: "stint.dev/managed" in {{ $t }}.metadata.labels ? {{ $t }}.metadata.labels["stint.dev/managed"] : "true"}
{{- end }}
{{- /* One kind whose templates are labelled as it is itself. Given: the root, name, group, version, plural, expression. */ -}}
{{- define "stint.label-policy" -}}
{{- $root := .root }}
---
apiVersion: admissionregistration.k8s.io/{{ .api }}
kind: MutatingAdmissionPolicy
metadata:
  name: {{ include "stint.fullname" $root }}-labels-{{ .plural }}
  labels: {{- include "stint.labels" $root | nindent 4 }}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    namespaceSelector: {matchLabels: {stint.dev/managed: "true"}}
    objectSelector: {matchLabels: {stint.dev/managed: "true"}}
    resourceRules:
      - {apiGroups: [{{ .group | quote }}], apiVersions: [{{ .version }}], operations: {{ .operations }}, resources: [{{ .plural }}]}
  {{- with .condition }}
  matchConditions:
    - name: applies
      expression: {{ . | quote }}
  {{- end }}
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: |-
          {{- .expression | nindent 10 }}
---
apiVersion: admissionregistration.k8s.io/{{ .api }}
kind: MutatingAdmissionPolicyBinding
metadata:
  name: {{ include "stint.fullname" $root }}-labels-{{ .plural }}
  labels: {{- include "stint.labels" $root | nindent 4 }}
spec:
  policyName: {{ include "stint.fullname" $root }}-labels-{{ .plural }}
{{- end }}
{{- /* A TrainJob has no templates: it hands a label to the JobSet that is made for it by a patch of its runtime. */ -}}
{{- define "stint.labels-trainjob" -}}
{{- $patch := "{\"manager\": dyn(\"stint.dev/steering\"), \"trainingRuntimeSpec\": dyn({\"template\": {\"metadata\": {\"labels\": {\"stint.dev/managed\": \"true\"}}}})}" -}}
has(object.spec.runtimePatches) ?
  [JSONPatch{op: "add", path: "/spec/runtimePatches/-", value: {{ $patch }}}] :
  [JSONPatch{op: "add", path: "/spec/runtimePatches", value: [{{ $patch }}]}]
{{- end }}
