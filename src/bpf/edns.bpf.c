/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers DNS queries on an interface's TC hook. A packet that is not answered goes on byte for byte, with the verdict
 * "next", so that other programs still see it.
 *
 * The way of a packet: parse.h (is it a query?), zone.h (what is known of its name and type?), search.h (in another program:
 * names that need more than a look), reply.h (in another one: turn it round). plan.h: what one hands over to the next.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "edns_abi.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "names are shifted and summed as little-endian words"
#endif

#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))
#define TC_ACT_UNSPEC (-1) /* "next", for clsact and tcx alike */
#define PACKET_HOST 0

char LICENSE[] SEC("license") = "Dual BSD/GPL";

volatile struct edns_settings settings __attribute__((aligned(64))) = {};

/* Whether the helper that reads the kernel's memory is there, as it is with CONFIG_BPF_EVENTS. Set before loading. */
const volatile bool can_read_kernel = true;

/* What the daemon needs of edns_abi.h and no map or variable names: kept in the object's BTF by these. */
const volatile struct {
    enum edns_limits limits;
    enum edns_family family;
    enum edns_zone zone;
    enum edns_outcome outcome;
    enum edns_step step;
    struct edns_node node;
    struct edns_type type;
    struct edns_answer answer;
    struct edns_port port;
    struct edns_event event;
    enum edns_index_part index_part;
} abi = {};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1); /* set before loading */
    __type(key, __u32);
    __type(value, struct edns_line);
} edns_index SEC(".maps");

struct edns_chunk_map {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    /* Sizes, since clang leaves the types that only an inner map names out of the BTF. */
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct edns_chunk));
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, EDNS_CHUNKS);
    __type(key, __u32);
    __array(values, struct edns_chunk_map);
} edns_chunks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
    __uint(max_entries, EDNS_SERVERS_MAX);
    __type(key, struct edns_server);
    __type(value, __u8);
} edns_servers SEC(".maps");

/* By ifindex. Interfaces that are not here take frames to their own address only. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
    __uint(max_entries, EDNS_PORTS_MAX);
    __type(key, __u32);
    __type(value, struct edns_port);
} edns_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct edns_stats);
} edns_stats SEC(".maps");

/* Queries as they come, for who traces. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, EDNS_EVENTS_OCTETS);
} edns_events SEC(".maps");

/* The programs that a query goes on to. The kernel empties it when the daemon, which holds it, is gone. */
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, EDNS_STEP_COUNT);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} edns_steps SEC(".maps");

#include "octets.h"
#include "plan.h"
#include "parse.h"
#include "zone.h"
#include "search.h"
#include "reply.h"
#include "trace.h"

static __always_inline void count(int outcome, enum edns_family family)
{
    __u32 zero = 0;
    struct edns_stats *stats = bpf_map_lookup_elem(&edns_stats, &zero);

    if (stats && outcome >= 0 && outcome < EDNS_OUTCOME_COUNT)
        stats->queries[outcome][family]++;
}

/* Counts what became of a query, and tells who traces. */
static __always_inline void count_and_trace(struct __sk_buff *skb, const __u32 l2, int outcome, enum edns_family family)
{
    outcome = forget(skb, outcome);
    count(outcome, family);
    if (settings.trace)
        trace(skb, l2, outcome, family);
}

/* Whether names of `zone` are answered in the place of the server that the query was sent to. */
static __always_inline bool server_is_ours(struct __sk_buff *skb, const struct query *q, __u32 zone)
{
    struct edns_server server = {.addr = {0, 0, bpf_htonl(0xffff), 0}};
    __u8 *zones;
    __u32 i;

    if (settings.any_server >> zone & 1)
        return true;
    if (q->v6) {
        struct ipv6hdr *ip6 = octets_at(skb, q->l3, sizeof(*ip6));

        if (!ip6)
            return false;
        __builtin_memcpy(server.addr, &ip6->daddr, sizeof(server.addr));
    } else {
        struct iphdr *ip = octets_at(skb, q->l3, sizeof(*ip));

        if (!ip)
            return false;
        server.addr[3] = ip->daddr;
        /* Most ask the cluster's DNS service: that is known without a call. */
        for (i = 0; i < EDNS_SERVERS_FIRST; i++) {
            __u64 first = settings.servers[i];

            if (first >> 32 == ip->daddr)
                return first >> zone & 1;
        }
    }
    zones = bpf_map_lookup_elem(&edns_servers, &server);
    return zones && *zones >> zone & 1;
}

