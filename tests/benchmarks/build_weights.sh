#!/usr/bin/env bash
# Makes the shipped weights, and the figures of the model card's two tables of accuracy, out of recordings. The commands of its other
# tables stand in the card.
# What is done is kept, and the same command goes on from there.
#
# usage: tests/benchmarks/build_weights.sh DATA OUT [PEERS.npz ...]
#
# DATA holds manifest.csv and phrases.csv; PEERS are vectors of other networks (mird evaluate --peers). Needs mird[train],
# fluidsynth, espeak-ng, flite and npm; downloads 2.2 GB of packages with apt-get and npm and installs none of them. Trains two
# encoders at a time, a core each. OUT/run-default-0/encoder-int8.onnx is the one that is shipped.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 DATA OUT [PEERS.npz ...]" >&2; exit 2; }
data=$(realpath "$1") peers=()
for file in "${@:3}"; do
    peers+=(--peers "$(realpath "$file")")
done
benchmarks=$(realpath "$(dirname "$0")")
mkdir -p "$2"
cd "$2"

mkdir -p soundfonts
for package in fluid-soundfont-gm musescore-general-soundfont minuet-data; do
    [ -d soundfonts/$package ] && continue
    (cd soundfonts && apt-get download --quiet $package)
    dpkg --extract soundfonts/${package}_*.deb soundfonts/$package.partial
    mv soundfonts/$package.partial soundfonts/$package
    rm soundfonts/${package}_*.deb
done
[ -d speech ] || { "$benchmarks/speech_folders.sh" speech.partial && mv speech.partial speech; }
[ -f more/manifest.csv ] || python "$benchmarks/more_recordings.py" more
fonts=soundfonts/*/usr/share
[ -f rendered/manifest.csv ] || mird render $fonts/sounds/sf2/FluidR3_GM.sf2 $fonts/sounds/sf3/MuseScore_General_Full.sf3 --out rendered
[ -f rendered3/manifest.csv ] || mird render $fonts/minuet/soundfonts/GeneralUser-v1.47.sf2 --seed 2 --out rendered3
[ -f others/manifest.csv ] || mird render --no-instruments speech/people/* --seconds 200 --out others

train() {
    [ -f "run-$1-$2/encoder-int8.onnx" ] && return
    OMP_NUM_THREADS=1 mird train "$data/manifest.csv" more/manifest.csv --rendered rendered/manifest.csv \
        --rendered rendered3/manifest.csv --rendered others/manifest.csv --recipe "$1" --seed "$2" --name light --cache cache --resume --out "run-$1-$2"
}
export -f train
export data
printf '%s\n' default\ {0,1,2} holdout\ {0,1,2} | xargs --max-procs 2 --max-lines=1 bash -c 'set -eu; train "$@"' bash

weights=()
for seed in 0 1 2; do
    weights+=(--weights "default=run-default-$seed/encoder-int8.onnx" --weights "holdout=run-holdout-$seed/encoder-int8.onnx")
done
mird evaluate "$data" --suite standard --episodes 600 "${peers[@]}" "${weights[@]}" --out report
mird classes build "$data/manifest.csv" rendered/manifest.csv --leave-out vsco2,vcsl --engine run-default-0/encoder-int8.onnx \
    --only accordion,banjo,bass-drum,bass-electric,bassoon,cello,choir,clarinet,double-bass,electric-piano,english-horn,flute,french-horn,glockenspiel,guitar,guitar-electric,guitar-electric-distorted,harp,mandolin,marimba,oboe,organ,pan-flute,piano,piccolo,recorder,saxophone-alto,saxophone-baritone,saxophone-soprano,saxophone-tenor,snare-drum,timpani,trombone,trumpet,tuba,vibraphone,viola,violin,voice,xylophone \
    --out default.mird
