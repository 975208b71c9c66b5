/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Neighbours of the program in a chain: `front` sets the metadata of packets, `behind` records the metadata and octets that it sees.
 * One packet at a time.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define TC_ACT_UNSPEC (-1)
#define FRAME_MAX 4096

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The ifindex to which `behind` sends packets; 0: it passes them. */
const volatile __u32 out = 0;

struct carried {
    __u64 tstamp;
    __u32 cb[5];
    __u32 mark;
    __u32 priority;
    __u32 tc_index;
    __u32 tc_classid;
    __u32 queue_mapping;
    __u32 hash;
    __u32 pkt_type;
    __u32 gso_size;
    __u32 vlan_tci;
};

struct seen {
    __u64 count;
    struct carried carried;
    __u32 len;
    __u32 _pad;
    __u8 octets[FRAME_MAX];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct carried);
} given SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct seen);
} seen SEC(".maps");

static __always_inline void record(struct __sk_buff *skb, struct carried *to)
{
    to->cb[0] = skb->cb[0];
    to->cb[1] = skb->cb[1];
    to->cb[2] = skb->cb[2];
    to->cb[3] = skb->cb[3];
    to->cb[4] = skb->cb[4];
    to->mark = skb->mark;
    to->priority = skb->priority;
    to->tc_index = skb->tc_index;
    to->tc_classid = skb->tc_classid;
    to->queue_mapping = skb->queue_mapping;
    to->hash = skb->hash;
    to->pkt_type = skb->pkt_type;
    to->gso_size = skb->gso_size;
    to->vlan_tci = skb->vlan_tci;
    to->tstamp = skb->tstamp;
}

SEC("tc")
int front(struct __sk_buff *skb)
{
    __u32 zero = 0;
    struct carried *to = bpf_map_lookup_elem(&given, &zero);

    skb->cb[0] = bpf_get_prandom_u32();
    skb->cb[1] = bpf_get_prandom_u32();
    skb->cb[2] = bpf_get_prandom_u32();
    skb->cb[3] = bpf_get_prandom_u32();
    skb->cb[4] = bpf_get_prandom_u32();
    skb->mark = bpf_get_prandom_u32();
    skb->priority = bpf_get_prandom_u32();
    skb->tc_index = bpf_get_prandom_u32() & 0xffff;
    skb->tc_classid = bpf_get_prandom_u32();
    skb->queue_mapping = bpf_get_prandom_u32() & 0xff;
    bpf_set_hash(skb, bpf_get_prandom_u32());
    /* On egress the time to send the packet at, as set by SO_TXTIME; on ingress the time of its arrival. */
    if (!skb->ingress_ifindex)
        skb->tstamp = bpf_ktime_get_ns() + (bpf_get_prandom_u32() | 1);
    if (to)
        record(skb, to);
    return TC_ACT_UNSPEC;
}

SEC("tc")
int behind(struct __sk_buff *skb)
{
    __u32 zero = 0, len = skb->len;
    struct seen *to = bpf_map_lookup_elem(&seen, &zero);

    if (!to)
        return TC_ACT_UNSPEC;
    record(skb, &to->carried);
    to->len = len;
    if (len > 0 && len < FRAME_MAX)
        bpf_skb_load_bytes(skb, 0, to->octets, len);
    to->count++;
    return out ? bpf_redirect(out, 0) : TC_ACT_UNSPEC;
}
