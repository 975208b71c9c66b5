/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers DNS queries on an interface's TC hook. A packet that is not answered passes byte for byte, with the verdict "next", so that
 * other programs still see it.
 *
 *   edns_packet  sees all packets. Answers a name if its spelling is lower-case and its word is in its home line of the index.
 *   edns_search  tail-called for other names, and for queries with EDNS options. Writes its replies itself.
 *   edns_reply   tail-called to write the reply of edns_packet.
 *   edns_beat    run by the daemon. Stores the heartbeat.
 *
 * The steps are numbered as in ARCHITECTURE.md. This file has the heartbeat (2) and the redirect (7). parse.h parses the packet and
 * its EDNS options (1, 5), name.h and lookup.h find the node (3), answer.h chooses the answer and checks DnsServers and gates (4, 5),
 * reply.h checks and writes the reply (5, 6), stats.h counts and traces outcomes. abi.h is shared with the daemon; maps.h and
 * handover.h are shared by the programs; verifier.h has the code that looks odd because a verifier needs it; dns.h and csum.h have
 * the format of DNS messages, and checksums.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "names are shifted and summed as little-endian words"
#endif

#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))
#define TC_ACT_UNSPEC (-1) /* "next", for both clsact and tcx */

#include "abi.h"
#include "dns.h"
#include "verifier.h"
#include "csum.h"
#include "handover.h"
#include "maps.h"
#include "parse.h"
#include "name.h"
#include "lookup.h"
#include "answer.h"
#include "reply.h"
#include "stats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* EDNS_CONTINUE while the daemon is alive and not paused. */
static __always_inline int daemon_state(void)
{
    /* Read the heartbeat first: a newer one than the time would make the difference wrap. */
    __u64 beat = settings.beat;

    if (bpf_jiffies64() - beat > settings.beat_max)
        return EDNS_PASS_DAEMON;
    return settings.paused ? EDNS_PASS_PAUSED : EDNS_CONTINUE;
}

/*
 * Decides about a query. Returns EDNS_CONTINUE (`plan` is filled in), EDNS_SEARCH, or the outcome of a query that passes. A probe
 * skips heartbeat, pause and DnsServers.
 *
 * edns_packet must not write to packets directly: before such a program the kernel copies every shared packet, and all TCP packets
 * are shared.
 */
static __always_inline int packet_decide(struct __sk_buff *skb, struct query *q, struct reply_plan *plan)
{
    struct edns_answer *answer;
    struct edns_node *node;
    struct scan scan;
    int outcome;

    /* 2. Is the daemon alive? */
    if (!(q->flags & QUERY_PROBE)) {
        outcome = daemon_state();
        if (outcome != EDNS_CONTINUE)
            return outcome;
    }
    /* 1. The DNS header. */
    outcome = parse_dns(skb, q);
    if (outcome != EDNS_CONTINUE)
        return outcome;

    /* 3. Which node? */
    q->index = settings.index;
    scan = name_scan(skb, q->name, q->udp + q->udp_len, q->index);
    if (scan.len - 1 >= DNS_NAME_MAX) /* too long, or 0 (no zero octet), which wraps */
        return EDNS_PASS_MALFORMED;
    q->name_len = scan.len;
    q->name_csum = scan.csum;
    q->has_name_csum = true;
    q->word = index_lookup(scan.hash, q->index);
    plan->ref = q->word & EDNS_REF_MAX;
    node = node_lookup(skb, q->name, q->name_len, plan->ref);
    if (!node)
        return EDNS_SEARCH;

    /* 1. Type, class and OPT, which follow the name. */
    outcome = parse_question(skb, q);
    if (outcome != EDNS_CONTINUE)
        return outcome;

    /* 4. Which answer? Includes DnsServers, of step 5. */
    answer = answer_choose(skb, q, node, plan, &outcome);
    if (!answer)
        return outcome;
    if (has_options(q))
        return EDNS_SEARCH;

    /* 5. Are we responsible, and does the reply fit? */
    outcome = csum_tail(skb, q, &plan->tail_csum);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    return reply_prepare(skb, q, answer, plan);
}

/* The slot of edns_scratch for the query's search. */
static __always_inline __u32 scratch_slot(const struct query *q)
{
    return q->flags & QUERY_PROBE ? SCRATCH_PROBE : SCRATCH_PACKET;
}

/* Decides about a query that packet_decide left undecided. */
static __always_inline int search_decide(struct __sk_buff *skb, struct scratch *scratch, struct query *q,
                                         struct reply_plan *plan)
{
    const __u32 slot = scratch_slot(q);
    struct edns_answer *answer;
    struct edns_node *node;
    int outcome;

