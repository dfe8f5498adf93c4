#!/bin/sh
# Makes tasks for Label Studio of a finished run: sh docs/howto/labelstudio.sh OUT PHOTOS
set -e
out=$1 photos=$2

groundcli export "$out" --format labelstudio --merge-captions --categories head --image-prefix http://localhost:8000/

cat <<END
1. Serve the photographs, so that Label Studio's page may load them:
     npx http-server "$photos" --cors -p 8000
2. In Label Studio (pip install label-studio; label-studio start) make a project; Settings, Labeling Interface, Code:
   paste $out/labelstudio.xml
3. Import $out/labelstudio.json. Look at each task, correct its boxes, and submit it: only what is submitted counts.
4. Export as "COCO with images" ("COCO" alone renames the images), and unpack it as corrected/. Measure against what
   people say:
     groundcli eval --dataset folder --data corrected --split result
   Where corrected/images is empty (Label Studio may refuse to fetch from localhost), put corrected/result.json beside
   the photographs, and name their folder:
     groundcli eval --dataset folder --data "$photos" --split result
END
