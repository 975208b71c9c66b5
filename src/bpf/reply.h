/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Turns a query's packet into its reply, in place. */
#ifndef EDNS_REPLY_H
#define EDNS_REPLY_H

#define REPLY_TTL 64 /* of the IP packet */
/* IPv4 hosts take 576 octets whatever the link (RFC 791 §3.1): such a packet is never cut, and the interface's MTU not looked at. */
#define MTU_UNCHECKED 576
#define PACKET_OTHERHOST 3

/* The sum of octets that begin at an odd offset: their bytes change places (RFC 1071 §2 (B)). */
static __always_inline __u16 csum_at(__u16 sum, __u32 offset)
{
    return offset & 1 ? sum << 8 | sum >> 8 : sum;
}

/* The MTU of the interface that the packet is on; where that can't be read, what is certain. */
static __always_inline __u32 link_mtu(struct __sk_buff *ctx)
{
    /* The context of a tc program is the kernel's skb; the verifier only lets us read that with a helper. */
    struct sk_buff *skb = (void *)ctx;

    return can_read_kernel ? BPF_CORE_READ(skb, dev, mtu) : MTU_UNCHECKED;
}

/* Octets in front of the packet in its buffer. */
static __always_inline __u32 headroom(struct __sk_buff *ctx)
{
    struct sk_buff *skb = (void *)ctx; /* see link_mtu */

    return BPF_CORE_READ(skb, data) - BPF_CORE_READ(skb, head);
}

/* Has an Ethernet frame's source and destination change places: 12 octets, in words, since clang would go octet by octet. */
static __always_inline void eth_swap(void *data)
{
    __u64 *first = data, word = *first;
    __u32 *last = data + sizeof(word);
    __u64 dest = word & 0xffffffffffffULL, source = word >> 48 | (__u64)*last << 16;

    *first = source | dest << 48;
    *last = dest >> 16;
}

/* Writes `len` of the answer's octets, from `from` on, at `off`. */
static __always_inline void write_octets(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 from,
                                         __u32 len)
{
    /* Masks instead of comparisons: one path for the verifier, and one that it knows to be of at least one octet. */
    len = (len - 1) & EDNS_ANSWER_MASK;
    barrier_var(len);
    from &= EDNS_ANSWER_MASK;
    barrier_var(from);
    bpf_skb_store_bytes(skb, off, (void *)(answer + 1) + from, len + 1, 0);
}

/*
 * Writes `size` to twice as many of the answer's octets without a helper, which would cost as much as the look-up: two
 * pieces of `size` octets, the second of which ends with them.
 */
static __always_inline void write_pieces(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 len,
                                         const __u32 size)
{
    __u32 at = (len - size) & (2 * size - 1), i;
    __u64 *from = (void *)(answer + 1), *to = octets_at(skb, off, size);

    if (!to)
        return;
    for (i = 0; i < size / 8; i++)
        to[i] = from[i];
    barrier_var(at);
    from = (void *)(answer + 1) + at;
    to = octets_at(skb, off + at, size);
    if (!to)
        return;
    for (i = 0; i < size / 8; i++)
        to[i] = from[i];
}

/* Writes the answer's octets at `off`; its last records, where they may be rotated, begin with another one at each `turn`. */
static __always_inline void write_answer(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 turn)
{
    __u32 len = answer->len, split = 0, first;

    if (answer->rotate_count > 1)
        split = turn % answer->rotate_count * answer->rotate_stride;
    if (split) {
        first = len - answer->rotate_count * answer->rotate_stride;
        if (first)
            write_octets(skb, off, answer, 0, first);
        write_octets(skb, off + len - split, answer, first, split);
        write_octets(skb, off + first, answer, first + split, len - first - split);
    } else if (len >= 16 && len <= 32) {
        write_pieces(skb, off, answer, len, 16);
    } else if (len > 32 && len <= 64) {
        write_pieces(skb, off, answer, len, 32);
    } else if (len > 64 && len <= 128) {
        write_pieces(skb, off, answer, len, 64);
    } else {
        write_octets(skb, off, answer, 0, len);
    }
}

#define CHECKSUM_PARTIAL 3

