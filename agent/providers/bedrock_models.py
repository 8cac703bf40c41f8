"""Names of models in Bedrock: ids of models, ids of inference profiles, ARNs; and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Inference profiles carry the geography they stay in before the model's id; which fit, the region says.
_PROFILES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("us-gov-", ("us-gov",)),
    ("us-", ("us", "global")),
    ("ca-", ("us", "ca", "global")),
    ("eu-", ("eu", "global")),
    ("ap-northeast-1", ("apac", "jp", "global")),
    ("ap-northeast-3", ("apac", "jp", "global")),
    ("ap-southeast-2", ("apac", "au", "global")),
    ("ap-southeast-4", ("apac", "au", "global")),
    ("ap-", ("apac", "global")),
)
_GEOGRAPHIES = frozenset(each for _, prefixes in _PROFILES for each in prefixes)
_ARN = re.compile(
    r"arn:aws[a-z-]*:(bedrock|sagemaker):(?P<region>[a-z0-9-]*):(?P<account>\d*):(?P<kind>[a-z-]+)/(?P<id>.+)"
)
_CALLABLE = (
    "foundation-model",
    "inference-profile",
    "application-inference-profile",
    "provisioned-model",
    "imported-model",
    "custom-model-deployment",
    "default-prompt-router",
    "prompt-router",
    "endpoint",
)
_CONTEXT_SIZE = re.compile(r":\d+k$")
_ABOUT_THE_MODEL = (
    "model identifier",
    "on-demand throughput",
    "inference profile",
    "foundation model",
    "model version",
    "model arn",
)


def is_about_the_model(words: str) -> bool:
    """Whether a refusal in these words is one of the model's name."""
    return any(part in words.lower() for part in _ABOUT_THE_MODEL)


def profiles(model: str, region: str) -> list[str]:
    """The ids of inference profiles that would hold this model in this region, likeliest first."""
    bare = _bare(model)
    return [f"{prefix}.{bare}" for prefix in _prefixes(region)]


def what_to_do(model: str, region: str, words: str = "") -> str:
    """How to mend a model's name that Bedrock refuses with these words; a sentence without its subject."""
    if found := _ARN.fullmatch(model):
        return _of_arn(found, region)
    if model.startswith("arn:"):
        return "write the whole ARN, such as arn:aws:bedrock:<region>:<account>:inference-profile/<id>"
    if model != model.strip() or " " in model:
        return "take the blanks out of it"
    if "/" in model:
        return f"write the id alone ({model.rpartition('/')[2]}) or the whole ARN"
    if _CONTEXT_SIZE.search(model):
        return f"write {_bare(model)}; ids with a context size are those of provisioned throughput"
    prefix = model.partition(".")[0]
    if prefix in _GEOGRAPHIES and prefix not in _prefixes(region):
        return f"in {region} use {_either(profiles(model, region))}, or call a region of {prefix}"
    if "on-demand" in words.lower() or "inference profile" in words.lower():
        return f"use an inference profile: {_either(profiles(model, region))}"
    if "." not in model:
        return "begin it with the provider, such as anthropic. or amazon."
    return f"write it as Bedrock lists it in {region}{_with_version(model)}"


def _of_arn(arn: re.Match[str], region: str) -> str:
    kind, model = arn["kind"], arn["id"]
    if kind not in _CALLABLE:
        return f"it is the ARN of a {kind}; use that of a model, an inference profile or a deployment"
    if arn["region"] not in ("", region):
        return f"it is an ARN of {arn['region']}, and requests go to {region}; set the region to {arn['region']}"
    if kind == "foundation-model":
        return f"use the ARN or the id of an inference profile: {_either(profiles(model, region))}"
    if not arn["account"]:
        return f"write the account into the ARN, or the id alone ({model})"
    return f"check that the {kind} exists in {region} and is ready"


def _bare(model: str) -> str:
    """The model's own id."""
    bare = _CONTEXT_SIZE.sub("", model.rpartition("/")[2].strip())
    prefix, dot, rest = bare.partition(".")
    return rest if dot and prefix in _GEOGRAPHIES else bare


def _prefixes(region: str) -> Sequence[str]:
    return next((prefixes for start, prefixes in _PROFILES if region.startswith(start)), ("global",))


def _with_version(model: str) -> str:
    """The version that the id seems to lack."""
    if re.search(r"-v\d+:0$", model):
        return ""
    if re.search(r":\d+$", model):
        return f", perhaps {model.rpartition(':')[0]}:0"
    whole = model if re.search(r"-v\d+$", model) else f"{model.removesuffix('-latest')}-v1"
    return f", with its version, perhaps {whole}:0"


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)