    /* 3. Which node? */
    outcome = search(skb, scratch, slot, q);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    q->name_len = scratch->name_len;
    q->is_absent = scratch->is_absent;
    plan->ref = scratch->ref;
    node = node_at(plan->ref);

    /* 1. Type, class and OPT, which follow the name. */
    outcome = parse_question(skb, q);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    if (!node)
        return EDNS_PASS_NOT_FOUND;

    /* 4. Which answer? Includes DnsServers, of step 5. */
    answer = answer_choose(skb, q, node, plan, &outcome);
    if (!answer)
        return outcome;

    /* 5. Are we responsible, and does the reply fit? */
    if (has_options(q))
        outcome = parse_options(skb, q, slot, &plan->tail_csum);
    else
        outcome = csum_tail(skb, q, &plan->tail_csum);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    return reply_prepare(skb, q, answer, plan);
}

/* Counts a query that passes, and restores skb->cb. For a probe the verdict is the outcome. */
static __always_inline int pass_query(struct __sk_buff *skb, const struct query *q, int outcome,
                                      const struct saved_cb *cb)
{
    if (q->flags & QUERY_PROBE)
        return outcome;
    count_and_trace(skb, q->l3, outcome, q->is_ipv6 ? EDNS_IPV6 : EDNS_IPV4);
    cb_restore(skb, cb);
    return TC_ACT_UNSPEC;
}

/*
 * Tail-calls edns_reply. Returns only if the tail call failed: the daemon exited, and its heartbeat has not expired yet. Then it trims
 * the packet to `len` again.
 */
static __always_inline int call_reply(struct __sk_buff *skb, const __u32 l2, __u32 len, const struct reply_plan *plan)
{
    plan_store(skb, plan);
    bpf_tail_call(skb, &edns_steps, l2 ? EDNS_STEP_REPLY_ETH : EDNS_STEP_REPLY_IP);
    bpf_skb_change_tail(skb, len, 0);
    return EDNS_PASS_DAEMON;
}

/* Tail-calls edns_search. On failure returns the outcome. */
static __always_inline int call_search(struct __sk_buff *skb, const __u32 l2, const struct query *q,
                                       const struct saved_cb *cb)
{
    const __u32 slot = scratch_slot(q);
    struct scratch *scratch = scratch_take(slot);

    if (!scratch)
        return EDNS_PASS_ERROR;
    scratch->request = (struct search_request){
        .cb = *cb,
        .name_csum = q->name_csum,
        .name_len = q->name_len,
        .flags = q->flags,
        .index = q->index,
        .word = q->word,
    };
    skb->cb[0] = slot;
    bpf_tail_call(skb, &edns_steps, l2 ? EDNS_STEP_SEARCH_ETH : EDNS_STEP_SEARCH_IP);
    scratch_give_back(scratch);
    return EDNS_PASS_DAEMON; /* see call_reply */
}

/* Decides about any packet of the interface, or a probe. */
static __always_inline int handle_packet(struct __sk_buff *skb, const __u32 l2, const __u32 flags)
{
    struct query q = {};
    struct reply_plan plan = {};
    struct saved_cb cb;
    int outcome;
    __u32 len;

    /* 1. Is it a query? */
    outcome = parse_packet(skb, l2, &q);
    if (outcome == EDNS_NOT_DNS)
        return TC_ACT_UNSPEC;
    len = skb->len;
    cb = cb_save(skb);
    /* Merges the paths of the two families for the verifier; see opaque. */
    q.is_ipv6 = opaque(skb, q.is_ipv6) & 1;
    q.flags = flags | (q.is_ipv6 ? QUERY_IPV6 : 0);
    q.udp = udp_off(&q);
    if (outcome == EDNS_CONTINUE)
        outcome = packet_decide(skb, &q, &plan);
    if (outcome == EDNS_CONTINUE)
        outcome = call_reply(skb, l2, len, &plan);
    if (outcome == EDNS_SEARCH)
        outcome = call_search(skb, l2, &q, &cb);
    return pass_query(skb, &q, outcome, &cb);
}

/* All packets of an interface, and the daemon's probes. */
SEC("tc")
int edns_packet(struct __sk_buff *skb)
{
    /* One inlined copy per variant. The verifier drops the dead ones. */
    switch (variant) {
    case EDNS_VARIANT_ETH:
        return handle_packet(skb, L2_ETH, QUERY_NO_FLAGS);
    case EDNS_VARIANT_ETH_TO_PEER:
        return handle_packet(skb, L2_ETH, QUERY_TO_PEER);
    case EDNS_VARIANT_IP:
        return handle_packet(skb, L2_NONE, QUERY_NO_FLAGS);
    case EDNS_VARIANT_PROBE:
        return handle_packet(skb, L2_ETH, QUERY_PROBE);
    }
    return TC_ACT_UNSPEC;
}