/*
 * Whether the UDP header's field holds not the sum of all but that of the pseudo-header (CHECKSUM_PARTIAL: a query from a
 * local socket, whose sum some interface will finish). The kernel knows, but only tells by a helper that costs as much as all
 * of a look-up. So it is asked only where the field could be either. Negative where it can't be asked. A query that was damaged
 * such that it looks unfinished gets a reply that no host takes, either.
 */
static __always_inline int csum_is_partial(struct __sk_buff *ctx, const struct query *q, __u32 tail_csum)
{
    struct sk_buff *skb = (void *)ctx; /* see link_mtu */
    struct udphdr *udp = octets_at(ctx, q->udp, sizeof(struct udphdr) + sizeof(struct dnshdr));
    void *ip = octets_at(ctx, q->l3, sizeof(struct iphdr));
    __be16 *question;
    __u64 sum;
    __u32 end;

    if (!udp || !ip || !udp->check)
        return false;
    sum = bpf_htons(IPPROTO_UDP) + udp->len;
    if (q->v6) {
        ip = octets_at(ctx, q->l3, sizeof(struct ipv6hdr));
        if (!ip)
            return false;
        sum += sum_of(ip + offsetof(struct ipv6hdr, saddr), 2 * sizeof(struct in6_addr) / 4);
    } else {
        sum += sum_of(ip + offsetof(struct iphdr, saddr), 2);
    }
    if (csum_fold16(sum + (__u16)~udp->check) != 0xffff)
        return false;
    question = octets_at(ctx, q->qname + q->qname_len, DNS_QUESTION_TAIL);
    if (!question)
        return false;
    sum += sum_of(udp, 5) + q->qname_sum;
    end = csum_fold16((__u64)question[0] + question[1] + tail_csum);
    sum += csum_at(end, q->qname_len);
    if (q->has_sum && csum_fold16(sum) != 0xffff)
        return true;
    return can_read_kernel ? BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) == CHECKSUM_PARTIAL : -1;
}

/*
 * Whether the frame is for this interface, or a client's own port took it. A switch floods frames for others, too, which are
 * theirs to answer. On egress it is for the gateway.
 */
static __always_inline bool frame_is_ours(struct __sk_buff *skb, const __u32 l2, __u32 flags)
{
    __u32 ifindex = skb->ifindex;
    struct edns_port *port;
    __u64 *dest;

    if (!l2 || flags & (PLAN_TO_PEER | PLAN_PROBE) || settings.egress || skb->pkt_type != PACKET_OTHERHOST)
        return true;
    port = bpf_map_lookup_elem(&edns_ports, &ifindex);
    dest = octets_at(skb, 0, sizeof(*dest));
    return port && dest && (port->mac == ~0ULL || port->mac == (*dest & 0xffffffffffffULL));
}

/*
 * Whether IPVS has the packet in hand (skb->ipvs_property): up to Linux 6.14 and its stable relatives the reply would keep that mark,
 * and IPVS leave its addresses as they are. Seen on egress only: on ingress it comes later.
 */
static __always_inline bool is_of_ipvs(struct __sk_buff *ctx)
{
    struct sk_buff *skb = (void *)ctx; /* see link_mtu */

    if (!can_read_kernel)
        return settings.ipvs;
    return bpf_core_field_exists(skb->ipvs_property) && BPF_CORE_READ_BITFIELD_PROBED(skb, ipvs_property);
}

#define TRANSPORT_UNSET 0xffff

/*
 * Whether the packet, once grown, can be cut again down to `end` octets. The kernel refuses to cut off the place where an
 * interface will write a sum (CHECKSUM_PARTIAL), and who sends frames may name another place than UDP's (virtio_net_hdr). Nor
 * does it cut off what it took for headers, by the protocol that the sender named (sll_protocol).
 */
static __always_inline bool can_be_cut(struct __sk_buff *ctx, const struct query *q, __u32 end)
{
    struct sk_buff *skb = (void *)ctx; /* see link_mtu */

    __u32 transport;

    if (!can_read_kernel)
        return false;
    transport = BPF_CORE_READ(skb, transport_header);
    if (transport != TRANSPORT_UNSET && transport > headroom(ctx) + end)
        return false;
    if (BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) != CHECKSUM_PARTIAL)
        return true;
    return BPF_CORE_READ(skb, csum_start) == headroom(ctx) + q->udp &&
           BPF_CORE_READ(skb, csum_offset) == offsetof(struct udphdr, check);
}