/*
 * What becomes of a query whose name is known, and `node` its own or the one that speaks for its absence: EDNS_ANSWERED,
 * EDNS_NODATA or EDNS_NXDOMAIN where `plan` tells reply_write how. Else why it passes, or EDNS_SEARCH where only the program that
 * searches can say, which has the scratch.
 */
static __always_inline int answer_plan(struct __sk_buff *skb, const __u32 l2, struct scratch *scratch, struct query *q,
                                       struct edns_node *node, bool absence, struct plan *plan)
{
    const bool probe = plan->flags & PLAN_PROBE;
    struct edns_answer *answer;
    __u32 zone = 0, own_gate = 0;
    __u8 gate;
    int outcome;

    outcome = parse_tail(skb, q);
    if (outcome)
        return outcome;
    if (!node)
        return EDNS_PASS_NOT_FOUND;
    answer = answer_find(node, q->qtype, &plan->place, &zone, &own_gate, &outcome);
    if (!answer)
        return outcome;
    /* Not compared: Linux 5.10 forgets that of a number that lies on the stack. */
    barrier_var(zone);
    zone &= EDNS_ZONE_COUNT - 1;
    barrier_var(own_gate);
    own_gate &= EDNS_GATES - 1;
    outcome = answer->outcome;
    if (!probe && !server_is_ours(skb, q, zone))
        return EDNS_PASS_SERVER;
    gate = settings.positive_gate[zone];
    if (!gate && (absence || outcome != EDNS_ANSWERED))
        gate = settings.negative_gate[zone] ?: settings.gate[own_gate];
    if (gate)
        return gate;
    return tail_sum(skb, q, scratch, plan_slot(plan), &plan->csum) ?: reply_plan(skb, l2, q, answer, plan) ?: outcome;
}

/*
 * What becomes of a packet that parse_ip took, as answer_plan. A probe is the daemon asking what the maps hold, whoever may ask
 * whom.
 *
 * Nothing is written to the packet here, and no program that begins with this may do so: the kernel copies each packet that
 * is shared, as all of TCP's are, in front of a program that writes to any.
 */
static __always_inline int packet_plan(struct __sk_buff *skb, const __u32 l2, struct query *q, struct plan *plan)
{
    struct edns_node *node;
    struct scan scan;
    __u32 word, index;
    __u64 beat;
    int outcome;

    if (!(plan->flags & PLAN_PROBE)) {
        /* The time is read after the heartbeat: one that comes in between must not lie ahead of it. */
        beat = settings.beat;
        if (bpf_jiffies64() - beat > settings.beat_max)
            return EDNS_PASS_DAEMON;
        if (settings.paused)
            return EDNS_PASS_PAUSED;
    }
    outcome = parse_dns(skb, q);
    if (outcome)
        return outcome;
    index = settings.index;
    qname_scan(skb, q->qname, q->udp + q->udp_len, index, &scan);
    if (scan.len - 1 >= DNS_NAME_MAX) /* or 0 */
        return EDNS_PASS_MALFORMED;
    q->qname_len = scan.len;
    q->qname_sum = scan.sum;
    q->has_sum = true;
    word = word_first(scan.hash, index);
    plan->place.ref = word & EDNS_REF_MAX;
    node = node_first(skb, q->qname, q->qname_len, plan->place.ref);
    outcome = node ? answer_plan(skb, l2, NULL, q, node, false, plan) : EDNS_SEARCH;
    if (outcome == EDNS_SEARCH) {
        plan->place.ref = word;
        plan->place.at = index;
        plan->qname_len = q->qname_len;
        plan->csum = csum_fold16(q->qname_sum);
    }
    return outcome;
}

