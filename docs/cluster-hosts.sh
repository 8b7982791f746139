#!/usr/bin/env bash
# A cluster on hosts of its own, on this machine alone: four gateways, an admin node, their database and a balancing engine in front. It
# builds everything, sends load through it while processes are added, drained, killed and cut off, counts, and takes everything down again.
#
#     docs/cluster-hosts.sh [DIRECTORY_WITH_PROGRAMS]     # as root; without a directory, `cargo build --release` makes the programs
#
# Every host is a network namespace with a cable (a veth pair) to one switch. Nothing is changed outside of them. What happens step by
# step, and what came out: docs/cluster-hosts.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly network=10.99.0
declare -rA number=([gw1]=1 [gw2]=2 [gw3]=3 [gw4]=4 [db]=10 [admin]=20 [front]=30 [client]=40 [origin]=50)
readonly rate=${RATE:-400} post_rate=${POST_RATE:-100}
# For how many seconds the database stands still.
readonly away=${AWAY:-8}
readonly http_port=8080 origin_port=8001 admin_port=9000 db_port=5432

die() {
    printf 'docs/cluster-hosts.sh: %s\n' "$*" >&2
    exit 1
}
# For ./test, which goes on without what this machine cannot do.
not_here() {
    printf 'docs/cluster-hosts.sh: %s\n' "$*" >&2
    exit 3
}

((EUID == 0)) || not_here "making network namespaces takes root: try sudo $0"
for program in ip curl jq timeout setpriv; do
    command -v "$program" >/dev/null || not_here "'$program' is missing; on Debian it is in iproute2, curl, jq, coreutils or util-linux"
done
postgres=$(find /usr/lib/postgresql -maxdepth 3 -name initdb 2>/dev/null | sort -V | tail -1)
[[ -n $postgres ]] || not_here "there is no PostgreSQL; on Debian it is in postgresql"
postgres=$(dirname "$postgres")
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
chmod 755 "$scratch"
prefix=corelane-$$
declare -A pid_of=()
namespaces=()

