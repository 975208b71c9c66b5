/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers DNS queries on an interface's TC hook. A packet that is not answered passes byte for byte, with the verdict "next", so that
 * other programs still see it.
 *
 *   edns_packet  sees all packets. It answers names that are in their home line of the index, as they are written.
 *   edns_search  tail-called for other names, and for queries with EDNS options; answers them itself.
 *   edns_reply   tail-called to write the reply of edns_packet.
 *   edns_beat    run by the daemon: its heartbeat.
 *
 * The steps are numbered as in ARCHITECTURE.md, and each has a file: parse.h (1), lookup.h and name.h (3), answer.h (4), reply.h (5
 * to 7), trace.h (counters). abi.h is shared with the daemon; maps.h and handover.h are what the programs share; verifier.h has the
 * code that looks odd because a verifier needs it; dns.h and csum.h have DNS' format and checksums.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "names are shifted and summed as little-endian words"
#endif

#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))
#define TC_ACT_UNSPEC (-1) /* "next", for clsact and tcx alike */

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
#include "trace.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* EDNS_CONTINUE while the daemon is alive and not paused. */
static __always_inline int daemon_state(void)
{
    /* Read before the time: a heartbeat in between must not be later than the time. */
    __u64 beat = settings.beat;

    if (bpf_jiffies64() - beat > settings.beat_max)
        return EDNS_PASS_DAEMON;
    return settings.paused ? EDNS_PASS_PAUSED : EDNS_CONTINUE;
}

/*
 * Decides about a query: EDNS_CONTINUE where `plan` says which reply to write, EDNS_SEARCH, or why the query passes. A probe skips
 * heartbeat, pause and DnsServers.
 *
 * edns_packet must not write to packets directly: before such a program the kernel copies every packet that is shared, as all of
 * TCP's are.
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
    outcome = parse_dns(skb, q);
    if (outcome != EDNS_CONTINUE)
        return outcome;

    /* 3. Which node? */
    q->index = settings.index;
    scan = name_scan(skb, q->name, q->udp + q->udp_len, q->index);
    if (scan.len - 1 >= DNS_NAME_MAX) /* or 0 */
        return EDNS_PASS_MALFORMED;
    q->name_len = scan.len;
    q->name_sum = scan.sum;
    q->has_name_sum = true;
    q->word = index_lookup(scan.hash, q->index);
    plan->ref = q->word & EDNS_REF_MAX;
    node = node_lookup(skb, q->name, q->name_len, plan->ref);
    if (!node)
        return EDNS_SEARCH;

    /* 4. Which answer? */
    outcome = parse_question(skb, q);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    answer = answer_choose(skb, q, node, plan, &outcome);
    if (!answer)
        return outcome;
    if (has_options(q))
        return EDNS_SEARCH;

    /* 5. Is it ours, and does it fit? */
    outcome = tail_sum(skb, q, &plan->tail_csum);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    return reply_prepare(skb, q, answer, plan);
}

/* Decides about a query that packet_decide left undecided. */
static __always_inline int search_decide(struct __sk_buff *skb, struct scratch *scratch, struct query *q,
                                         struct reply_plan *plan)
{
    const __u32 slot = q->flags & QUERY_PROBE ? SCRATCH_PROBE : SCRATCH_PACKET;
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

    /* 4. Which answer? */
    outcome = parse_question(skb, q);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    if (!node)
        return EDNS_PASS_NOT_FOUND;
    answer = answer_choose(skb, q, node, plan, &outcome);
    if (!answer)
        return outcome;

    /* 5. Is it ours, and does it fit? */
    if (has_options(q))
        outcome = parse_options(skb, q, slot, &plan->tail_csum);
    else
        outcome = tail_sum(skb, q, &plan->tail_csum);
    if (outcome != EDNS_CONTINUE)
        return outcome;
    return reply_prepare(skb, q, answer, plan);
}

/* Counts a query, and lets it pass as it came. A probe gets the outcome. */
static __always_inline int pass(struct __sk_buff *skb, const struct query *q, int outcome, const struct saved_cb *cb)
{
    if (q->flags & QUERY_PROBE)
        return outcome;
    count_and_trace(skb, q->l3, outcome, q->is_ipv6 ? EDNS_IPV6 : EDNS_IPV4);
    cb_restore(skb, cb);
    return TC_ACT_UNSPEC;
}

/* Tail-calls edns_reply. Returns only where the daemon exited, and its heartbeat has not expired yet; then the packet is as it was. */
static __always_inline int call_reply(struct __sk_buff *skb, const __u32 l2, __u32 len, const struct reply_plan *plan)
{
    plan_store(skb, plan);
    bpf_tail_call(skb, &edns_steps, l2 ? EDNS_STEP_REPLY_ETH : EDNS_STEP_REPLY_IP);
    bpf_skb_change_tail(skb, len, 0);
    return EDNS_PASS_DAEMON;
}

