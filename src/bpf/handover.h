/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The data that one program hands to the next. edns_packet hands a reply_plan to edns_reply in skb->cb. It hands a search_request to
 * edns_search in per-CPU memory, and the number of its slot in skb->cb.
 */
#ifndef EDNS_HANDOVER_H
#define EDNS_HANDOVER_H

/* skb->cb as the program in front of ours left it: a packet that passes gets it back. */
struct saved_cb {
    __u64 first, second, last;
};

/* Verifiers allow access to skb->cb only through the ctx register. The barrier stops clang from caching &skb->cb. */
static __always_inline struct saved_cb cb_save(struct __sk_buff *skb)
{
    barrier_var(skb);
    return (struct saved_cb){
        *(volatile __u64 *)&skb->cb[0],
        *(volatile __u64 *)&skb->cb[2],
        *(volatile __u32 *)&skb->cb[4],
    };
}

static __always_inline void cb_restore(struct __sk_buff *skb, const struct saved_cb *cb)
{
    barrier_var(skb);
    *(volatile __u64 *)&skb->cb[0] = cb->first;
    *(volatile __u64 *)&skb->cb[2] = cb->second;
    *(volatile __u32 *)&skb->cb[4] = cb->last;
}

enum query_flag {
    QUERY_NO_FLAGS = 0,
    QUERY_PROBE = 1 << 0,   /* the daemon's own query; the verdict is the outcome */
    QUERY_TO_PEER = 1 << 1, /* the reply goes straight into the network namespace of the interface's peer */
    QUERY_IPV6 = 1 << 2,
    QUERY_OPT = 1 << 3,     /* has an OPT record */
    QUERY_DO = 1 << 4,      /* DNSSEC OK */
    QUERY_PARTIAL = 1 << 5, /* the UDP checksum covers the pseudo-header only, see csum_is_partial */
};

/* The input of edns_reply. It fills the five words of skb->cb exactly. */
struct reply_plan {
    __u32 ref;       /* the node that holds the answer */
    __u32 answer_at; /* bytes from the node to the answer */
    __u32 flags;     /* enum query_flag */
    __u32 name_len;  /* octets of the qname with the final zero */
    __u32 tail_csum; /* sum of the octets behind the question, as if they began at an even offset */
};

/* Call it last: opaque overwrites skb->cb[0]. */
static __always_inline void plan_store(struct __sk_buff *skb, const struct reply_plan *plan)
{
    skb->cb[0] = plan->ref;
    skb->cb[1] = plan->answer_at;
    skb->cb[2] = plan->flags;
    skb->cb[3] = plan->name_len;
    skb->cb[4] = plan->tail_csum;
}

static __always_inline struct reply_plan plan_load(struct __sk_buff *skb)
{
    return (struct reply_plan){
        .ref = skb->cb[0],
        .answer_at = skb->cb[1],
        .flags = skb->cb[2],
        .name_len = skb->cb[3],
        .tail_csum = skb->cb[4],
    };
}

/* The input of edns_search, besides the packet. */
struct search_request {
    struct saved_cb cb;
    __u64 name_csum; /* see struct scan */
    __u32 name_len;  /* octets up to and with the first zero */
    __u32 flags;     /* enum query_flag */
    __u32 index;     /* settings.index, as read for the first lookup */
    __u32 word;      /* the index word that it found; 0: the name as written has no node */
};

#endif
