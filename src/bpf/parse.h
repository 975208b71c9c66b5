/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Parses a packet, one function per layer. Each returns EDNS_CONTINUE or the outcome, which is EDNS_NOT_DNS for packets that are no
 * query to port 53.
 */
#ifndef EDNS_PARSE_H
#define EDNS_PARSE_H

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

/* Octets of the link-layer header. */
enum l2_len {
    L2_NONE = 0,
    L2_ETH = sizeof(struct ethhdr),
};

/* A parsed query. Offsets are in bytes from the start of the packet. */
struct query {
    __u32 l3;           /* offset of the IP header */
    __u32 udp;          /* offset of the UDP header */
    __u32 ip_end;       /* offset of the end of the IP packet */
    __u32 udp_len;      /* octets, from the UDP header */
    __u32 name;         /* offset of the qname */
    __u32 name_len;     /* octets, with the final zero */
    __u64 name_csum;    /* unfolded checksum of the qname, as if it began at an even offset */
    bool has_name_csum; /* whether name_csum is known */
    bool is_ipv6;
    __be16 arcount;
    __be16 qtype;
    __u32 tail_len;  /* octets behind the question */
    __u32 limit;     /* octets of the largest DNS message that the client accepts, at most EDNS_ANSWER_MAX */
    __u32 flags;     /* enum query_flag without QUERY_OPT and QUERY_DO */
    __u32 opt_flags; /* QUERY_OPT and QUERY_DO; apart from flags, so that opaque can merge them with limit */
    __u32 index;     /* settings.index, as read for this query */
    __u32 word;      /* the index word that the first lookup found; 0: the name as written has no node */
    bool is_absent;  /* whether the name does not exist: its node is the closest encloser's child or deep node */
};

