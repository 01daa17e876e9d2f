"""Against what nodes of these machines were seen to have."""

from __future__ import annotations

import pytest

from stint.catalogue.reserved import allocatable


@pytest.mark.parametrize(
    ("provider", "vcpu", "memory_gib", "cpu"),
    [
        ("aws", 96, 1152, 95.69),  # p4d.24xlarge on EKS: 95690m
        ("aws", 192, 2048, 191.45),  # p5.48xlarge on EKS: 191450m
        ("aws", 8, 32, 7.91),  # g5.2xlarge on EKS: 7910m
        ("gcp", 12, 85, 11.90),  # a2-highgpu-1g on GKE
        ("azure", 64, 432, 63.26),
        ("azure", 96, 900, 94.94),
        ("azure", 24, 220, 23.66),
        ("azure", 1, 4, 0.94),
    ],
)
def test_cpu_is_what_the_providers_formula_leaves(provider, vcpu, memory_gib, cpu):
    assert allocatable(provider, vcpu, memory_gib)[0] == pytest.approx(cpu, abs=0.011)


def test_memory_is_never_more_than_a_real_node_has():
    # p4d.24xlarge on EKS was seen with 1,118 GiB; a2-highgpu-1g on GKE with about 77 GiB
    assert 1100 < allocatable("aws", 96, 1152)[1] < 1118
    assert 72 < allocatable("gcp", 12, 85)[1] < 77.5
    assert allocatable("azure", 96, 900)[1] == pytest.approx(873 - 4.7 - 0.1, abs=0.1)


def test_elsewhere_a_part_is_set_aside_and_nothing_is_less_than_nothing():
    assert allocatable("oci", 100, 100) == pytest.approx((97, 94))
    assert allocatable("aws", 0, 0) == (0, 0)
