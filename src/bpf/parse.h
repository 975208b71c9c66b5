/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From the frame to a DNS query: Ethernet, IP, UDP, the DNS header and the end of the question. */
#ifndef EDNS_PARSE_H
#define EDNS_PARSE_H

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define DNS_PORT 53

/* RFC 1035 §4.1.1 */
struct dnshdr {
    __be16 id;
    __be16 flags;
    __be16 qdcount;
    __be16 ancount;
    __be16 nscount;
    __be16 arcount;
};

#define DNS_QR 0x8000
#define DNS_OPCODE 0x7800
#define DNS_TC 0x0200
#define DNS_RD 0x0100
#define DNS_CD 0x0010
#define DNS_CLASS_IN 1
#define DNS_TYPE_OPT 41
#define DNS_NAME_MAX 255
#define DNS_NAME_WORDS 32 /* of 8 octets */
#define DNS_LABEL_MAX 63
#define DNS_LABELS_MAX 128
#define DNS_UDP_MIN 512     /* what every client takes (RFC 1035 §4.2.1) */
#define DNS_QUESTION_TAIL 4 /* QTYPE and QCLASS */

/* RFC 6891 §6.1.2; the root name, then the type. */
struct dns_opt {
    __u8 name;
    __be16 type;
    __be16 udp_size;
    __u8 ext_rcode;
    __u8 version;
    __be16 flags;
    __be16 rdlen;
} __attribute__((packed));

#define DNS_OPT_DO 0x8000
#define DNS_OPTION_HEAD 4     /* octets of an option's code and length */
#define DNS_OPTIONS_MAX 32    /* of an OPT that is looked at; the verifier walks each, in every program that searches */
#define DNS_OPTION_COOKIE 10  /* RFC 7873 */
#define DNS_OPTION_PADDING 12 /* RFC 7830 */
/* Additional records take at most this much of a query that is looked at. */
#define DNS_TAIL_MAX 2048

struct query {
    __u32 l3;        /* offset of the IP header */
    __u32 udp;       /* offset of the UDP header */
    __u32 qname;     /* offset of the question's name */
    __u32 qname_len; /* with the final zero */
    __u64 qname_sum; /* one's complement, of its octets as if they began at an even offset, unfolded */
    bool has_sum;    /* whether that is known */
    __u32 udp_len;   /* as in the UDP header */
    __u32 tail_len;  /* octets behind the question */
    __u32 limit;     /* octets of a DNS message that the client takes from us */
    __be16 arcount;
    __be16 qtype;
    bool v6;
    __u32 opt_flags; /* PLAN_OPT, PLAN_DO */
};

/*
 * Makes the first `len` octets readable through data and data_end.
 * It may call a helper that invalidates packet pointers, also where it returns false.
 */
static __always_inline bool pull(struct __sk_buff *skb, __u32 len)
{
    if (__builtin_expect(skb_data(skb) + len <= skb_data_end(skb), true))
        return true;
    if (skb->len < len)
        return false;
    return !bpf_skb_pull_data(skb, len);
}

/* Whether no reply may go to the packet's source, or come from its destination. The first octets of most say that it may. */
static __always_inline bool ipv4_unfit(const struct iphdr *ip)
{
    __u8 source = *(__u8 *)&ip->saddr, dest = *(__u8 *)&ip->daddr;

    if (source - 1U < 223 && dest - 1U < 223)
        return source == 127;
    return !source || !dest || source >> 4 == 0xe || dest >> 4 == 0xe || source == 127 || ip->saddr == 0xffffffff ||
           ip->daddr == 0xffffffff;
}

/* Whether an address whose first half is 0 is of nobody: ::, or an IPv4 address within it (::ffff:0:0/96), as sockets are told. */
static __always_inline bool ipv6_is_none(const __u64 *addr)
{
    return !addr[1] || (__u32)addr[1] == bpf_htonl(0xffff);
}

static __always_inline bool ipv6_unfit(const struct ipv6hdr *ip6)
{
    const __u64 *source = (void *)&ip6->saddr, *dest = (void *)&ip6->daddr;

    if (*(__u8 *)source == 0xff || *(__u8 *)dest == 0xff)
        return true;
    if (source[0] && dest[0])
        return false;
    return (!source[0] && (ipv6_is_none(source) || source[1] == bpf_cpu_to_be64(1))) ||
           (!dest[0] && ipv6_is_none(dest));
}

/*
 * Looks for a UDP packet to port 53. Returns EDNS_NOT_DNS for everything else, after as few instructions as possible;
 * EDNS_ANSWERED where `q` tells its offsets and nothing speaks against an answer; else why it passes.
 */
