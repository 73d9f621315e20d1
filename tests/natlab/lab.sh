#!/usr/bin/env bash
# Two homes behind NATs of chosen behaviour (RFC 4787) and a public server, in network namespaces.
#
#   lab.sh up TYPE_A TYPE_B     build the lab; one that is there is replaced
#   lab.sh exec HOST COMMAND... run a command in a namespace: a b s na nb nc pub
#   lab.sh rules HOST           show the rules of a NAT
#   lab.sh types                list the types
#   lab.sh down                 remove everything, and end what runs in it
#
#                +--------- pub (a router with no way out) ----------+
#   203.0.113.0/24              198.51.100.0/24              192.0.2.0/24
#     s .10 .11                     na .2                       nb .2
#                               192.168.1.0/24              192.168.2.0/24
#                                   a .10                       b .20
#   TYPE_B = same: b is 192.168.1.20, on a's LAN behind na.
#
# The environment:
#   LAB            the beginning of the namespaces' names (relaytun-lab): several labs side by side
#   UDP_TIMEOUT    seconds for which a mapping of UDP lives (30)
#   LAN_B          the /24 network of b's LAN (192.168.2; 192.168.1 makes the addresses collide)
#   CGN=TYPE       na and nb (100.64.0.2 and .3) are behind one carrier NAT, nc (198.51.100.2)
#   DELAY, LOSS    milliseconds one way, and permille, on each side's wire to the outside, by a
#                  program: not all kernels have netem
#   DELAYBOX       that program, built from delaybox.c
#
# Both ends of each veth are in the lab and pub has no default route: nothing can leave the machine.
# Needs root, iproute2 and nftables.
set -euo pipefail

lab=${LAB:-relaytun-lab}
udp_timeout=${UDP_TIMEOUT:-30}
lan_b=${LAN_B:-192.168.2}
cgn=${CGN:-}
delay=${DELAY:-0}
loss=${LOSS:-0}
delaybox=${DELAYBOX:-}
server_net=203.0.113

# The homes are more hops apart than the lab has routers: a packet that is to die on the way does.
far_apart='table ip lab {
    chain between {
        type filter hook forward priority filter; policy accept;
        iifname { na, nb } oifname { na, nb } ip ttl < 8 drop
    }
}'

types() {
    cat <<'EOF'
public      no NAT, no firewall: the host itself has the public address
fw          no NAT, a public address behind a stateful firewall
fullcone    endpoint-independent mapping and filtering
addrrest    endpoint-independent mapping, address-dependent filtering
portrest    endpoint-independent mapping, address- and port-dependent filtering (most homes)
symmetric   address- and port-dependent mapping and filtering, a random port for each destination
symseq      the same, with the next port of a sequence for each destination (predictable)
linuxopen   portrest without an input drop: an early packet from the peer is refused by the
            router itself, and burns the mapping
udpblock    portrest for TCP, all UDP dropped
same        (only TYPE_B) b is on a's LAN; same-isolated: with client isolation there
modifiers   +hairpin     what the LAN sends to the WAN address comes back into the LAN
            +nopreserve  (portrest, fullcone, addrrest) external port is not the internal one
            +rst         unsolicited TCP gets a reset, UDP an ICMP unreachable
EOF
}

within() {  # HOST COMMAND...
    local host=$1
    shift
    ip netns exec "$lab-$host" "$@"
}

ip_of() {  # HOST LINE...: lines for ip(8) there, at once
    local host=$1
    shift
    printf '%s\n' "$@" | ip -n "$lab-$host" -batch -
}

set_keys() {  # HOST KEY=VALUE...
    within "$1" sysctl -qw "${@:2}"
}

down() {
    local name
    for name in $(ip netns list | awk -v lab="$lab-" 'index($1, lab) == 1 { print $1 }'); do
        ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null || true
        ip netns del "$name" 2>/dev/null || true
    done
}

# --- Hosts and wires ----------------------------------------------------------------------------

add_host() {  # HOST [KEY=VALUE...]
    ip netns add "$lab-$1"
    set_keys "$1" net.ipv6.conf.{all,default}.disable_ipv6=1 \
        net.ipv4.conf.{all,default}.rp_filter=0 "${@:2}"
    ip_of "$1" "link set lo up"
}

add_router() {  # HOST
    add_host "$1" net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0
}

join() {  # HOST INTERFACE HOST INTERFACE
    ip link add "$2" netns "$lab-$1" type veth peer name "$4" netns "$lab-$3"
    ip_of "$1" "link set $2 up"
    ip_of "$3" "link set $4 up"
}

