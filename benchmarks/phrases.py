"""Noun phrases found by groundcli against those that people marked: precision, recall and F1 of exact spans.

python benchmarks/phrases.py FLICKR30K [SPLIT]
"""

import sys
from dataclasses import replace
from pathlib import Path

from groundcli.data import flickr30k
from groundcli.data.phrases import PhraseFinder


def main() -> None:
    root, split = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "val"
    captions = [caption for sample in flickr30k.load(root, split) for caption in sample.captions]
    human = [{p.span for p in c.phrases} for c in captions]
    ours = [
        {p.span for p in c.phrases} for c in PhraseFinder().find([replace(c, phrases=()) for c in captions], "noun")
    ]
    right = sum(len(h & o) for h, o in zip(human, ours, strict=True))
    precision, recall = right / sum(map(len, ours)), right / sum(map(len, human))
    f1 = 2 * precision * recall / (precision + recall)
    print(f"{len(captions)} captions: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")


if __name__ == "__main__":
    main()