/* Offset of the UDP header in a packet without IP options and extension headers. */
static __always_inline __u32 udp_off(const struct query *q)
{
    return q->l3 + (q->is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
}

/* Makes the first `len` bytes readable through data and data_end. Invalidates packet pointers, even if it returns false. */
static __always_inline bool pull(struct __sk_buff *skb, __u32 len)
{
    if (__builtin_expect(skb_data(skb) + len <= skb_data_end(skb), true))
        return true;
    if (skb->len < len)
        return false;
    return !bpf_skb_pull_data(skb, len);
}

/* Whether the source is loopback, or an address is not unicast. Fast path: both first octets are 1 to 223. */
static __always_inline bool ipv4_has_bad_address(const struct iphdr *ip)
{
    __u8 source = *(__u8 *)&ip->saddr, dest = *(__u8 *)&ip->daddr;

    if (source - 1U < 223 && dest - 1U < 223)
        return source == 127;
    return !source || !dest || source >> 4 == 0xe || dest >> 4 == 0xe || source == 127 || ip->saddr == 0xffffffff ||
           ip->daddr == 0xffffffff;
}

/* Whether an address whose first half is 0 is :: or IPv4-mapped (::ffff:0:0/96). */
static __always_inline bool ipv6_is_none(const __u64 *addr)
{
    return !addr[1] || (__u32)addr[1] == bpf_htonl(0xffff);
}

/* Whether the source is loopback, or an address is multicast, unspecified or IPv4-mapped. */
static __always_inline bool ipv6_has_bad_address(const struct ipv6hdr *ip6)
{
    const __u64 *source = (void *)&ip6->saddr, *dest = (void *)&ip6->daddr;

    if (*(__u8 *)source == 0xff || *(__u8 *)dest == 0xff)
        return true;
    if (source[0] && dest[0])
        return false;
    return (!source[0] && (ipv6_is_none(source) || source[1] == bpf_cpu_to_be64(1))) ||
           (!dest[0] && ipv6_is_none(dest));
}

/* Source and destination must be unicast. */
static __always_inline int parse_eth(const struct ethhdr *eth)
{
    return (eth->h_dest[0] | eth->h_source[0]) & 1 ? EDNS_PASS_ADDRESS : EDNS_CONTINUE;
}

/* Accepts a whole UDP datagram to port 53 without IP options. The caller has pulled an IP header of 20 octets and a UDP header. */
static __always_inline int parse_ipv4(struct __sk_buff *skb, const struct iphdr *ip, struct query *q)
{
    const struct udphdr *udp = (void *)(ip + 1);

    if (ip->protocol != IPPROTO_UDP || ip->version != 4)
        return EDNS_NOT_DNS;
    if (ip->ihl != sizeof(*ip) / 4) {
        __be16 dport = 0;

        bpf_skb_load_bytes(skb, q->l3 + ip->ihl * 4 + offsetof(struct udphdr, dest), &dport, sizeof(dport));
        return dport == bpf_htons(DNS_PORT) ? EDNS_PASS_IP_OPTIONS : EDNS_NOT_DNS;
    }
    if (ip->frag_off & bpf_htons(0x1fff)) /* a later fragment has no ports */
        return EDNS_NOT_DNS;
    if (udp->dest != bpf_htons(DNS_PORT))
        return EDNS_NOT_DNS;
    if (ip->frag_off & bpf_htons(0xa000)) /* more fragments, or the reserved bit; not DF */
        return EDNS_PASS_FRAGMENT;
    if (ipv4_has_bad_address(ip))
        return EDNS_PASS_ADDRESS;
    q->udp = q->l3 + sizeof(*ip);
    q->ip_end = q->l3 + bpf_ntohs(ip->tot_len);
    return EDNS_CONTINUE;
}

/* Accepts a UDP datagram to port 53. Packets with extension headers, fragments too, are EDNS_NOT_DNS. Both headers are pulled. */
static __always_inline int parse_ipv6(const struct ipv6hdr *ip6, struct query *q)
{
    const struct udphdr *udp = (void *)(ip6 + 1);

    if (ip6->nexthdr != IPPROTO_UDP || ip6->version != 6 || udp->dest != bpf_htons(DNS_PORT))
        return EDNS_NOT_DNS;
    if (ipv6_has_bad_address(ip6))
        return EDNS_PASS_ADDRESS;
    if (!udp->check) /* receivers discard it (RFC 8200 §8.1) */
        return EDNS_PASS_MALFORMED;
    q->udp = q->l3 + sizeof(*ip6);
    q->ip_end = q->udp + bpf_ntohs(ip6->payload_len);
    return EDNS_CONTINUE;
}

static __always_inline int parse_udp(struct __sk_buff *skb, const struct udphdr *udp, struct query *q)
{
    /* A reply to port 53 could loop between two servers. Port 0 takes no reply (RFC 768). */
    if (udp->source == bpf_htons(DNS_PORT) || !udp->source)
        return EDNS_PASS_ADDRESS;
    q->udp_len = bpf_ntohs(udp->len);
    /* The UDP length must equal the length of the IP payload. Bytes behind the IP packet are Ethernet padding. */
    if (q->udp_len != q->ip_end - q->udp || q->ip_end > skb->len)
        return EDNS_PASS_MALFORMED;
    return EDNS_CONTINUE;
}

/*
 * Parses link layer, IP and UDP. Every packet of the interface comes here, so a packet that is not DNS leaves after as few
 * instructions as possible.
 */
static __always_inline int parse_packet(struct __sk_buff *skb, const __u32 l2, struct query *q)
{
    void *data, *end;
    __be16 proto;
    int outcome;

    if (!pull(skb, l2 + sizeof(struct iphdr) + sizeof(struct udphdr)))
        return EDNS_NOT_DNS;
    data = skb_data(skb);
    end = skb_data_end(skb);
    if (data + l2 + sizeof(struct iphdr) + sizeof(struct udphdr) > end)
        return EDNS_NOT_DNS;
    q->l3 = l2;
    /* A VLAN tag in the frame is another EtherType. An offloaded tag (vlan_tci) does not show here. */
    proto = l2 ? ((struct ethhdr *)data)->h_proto : skb->protocol;
    if (proto == bpf_htons(ETH_P_IP)) {
        outcome = parse_ipv4(skb, data + l2, q);
    } else if (proto == bpf_htons(ETH_P_IPV6)) {
        if (data + l2 + sizeof(struct ipv6hdr) + sizeof(struct udphdr) > end) {
            if (!pull(skb, l2 + sizeof(struct ipv6hdr) + sizeof(struct udphdr)))
                return EDNS_NOT_DNS;
            data = skb_data(skb);
            end = skb_data_end(skb);
            if (data + l2 + sizeof(struct ipv6hdr) + sizeof(struct udphdr) > end)
                return EDNS_NOT_DNS;
        }
        q->is_ipv6 = true;
        outcome = parse_ipv6(data + l2, q);
    } else {
        return EDNS_NOT_DNS;
    }
    if (outcome != EDNS_CONTINUE)
        return outcome;
    if (l2) {
        outcome = parse_eth(data);
        if (outcome != EDNS_CONTINUE)
            return outcome;
    }
    return parse_udp(skb, data + udp_off(q), q);
}

/* Parses the DNS header. The query must have one question. Invalidates packet pointers. */
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
    q->name = q->udp + sizeof(struct udphdr) + sizeof(*dns);
    return EDNS_CONTINUE;
}