wire() {  # HOST INTERFACE HOST INTERFACE: joined, with the delay and the loss that are asked for
    if [[ $delay == 0 && $loss == 0 ]]; then
        join "$@"
        return
    fi
    local in="i$3$4" out="o$3$4" host interface
    [[ -e /run/netns/$lab-dl ]] || add_host dl
    join "$1" "$2" dl "$in"
    join dl "$out" "$3" "$4"
    while read -r host interface; do
        within "$host" "$delaybox" "$interface"
    done <<<"$1 $2
$3 $4
dl $in
dl $out"
    local ready line
    exec {ready}< <(exec ip netns exec "$lab-dl" "$delaybox" \
        "$in" "$out" $((delay * 1000)) "$loss" </dev/null 2>&1)
    read -r -u "$ready" line && [[ $line == ready ]] || { echo "delaybox: $line" >&2; exit 1; }
}

add_lan() {  # ROUTER [ADDRESS]: a bridge that netfilter does not see into
    ip_of "$1" "link add lan type bridge" "link set lan up" ${2:+"addr add $2 dev lan"}
    set_keys "$1" net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true
}

plug_in() {  # ROUTER INTERFACE
    ip_of "$1" "link set $2 master lan"
}

at() {  # HOST INTERFACE ADDRESS GATEWAY
    ip_of "$1" "addr add $3/24 dev $2" "route add default via $4"
}

# --- NATs ---------------------------------------------------------------------------------------

nat_rules() {  # TYPE[+MODIFIER...] WAN-ADDRESS
    local type=${1%%+*} modifiers="+${1#*+}+" wan=$2
    [[ $1 == *+* ]] || modifiers=+
    local translate=masquerade hairpin='' reset=''
    [[ $modifiers == *+nopreserve+* ]] && translate="snat ip to $wan : th sport ^ 0x1555"
    [[ $modifiers == *+hairpin+* ]] && hairpin=yes
    [[ $modifiers == *+rst+* ]] && reset=yes
    # A cone keeps a map of its own: who may come in (key), to which inner endpoint, and what is
    # learned from a packet that goes out.
    local cone='' key='' learned='' both='meta l4proto { tcp, udp }'
    local inner='ct original ip saddr . ct original proto-src'
    local back='ct reply ip saddr . ct reply proto-src'
    case $type in
        fw | portrest | udpblock | linuxopen) ;;
        fullcone)
            cone='inet_proto . inet_service'
            key='meta l4proto . th dport'
            learned='meta l4proto . th sport'
            ;;
        addrrest)
            cone='inet_proto . inet_service . ipv4_addr'
            key='meta l4proto . th dport . ip saddr'
            learned='meta l4proto . th sport . ip daddr'
            ;;
        symmetric) translate='masquerade fully-random' ;;
        symseq)
            local ports
            ports=$(seq 0 1999 | awk '{ printf "%s%d : %d", (NR > 1 ? ", " : ""), $1, 40000 + $1 }')
            translate="snat ip to $wan : numgen inc mod 2000 map { $ports }"
            ;;
        *)
            echo "unknown type of NAT: $type" >&2
            exit 2
            ;;
    esac

    echo "table ip lab {"
    local life="flags dynamic,timeout; timeout ${udp_timeout}s;"
    [[ -z $cone ]] || echo "map cone { type $cone : ipv4_addr . inet_service; $life }"
    [[ -z $hairpin ]] ||
        echo "map loops { type inet_proto . inet_service : ipv4_addr . inet_service; $life }"

    echo "chain before { type nat hook prerouting priority dstnat;"
    [[ -z $cone ]] || echo "iifname wan ip daddr $wan $both dnat ip to $key map @cone"
    [[ -z $hairpin ]] || echo "iifname lan ip daddr $wan $both" \
        "dnat ip to meta l4proto . th dport map @loops"
    echo "}"

    echo "chain after { type nat hook postrouting priority srcnat;"
    if [[ $type != fw ]]; then
        echo "oifname wan $both $translate"
        echo "oifname wan masquerade"
        [[ -z $hairpin ]] || echo "iifname lan oifname lan ct status dnat $both" \
            "${translate/masquerade/snat ip to $wan}"
    fi
    echo "}"

    # Behind the translation, so that the source port is the outer one.
    echo "chain learn { type filter hook postrouting priority srcnat + 1;"
    if [[ -n $cone ]]; then
        echo "oifname wan ct direction original $both update @cone { $learned : $inner }"
        echo "oifname wan ct direction reply $both update @cone { $learned : $back }"
    fi
    [[ -z $hairpin ]] || echo "oifname wan ct direction original $both" \
        "update @loops { meta l4proto . th sport : $inner }"
    echo "}"

    echo "chain through { type filter hook forward priority filter; policy drop;"
    [[ $type != udpblock ]] || echo "meta l4proto udp drop"
    echo "ct state established,related accept"
    echo "ct state invalid drop"
    echo "iifname lan accept"
    echo "iifname wan ct status dnat accept"
    [[ $type != fw || -z $reset ]] || refusals
    echo "}"

    echo "chain inward { type filter hook input priority filter; policy accept;"
    if [[ $type != linuxopen ]]; then
        echo "iifname wan ct state established,related accept"
        echo "iifname wan meta l4proto icmp accept"
        [[ -z $reset ]] || refusals "iifname wan"
        echo "iifname wan drop"
    fi
    echo "}"
    echo "}"
}