/* The same of a query that packet_plan left undecided. */
static __always_inline int search_plan(struct __sk_buff *skb, const __u32 l2, struct scratch *scratch,
                                       struct plan *plan)
{
    struct query q = {
        .v6 = !!(plan->flags & PLAN_V6),
        .qname_len = plan->qname_len & 0xff, /* for the verifier */
        .qname_sum = plan->csum,
        .has_sum = true,
    };
    bool absence = false;
    int outcome;

    if (!parse_again(skb, l2, &q))
        return EDNS_PASS_ERROR; /* never: it was there just before */
    outcome =
        node_search(skb, &q, scratch, plan_slot(plan), !plan->place.ref, plan->place.at, &plan->place.ref, &absence);
    if (outcome)
        return outcome;
    return answer_plan(skb, l2, scratch, &q, node_at(plan->place.ref), absence, plan);
}

/* Has the next program reply. Here again where the packet passes, as it was: `len` octets, and `cb`. */
static __always_inline int go_on(struct __sk_buff *skb, const __u32 l2, const __u32 len, const struct cb *cb,
                                 const struct plan *plan, int outcome)
{
    if (outcome <= EDNS_NXDOMAIN) {
        plan_store(skb, plan);
        bpf_tail_call_static(skb, &edns_steps, l2 ? EDNS_STEP_REPLY_ETH : EDNS_STEP_REPLY_IP);
        /* The daemon is gone, and with it what it had put into that map; the heartbeat does not tell yet. */
        bpf_skb_change_tail(skb, len, 0);
        outcome = EDNS_PASS_DAEMON;
    }
    if (plan->flags & PLAN_PROBE)
        return outcome;
    count_and_trace(skb, l2, outcome, plan->flags & PLAN_V6 ? EDNS_IPV6 : EDNS_IPV4);
    cb_restore(skb, cb);
    return TC_ACT_UNSPEC;
}

static __always_inline int packet(struct __sk_buff *skb, const __u32 l2, const __u32 flags)
{
    struct plan plan = {.flags = flags};
    struct query q = {};
    int outcome = parse_ip(skb, l2, &q);
    __u32 len;
    struct cb cb;

    if (outcome == EDNS_NOT_DNS)
        return flags & PLAN_PROBE ? EDNS_NOT_DNS : TC_ACT_UNSPEC;
    if (q.v6)
        plan.flags |= PLAN_V6;
    len = skb->len;
    cb = cb_save(skb);
    if (!outcome)
        outcome = packet_plan(skb, l2, &q, &plan);
    if (outcome == EDNS_SEARCH) {
        struct scratch *scratch = scratch_take(plan_slot(&plan));

        if (scratch) {
            scratch->cb = cb;
            plan_store(skb, &plan);
            bpf_tail_call_static(skb, &edns_steps, l2 ? EDNS_STEP_SEARCH_ETH : EDNS_STEP_SEARCH_IP);
            scratch_give_back(scratch);
        }
        outcome = scratch ? EDNS_PASS_DAEMON /* see go_on */ : EDNS_PASS_ERROR;
    }
    return go_on(skb, l2, len, &cb, &plan, outcome);
}

static __always_inline int search(struct __sk_buff *skb, const __u32 l2)
{
    const __u32 len = skb->len;
    struct plan plan = plan_load(skb);
    struct scratch *scratch = scratch_at(plan_slot(&plan));
    struct cb cb;
    int outcome;

    if (!scratch)
        return TC_ACT_UNSPEC; /* never: it was taken just before */
    cb = scratch->cb;
    outcome = search_plan(skb, l2, scratch, &plan);
    scratch_give_back(scratch);
    return go_on(skb, l2, len, &cb, &plan, outcome);
}

/* Interfaces with Ethernet header. */
SEC("tc")
int edns_eth(struct __sk_buff *skb)
{
    return packet(skb, sizeof(struct ethhdr), 0);
}

