"""Which requests an API server notes, so that tests can count what was written, and see what the operator asks for."""

AUDIT_POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, verbs: [create, update, patch, delete]}
  - {level: Metadata, users: ["system:serviceaccount:stint-system:stint"]}
  - {level: None}
"""
