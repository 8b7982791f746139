#!/usr/bin/env bash
# Four servers with addresses of their own behind one engine, on this machine alone: HTTP, HTTPS and TCP. It builds everything,
# sends load through each, prints each host's share as the hosts counted it, and takes everything down again.
#
#     docs/hosts.sh [DIRECTORY_WITH_PROGRAMS]     # as root; without a directory, `cargo build --release` makes the programs
#
# Every host is a network namespace with a cable (a veth pair) to the engine's, which has another to the client's. Nothing is changed
# outside of them. What it is all about: docs/hosts.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly hosts=(1 2 3 4)
readonly requests=10000 tcp_connections=2000
readonly vip=10.88.0.1 http_port=5001 https_port=5000 tcp_port=2575
# Percentage points that a share may be off.
readonly tolerance=2

die() {
    printf 'docs/hosts.sh: %s\n' "$*" >&2
    exit 1
}
# For ./test, which goes on without what this machine cannot do.
not_here() {
    printf 'docs/hosts.sh: %s\n' "$*" >&2
    exit 3
}

((EUID == 0)) || not_here "making network namespaces takes root: try sudo $0"
for program in ip openssl curl awk timeout; do
    command -v "$program" >/dev/null || not_here "'$program' is missing; on Debian it is in iproute2, openssl, curl, gawk or coreutils"
done
probe=corelane-probe-$$
ip netns add "$probe" 2>/dev/null && ip netns del "$probe" ||
    not_here "this machine does not let us make network namespaces ('ip netns add' fails); a container needs CAP_SYS_ADMIN for it"

if [[ -n ${1:-} ]]; then
    programs=$(realpath "$1")
else
    echo "== building engine and loadgen"
    cargo build --release --locked --quiet -p corelane-engine -p corelane-loadgen
    programs=$(realpath "${CARGO_TARGET_DIR:-target}")/release
fi
[[ -x $programs/engine && -x $programs/loadgen ]] || die "no programs 'engine' and 'loadgen' in $programs"

scratch=$(mktemp -d)
prefix=corelane-$$
pids=()
namespaces=()

