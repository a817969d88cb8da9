# shellcheck shell=bash disable=SC2034  # the scripts that source this use what it sets
# What build, smoke and sizes agree on: the targets, where things lie, how to fail. Sourced, never run.

# target | rustc flags of this target alone | how to run it here | for whom
#
# thumb-mode: every armv7 has Thumb-2; the same in ARM code is 38 % larger, and no smaller when packed.
# pre-RA-sched=source: LLVM's scheduler for MIPS makes 4 % more of what packs; mips-tail-calls: half a percent.
# The qemu CPU is the weakest that the target promises to serve, so that a too new instruction shows:
# an ARM1176 (Pi Zero) has no Thumb-2, a 24KEc (MT76xx routers) no floating point unit.
TARGETS='
armv7-unknown-linux-musleabihf|-Ctarget-feature=+thumb-mode|qemu-arm-static -cpu cortex-a7|32-bit ARM routers, Raspberry Pi 2
aarch64-unknown-linux-musl||qemu-aarch64-static -cpu cortex-a53|64-bit ARM routers, Raspberry Pi 3
arm-unknown-linux-musleabihf||qemu-arm-static -cpu arm1176|Raspberry Pi Zero and 1
mipsel-unknown-linux-musl|-Cllvm-args=-pre-RA-sched=source -Cllvm-args=-mips-tail-calls|qemu-mipsel-static -cpu 24KEc|MediaTek MT7620, MT7621, MT7628 routers
x86_64-unknown-linux-musl|||PCs, virtual machines, containers
'
BUNDLES='minimal full'

# Passes of LLVM that shuffle what could stand as it was written, or keep a value in several places. Without them
# code is no larger and packs 6 % better; what README.md here measured of its speed is within the noise.
LLVM_ARGS='disable-machine-licm disable-machine-cse disable-lsr disable-post-ra grow-region-complexity-budget=0
split-spill-mode=size'

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# Tools, compiler caches and the like live outside the checkout, so that a fresh one builds quickly.
CACHE=${WARREN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warren}
# Relative paths in CARGO_TARGET_DIR mean the caller's directory, as they do for cargo.
OUT=$(realpath -m -- "${CARGO_TARGET_DIR:-$ROOT/target}")/cross

# Ends the script: `refuse` for a command line that cannot be served, `fail` for work that went wrong.
refuse() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit 2; }
fail() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit 1; }
say() { printf '%s: %s\n' "${0##*/}" "$1" >&2; }

# The names of all targets, one a line.
target_names() { printf '%s' "$TARGETS" | sed -n 's/|.*//p'; }

# Prints column $2 of target $1.
target_column() {
    local line
    line=$(printf '%s' "$TARGETS" | grep -F -- "$1|") || refuse "unknown target '$1'; see cross/build --list"
    cut -d'|' -f"$2" <<<"$line"
}

check_target() {
    target_names | grep -qxF -- "$1" || refuse "unknown target '$1'; cross/build --list names those there are"
}

check_bundle() {
    case " $BUNDLES " in *" $1 "*) return ;; esac
    case " $(full_features | sed 's/^/full-/' | tr '\n' ' ') " in *" $1 "*) return ;; esac
    refuse "unknown bundle '$1'; there are: $BUNDLES, and full-FEATURE, with one of: $(full_features | tr '\n' ' ')"
}

# The features of the full bundle, one a line.
full_features() { sed -n 's/^default = \[\(.*\)\]$/\1/p' "$ROOT/Cargo.toml" | tr -d '" ' | tr ',' '\n'; }

# Bundle $1 as cargo wants it.
features_of() {
    case $1 in
        full-*) full_features | grep -vxF -- "${1#full-}" | paste -sd, ;;
        *) echo "$1" ;;
    esac
}

# Where the finished binary of target $1 and bundle $2 lies.
artifact() { printf '%s/%s/%s/warren' "$OUT" "$1" "$2"; }

need() { command -v "$1" >/dev/null || fail "'$1' is missing: $2"; }

# Has the tools of tools.txt in a virtual environment of their own, one per pin, and sets VENV to it.
tools() {
    local pins=$ROOT/cross/tools.txt
    VENV=$CACHE/tools-$(sha256sum "$pins" | cut -c1-12)
    mkdir -p "$CACHE"
    # Two builds at once must not both fill the same directory.
    exec 9>"$VENV.lock"
    flock 9
    if [ ! -e "$VENV/complete" ]; then
        say "fetching the tools of cross/tools.txt into $VENV"
        rm -rf "$VENV"
        python3 -m venv "$VENV" || fail "python3 cannot make '$VENV'; Debian has it in python3-venv"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
            --require-hashes --requirement "$pins" || fail "pip could not install '$pins'"
        touch "$VENV/complete"
    fi
    exec 9>&-
}

# The version in Cargo.toml.
package_version() { sed -n 's/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml" | head -n1; }

# The time that everything in a package has, in seconds since 1970.
source_date() { echo "${SOURCE_DATE_EPOCH:-$(git -C "$ROOT" log -1 --format=%ct)}"; }

# What file $1 weighs as xz -9e packs it.
packed() { xz -9e --stdout -- "$1" | wc -c; }

# 1234567 becomes 1,234,567 whatever the locale.
grouped() { sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta' <<<"$1"; }