refusals() {  # [CONDITION]
    echo "${1-} meta l4proto tcp reject with tcp reset"
    echo "${1-} meta l4proto udp reject"
}

add_nat() {  # ROUTER TYPE WAN-ADDRESS
    local rules
    rules=$(nat_rules "$2" "$3")
    within "$1" nft -f - <<<"$rules"
    # After the rules: the module may come with them.
    set_keys "$1" net.netfilter.nf_conntrack_udp_timeout{,_stream}="$udp_timeout"
}

# --- The lab ------------------------------------------------------------------------------------

up() {  # TYPE_A TYPE_B
    down
    add_router pub
    add_host s
    join s eth0 pub s
    ip_of pub "addr add $server_net.1/24 dev s"
    at s eth0 $server_net.10 $server_net.1
    ip_of s "addr add $server_net.11/24 dev eth0"
    within pub nft -f - <<<"$far_apart"
    local wan_a=198.51.100.2 wan_b=192.0.2.2 upstream=pub gateway_a=198.51.100.1 gateway_b=192.0.2.1
    if [[ -n $cgn ]]; then
        add_router nc
        add_lan nc 100.64.0.1/24
        join nc wan pub na
        ip_of pub "addr add $gateway_a/24 dev na"
        at nc wan $wan_a $gateway_a
        add_nat nc "$cgn" $wan_a
        wan_a=100.64.0.2 wan_b=100.64.0.3 upstream=nc gateway_a=100.64.0.1 gateway_b=100.64.0.1
    fi
    add_home a "$1" $wan_a $upstream $gateway_a 192.168.1 10
    if [[ $2 == same || $2 == same-isolated ]]; then
        add_host b
        join b eth0 na lb
        plug_in na lb
        at b eth0 192.168.1.20 192.168.1.1
        if [[ $2 == same-isolated ]]; then
            ip_of na "link set dev la type bridge_slave isolated on" \
                "link set dev lb type bridge_slave isolated on"
        fi
    else
        add_home b "$2" $wan_b $upstream $gateway_b "$lan_b" 20
    fi
}

add_home() {  # HOST TYPE WAN-ADDRESS UPSTREAM GATEWAY LAN-NETWORK NUMBER
    local host=$1 type=$2 wan=$3 upstream=$4 gateway=$5 lan=$6 number=$7 router=n$1
    if [[ $type == public ]]; then
        add_host "$host"
        wire "$host" eth0 "$upstream" "$router"
        at "$host" eth0 "$wan" "$gateway"
    else
        add_host "$host"
        add_router "$router"
        wire "$router" wan "$upstream" "$router"
        if [[ ${type%%+*} == fw ]]; then
            add_lan "$router"
            answer_for_both_sides "$router" "$host" "$wan" "$gateway"
        else
            add_lan "$router" "$lan.1/24"
            join "$host" eth0 "$router" "l$host"
            plug_in "$router" "l$host"
            at "$host" eth0 "$lan.$number" "$lan.1"
            at "$router" wan "$wan" "$gateway"
        fi
        add_nat "$router" "$type" "$wan"
    fi
    if [[ $upstream == pub ]]; then
        ip_of pub "addr add $gateway/24 dev $router"
    else
        plug_in nc "$router"
    fi
}

answer_for_both_sides() {  # ROUTER HOST ADDRESS GATEWAY: routed, not translated, with proxy ARP
    set_keys "$1" net.ipv4.conf.all.proxy_arp=1
    join "$2" eth0 "$1" "l$2"
    plug_in "$1" "l$2"
    at "$2" eth0 "$3" "$4"
    set_keys "$1" net.ipv4.neigh.{lan,wan}.proxy_delay=0
    ip_of "$1" "addr add ${3%.*}.254/32 dev wan" "route add $3/32 dev lan" \
        "route add $4/32 dev wan" "route add default via $4 dev wan"
}

command=${1:-help}
shift || true
case $command in
    up)
        [[ $# == 2 ]] || { echo "lab.sh up TYPE_A TYPE_B" >&2; exit 2; }
        up "$@"
        ;;
    exec) host=$1; shift; exec ip netns exec "$lab-$host" "$@" ;;
    rules) within "$1" nft list ruleset ;;
    types) types ;;
    down) down ;;
    *)
        sed -n '2,/^set /{/^#/p}' "$0"
        exit 2
        ;;
esac
