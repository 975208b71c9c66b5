/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Programs that the benchmark compares with:
 *
 *   empty           the cost of any TC program
 *   floor           the least cost of an answer: swap addresses, grow by one A record, set QR (so that the client takes it for a
 *                   reply and continues), redirect
 *   prototype       the obvious design: IPv4 and A only, the kernel's hash keyed by names of up to 64 octets; trusts all lengths; no
 *                   EDNS, no UDP checksum, no counters
 *   prototype_peer  prototype, which redirects straight into the pod's network namespace
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define NAME_WORDS 8
#define QNAME_OFF (14 + 20 + 8 + 12)
#define NEXT (-1)

struct name {
    __u64 word[NAME_WORDS];
};

struct address {
    __be32 addr;
    __u32 ttl;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct name);
    __type(value, struct address);
} names SEC(".maps");

struct headers {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
    __be16 dns[6];
} __attribute__((packed));

struct a_record {
    __be16 owner, type, class, ttl_high, ttl_low, len;
    __be32 addr;
} __attribute__((packed));

static __always_inline struct headers *query(struct __sk_buff *skb)
{
    struct headers *h = (void *)(long)skb->data;

    if ((void *)(h + 1) > (void *)(long)skb->data_end)
        return NULL;
    if (h->eth.h_proto != bpf_htons(0x0800) || h->ip.protocol != IPPROTO_UDP || h->udp.dest != bpf_htons(53))
        return NULL;
    return h;
}

static __always_inline void swap_addresses(struct headers *h)
{
    unsigned char mac[6];
    __be32 addr = h->ip.saddr;
    __be16 port = h->udp.source;

    __builtin_memcpy(mac, h->eth.h_dest, 6);
    __builtin_memcpy(h->eth.h_dest, h->eth.h_source, 6);
    __builtin_memcpy(h->eth.h_source, mac, 6);
    h->ip.saddr = h->ip.daddr;
    h->ip.daddr = addr;
    h->udp.source = h->udp.dest;
    h->udp.dest = port;
}

static __always_inline __u64 lower(__u64 x)
{
    __u64 low = x & 0x7f7f7f7f7f7f7f7fULL;
    __u64 upper = (low + 0x3f3f3f3f3f3f3f3fULL) & ~(low + 0x2525252525252525ULL) & ~x & 0x8080808080808080ULL;

    return x | upper >> 2;
}

SEC("tc")
int empty(struct __sk_buff *skb)
{
    return NEXT;
}

SEC("tc")
int floor(struct __sk_buff *skb)
{
    struct headers *h;

    if (!query(skb) || bpf_skb_change_tail(skb, skb->len + sizeof(struct a_record), 0))
        return NEXT;
    h = query(skb);
    if (!h)
        return NEXT;
    swap_addresses(h);
    h->dns[1] |= bpf_htons(0x8000);
    return bpf_redirect(skb->ifindex, 0);
}

static __always_inline bool answer(struct __sk_buff *skb)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct headers *h = query(skb);
    struct a_record *record;
    struct address *found;
    struct name key = {};
    __u32 off = QNAME_OFF, len, i, sum, ip_len;
    __u8 *tail;

    if (!h || h->dns[2] != bpf_htons(1) || h->dns[1] & bpf_htons(0xf800) || h->dns[3] | h->dns[4] | h->dns[5])
        return false;
    for (i = 0; i < 32; i++) {
        __u8 *label = data + off;

        if (off > QNAME_OFF + 255 || (void *)(label + 1) > end || *label > 63)
            return false;
        if (!*label)
            break;
        off += *label + 1;
    }
    tail = data + off;
    if (i == 32 || (void *)(tail + 5) > end || tail[1] || tail[2] != 1 || tail[3] || tail[4] != 1)
        return false;
    len = off + 1 - QNAME_OFF;
    if (len < 1 || len > sizeof(key) || bpf_skb_load_bytes(skb, QNAME_OFF, &key, len))
        return false;
    for (i = 0; i < NAME_WORDS; i++)
        key.word[i] = lower(key.word[i]);
    found = bpf_map_lookup_elem(&names, &key);
    if (!found || bpf_skb_change_tail(skb, off + 5 + sizeof(*record), 0))
        return false;

    data = (void *)(long)skb->data;
    end = (void *)(long)skb->data_end;
    h = data;
    if ((void *)(h + 1) > end || off > QNAME_OFF + 255)
        return false;
    record = data + off + 5;
    if ((void *)(record + 1) > end)
        return false;
    swap_addresses(h);
    h->dns[1] = bpf_htons(0x8400) | (h->dns[1] & bpf_htons(0x0100));
    h->dns[3] = bpf_htons(1);
    *record = (struct a_record){
        .owner = bpf_htons(0xc00c),
        .type = bpf_htons(1),
        .class = bpf_htons(1),
        .ttl_low = bpf_htons(found->ttl),
        .len = bpf_htons(4),
        .addr = found->addr,
    };
    ip_len = off + 5 + sizeof(*record) - 14;
    sum = (__u16)~h->ip.check + (__u16)~h->ip.tot_len + bpf_htons(ip_len);
    sum = (sum & 0xffff) + (sum >> 16);
    h->ip.check = ~((sum & 0xffff) + (sum >> 16));
    h->ip.tot_len = bpf_htons(ip_len);
    h->udp.len = bpf_htons(ip_len - 20);
    h->udp.check = 0;
    return true;
}

SEC("tc")
int prototype(struct __sk_buff *skb)
{
    return answer(skb) ? bpf_redirect(skb->ifindex, 0) : NEXT;
}

SEC("tc")
int prototype_peer(struct __sk_buff *skb)
{
    return answer(skb) ? bpf_redirect_peer(skb->ifindex, 0) : NEXT;
}