static __always_inline int parse_ip(struct __sk_buff *skb, const __u32 l2, struct query *q)
{
    void *data, *end;
    struct udphdr *udp;
    __be16 proto;
    __u32 ip_len, payload;

    q->v6 = false;
    if (!pull(skb, l2 + sizeof(struct iphdr) + sizeof(struct udphdr)))
        return EDNS_NOT_DNS;
    data = skb_data(skb);
    end = skb_data_end(skb);
    if (data + l2 + sizeof(struct iphdr) + sizeof(*udp) > end)
        return EDNS_NOT_DNS;
    /* A tag within the frame (VLAN in VLAN) is another protocol; one that the skb holds beside it is not seen here. */
    proto = l2 ? ((struct ethhdr *)data)->h_proto : skb->protocol;

    if (proto == bpf_htons(ETH_P_IP)) {
        struct iphdr *ip = data + l2;

        if (ip->protocol != IPPROTO_UDP || ip->version != 4)
            return EDNS_NOT_DNS;
        if (ip->ihl != sizeof(*ip) / 4) {
            __be16 dport = 0;

            bpf_skb_load_bytes(skb, l2 + ip->ihl * 4 + offsetof(struct udphdr, dest), &dport, sizeof(dport));
            return dport == bpf_htons(DNS_PORT) ? EDNS_PASS_IP_OPTIONS : EDNS_NOT_DNS;
        }
        udp = (void *)(ip + 1);
        if (ip->frag_off & bpf_htons(0x1fff)) /* a later fragment has no ports */
            return EDNS_NOT_DNS;
        if (udp->dest != bpf_htons(DNS_PORT))
            return EDNS_NOT_DNS;
        if (ip->frag_off & bpf_htons(0xa000)) /* more fragments, or the reserved bit; not DF */
            return EDNS_PASS_FRAGMENT;
        if (ipv4_unfit(ip))
            return EDNS_PASS_ADDRESS;
        ip_len = bpf_ntohs(ip->tot_len);
        payload = ip_len - sizeof(*ip);
        q->udp = l2 + sizeof(*ip);
    } else if (proto == bpf_htons(ETH_P_IPV6)) {
        struct ipv6hdr *ip6 = data + l2;

        if (data + l2 + sizeof(*ip6) + sizeof(*udp) > end) {
            if (!pull(skb, l2 + sizeof(*ip6) + sizeof(*udp)))
                return EDNS_NOT_DNS;
            data = skb_data(skb);
            end = skb_data_end(skb);
            ip6 = data + l2;
            if (data + l2 + sizeof(*ip6) + sizeof(*udp) > end)
                return EDNS_NOT_DNS;
        }
        q->v6 = true;
        udp = (void *)(ip6 + 1);
        /* An extension header, a fragment's included, is not looked behind. */
        if (ip6->nexthdr != IPPROTO_UDP || ip6->version != 6 || udp->dest != bpf_htons(DNS_PORT))
            return EDNS_NOT_DNS;
        if (ipv6_unfit(ip6))
            return EDNS_PASS_ADDRESS;
        if (!udp->check) /* RFC 8200 §8.1: no datagram of ours to answer */
            return EDNS_PASS_MALFORMED;
        payload = bpf_ntohs(ip6->payload_len);
        ip_len = payload + sizeof(*ip6);
        q->udp = l2 + sizeof(*ip6);
    } else {
        return EDNS_NOT_DNS;
    }

    /* A server's question could be answered for ever; port 0 takes no reply (RFC 768). */
    if (udp->source == bpf_htons(DNS_PORT) || !udp->source)
        return EDNS_PASS_ADDRESS;
    if (l2) {
        struct ethhdr *eth = data;

        if ((eth->h_dest[0] | eth->h_source[0]) & 1) /* broadcast and multicast */
            return EDNS_PASS_ADDRESS;
    }
    q->l3 = l2;
    q->udp_len = bpf_ntohs(udp->len);
    /* Behind the IP packet there may be padding to Ethernet's least length; within it nothing is unaccounted for. */
    if (q->udp_len != payload || l2 + ip_len > skb->len)
        return EDNS_PASS_MALFORMED;
    return EDNS_ANSWERED;
}

/*
 * Checks the DNS header of a query of one question. Returns EDNS_ANSWERED, or why the packet passes.
 * Invalidates packet pointers.
 */