/* Ingress of a veth or netkit whose peer is in another network namespace: straight into that. */
SEC("tc")
int edns_eth_peer(struct __sk_buff *skb)
{
    return packet(skb, sizeof(struct ethhdr), PLAN_TO_PEER);
}

/* Interfaces without link-layer header: tun, WireGuard, tunnels. */
SEC("tc")
int edns_ip(struct __sk_buff *skb)
{
    return packet(skb, 0, 0);
}

/* Run by the daemon on packets of its own: what would be answered? Returns the outcome; the packet becomes the reply. */
SEC("tc")
int edns_probe(struct __sk_buff *skb)
{
    return packet(skb, sizeof(struct ethhdr), PLAN_PROBE);
}

/* Queries that the programs above leave undecided. */
SEC("tc")
int edns_search_eth(struct __sk_buff *skb)
{
    return search(skb, sizeof(struct ethhdr));
}

SEC("tc")
int edns_search_ip(struct __sk_buff *skb)
{
    return search(skb, 0);
}

/*
 * Takes from the reply what it would inherit of the query: the sender's marks would lead it astray (`ip rule fwmark`). See
 * ARCHITECTURE.md for all that there is.
 */
static __always_inline void forget_query(struct __sk_buff *skb)
{
    const struct cb none = {};

    skb->mark = 0;
    skb->priority = 0;
    skb->tc_index = 0;
    skb->tc_classid = 0;
    cb_restore(skb, &none);
}

/* Writes the planned reply, and sends it back to where the query came from. */
static __always_inline int reply(struct __sk_buff *skb, const __u32 l2)
{
    struct plan plan = plan_load(skb);
    struct edns_node *node = node_at(plan.place.ref);
    struct edns_answer *answer;

    if (!node)
        return TC_ACT_UNSPEC; /* never: it was read just before */
    answer = answer_at(node, plan.place.at);
    if (plan.flags & PLAN_V6)
        reply_write(skb, l2, true, &plan, answer);
    else
        reply_write(skb, l2, false, &plan, answer);
    if (plan.flags & PLAN_PROBE)
        return answer->outcome;
    count_and_trace(skb, l2, answer->outcome, plan.flags & PLAN_V6 ? EDNS_IPV6 : EDNS_IPV4);
    forget_query(skb);
    if (settings.egress) {
        skb->tstamp = 0; /* when the query was to be sent (SO_TXTIME) */
        return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
    }
    /* A bridge port's frames are for another host, and up to 5.10 a redirect leaves that so: the receiver would drop it. */
    if (skb->pkt_type != PACKET_HOST)
        bpf_skb_change_type(skb, PACKET_HOST);
    return plan.flags & PLAN_TO_PEER ? bpf_redirect_peer(skb->ifindex, 0) : bpf_redirect(skb->ifindex, 0);
}

SEC("tc")
int edns_reply_eth(struct __sk_buff *skb)
{
    return reply(skb, sizeof(struct ethhdr));
}

SEC("tc")
int edns_reply_ip(struct __sk_buff *skb)
{
    return reply(skb, 0);
}

/* Octets in front of a frame in a test run: fewer. */
#define HEADROOM_MAX 4096

/*
 * Run by the daemon twice a second. Returns the MTU of the interface (lo, in a test run); 0 where it reads fields elsewhere
 * than this kernel has them: the BTF is another one's. No sum was computed of a packet of the daemon's (CHECKSUM_NONE, 0).
 */
SEC("tc")
int edns_beat(struct __sk_buff *ctx)
{
    struct sk_buff *skb = (void *)ctx; /* see link_mtu */

    settings.beat = bpf_jiffies64();
    if (can_read_kernel &&
        ((__u32)BPF_CORE_READ(skb, dev, ifindex) != ctx->ifindex ||
         BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type) != ctx->pkt_type ||
         BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) || is_of_ipvs(ctx) || headroom(ctx) > HEADROOM_MAX))
        return 0;
    return link_mtu(ctx);
}