/*
 * Makes room for the reply, the last step that can fail. It leaves the packet's octets as they were. Returns EDNS_ANSWERED,
 * or why the packet passes. Invalidates packet pointers.
 */
static __always_inline int reply_plan(struct __sk_buff *skb, const __u32 l2, const struct query *q,
                                      const struct edns_answer *answer, struct plan *plan)
{
    const __u32 tail_off = q->qname + q->qname_len + DNS_QUESTION_TAIL;
    const __u32 end = tail_off + answer->len + (q->opt_flags & PLAN_OPT ? sizeof(struct dns_opt) : 0);
    __u32 len = skb->len;
    int is_partial;

    if (!frame_is_ours(skb, l2, plan->flags))
        return EDNS_PASS_ADDRESS;
    if (skb->gso_size) /* several datagrams, of which this looks at one */
        return EDNS_PASS_FRAGMENT;
    if (settings.egress && !(plan->flags & PLAN_PROBE) && is_of_ipvs(skb))
        return EDNS_PASS_IPVS;
    if (end - q->udp - sizeof(struct udphdr) > q->limit)
        return EDNS_PASS_TOO_LARGE;
    if (end - l2 > MTU_UNCHECKED && end - l2 > link_mtu(skb))
        return EDNS_PASS_TOO_LARGE;
    plan->qname_len = q->qname_len;
    plan->flags |= q->opt_flags;
    is_partial = csum_is_partial(skb, q, plan->csum);
    if (is_partial < 0)
        return EDNS_PASS_ERROR;
    if (is_partial)
        plan->flags |= PLAN_PARTIAL;
    if (end <= len && !can_be_cut(skb, q, end))
        return EDNS_PASS_ERROR;
    /* Growing also gives up a sum that the interface computed over the old packet (CHECKSUM_COMPLETE): so it always grows. */
    return bpf_skb_change_tail(skb, end > len ? end : len + 1, 0) ? EDNS_PASS_ERROR : EDNS_ANSWERED;
}

/*
 * Writes the reply over the query. Nothing can fail here: the packet is linear, writable and long enough, it can be cut
 * (see can_be_cut), and where a condition says otherwise that is for the verifier.
 */
static __always_inline void reply_write(struct __sk_buff *skb, const __u32 l2, const bool v6, const struct plan *plan,
                                        struct edns_answer *answer)
{
    const __u32 udp_off = l2 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
    const __u32 dns_off = udp_off + sizeof(struct udphdr);
    const __u32 tail_off = dns_off + sizeof(struct dnshdr) + (plan->qname_len & 0xff) + DNS_QUESTION_TAIL;
    const __u32 has_opt = !!(plan->flags & PLAN_OPT);
    const __u32 end = tail_off + answer->len + (has_opt ? sizeof(struct dns_opt) : 0);
    const __u32 udp_len = end - udp_off;
    union {
        struct dns_opt opt;
        __u16 words[(sizeof(struct dns_opt) + 1) / 2];
    } opt = {.words = {0}}; /* all of them: the octet behind the record counts in its sum */
    __u16 check, pseudo_diff, opt_sum = 0;
    __u64 diff;
    struct dnshdr *dns;
    struct udphdr *udp;
    void *data, *data_end;
    __u32 turn;
    __be16 port;

    /* A query whose additional records were longer than the reply's. Whatever were left would be behind the IP packet. */
    if (skb->len > end)
        bpf_skb_change_tail(skb, end, 0);
    data = skb_data(skb);
    data_end = skb_data_end(skb);
    if (data + dns_off + sizeof(*dns) > data_end)
        return;