/* Tail-calls edns_search. Returns why the query passes, where that fails. */
static __always_inline int call_search(struct __sk_buff *skb, const __u32 l2, const struct query *q,
                                       const struct saved_cb *cb)
{
    const __u32 slot = q->flags & QUERY_PROBE ? SCRATCH_PROBE : SCRATCH_PACKET;
    struct scratch *scratch = scratch_take(slot);

    if (!scratch)
        return EDNS_PASS_ERROR;
    scratch->request = (struct search_request){
        .cb = *cb,
        .name_sum = q->name_sum,
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

static __always_inline int packet(struct __sk_buff *skb, const __u32 l2, const __u32 flags)
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
    /* The verifier continues once, not once for each family. */
    q.is_ipv6 = opaque(skb, q.is_ipv6) & 1;
    q.flags = flags | (q.is_ipv6 ? QUERY_IPV6 : 0);
    q.udp = udp_off(&q);
    if (outcome == EDNS_CONTINUE)
        outcome = packet_decide(skb, &q, &plan);
    if (outcome == EDNS_CONTINUE)
        outcome = call_reply(skb, l2, len, &plan);
    if (outcome == EDNS_SEARCH)
        outcome = call_search(skb, l2, &q, &cb);
    return pass(skb, &q, outcome, &cb);
}

/* All packets of an interface, and the daemon's probes. */
SEC("tc")
int edns_packet(struct __sk_buff *skb)
{
    /* A copy for each variant, with constants; the verifier removes the others. */
    switch (variant) {
    case EDNS_VARIANT_ETH:
        return packet(skb, sizeof(struct ethhdr), 0);
    case EDNS_VARIANT_ETH_TO_PEER:
        return packet(skb, sizeof(struct ethhdr), QUERY_TO_PEER);
    case EDNS_VARIANT_IP:
        return packet(skb, 0, 0);
    case EDNS_VARIANT_PROBE:
        return packet(skb, sizeof(struct ethhdr), QUERY_PROBE);
    }
    return TC_ACT_UNSPEC;
}

/* Writes the planned reply, and sends it back to where the query came from. A probe gets the outcome. */
static __always_inline int reply(struct __sk_buff *skb, const __u32 l2)
{
    const struct reply_plan plan = plan_load(skb);
    const enum edns_family family = plan.flags & QUERY_IPV6 ? EDNS_IPV6 : EDNS_IPV4;
    struct edns_node *node = node_at(plan.ref);
    struct edns_answer *answer;

    if (!node)
        return TC_ACT_UNSPEC; /* never: for the verifier */
    answer = answer_at(node, plan.answer_at);

    /* 6. The reply. */
    if (family == EDNS_IPV6)
        reply_write(skb, l2, EDNS_IPV6, &plan, answer);
    else
        reply_write(skb, l2, EDNS_IPV4, &plan, answer);
    if (plan.flags & QUERY_PROBE)
        return answer->outcome;
    count_and_trace(skb, l2, answer->outcome, family);

    /* 7. Back. */
    clear_metadata(skb);
    if (settings.egress) {
        skb->tstamp = 0; /* the time at which the query was to be sent (SO_TXTIME) */
        return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
    }
    /* A bridge port's frames are to another host. Up to Linux 5.10 a redirect leaves that so, and the receiver drops them. */
    if (skb->pkt_type != PACKET_HOST)
        bpf_skb_change_type(skb, PACKET_HOST);
    return plan.flags & QUERY_TO_PEER ? bpf_redirect_peer(skb->ifindex, 0) : bpf_redirect(skb->ifindex, 0);
}

/* Queries that edns_packet has decided to answer. */
SEC("tc")
int edns_reply(struct __sk_buff *skb)
{
    return variant == EDNS_VARIANT_IP ? reply(skb, 0) : reply(skb, sizeof(struct ethhdr));
}

static __always_inline int search_and_reply(struct __sk_buff *skb, const __u32 l2)
{
    struct scratch *scratch = scratch_at(skb->cb[0]);
    struct reply_plan plan = {};
    struct query q = {};
    struct saved_cb cb;
    int outcome;

    if (!scratch)
        return TC_ACT_UNSPEC; /* never: for the verifier */
    cb = scratch->request.cb;
    q.flags = scratch->request.flags;
    q.is_ipv6 = !!(q.flags & QUERY_IPV6);
    q.name_len = scratch->request.name_len & 0xff;
    q.name_sum = scratch->request.name_sum;
    q.has_name_sum = true;
    outcome = parse_again(skb, l2, &q) ? search_decide(skb, scratch, &q, &plan) : EDNS_PASS_ERROR;
    scratch_give_back(scratch);
    if (outcome != EDNS_CONTINUE)
        return pass(skb, &q, outcome, &cb);
    /* Stored and loaded again, so that the verifier continues once; see opaque. */
    plan_store(skb, &plan);
    return reply(skb, l2);
}

/*
 * Queries that edns_packet leaves undecided. It writes its replies itself: some kernels refuse tail calls in a program that calls
 * functions (arm64 before Linux 6.0, and any kernel without JIT).
 */
SEC("tc")
int edns_search(struct __sk_buff *skb)
{
    return variant == EDNS_VARIANT_IP ? search_and_reply(skb, 0) : search_and_reply(skb, sizeof(struct ethhdr));
}

/* Bytes in front of a frame in a test run: fewer. */
#define HEADROOM_MAX 4096

/*
 * Run by the daemon twice a second. Returns the MTU of the interface, which is lo in a test run; 0 where it reads fields at other
 * offsets than this kernel has them: the BTF is of another kernel. No checksum was computed of the daemon's packet (CHECKSUM_NONE, 0).
 */
SEC("tc")
int edns_beat(struct __sk_buff *ctx)
{
    struct sk_buff *skb = kernel_skb(ctx);

    settings.beat = bpf_jiffies64();
    if (can_read_kernel &&
        ((__u32)BPF_CORE_READ(skb, dev, ifindex) != ctx->ifindex ||
         BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type) != ctx->pkt_type ||
         BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) || is_of_ipvs(ctx) || headroom(ctx) > HEADROOM_MAX))
        return 0;
    return link_mtu(ctx);
}