/*
 * For edns_search: sets the offsets that parse_packet and parse_dns set in edns_packet. q->is_ipv6 is an input. Never returns false;
 * the verifier needs it.
 */
static __always_inline bool parse_again(struct __sk_buff *skb, const __u32 l2, struct query *q)
{
    struct udphdr *udp;
    struct dnshdr *dns;

    q->l3 = l2;
    q->udp = udp_off(q);
    udp = octets_at(skb, q->udp, sizeof(*udp) + sizeof(*dns));
    if (!udp)
        return false;
    dns = (void *)(udp + 1);
    q->udp_len = bpf_ntohs(udp->len);
    q->arcount = dns->arcount;
    q->name = q->udp + sizeof(*udp) + sizeof(*dns);
    return true;
}

/* Accepts one OPT record that takes all octets behind the question. Returns EDNS_CONTINUE or EDNS_PASS_EDNS. */
static __always_inline int parse_opt(const struct dns_opt *opt, const void *end, struct query *q)
{
    if (q->arcount != bpf_htons(1) || q->tail_len < sizeof(*opt) || (void *)(opt + 1) > end)
        return EDNS_PASS_EDNS;
    if (opt->name || opt->type != bpf_htons(DNS_TYPE_OPT) || opt->ext_rcode || opt->version ||
        bpf_ntohs(opt->rdlen) + sizeof(*opt) != q->tail_len)
        return EDNS_PASS_EDNS;
    q->opt_flags = opt->flags & bpf_htons(DNS_OPT_DO) ? QUERY_OPT | QUERY_DO : QUERY_OPT;
    if (bpf_ntohs(opt->udp_size) > DNS_UDP_MIN) /* smaller values mean 512 (RFC 6891 §6.2.3) */
        q->limit = bpf_ntohs(opt->udp_size);
    if (q->limit > EDNS_ANSWER_MAX)
        q->limit = EDNS_ANSWER_MAX;
    return EDNS_CONTINUE;
}

/* Parses QTYPE, QCLASS and an optional OPT. Needs q->name_len. */
static __always_inline int parse_question(struct __sk_buff *skb, struct query *q)
{
    void *end = skb_data_end(skb);
    __u32 head, merged;
    __u8 *tail;

    head = sizeof(struct udphdr) + sizeof(struct dnshdr) + q->name_len + DNS_QUESTION_TAIL;
    if (q->udp_len < head)
        return EDNS_PASS_MALFORMED;
    q->tail_len = q->udp_len - head;
    if (q->tail_len > DNS_TAIL_MAX)
        return EDNS_PASS_TOO_LARGE;
    tail = octets_at(skb, q->name + q->name_len, DNS_QUESTION_TAIL);
    if (!tail)
        return EDNS_PASS_MALFORMED;
    q->qtype = *(__be16 *)tail;
    /* Meta types (RFC 6895 §3.1: ANY, AXFR, ...; OPT) ask for more than one RRset. */
    if (*(__be16 *)(tail + 2) != bpf_htons(DNS_CLASS_IN) || !q->qtype || q->qtype == bpf_htons(DNS_TYPE_OPT) ||
        (bpf_ntohs(q->qtype) >= 128 && bpf_ntohs(q->qtype) <= 255))
        return EDNS_PASS_QTYPE;

    q->limit = DNS_UDP_MIN;
    q->opt_flags = 0;
    if (q->arcount) {
        int outcome = parse_opt((void *)(tail + DNS_QUESTION_TAIL), end, q);

        if (outcome != EDNS_CONTINUE)
            return outcome;
    } else if (q->tail_len) {
        return EDNS_PASS_MALFORMED;
    }
    /* One value, so that one call merges the verifier's states. */
    merged = opaque(skb, q->limit << 16 | q->opt_flags);
    q->limit = merged >> 16;
    q->opt_flags = merged & (QUERY_OPT | QUERY_DO);
    return EDNS_CONTINUE;
}