# Runs at every end: success, failure, Ctrl-C. A cable goes with its namespaces.
take_down() {
    trap '' INT TERM HUP
    ((${#pids[@]} == 0)) || kill -TERM "${pids[@]}" 2>/dev/null || true
    for _ in $(seq 50); do
        ((${#pids[@]} > 0)) && kill -0 "${pids[@]}" 2>/dev/null || break
        sleep 0.1
    done
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    local namespace
    for namespace in "${namespaces[@]}"; do
        ip netns del "$namespace" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# in_host NAME COMMAND…: on that host, for half a minute at most. Beside us, as only `wait` lets a signal end this script at once.
in_host() {
    local namespace=$prefix-$1 status=0
    shift
    timeout 30 ip netns exec "$namespace" "$@" &
    pids+=($!)
    wait $! || status=$?
    unset 'pids[-1]'
    return $status
}

# start NAME COMMAND…: the same, beside us until the end; its output is kept under this name.
start() {
    local namespace=$prefix-$1 log=$scratch/$1-${#pids[@]}.log
    shift
    ip netns exec "$namespace" "$@" >"$log" 2>&1 &
    pids+=($!)
}

# Waits until something listens at NAME ADDRESS PORT.
await() {
    for _ in $(seq 100); do
        in_host "$1" bash -c ": </dev/tcp/$2/$3" 2>/dev/null && return
        sleep 0.1
    done
    cat "$scratch"/*.log >&2
    die "nothing listens at $2:$3 of $1 after 10 s"
}

add_host() {
    ip netns add "$prefix-$1"
    namespaces+=("$prefix-$1")
    ip -n "$prefix-$1" link set lo up
}

# A cable from the engine's host to NAME: NETWORK.1 at the engine's end, NETWORK.2 at the other.
connect() {
    ip -n "$prefix-engine" link add "to-$1" type veth peer name eth0 netns "$prefix-$1"
    ip -n "$prefix-engine" address add "$2.1/24" dev "to-$1"
    ip -n "$prefix-engine" link set "to-$1" up
    ip -n "$prefix-$1" address add "$2.2/24" dev eth0
    ip -n "$prefix-$1" link set eth0 up
}

echo "== hosts"
add_host engine
add_host client
connect client 10.88.0
for host in "${hosts[@]}"; do
    add_host "host$host"
    connect "host$host" "10.77.$host"
    echo "host$host at 10.77.$host.2"
done
echo "engine at $vip for clients"

# An authority of our own, and what it says of everybody's address.
make_certificate() {
    local name=$1
    shift
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$name" \
        -keyout "$scratch/$name.key" -out "$scratch/$name.pem" "$@" 2>"$scratch/openssl.log" && return
    cat "$scratch/openssl.log" >&2
    die "openssl makes no certificate of $name; it takes OpenSSL 3"
}
certify() {
    make_certificate "$1" -addext "subjectAltName=IP:$2" -addext basicConstraints=critical,CA:FALSE \
        -CA "$scratch/authority.pem" -CAkey "$scratch/authority.key"
}
make_certificate authority
certify engine "$vip"
for host in "${hosts[@]}"; do certify "host$host" "10.77.$host.2"; done

# Each host writes down what it was sent, a line for each request; TCP connections are counted by its kernel.
for host in "${hosts[@]}"; do
    name=host$host address=10.77.$host.2
    start "$name" "$programs/loadgen" origin --listen "$address:$http_port" --ids --ids-file "$scratch/$name.http"
    start "$name" "$programs/loadgen" origin --listen "$address:$https_port" --ids --ids-file "$scratch/$name.https" \
        --tls --cert "$scratch/$name.pem" --key "$scratch/$name.key"
    start "$name" "$programs/loadgen" origin --listen "$address:$tcp_port" --serve echo
done

# endpoints PORT: all hosts at this port, as a list of TOML.
endpoints() {
    local list
    list=$(printf "\"10.77.%s.2:$1\", " "${hosts[@]}")
    echo "[${list%, }]"
}
cat >"$scratch/engine.toml" <<TOML
[listener.http]
bind = "$vip:$http_port"
[listener.https]
bind = "$vip:$https_port"
protocol = "https"
tls = { certificates = [{ certificate = "engine.pem", key = "engine.key" }] }
[listener.tcp]
bind = "$vip:$tcp_port"
protocol = "tcp"
upstream = "messages"

[channel.plain]
match = { listener = "http" }
upstream = "plain"
[channel.private]
match = { listener = "https" }
upstream = "private"

[upstream.plain]
balance = "round_robin"
endpoints = $(endpoints $http_port)
[upstream.private]
balance = "round_robin"
endpoints = $(endpoints $https_port)
tls = { ca = "authority.pem" }
[upstream.messages]
balance = "round_robin"
endpoints = $(endpoints $tcp_port)

[admin]
bind = "127.0.0.1:9000"
TOML
start engine "$programs/engine" --cores auto --config "$scratch/engine.toml"
for port in $http_port $https_port $tcp_port; do await client $vip "$port"; done
for host in "${hosts[@]}"; do
    for port in $http_port $https_port $tcp_port; do await engine "10.77.$host.2" "$port"; done
done

# Connections that the kernel of a host has accepted since it began.
accepted() {
    in_host "$1" awk '/^Tcp:/ { if (!seen++) { for (i = 1; i <= NF; i++) if ($i == "PassiveOpens") column = i } else print $column }' /proc/net/snmp
}

# shares WHAT COUNT…: one for each host; false if any is off.
shares() {
    local what=$1
    shift
    printf '%s\n' "$@" | awk -v what="$what" -v tolerance=$tolerance '
        { count[NR] = $1; sum += $1 }
        END {
            printf "   %-6s", what
            for (i = 1; i <= NR; i++) {
                share = sum ? 100 * count[i] / sum : 0
                off = share - 100 / NR
                if (off > tolerance || off < -tolerance) bad++
                printf " host%d %.2f %%  ", i, share
            }
            printf "of %d\n", sum
            if (bad || !sum) {
                printf "   %d of them not at %d %% +- %d\n", bad, 100 / NR, tolerance
                exit 1
            }
        }'
}

failed=0
for scheme in http https; do
    port=${scheme}_port
    url=$scheme://$vip:${!port}/
    echo "== $url"
    in_host client curl --silent --show-error --fail --cacert "$scratch/authority.pem" --output /dev/null \
        --write-out '   curl: %{http_code} over HTTP/%{http_version}, %{remote_ip}\n' "$url"
    counting=(--ids)
    [[ $scheme == http ]] || counting+=(--ca "$scratch/authority.pem")
    # Over the engine's own way, loadgen asks one host; what all of them were sent is in their files.
    in_host client "$programs/loadgen" "$url" "${counting[@]}" --requests $requests --connections 32 \
        --json "$scratch/$scheme.json" >"$scratch/load.log" || failed=1
    grep -E '^(requests|opened)' "$scratch/load.log" | sed 's/^/   /'
    counts=()
    for host in "${hosts[@]}"; do counts+=("$(wc -l <"$scratch/host$host.$scheme")"); done
    shares "$scheme" "${counts[@]}" || failed=1
    twice=$(sort "$scratch"/host?."$scheme" | uniq --repeated | wc -l)
    echo "   delivered twice: $twice"
    ((twice == 0)) || failed=1
done

echo "== tcp://$vip:$tcp_port"
before=()
for host in "${hosts[@]}"; do before+=("$(accepted "host$host")"); done
in_host client "$programs/loadgen" tcp "$vip:$tcp_port" --no-keepalive --requests $tcp_connections --connections 16 \
    >"$scratch/load.log" || failed=1
grep -E '^(requests|messages|opened)' "$scratch/load.log" | sed 's/^/   /'
counts=()
for host in "${hosts[@]}"; do counts+=($(($(accepted "host$host") - before[host - 1]))); done
shares tcp "${counts[@]}" || failed=1

((failed == 0)) || die "not as it should be; see above"
echo "== all as it should be; taking everything down"
