#!/bin/sh
# Learns from your photographs and their captions (a few hundred at least): sh docs/howto/finetune.sh PHOTOS [RUN]
set -e
photos=$1 run=${2:-runs/mine}

# A tenth of the images is kept aside. The last lines compare before and after on them.
groundcli finetune "$photos" --out "$run"

# With captions in a table: --captions table.csv --image-column photo --caption-column description
groundcli annotate "$photos" --weights "$run" --out "$run-annotated"

# Against boxes that somebody drew ($photos/mine.json in COCO's format), both models on the same phrases. Boxes in another
# folder, of photographs that it didn't learn from, tell best what it gained.
if [ -e "$photos/mine.json" ]; then
    groundcli eval --dataset folder --data "$photos" --split mine --weights "$run" --compare lite
fi
