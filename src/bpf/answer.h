/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Chooses the answer of a node: types, DnsServers, gates. */
#ifndef EDNS_ANSWER_H
#define EDNS_ANSWER_H

/* The gates that can hold the answer back: those of its zone, and for negative answers its own. */
struct gates {
    __u32 zone; /* enum edns_zone */
    __u32 own;  /* index into settings.gate */
};

static __always_inline struct edns_answer *answer_at(struct edns_node *node, __u32 at)
{
    return (void *)node + (at & (EDNS_NODE_MAX - 8));
}

/*
 * The answer for a type of the node at plan->ref, or of its fallback. Also sets plan->ref and plan->answer_at, and the gates. NULL
 * and `*outcome` if the query passes. A query for a node that lists no type passes.
 */
static __always_inline struct edns_answer *answer_find(struct edns_node *node, __be16 qtype, struct reply_plan *plan,
                                                       struct gates *gates, int *outcome)
{
    __u32 round, i, n_types, listed = 0, at = 0;

    for (round = 0; round < 2; round++) {
        struct edns_type *type = (void *)(node + 1);

        gates->zone = node->zone;
        gates->own = node->gate;
        n_types = node->n_types;
        listed |= types_size(node); /* not n_types: its bounds differ per loop exit, so that states would not merge */
        for (i = 0; i < EDNS_TYPES_MAX && i < n_types; i++, type++) {
            if (type->qtype == qtype || !type->qtype) {
                at = type->answer * 8;
                goto out;
            }
        }
        if (round)
            break;
        plan->ref = node->fallback;
        node = node_at(plan->ref);
        if (!node)
            break;
    }
out:
    plan->answer_at = at;
    *outcome = listed ? EDNS_PASS_QTYPE : EDNS_PASS_NAME;
    return node && at ? answer_at(node, at) : NULL;
}

/* Whether DnsServers lets us answer for the destination, for names of `zone`. */
static __always_inline bool server_is_ours(struct __sk_buff *skb, const struct query *q, __u32 zone)
{
    struct edns_server server = {.addr = {0, 0, bpf_htonl(0xffff), 0}};
    __u8 *zones;
    __u32 i;

    if (settings.any_server >> zone & 1)
        return true;
    if (q->is_ipv6) {
        struct ipv6hdr *ip6 = octets_at(skb, q->l3, sizeof(*ip6));

        if (!ip6)
            return false;
        __builtin_memcpy(server.addr, &ip6->daddr, sizeof(server.addr));
    } else {
        struct iphdr *ip = octets_at(skb, q->l3, sizeof(*ip));

        if (!ip)
            return false;
        server.addr[3] = ip->daddr;
        /* Most queries go to the cluster's DNS service: this saves the map lookup. */
        for (i = 0; i < EDNS_SERVERS_FIRST; i++) {
            __u64 first = settings.servers[i];

            if (first >> 32 == ip->daddr)
                return first >> zone & 1;
        }
    }
    zones = bpf_map_lookup_elem(&edns_servers, &server);
    return zones && *zones >> zone & 1;
}

/* The outcome that a closed gate sets for this answer; 0 if all are open. */
static __always_inline int gates_outcome(const struct query *q, const struct edns_answer *answer,
                                         const struct gates *gates)
{
    int outcome = settings.positive_gate[gates->zone];

    if (!outcome && (q->is_absent || answer->outcome != EDNS_ANSWERED))
        outcome = settings.negative_gate[gates->zone] ?: settings.gate[gates->own];
    return outcome;
}

/* The answer of `node` to the query, or NULL and `*outcome` if the query passes. */
static __always_inline struct edns_answer *answer_choose(struct __sk_buff *skb, const struct query *q,
                                                         struct edns_node *node, struct reply_plan *plan, int *outcome)
{
    struct edns_answer *answer;
    struct gates gates = {};

    answer = answer_find(node, q->qtype, plan, &gates, outcome);
    if (!answer)
        return NULL;
    gates.zone = masked(gates.zone, EDNS_ZONE_COUNT - 1);
    gates.own = masked(gates.own, EDNS_GATES - 1);
    if (!(q->flags & QUERY_PROBE) && !server_is_ours(skb, q, gates.zone)) {
        *outcome = EDNS_PASS_SERVER;
        return NULL;
    }
    *outcome = gates_outcome(q, answer, &gates);
    return *outcome ? NULL : answer;
}

#endif
