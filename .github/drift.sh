#!/usr/bin/env bash
# Compares executed notebooks with those of the last release: .github/drift.sh FOLDER REPORT [TAG]
# FOLDER holds the notebooks, REPORT is the file to write. TAG is a release that is passed over: the one
# that is being made. gh needs GH_TOKEN, with which it may read, and GITHUB_REPOSITORY.
set -euo pipefail
folder=$1
report=$2
tag=${3-}

tags=$(gh release list --repo "$GITHUB_REPOSITORY" --exclude-drafts --limit 30 --json tagName --jq '.[].tagName')
last=$(grep -m 1 -vxF -e "$tag" <<< "$tags" || true)
archive=_build/last/notebooks.tar.gz
rm -rf _build/last
mkdir -p _build/last
if [[ -z $last ]]; then
    echo "There is no earlier release to compare the numbers with." > "$report"
elif ! gh release download "$last" --repo "$GITHUB_REPOSITORY" --pattern '*-notebooks.tar.gz' --output "$archive"; then
    echo "No executed notebooks of the release $last could be had: nothing is compared." > "$report"
else
    echo "Compared with the release $last."
    "${PYTHON:-.venv/bin/python}" book/drift.py "$archive" "$folder" --output "$report"
fi
cat "$report"
