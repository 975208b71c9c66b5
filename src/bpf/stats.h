/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counts outcomes, and writes events while a trace runs. */
#ifndef EDNS_STATS_H
#define EDNS_STATS_H

static __always_inline struct edns_stats *stats_of_cpu(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&edns_stats, &zero);
}

/* Copies an IPv6 address of the packet, or an IPv4 address as ::ffff:a.b.c.d. */
static __always_inline void trace_addr(struct __sk_buff *skb, __u32 off, enum edns_family family, __be32 *addr)
{
    if (family == EDNS_IPV6) {
        bpf_skb_load_bytes(skb, off, addr, 16);
        return;
    }
    addr[0] = 0;
    addr[1] = 0;
    addr[2] = bpf_htonl(0xffff);
    bpf_skb_load_bytes(skb, off, &addr[3], 4);
}

/*
 * Writes an event for the packet, which is the query, or the reply if it was answered. Programs don't wait for readers: if the ring is
 * full, the event is dropped and counted in events_lost.
 */
static __always_inline void trace(struct __sk_buff *skb, __u32 l2, __u32 outcome, enum edns_family family)
{
    const bool is_reply = outcome <= EDNS_NXDOMAIN; /* see enum edns_outcome */
    __u32 udp = l2, saddr = l2, daddr = l2, off, len;
    struct edns_event *event;

    event = bpf_ringbuf_reserve(&edns_events, sizeof(*event), 0);
    if (!event) {
        struct edns_stats *stats = stats_of_cpu();

        if (stats)
            stats->events_lost++;
        return;
    }
    event->time = bpf_ktime_get_ns();
    event->ifindex = skb->ifindex;
    event->outcome = outcome;
    event->family = family;
    __builtin_memset(event->_pad, 0, sizeof(event->_pad));

    if (family == EDNS_IPV6) {
        saddr += offsetof(struct ipv6hdr, saddr);
        daddr += offsetof(struct ipv6hdr, daddr);
        udp += sizeof(struct ipv6hdr);
    } else {
        __u8 ihl = 0;

        bpf_skb_load_bytes(skb, l2, &ihl, sizeof(ihl));
        saddr += offsetof(struct iphdr, saddr);
        daddr += offsetof(struct iphdr, daddr);
        udp += (ihl & 0xf) * 4;
    }
    trace_addr(skb, is_reply ? daddr : saddr, family, event->client);
    trace_addr(skb, is_reply ? saddr : daddr, family, event->server);
    event->client_port = 0;
    off = udp + (is_reply ? offsetof(struct udphdr, dest) : offsetof(struct udphdr, source));
    bpf_skb_load_bytes(skb, off, &event->client_port, sizeof(event->client_port));

    off = udp + sizeof(struct udphdr);
    len = detached(skb->len > off ? skb->len - off : 0);
    if (len > sizeof(event->message))
        len = sizeof(event->message);
    /* Linux 5.10 accepts the length only after a comparison with a constant above 0. A message has at least a header. */
    if (len < sizeof(struct dnshdr) || bpf_skb_load_bytes(skb, off, event->message, len))
        len = 0;
    event->len = len;
    bpf_ringbuf_submit(event, 0);
}

/* Counts the outcome of a query, and writes an event while a trace runs. */
static __always_inline void count_and_trace(struct __sk_buff *skb, __u32 l2, int outcome, enum edns_family family)
{
    struct edns_stats *stats = stats_of_cpu();

    outcome = opaque(skb, outcome);
    if (stats && outcome >= 0 && outcome < EDNS_OUTCOME_COUNT)
        stats->queries[outcome][family]++;
    if (settings.trace)
        trace(skb, l2, outcome, family);
}

#endif
