/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Tells of queries, one by one. */
#ifndef EDNS_TRACE_H
#define EDNS_TRACE_H

/* Writes an address, or where it is IPv4 the form of IPv6 that holds it. */
static __always_inline void trace_addr(struct __sk_buff *skb, __u32 off, bool v6, __be32 *addr)
{
    if (v6) {
        bpf_skb_load_bytes(skb, off, addr, 16);
        return;
    }
    addr[0] = 0;
    addr[1] = 0;
    addr[2] = bpf_htonl(0xffff);
    bpf_skb_load_bytes(skb, off, &addr[3], 4);
}

/*
 * Tells what became of the query in the packet, which is its reply already where it was answered. Where the ring is full
 * the event is lost, and counted: nothing waits for who reads.
 */
static __always_inline void trace(struct __sk_buff *skb, __u32 l2, __u32 outcome, __u32 family)
{
    const bool v6 = family == EDNS_IPV6, is_reply = outcome <= EDNS_NXDOMAIN;
    __u32 zero = 0, udp = l2, saddr = l2, daddr = l2, off, len;
    struct edns_event *event;

    event = bpf_ringbuf_reserve(&edns_events, sizeof(*event), 0);
    if (!event) {
        struct edns_stats *stats = bpf_map_lookup_elem(&edns_stats, &zero);

        if (stats)
            stats->events_lost++;
        return;
    }
    event->time = bpf_ktime_get_ns();
    event->ifindex = skb->ifindex;
    event->outcome = outcome;
    event->family = family;
    __builtin_memset(event->_pad, 0, sizeof(event->_pad));

    if (v6) {
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
    trace_addr(skb, is_reply ? daddr : saddr, v6, event->client);
    trace_addr(skb, is_reply ? saddr : daddr, v6, event->server);
    event->client_port = 0;
    off = udp + (is_reply ? offsetof(struct udphdr, dest) : offsetof(struct udphdr, source));
    bpf_skb_load_bytes(skb, off, &event->client_port, sizeof(event->client_port));

    off = udp + sizeof(struct udphdr);
    len = skb->len > off ? skb->len - off : 0;
    barrier_var(len);
    if (len > sizeof(event->message))
        len = sizeof(event->message);
    /* Without a header it is no message; and 5.10 does not learn from a comparison with 0 that a length is none. */
    if (len < sizeof(struct dnshdr) || bpf_skb_load_bytes(skb, off, event->message, len))
        len = 0;
    event->len = len;
    bpf_ringbuf_submit(event, 0);
}

#endif