    if (l2)
        eth_swap(data);
    if (v6) {
        struct ipv6hdr *ip6 = data + l2;
        __u64 *from = (void *)&ip6->saddr, *to = (void *)&ip6->daddr;
        __u64 first = from[0], last = from[1];

        from[0] = to[0];
        from[1] = to[1];
        to[0] = first;
        to[1] = last;
        *(__be32 *)ip6 = bpf_htonl(6U << 28); /* no traffic class, no flow label */
        ip6->payload_len = bpf_htons(udp_len);
        ip6->hop_limit = REPLY_TTL;
    } else {
        struct iphdr *ip = data + l2;
        __be16 *tos = (void *)ip, no_tos = bpf_htons(0x4500); /* with version and header length */
        __be32 addr = ip->saddr;
        __be16 tot_len = bpf_htons(udp_len + sizeof(*ip));
        /* With the protocol: to read two octets of which one was just written takes the processor long. */
        __be16 *ttl = (void *)&ip->ttl, reply_ttl = (*ttl & bpf_htons(0xff)) | bpf_htons(REPLY_TTL << 8);
        __u32 sum = (__u16)~ip->check;

        ip->saddr = ip->daddr;
        ip->daddr = addr;
        sum += (__u16)~ip->tot_len + (__u16) ~*ttl + tot_len + reply_ttl;
        sum += (__u16) ~*tos + no_tos;
        *tos = no_tos;
        ip->tot_len = tot_len;
        *ttl = reply_ttl;
        if (end - l2 > MTU_UNCHECKED) {
            /* May be cut on its way to the client. Its pieces need a number, and not one that the client can know. */
            __be16 id = bpf_get_prandom_u32();

            sum += (__u16)~ip->id + (__u16)~ip->frag_off + id;
            ip->id = id;
            ip->frag_off = 0;
        }
        ip->check = ~csum_fold16(sum);
    }

    udp = data + udp_off;
    port = udp->source;
    udp->source = udp->dest;
    udp->dest = port;
    check = udp->check;
    pseudo_diff = csum_fold16((__u64)(__u16)~udp->len + bpf_htons(udp_len));
    udp->len = bpf_htons(udp_len);

    dns = data + dns_off;
    turn = bpf_ntohs(dns->id) + bpf_ntohs(port);
    diff = (__u16)~dns->flags + (__u16)~dns->arcount;
    /* RD and CD as asked (RFC 1035 §4.1.1, RFC 4035 §3.2.2); RA, AD, Z and TC clear. */
    dns->flags = answer->flags | (dns->flags & bpf_htons(DNS_RD | DNS_CD));
    dns->ancount = answer->count[0];
    dns->nscount = answer->count[1];
    dns->arcount = bpf_htons(bpf_ntohs(answer->count[2]) + has_opt);
    diff += dns->flags + dns->ancount + dns->nscount + dns->arcount;
    barrier_var(diff); /* else clang keeps all of them, and adds them up later */

    write_answer(skb, tail_off, answer, turn);
    if (has_opt) {
        const __u32 opt_off = tail_off + answer->len;
        void *to = octets_at(skb, opt_off, sizeof(opt.opt));
        __u32 sum = 0, i;

        if (!to)
            return;
        opt.opt.type = bpf_htons(DNS_TYPE_OPT);
        opt.opt.udp_size = bpf_htons(EDNS_ANSWER_MAX);
        opt.opt.flags = plan->flags & PLAN_DO ? bpf_htons(DNS_OPT_DO) : 0;
        __builtin_memcpy(to, &opt.opt, sizeof(opt.opt));
        for (i = 0; i < ARRAY_SIZE(opt.words); i++)
            sum += opt.words[i];
        opt_sum = csum_at(csum_fold16(sum), opt_off - udp_off);
    }

    udp = octets_at(skb, udp_off, sizeof(*udp));
    if (!udp || !check) /* the client sent none (RFC 768) */
        return;
    /* The sum changes as its octets do; one of the pseudo-header alone by the length in that. */
    if (plan->flags & PLAN_PARTIAL) {
        udp->check = csum_fold16((__u64)check + pseudo_diff);
        return;
    }
    diff += 2 * pseudo_diff; /* the length counts in both headers */
    diff += (__u16)~csum_at(plan->csum, tail_off - udp_off);
    diff += csum_at(answer->csum, tail_off - udp_off) + opt_sum;
    udp->check = (__u16)~csum_fold16((__u16)~check + diff) ?: 0xffff; /* 0 would be: none */
}

#endif