/* Offset of the octets behind the question. */
static __always_inline __u32 tail_off(const struct query *q)
{
    return q->name + q->name_len + DNS_QUESTION_TAIL;
}

static __always_inline bool has_options(const struct query *q)
{
    return q->tail_len && q->tail_len != sizeof(struct dns_opt);
}

/* Sets `*csum` to the checksum of the octets behind the question, which are none or an OPT without options. */
static __always_inline int csum_tail(struct __sk_buff *skb, const struct query *q, __u32 *csum)
{
    void *opt;

    *csum = 0;
    if (!q->tail_len)
        return EDNS_CONTINUE;
    opt = octets_at(skb, tail_off(q), sizeof(struct dns_opt));
    if (!opt)
        return EDNS_PASS_ERROR;
    *csum = csum_fold16(csum_words(opt, 2) + *(__u16 *)(opt + 8) + *(__u8 *)(opt + 10));
    return EDNS_CONTINUE;
}

/*
 * Whether all options can be ignored: each is PADDING, or COOKIE of a valid length (RFC 7873 §4). The OPT is at the start of the
 * scratch and takes `len` octets. Other options, wrong lengths and more than DNS_OPTIONS_MAX options are left to the DNS server.
 */
__noinline int can_ignore_options(__u32 slot, __u32 len)
{
    struct scratch *scratch = scratch_at(slot);
    __u32 i, at, code, size;

    if (!scratch)
        return false;
    scratch->option = sizeof(struct dns_opt);
    for (i = 0; i < DNS_OPTIONS_MAX && scratch->option < len; i++) {
        at = scratch->option & (DNS_TAIL_MAX - 1);
        code = scratch->octets[at] << 8 | scratch->octets[at + 1];
        size = scratch->octets[at + 2] << 8 | scratch->octets[at + 3];
        if (code == DNS_OPTION_COOKIE) {
            if (size != 8 && (size < 16 || size > 40))
                return false;
        } else if (code != DNS_OPTION_PADDING) {
            return false;
        }
        scratch->option += DNS_OPTION_HEAD + size;
    }
    return scratch->option == len;
}

/* The folded checksum of the first `len` octets of the scratch. */
__noinline __u32 scratch_csum(__u32 slot, __u32 len)
{
    struct scratch *scratch = scratch_at(slot);
    __u64 sum = 0;
    __u32 i;

    if (!scratch || len > DNS_TAIL_MAX)
        return 0;
    *(__u64 *)(scratch->octets + len) = 0;
    for (i = 0; i < DNS_TAIL_MAX / 8 && i * 8 < len; i++)
        sum += (scratch->words[i] & 0xffffffff) + (scratch->words[i] >> 32);
    return csum_fold16(sum);
}

/* Checks the EDNS options, and sets `*csum` to the checksum of the octets behind the question. */
static __always_inline int parse_options(struct __sk_buff *skb, const struct query *q, __u32 slot, __u32 *csum)
{
    struct scratch *scratch = scratch_at(slot);

    if (!scratch || !scratch_load(skb, scratch, tail_off(q), q->tail_len))
        return EDNS_PASS_ERROR;
    if (!can_ignore_options(slot, q->tail_len))
        return EDNS_PASS_EDNS;
    *csum = scratch_csum(slot, q->tail_len);
    return EDNS_CONTINUE;
}

#endif
