#!/usr/bin/env bash
# Installs Phalanx into NVIDIA's PyTorch image, for Dockerfile and phalanx.def alike.
#
# The image's torch, Transformer Engine, flash-attn and Apex are built for each other and stay as they
# are: pip is held to the image's list of versions, the engines come without what they ask for, and at
# the end it is looked whether all four are the same. Where a version of the list and one that we need
# do not go together pip says so; NVIDIA's advice is to take that line out of the list.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="${PIP_CONSTRAINT-/etc/pip/constraint.txt}"
export PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

stays() {
  python3 -m pip list --format freeze | grep -iE '^(torch|triton|pytorch[-_]triton|transformer[-_]engine|flash[-_]attn|apex)==' || true
}

before=$(stays)
engines=$(grep -E '^(megatron-core|deepspeed)==' constraints.txt)
# shellcheck disable=SC2086  # two words
python3 -m pip install --no-deps --no-build-isolation $engines
python3 containers/requirements.py > /tmp/requirements.txt
python3 -m pip install --requirement /tmp/requirements.txt
# What builds our own wheel is not of the image, and no list holds for it.
PIP_CONSTRAINT='' python3 -m pip install --no-deps .

after=$(stays)
if [ "$before" != "$after" ]; then
  printf 'phalanx: pip replaced what the image had:\n%s\nby\n%s\n' "$before" "$after" >&2
  exit 1
fi
phalanx --version
