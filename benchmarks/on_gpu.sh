#!/usr/bin/env bash
# Trains a world model on a machine with a GPU that has no network, and brings it back.
#
#   here    benchmarks/on_gpu.sh pack [MODEL ...]
#           Gathers in .gpu/ what that machine lacks: wheels, and the runs of MODELs that go on there.
#   there   OUT=FOLDER benchmarks/on_gpu.sh train MODEL [OPTION ...] [-- OPTION OF aime-gym train ...]
#           Makes the data, trains until the time is over, and leaves in OUT what comes back.
#   there   OUT=FOLDER benchmarks/on_gpu.sh measure
#           Tests captured updates, and measures those of phase 1 and 2: JSON files in OUT.
#   here    benchmarks/on_gpu.sh collect FOLDER
#           Puts what came back into runs/MODEL, and the model into runs/MODEL/MODEL.
#
# The same `train` again goes on from the last checkpoint: there, or after `collect` and `pack`.
# Models: walker-mix-mdp walker-mix-lpomdp cheetah-mix-mdp cheetah-mix-lpomdp.
#
# Options of train:
#   --minutes M   for everything: data, training, result; 9 unless given
#   --updates N   gradient updates in all, over which the learning rate falls; 50000 unless given
#   --rows N      rows of the data, about; those of `aime-gym datasets make` unless given
#   --device D    auto, cuda or cpu
#   --prepare     only installs the wheels, tests captured updates, and makes the data
#
# Paths are relative to the repository. The environment variables GPU (.gpu), RUNS (runs) and PYTHON
# name other places, TRAVEL (64) another limit of the MiB that go there in one call.

set -euo pipefail
cd "$(dirname "$0")/.."

GPU=${GPU:-.gpu}
RUNS=${RUNS:-runs}
RESERVE=${RESERVE:-45} # Seconds of the time that writing and copying the result may take.
MODELS="walker-mix-mdp walker-mix-lpomdp cheetah-mix-mdp cheetah-mix-lpomdp"
TRAVEL=${TRAVEL:-64}   # MiB that go there in one call, the repository's files included.
BACK=64                # MiB that come back from one call,
FILES=8                # in so many files,
PART=15                # each of so many MiB at most.
TARGET=3.12            # Python there.
# What an image of PyTorch lacks; no pictures are drawn there, so nothing of OpenGL.
WHEELS="dm_control dm-env dm-tree docstring_parser Farama-Notifications glfw gymnasium mujoco
    Shimmy stable_baselines3 typeguard tyro"
MAIN='import sys; from aime_gym.cli import main; sys.exit(main())' # The command aime-gym.
RUN_FILES="config.json progress.csv checkpoint.zip"

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

say() { printf 'on_gpu: %s\n' "$*"; }

fail() {
    printf 'on_gpu: %s\n' "$*" >&2
    exit 2
}

check_model() {
    case " $MODELS " in
        *" $1 "*) ;;
        *) fail "there is no recipe for '$1'; there are: $MODELS." ;;
    esac
}

aime_gym() { "$PYTHON" -c "$MAIN" "$@"; }

updates_of() { # Updates that a checkpoint has had.
    "$PYTHON" -c 'import json, sys, zipfile
print(json.loads(zipfile.ZipFile(sys.argv[1]).read("counters.json"))["num_timesteps"])' "$1"
}

MIB=1048576
bytes() { # Of all files under the given paths that are there.
    { find "$@" -type f -printf '%s\n' 2>/dev/null || true; } | awk '{ s += $1 } END { print s + 0 }'
}

mib() { awk -v bytes="$1" -v mib="$MIB" 'BEGIN { printf "%.1f", bytes / mib }'; }

# pack

tree_bytes() { # Of what the repository itself sends: all files that git does not ignore.
    git ls-files -z --cached --others --exclude-standard |
        { xargs -0 -r stat -c %s 2>/dev/null || true; } | awk '{ s += $1 } END { print s + 0 }'
}