# Runs at every end: success, failure, Ctrl-C. A cable goes with its namespaces.
take_down() {
    trap '' INT TERM HUP
    local pids=("${pid_of[@]}") namespace
    ((${#pids[@]} == 0)) || kill -TERM "${pids[@]}" 2>/dev/null || true
    for _ in $(seq 50); do
        ((${#pids[@]} > 0)) && kill -0 "${pids[@]}" 2>/dev/null || break
        sleep 0.1
    done
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    for namespace in "${namespaces[@]}"; do
        ip netns del "$namespace" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

address() { echo "$network.${number[$1]}"; }

# on HOST COMMAND…: on that host, for half a minute at most.
on() {
    local namespace=$prefix-$1
    shift
    timeout 30 ip netns exec "$namespace" "$@"
}

# start NAME HOST COMMAND…: the same, beside us until the end; its output is kept under this name. Unprivileged ones as they are.
start() {
    local name=$1 namespace=$prefix-$2
    shift 2
    (cd "$scratch" && exec ip netns exec "$namespace" "$@") >"$scratch/$name.log" 2>&1 &
    pid_of[$name]=$!
}

# until_true WHAT COMMAND…: looks ten times a second, for twenty seconds at most.
until_true() {
    local what=$1
    shift
    for _ in $(seq 200); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    tail -n 20 "$scratch"/*.log >&2
    die "after 20 s still not: $what"
}
listens() { on "$1" bash -c ": </dev/tcp/$(address "$1")/$2"; }

echo "== hosts"
ip netns add "$prefix-switch"
namespaces+=("$prefix-switch")
ip -n "$prefix-switch" link add switch type bridge
ip -n "$prefix-switch" link set switch up
for host in gw1 gw2 gw3 gw4 db admin front client origin; do
    ip netns add "$prefix-$host"
    namespaces+=("$prefix-$host")
    ip -n "$prefix-$host" link set lo up
    ip -n "$prefix-switch" link add "$host" type veth peer name eth0 netns "$prefix-$host"
    ip -n "$prefix-switch" link set "$host" master switch up
    ip -n "$prefix-$host" address add "$(address "$host")/24" dev eth0
    ip -n "$prefix-$host" link set eth0 up
    echo "$host at $(address "$host")"
done

echo "== database"
data=$scratch/db
install -d -o postgres -m 700 "$data"
as_postgres=(setpriv --reuid postgres --regid postgres --clear-groups)
"${as_postgres[@]}" "$postgres/initdb" --pgdata "$data" --auth trust --username corelane --encoding UTF8 >"$scratch/initdb.log"
echo "host all all $network.0/24 trust" >>"$data/pg_hba.conf"
start postgres db "${as_postgres[@]}" "$postgres/postgres" -D "$data" -p $db_port -c listen_addresses="$(address db)" \
    -c unix_socket_directories="$data"
until_true "the database answers" on db "$postgres/psql" -h "$(address db)" -U corelane -d postgres -c "create database corelane"
store=postgres://corelane@$(address db):$db_port/corelane
echo "   $store"

# What the gateways forward to; it writes down each request before it answers.
start origin origin "$programs/loadgen" origin --listen "$(address origin):$origin_port" --ids --ids-file "$scratch/delivered"

cat >"$scratch/gateway.toml" <<TOML
[node]
id = "gateway"
drain_delay = "1s"
[listener.web]
bind = "0.0.0.0:$http_port"
[channel.default]
upstream = "app"
[upstream.app]
endpoints = ["$(address origin):$origin_port"]
[admin]
bind = "127.0.0.1:$admin_port"
TOML
cat >"$scratch/admin.toml" <<TOML
[node]
id = "admin"
[admin]
bind = "127.0.0.1:$admin_port"
TOML
cat >"$scratch/front.toml" <<TOML
[node]
id = "front"
[listener.web]
bind = "0.0.0.0:80"
[channel.default]
upstream = "gateways"
[upstream.gateways]
balance = "round_robin"
endpoints = ["$(address gw1):$http_port", "$(address gw2):$http_port", "$(address gw3):$http_port"]
timeouts = { connect = "500ms", first_byte = "1s" }
retry = { tries = 3, budget = "100%", on = ["connect", "reset", "timeout"] }
health = { protocol = "http", path = "/endpoint-health", interval = "500ms", fast_interval = "100ms", timeout = "300ms", rise = 1, fall = 1 }
[admin]
bind = "127.0.0.1:$admin_port"
TOML

# gateway NAME HOST [CONFIG]: a process; one without a configuration of its own gets it from the store.
gateway() {
    local name=$1 host=$2
    shift 2
    local source=(--node gateway)
    ((${#@} == 0)) || source=(--config "$1")
    start "$name" "$host" "$programs/engine" --cores 1 "${source[@]}" --store "$store" --state-dir "$scratch/state-$name"
    until_true "$name serves" serves "$host"
}
serves() { on "$1" curl --silent --fail --max-time 1 --output /dev/null "http://$(address "$1"):$http_port/endpoint-health"; }
# How many processes of the gateway the cluster knows, as the admin node sees it.
processes() {
    on admin curl --silent --max-time 5 "http://127.0.0.1:$admin_port/cluster/processes" |
        jq -r '.processes[] | select(.node == "gateway" and .state == "serving") | .id'
}
are_serving() { (($(processes | wc -l) == $1)); }

echo "== the first gateway saves its configuration; the others get it from the store"
gateway first gw1 "$scratch/gateway.toml"
gateway second gw2
gateway third gw3
start admin admin "$programs/engine" --cores 1 --config "$scratch/admin.toml" --store "$store" --state-dir "$scratch/state-admin"
start front front "$programs/engine" --cores 1 --config "$scratch/front.toml"
until_true "the admin node answers" on admin curl --silent --fail "http://127.0.0.1:$admin_port/healthz"
until_true "the engine in front answers" listens front 80
until_true "three gateways serve" are_serving 3
on admin "$programs/engine" cluster processes --admin "http://127.0.0.1:$admin_port" | sed 's/^/   /'

# phase NAME COMMAND…: load of its own while something happens, so that what failed has one cause. The command ends the phase.
declare -A gets_failed posts_failed
phase() {
    local name=$1 method failed kind
    shift
    echo "== $name"
    for method in GET POST; do
        local arguments=(-m "$method" --rate $rate) body=()
        [[ $method == GET ]] || arguments=(-m POST --rate "$post_rate" --body "an effect")
        start "load-$method" client "$programs/loadgen" "http://$(address front)/" -c 16 -t 1 --ids -d 120s --grace 5s \
            --ids-at "http://$(address origin):$origin_port" \
            --json "$scratch/$method.json" "${arguments[@]}"
    done
    sleep 1
    "$@"
    sleep 1
    for method in GET POST; do
        kill -INT "${pid_of[load-$method]}" 2>/dev/null || true
        wait "${pid_of[load-$method]}" || true
        unset "pid_of[load-$method]"
    done
    for method in GET POST; do
        read -r sent completed failed < <(jq -r '.requests | "\(.sent) \(.completed) \(.failed + .unanswered)"' "$scratch/$method.json")
        printf '   %-4s %6d sent  %6d completed  %3d failed\n' "$method" "$sent" "$completed" "$failed"
        if [[ $method == GET ]]; then gets_failed[$name]=$failed; else posts_failed[$name]=$failed; fi
    done
}

add_one() {
    gateway fourth gw4
    on front "$programs/engine" upstream add gateways "$(address gw4):$http_port" --admin "http://127.0.0.1:$admin_port"
    until_true "four gateways serve" are_serving 4
}
drain_one() {
    local process
    process=$(processes | sed -n 2p)
    echo "   engine cluster drain $process"
    on admin "$programs/engine" cluster drain "$process" --admin "http://127.0.0.1:$admin_port"
    until_true "it has left" are_serving 3
}
kill_first() {
    kill -KILL "${pid_of[first]}"
    wait "${pid_of[first]}" 2>/dev/null || true
    unset 'pid_of[first]'
    until_true "it is taken for gone" are_serving 2
}
start_another() {
    gateway fifth gw1
    until_true "three gateways serve" are_serving 3
}
cut_off() {
    ip -n "$prefix-switch" link set gw3 down
    until_true "it is taken for gone" are_serving 2
    ip -n "$prefix-switch" link set gw3 up
    until_true "it is back" are_serving 3
}
database_away() {
    # The server and each of its helpers: one process for every connection.
    local server=${pid_of[postgres]}
    kill -STOP "$server" $(pgrep -P "$server")
    sleep "$away"
    kill -CONT $(pgrep -P "$server") "$server"
    until_true "the cluster is seen again" are_serving 3
}

phase "a process is added" add_one
phase "one is drained" drain_one
phase "the first one is killed with kill -9" kill_first
phase "another takes its host" start_another
phase "a host is cut off and comes back" cut_off
phase "the database stands still for $away s" database_away

failed=0
for name in "${!gets_failed[@]}"; do
    ((gets_failed["$name"] == 0)) || { echo "GETs failed: $name" && failed=1; }
    case $name in
        *killed* | *cut*) ;; # A POST on its way there is its client's to decide about.
        *) ((posts_failed["$name"] == 0)) || { echo "POSTs failed: $name" && failed=1; } ;;
    esac
done
on admin "$programs/engine" cluster processes --admin "http://127.0.0.1:$admin_port" | sed 's/^/   /'
twice=$(jq -s 'map(.delivery.twice // 0) | add' "$scratch/POST.json" 2>/dev/null || echo "?")
((failed == 0)) || die "not as it should be; see above"
echo "== all as it should be; taking everything down"
