#!/bin/sh
# Annotates a folder of photographs with captions beside them: sh docs/howto/annotate.sh [PHOTOS] [OUT]
set -e
photos=${1:-examples/photos} out=${2:-out}

# What would be done, and how long it takes; then the work. The same command goes on after an interruption.
groundcli annotate "$photos" --out "$out" --dry-run
groundcli annotate "$photos" --out "$out"

# Look at $out/report.html and $out/overlays. Other formats need no model and no second run.
groundcli export "$out" --format csv --format yolo --merge-captions
head -n 3 "$out/phrases.csv"
