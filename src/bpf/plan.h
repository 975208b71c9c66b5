/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a program hands over to the one that it jumps to, in skb->cb; and what was there before. */
#ifndef EDNS_PLAN_H
#define EDNS_PLAN_H

/* skb->cb as another program left it for those behind us: a packet that passes has it again. */
struct cb {
    __u64 first, second, last;
};

/* Clang must not know the address of skb->cb from before: the verifier wants each access by way of skb itself. */
static __always_inline struct cb cb_save(struct __sk_buff *skb)
{
    barrier_var(skb);
    return (struct cb){
        *(volatile __u64 *)&skb->cb[0],
        *(volatile __u64 *)&skb->cb[2],
        *(volatile __u32 *)&skb->cb[4],
    };
}

static __always_inline void cb_restore(struct __sk_buff *skb, const struct cb *cb)
{
    barrier_var(skb);
    *(volatile __u64 *)&skb->cb[0] = cb->first;
    *(volatile __u64 *)&skb->cb[2] = cb->second;
    *(volatile __u32 *)&skb->cb[4] = cb->last;
}

/* An answer, and where it lies. */
struct place {
    __u32 ref;
    __u32 at; /* octets from the node on */
};

/* What the next program needs to know beside the packet: the one that replies, or (in brackets) the one that searches. */
struct plan {
    /* Of the answer [ref: the index word of the first look, 0: the name, as it is written, has no node; at: settings.index as it
     * was then]. */
    struct place place;
    __u32 flags;
    __u32 qname_len; /* [up to the first zero] */
    __u32 csum;      /* of what follows the question, as if it began at an even offset [of the name] */
};

enum plan_flag {
    PLAN_PROBE = 1 << 0,   /* a packet of the daemon's, which wants the outcome */
    PLAN_TO_PEER = 1 << 1, /* straight into the other end's network namespace */
    PLAN_V6 = 1 << 2,
    PLAN_OPT = 1 << 3,
    PLAN_DO = 1 << 4,
    PLAN_PARTIAL = 1 << 5, /* see csum_is_partial */
};

/* The last thing that a program does, and plan_load the first: forget writes there, too. */
static __always_inline void plan_store(struct __sk_buff *skb, const struct plan *plan)
{
    skb->cb[0] = plan->place.ref;
    skb->cb[1] = plan->place.at;
    skb->cb[2] = plan->flags;
    skb->cb[3] = plan->qname_len;
    skb->cb[4] = plan->csum;
}

static __always_inline struct plan plan_load(struct __sk_buff *skb)
{
    return (struct plan){
        .place = {.ref = skb->cb[0], .at = skb->cb[1]},
        .flags = skb->cb[2],
        .qname_len = skb->cb[3],
        .csum = skb->cb[4],
    };
}

#endif
