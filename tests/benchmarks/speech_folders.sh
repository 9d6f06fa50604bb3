#!/usr/bin/env bash
# Lays out recorded speech of Debian packages: FOLDER/people, one folder for each speaker or language, which the shipped
# encoder was trained against, and beside it the folders of other speakers that false_events.py listens to.
#
# usage: tests/benchmarks/speech_folders.sh FOLDER
#
#   mird render --no-instruments FOLDER/people/* --seconds 200 --out others
#   cd FOLDER && python .../false_events.py --prompts asterisk-en klettres-test tuxpaint-test hedgewars-test games-test
#
# Downloads 1.4 GB with apt-get and installs nothing. The licences stand in the model card.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1/packages" "$1/people"
cd "$1"

packages=(asterisk-core-sounds-{en,fr,it,ru}-wav festvox-ru tuxpaint-stamps-default hedgewars-data gcin-voice
    klettres-data 0ad-data warzone2100-data)
for package in "${packages[@]}"; do
    [ -d "packages/$package" ] && continue
    (cd packages && apt-get download --quiet "$package")
    dpkg --extract packages/"$package"_*.deb packages/"$package.partial"
    mv packages/"$package.partial" packages/"$package"
    rm packages/"$package"_*.deb
done

# gather FOLDER DEPTH: copies the files named on standard input there, each under the last DEPTH parts of its path.
gather() {
    local file
    mkdir -p "$1"
    while read -r file; do
        cp "$file" "$1/$(rev <<<"$file" | cut --delimiter / --fields "1-$2" | rev | tr / _)"
    done
}

for language in fr it ru; do
    # Tones and a monkey are no speech.
    find packages/asterisk-core-sounds-$language-wav -name '*.wav' -not -path '*/silence/*' |
        grep -Ev '/(ascending-2tone|beep|beeperr|descending-2tone|tt-monkeys)\.wav$' | gather people/asterisk-$language 2
done
find packages/asterisk-core-sounds-en-wav -name '*.wav' | gather asterisk-en 1

find packages/festvox-ru -name '*.wav' | gather people/festvox-ru 1
for speaker in 3 5; do
    find packages/gcin-voice -name $speaker.ogg | gather people/gcin-$speaker 2
done

voices=packages/hedgewars-data/usr/share/games/hedgewars/Data/Sounds/voices
for voice in Classic Default Default_{es,pl,ru,uk} Russian{,_pl} Surfer; do
    find $voices/$voice -name '*.ogg' | gather people/hedgewars-$voice 1
done
for voice in British Mobster HillBilly Pirate; do
    find $voices/$voice -name '*.ogg' | gather hedgewars-test 2
done

for language in ar da fr he hu ml nb tn uk; do
    find packages/klettres-data/usr/share/klettres/$language -name '*.ogg' | gather people/klettres-$language 2
done
for language in cs de en en_GB es it lt nds nl pt_BR ru; do
    find packages/klettres-data/usr/share/klettres/$language -name '*.ogg' | gather klettres-test 3
done

for language in be bg ca fr lt nl ro ru; do
    find packages/tuxpaint-stamps-default -name "*_$language.ogg" | gather people/tuxpaint-$language 2
done
# Of these there are the numbers from zero to nine, too little for a folder each.
for language in de it ja ko ml nb nn pt sl sv tw; do
    find packages/tuxpaint-stamps-default -name "*_$language.ogg" | gather people/tuxpaint-numbers 1
done
for language in es el da; do
    find packages/tuxpaint-stamps-default -name "*_$language.ogg" | gather tuxpaint-test 2
done

# Both games keep their sounds in archives.
python3 - packages games-test <<'PYTHON'
import re
import sys
from pathlib import Path
from zipfile import ZipFile

packages, out = map(Path, sys.argv[1:])
out.mkdir(exist_ok=True)
wanted = re.compile(r"audio/voice/[^/]+/civ/.*\.ogg|.*audio/(sfx/)?(tutorial|memressp|countdown|vtoltalk|taunts|coltive)/.*\.ogg")
for archive in [*packages.glob("0ad-data/**/public.zip"), *packages.glob("warzone2100-data/**/*.wz")]:
    with ZipFile(archive) as sounds:
        for name in filter(wanted.fullmatch, sounds.namelist()):
            (out / f"{archive.stem}_{name.replace('/', '_')}").write_bytes(sounds.read(name))
PYTHON
for folder in people/* asterisk-en *-test; do
    echo "$(find "$folder" -type f | wc -l) files in $folder"
done