/* Writes the planned reply, and sends it to the sender of the query. For a probe the verdict is the outcome. */
static __always_inline int send_reply(struct __sk_buff *skb, const __u32 l2)
{
    const struct reply_plan plan = plan_load(skb);
    const enum edns_family family = plan.flags & QUERY_IPV6 ? EDNS_IPV6 : EDNS_IPV4;
    struct edns_node *node = node_at(plan.ref);
    struct edns_answer *answer;

    if (!node)
        return TC_ACT_UNSPEC; /* never true; the verifier needs it */
    answer = answer_at(node, plan.answer_at);

    /* 6. The reply. */
    if (family == EDNS_IPV6)
        reply_write(skb, l2, EDNS_IPV6, &plan, answer);
    else
        reply_write(skb, l2, EDNS_IPV4, &plan, answer);
    if (plan.flags & QUERY_PROBE)
        return answer->outcome;
    count_and_trace(skb, l2, answer->outcome, family);

    /* 7. The way back. */
    clear_metadata(skb);
    if (settings.egress) {
        skb->tstamp = 0; /* the time at which the query was to be sent (SO_TXTIME) */
        return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
    }
    /*
     * A bridge port's frame may be PACKET_OTHERHOST. Linux 5.10 keeps that across the redirect, and the receiver would drop the
     * reply.
     */
    if (skb->pkt_type != PACKET_HOST)
        bpf_skb_change_type(skb, PACKET_HOST);
    return plan.flags & QUERY_TO_PEER ? bpf_redirect_peer(skb->ifindex, 0) : bpf_redirect(skb->ifindex, 0);
}

/* Queries that edns_packet has decided to answer. */
SEC("tc")
int edns_reply(struct __sk_buff *skb)
{
    return variant == EDNS_VARIANT_IP ? send_reply(skb, L2_NONE) : send_reply(skb, L2_ETH);
}

static __always_inline int search_and_reply(struct __sk_buff *skb, const __u32 l2)
{
    struct scratch *scratch = scratch_at(skb->cb[0]);
    struct reply_plan plan = {};
    struct query q = {};
    struct saved_cb cb;
    int outcome;

    if (!scratch)
        return TC_ACT_UNSPEC; /* never true; the verifier needs it */
    cb = scratch->request.cb;
    q.flags = scratch->request.flags;
    q.is_ipv6 = !!(q.flags & QUERY_IPV6);
    q.name_len = scratch->request.name_len & 0xff;
    q.name_csum = scratch->request.name_csum;
    q.has_name_csum = true;
    outcome = parse_again(skb, l2, &q) ? search_decide(skb, scratch, &q, &plan) : EDNS_PASS_ERROR;
    scratch_give_back(scratch);
    if (outcome != EDNS_CONTINUE)
        return pass_query(skb, &q, outcome, &cb);
    /* Stores the plan and loads it again, which merges states for the verifier; see opaque. */
    plan_store(skb, &plan);
    return send_reply(skb, l2);
}

/*
 * Queries that edns_packet leaves undecided. This program writes its replies itself, because some kernels refuse tail calls in a
 * program that calls functions (arm64 before Linux 6.0, and any kernel without JIT).
 */
SEC("tc")
int edns_search(struct __sk_buff *skb)
{
    return variant == EDNS_VARIANT_IP ? search_and_reply(skb, L2_NONE) : search_and_reply(skb, L2_ETH);
}

/* Upper bound of the headroom in a test run, in bytes. */
#define HEADROOM_MAX 4096

/*
 * Run by the daemon twice a second. Returns the MTU of the interface, which is lo in a test run. Returns 0 if the fields that are
 * read by BTF offset don't have the values expected in a test run: then the BTF is another kernel's. In a test run ip_summed is
 * CHECKSUM_NONE (0).
 */
SEC("tc")
int edns_beat(struct __sk_buff *ctx)
{
    struct sk_buff *skb = kernel_skb(ctx);

    settings.beat = bpf_jiffies64();
    if (can_read_kernel &&
        ((__u32)BPF_CORE_READ(skb, dev, ifindex) != ctx->ifindex ||
         BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type) != ctx->pkt_type ||
         BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) || ipvs_handled(ctx) || headroom(ctx) > HEADROOM_MAX))
        return 0;
    return link_mtu(ctx);
}
