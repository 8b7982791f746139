# What the commands beside this file have in common; they source it.

release=${CARGO_TARGET_DIR:-target}/release

# Installs what is missing where it may: need PROGRAM_OR_FILE:DEBIAN_PACKAGE...
need() {
    local missing=() entry
    for entry in "$@"; do
        [[ -e ${entry%%:*} ]] || command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        echo "$0: please install ${missing[*]} (Debian names) and run this again" >&2
        exit 1
    fi
    echo "$0: installing ${missing[*]}" >&2
    apt-get update -qq
    # Only the programs are wanted: a packaged service that starts would take port 80.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# Builds a program that is no part of the workspace, and puts it beside ours: build_contender DIRECTORY PROGRAM.
# Fails, and says why, where it cannot be built.
build_contender() {
    local target=${CARGO_TARGET_DIR:-target}/contenders
    if cargo build --release --locked --manifest-path "bench/contenders/$1/Cargo.toml" --target-dir "$target" >&2; then
        cp "$target/release/$2" "$release/"
    else
        echo "$0: $1 cannot be built here, see above; everything else goes on" >&2
        return 1
    fi
}

# Runs a release binary: measure NAME ARGUMENTS...
# The kernel ends the measurement with this script, and its children with it; the trap removes what it wrote.
measure() {
    local name=$1
    shift
    TMPDIR=$(mktemp -d)
    export TMPDIR
    trap 'rm -rf "$TMPDIR"' EXIT
    setpriv --pdeathsig TERM "$release/$name" "$@"
}