static __always_inline int parse_dns(struct __sk_buff *skb, struct query *q)
{
    struct dnshdr *dns;

    if (q->udp_len < sizeof(struct udphdr) + sizeof(*dns) + 1 + DNS_QUESTION_TAIL)
        return EDNS_PASS_MALFORMED;
    if (q->udp_len > sizeof(struct udphdr) + sizeof(*dns) + DNS_NAME_MAX + DNS_QUESTION_TAIL + DNS_TAIL_MAX)
        return EDNS_PASS_TOO_LARGE;
    if (!pull(skb, q->udp + q->udp_len))
        return EDNS_PASS_ERROR;
    dns = skb_data(skb) + q->udp + sizeof(struct udphdr);
    if ((void *)(dns + 1) > skb_data_end(skb))
        return EDNS_PASS_MALFORMED;
    if (dns->flags & bpf_htons(DNS_QR | DNS_OPCODE | DNS_TC) || dns->qdcount != bpf_htons(1) ||
        dns->ancount | dns->nscount)
        return EDNS_PASS_MALFORMED;
    q->arcount = dns->arcount;
    q->qname = q->udp + sizeof(struct udphdr) + sizeof(*dns);
    return EDNS_ANSWERED;
}

/* What parse_ip and parse_dns found in the packet, once more; q->v6 is known. False where it is too short. */
static __always_inline bool parse_again(struct __sk_buff *skb, const __u32 l2, struct query *q)
{
    struct udphdr *udp;
    struct dnshdr *dns;

    q->l3 = l2;
    q->udp = l2 + (q->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
    udp = octets_at(skb, q->udp, sizeof(*udp) + sizeof(*dns));
    if (!udp)
        return false;
    dns = (void *)(udp + 1);
    q->udp_len = bpf_ntohs(udp->len);
    q->arcount = dns->arcount;
    q->qname = q->udp + sizeof(*udp) + sizeof(*dns);
    return true;
}

/*
 * What follows the question's name, whose length is known: type and class and, behind them, nothing or one OPT.
 * Returns EDNS_ANSWERED, or why the packet passes.
 */
static __always_inline int parse_tail(struct __sk_buff *skb, struct query *q)
{
    void *end = skb_data_end(skb);
    struct dns_opt *opt;
    __u32 rest, limit = DNS_UDP_MIN, flags = 0;
    __u8 *tail;

    rest = sizeof(struct udphdr) + sizeof(struct dnshdr) + q->qname_len + DNS_QUESTION_TAIL;
    if (q->udp_len < rest)
        return EDNS_PASS_MALFORMED;
    rest = q->udp_len - rest;
    if (rest > DNS_TAIL_MAX)
        return EDNS_PASS_TOO_LARGE;
    tail = octets_at(skb, q->qname + q->qname_len, DNS_QUESTION_TAIL);
    if (!tail)
        return EDNS_PASS_MALFORMED;
    q->qtype = *(__be16 *)tail;
    /* Meta types (RFC 6895 §3.1: ANY, AXFR, ...; OPT) are questions about more than one RRset. */
    if (*(__be16 *)(tail + 2) != bpf_htons(DNS_CLASS_IN) || !q->qtype || q->qtype == bpf_htons(DNS_TYPE_OPT) ||
        (bpf_ntohs(q->qtype) >= 128 && bpf_ntohs(q->qtype) <= 255))
        return EDNS_PASS_QTYPE;

    if (q->arcount) {
        opt = (void *)(tail + DNS_QUESTION_TAIL);
        if (q->arcount != bpf_htons(1) || rest < sizeof(*opt) || (void *)(opt + 1) > end)
            return EDNS_PASS_EDNS;
        if (opt->name || opt->type != bpf_htons(DNS_TYPE_OPT) || opt->ext_rcode || opt->version ||
            bpf_ntohs(opt->rdlen) + sizeof(*opt) != rest)
            return EDNS_PASS_EDNS;
        flags = opt->flags & bpf_htons(DNS_OPT_DO) ? PLAN_OPT | PLAN_DO : PLAN_OPT;
        if (bpf_ntohs(opt->udp_size) > DNS_UDP_MIN) /* less counts as 512 (RFC 6891 §6.2.3) */
            limit = bpf_ntohs(opt->udp_size);
        if (limit > EDNS_ANSWER_MAX)
            limit = EDNS_ANSWER_MAX;
    } else if (rest) {
        return EDNS_PASS_MALFORMED;
    }
    q->tail_len = rest;
    limit = forget(skb, limit << 16 | flags);
    q->limit = limit >> 16;
    q->opt_flags = limit & (PLAN_OPT | PLAN_DO);
    return EDNS_ANSWERED;
}

#endif