get_wheels() {
    local pins name
    pins=()
    for name in $WHEELS; do
        pins+=("$(grep -i "^$name==" constraints.txt)") || fail "constraints.txt has no $name."
    done
    rm -rf "$GPU/wheels"
    "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --python-version "$TARGET" --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --platform manylinux1_x86_64 --dest "$GPU/wheels" "${pins[@]}"
    slim_wheels "$GPU"/wheels/*.whl
}

slim_wheels() { # Leaves out what is not used there: 80 MiB become about 11.
    "$PYTHON" - "$@" <<'PYTHON'
import os
import sys
import zipfile

VIEWERS = ("/experimental/", "/include/", "/mjx/", "_simulate.", "_render_filament.")


def needed(name):
    if name.startswith("dm_control/"):  # Not the meshes and pictures of other bodies.
        return name.endswith((".py", ".xml"))
    return not (name.startswith("mujoco/") and any(part in name for part in VIEWERS))


for path in sys.argv[1:]:
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(path + ".slim", "w") as slim:
        for entry in whole.infolist():
            if needed(entry.filename):
                slim.writestr(entry, whole.read(entry), zipfile.ZIP_DEFLATED)
    os.replace(path + ".slim", path)
PYTHON
}

pack() {
    local model name tree wheels going limit
    rm -rf "$GPU/runs"
    for model in "$@"; do
        check_model "$model"
        [ -f "$RUNS/$model/checkpoint.zip" ] || fail "$RUNS/$model has no checkpoint to go on from."
        mkdir -p "$GPU/runs/$model"
        for name in $RUN_FILES; do cp "$RUNS/$model/$name" "$GPU/runs/$model/"; done
    done
    get_wheels
    tree=$(tree_bytes) wheels=$(bytes "$GPU/wheels") going=$(bytes "$GPU/runs")
    limit=$((TRAVEL * MIB))
    say "$(mib "$tree") MiB of the repository, $(mib "$wheels") of $GPU/wheels and $(mib "$going")" \
        "of $GPU/runs are to travel."
    if [ $((tree + wheels)) -gt "$limit" ] || [ $((tree + going)) -gt "$limit" ]; then
        fail "this is more than $TRAVEL MiB: start anew there, or make the repository smaller."
    elif [ $((tree + wheels + going)) -gt "$limit" ]; then
        say "together more than $TRAVEL MiB: send $GPU/wheels first, with train MODEL --prepare, and" \
            "then, while the machine is held, $GPU/runs with train MODEL."
    fi
}

# train

install_wheels() { # Beside the packages that are there, and none of these is replaced by its needs.
    local site="$GPU/site" version
    if [ ! -d "$site" ] && ls "$GPU"/wheels/*.whl >/dev/null 2>&1; then
        say "installing the wheels"
        "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
            --target "$site" "$GPU"/wheels/*.whl
        version=$(sed -n 's/^version = //p' setup.cfg) # Cards say it; the package runs from here.
        mkdir -p "$site/aime_gym-$version.dist-info"
        printf 'Metadata-Version: 2.1\nName: aime-gym\nVersion: %s\n' "$version" \
            >"$site/aime_gym-$version.dist-info/METADATA"
    fi
    if [ -d "$site" ]; then export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"; fi
}

make_data() { # Data and rows.
    local folder="$AIME_GYM_CACHE/datasets/$1"
    if [ -f "$folder/card.json" ]; then return; fi
    say "making $1"
    rm -rf "$folder" # What an interruption left.
    aime_gym datasets make "$1" ${2:+--rows "$2"}
}

run_for() { # Seconds and the command. A signal ends the command, and not this script.
    local code=0 child stopped=""
    timeout --kill-after=15 "$1" "$PYTHON" -c "$MAIN" "${@:2}" &
    child=$!
    trap 'stopped=1; kill -TERM "$child" 2>/dev/null || true' INT TERM
    wait "$child" || code=$?
    while [ -n "$stopped" ]; do # A signal interrupted the wait, not the command.
        stopped="" code=0
        wait "$child" || code=$?
    done
    trap - INT TERM
    return "$code"
}

train() {
    local model minutes=9 updates=50000 rows="" device=auto prepare="" data run seconds
    [ $# -gt 0 ] || fail "train needs a MODEL: $MODELS."
    model=$1 && shift
    check_model "$model"
    while [ $# -gt 0 ]; do
        case $1 in
            --) shift && break ;;
            --prepare) prepare=1 && shift && continue ;;
            --minutes | --updates | --rows | --device) ;;
            *) fail "train has no option '$1'; options of aime-gym train come after --." ;;
        esac
        [ $# -gt 1 ] || fail "$1 needs a value."
        printf -v "${1#--}" %s "$2"
        shift 2
    done
    [ -n "${OUT:-}${prepare}" ] || fail "OUT names the folder for what comes back; it is not set."
    case $GPU in /*) ;; *) GPU="$PWD/$GPU" ;; esac
    data=${model%-*} run="$GPU/runs/$model"
    export AIME_GYM_CACHE="$GPU/cache" MUJOCO_GL="${MUJOCO_GL:-disabled}" PYTHONUNBUFFERED=1
    install_wheels
    if [ -n "$prepare" ]; then
        test_captured || say "captured updates fail here: AIME_GYM_CUDA_GRAPHS=0 does without."
    fi
    make_data "$data" "$rows"
    if [ -n "$prepare" ]; then return; fi
    seconds=$(awk -v m="$minutes" "BEGIN { print int(60 * m) - $SECONDS - $RESERVE }")
    learn "$run" "$seconds" train world-model \
        --env "AIME/${model%%-*}-run-${model##*-}" --dataset "$data" --name "$model" \
        --folder "$run" --device "$device" --checkpoint-interval 2000 \
        --batch-size 50 --sequence-length 50 \
        --total-timesteps "$updates" --decay-timesteps "$updates" "$@"
    deliver "$model" "$run"
}

learn() { # The run folder, seconds, and the command: trains, and writes the model as far as it came.
    local run=$1 seconds=$2 code=124 count
    shift 2
    if [ "$seconds" -gt 0 ]; then
        say "training for at most $seconds s"
        code=0
        run_for "$seconds" "$@" || code=$?
    fi
    case $code in
        0) return ;;
        124 | 137 | 143) ;;
        *) fail "training failed with exit code $code; AIME_GYM_CUDA_GRAPHS=0 trains without graphs." ;;
    esac
    [ -f "$run/checkpoint.zip" ] || fail "the time was over before the first checkpoint."
    count=$(updates_of "$run/checkpoint.zip")
    say "stopped; the last checkpoint is that of update $count"
    aime_gym "$@" --total-timesteps "$count" # Nothing is left to learn: this writes the result.
}

deliver() { # Model and run folder: leaves in OUT the result, and the run where it fits.
    local target="$OUT/$1" files
    rm -rf "$target"
    mkdir -p "$target"
    cp "$2/$1/model.zip" "$2/$1/card.json" "$2/progress.csv" "$target"
    # shellcheck disable=SC2086
    tar -C "$2" -cf - $RUN_FILES | split -b "${PART}m" - "$target/run.tar."
    files=$(find "$OUT" -type f | wc -l)
    if [ "$files" -gt "$FILES" ] || [ "$(bytes "$OUT")" -gt $((BACK * MIB)) ]; then
        rm -f "$target"/run.tar.*
        say "the checkpoint of $1 is too large to come back with the result: it goes on there alone."
    fi
    say "$target has $(mib "$(bytes "$target")") MiB; benchmarks/on_gpu.sh collect puts it in its place."
}

# measure

test_captured() {
    "$PYTHON" -m pytest -q -p no:cacheprovider tests/agents/test_captured.py
}

measure() {
    [ -n "${OUT:-}" ] || fail "OUT names the folder for what comes back; it is not set."
    case $GPU in /*) ;; *) GPU="$PWD/$GPU" ;; esac
    export MUJOCO_GL="${MUJOCO_GL:-disabled}" PYTHONUNBUFFERED=1
    install_wheels
    export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
    mkdir -p "$OUT"
    test_captured || fail "captured updates fail here, so nothing is measured."
    say "measuring updates beside the plain ones"
    "$PYTHON" benchmarks/updates.py --device cuda --rounds 3 --out "$OUT/updates-cuda.json"
    say "measuring agents that learn together"
    "$PYTHON" benchmarks/together.py --device cuda --rounds 3 --out "$OUT/together-cuda.json"
}

# collect

collect() {
    local folder=${1:-} card model
    [ -n "$folder" ] || fail "collect needs the folder with what came back."
    for card in "$folder"/*/card.json; do
        [ -f "$card" ] || fail "$folder has no MODEL/card.json: is it the folder that OUT named?"
        model=$(basename "$(dirname "$card")")
        check_model "$model"
        join "$folder/$model" "$RUNS/$model"
        mkdir -p "$RUNS/$model/$model"
        cp "$folder/$model/model.zip" "$folder/$model/card.json" "$RUNS/$model/$model/"
        say "the model is in $RUNS/$model/$model."
    done
}

join() { # What came back, and the run folder: puts the checkpoint there, unless it has a later one.
    local arriving="$2.arriving" before after
    if ! ls "$1"/run.tar.* >/dev/null 2>&1; then return; fi
    rm -rf "$arriving"
    mkdir -p "$arriving" "$2"
    cat "$1"/run.tar.* | tar -C "$arriving" -xf -
    after=$(updates_of "$arriving/checkpoint.zip")
    if [ -f "$2/checkpoint.zip" ]; then
        cmp -s "$2/config.json" "$arriving/config.json" ||
            fail "$2 has a run of another configuration; move it away first ($arriving came back)."
        before=$(updates_of "$2/checkpoint.zip")
        [ "$before" -le "$after" ] ||
            fail "$2 has $before updates, and what came back $after; move it away first."
    fi
    mv "$arriving"/* "$2/"
    rmdir "$arriving"
    rm -f "$2/final.zip" # The end of a shorter run.
    say "$2 goes on from update $after."
}

case ${1:-} in
    pack | train | measure | collect) "$@" ;;
    *) fail "the first word is pack, train, measure or collect; the head of $0 explains them." ;;
esac
