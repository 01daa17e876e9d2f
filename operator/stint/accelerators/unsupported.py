"""Accelerators that are known by the resource that counts them, and that Stint does not place jobs on yet."""

from __future__ import annotations

UNSUPPORTED: dict[str, str] = {
    "google.com/tpu": "Google TPUs",
    "aws.amazon.com/neuron": "AWS Trainium or Inferentia",
    "aws.amazon.com/neuroncore": "AWS Trainium or Inferentia",
    "aws.amazon.com/neurondevice": "AWS Trainium or Inferentia",
    "gpu.intel.com/i915": "Intel GPUs",
    "gpu.intel.com/xe": "Intel GPUs",
    "huawei.com/Ascend910": "Huawei Ascend",
    "qualcomm.com/qaic": "Qualcomm Cloud AI",
}
