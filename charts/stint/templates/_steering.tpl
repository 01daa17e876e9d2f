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
{{- /* One kind whose templates are labelled as it is itself. Given: the root, the API's version, an entry of gate.yaml. */ -}}
{{- define "stint.label-policy" -}}
{{- $root := .root }}
---
apiVersion: admissionregistration.k8s.io/{{ .api }}
kind: MutatingAdmissionPolicy
metadata:
  name: {{ include "stint.fullname" $root }}-labels-{{ .slug }}
  labels: {{- include "stint.labels" $root | nindent 4 }}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    namespaceSelector: {matchLabels: {stint.dev/managed: "true"}}
    objectSelector: {matchLabels: {stint.dev/managed: "true"}}
    resourceRules:
      - {apiGroups: [{{ .group | quote }}], apiVersions: [{{ .version }}], operations: [{{ join ", " .operations }}], resources: [{{ .plural }}]}
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
  name: {{ include "stint.fullname" $root }}-labels-{{ .slug }}
  labels: {{- include "stint.labels" $root | nindent 4 }}
spec:
  policyName: {{ include "stint.fullname" $root }}-labels-{{ .slug }}
{{- end }}
