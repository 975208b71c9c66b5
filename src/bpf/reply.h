/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Turns a query's packet into its reply, in place. Every step that can fail is in reply_prepare, before reply_write. */
#ifndef EDNS_REPLY_H
#define EDNS_REPLY_H

#define REPLY_TTL 64 /* of the IP packet */
/* Every IPv4 host accepts packets of 576 octets (RFC 791 §3.1), so a reply up to this size is not checked against the MTU. */
#define MTU_UNCHECKED 576
#define PACKET_HOST 0
#define PACKET_OTHERHOST 3
#define CHECKSUM_PARTIAL 3
#define TRANSPORT_UNSET 0xffff

/* In a tc program ctx is the kernel's sk_buff. As such it can be read with bpf_probe_read_kernel only. */
static __always_inline struct sk_buff *kernel_skb(struct __sk_buff *ctx)
{
    return (void *)ctx;
}

/* The MTU of the interface; MTU_UNCHECKED if the program can't read it. */
static __always_inline __u32 link_mtu(struct __sk_buff *skb)
{
    return can_read_kernel ? BPF_CORE_READ(kernel_skb(skb), dev, mtu) : MTU_UNCHECKED;
}

/* Bytes in front of the packet in its buffer. */
static __always_inline __u32 headroom(struct __sk_buff *skb)
{
    return BPF_CORE_READ(kernel_skb(skb), data) - BPF_CORE_READ(kernel_skb(skb), head);
}

/*
 * Whether the UDP checksum covers the pseudo-header only (CHECKSUM_PARTIAL: a query of a local socket, whose checksum an interface
 * will complete). Reading ip_summed takes a helper that costs as much as the whole lookup. So it is read only if the checksum fits
 * both cases; -1 if it can't be read. A corrupt query may look partial. Its reply is corrupt, too, and the client drops it.
 */
static __always_inline int csum_is_partial(struct __sk_buff *ctx, const struct query *q, __u32 tail_csum)
{
    struct sk_buff *skb = kernel_skb(ctx);
    struct udphdr *udp = octets_at(ctx, q->udp, sizeof(struct udphdr) + sizeof(struct dnshdr));
    void *ip = octets_at(ctx, q->l3, sizeof(struct iphdr));
    __be16 *question;
    __u64 sum;
    __u32 end;

    if (!udp || !ip || !udp->check)
        return false;
    sum = bpf_htons(IPPROTO_UDP) + udp->len;
    if (q->is_ipv6) {
        ip = octets_at(ctx, q->l3, sizeof(struct ipv6hdr));
        if (!ip)
            return false;
        sum += csum_words(ip + offsetof(struct ipv6hdr, saddr), 2 * sizeof(struct in6_addr) / 4);
    } else {
        sum += csum_words(ip + offsetof(struct iphdr, saddr), 2);
    }
    if (csum_fold16(sum + (__u16)~udp->check) != 0xffff)
        return false;
    question = octets_at(ctx, q->name + q->name_len, DNS_QUESTION_TAIL);
    if (!question)
        return false;
    sum += csum_words(udp, 5) + q->name_csum;
    end = csum_fold16((__u64)question[0] + question[1] + tail_csum);
    sum += csum_at(end, q->name_len);
    if (q->has_name_csum && csum_fold16(sum) != 0xffff)
        return true;
    return can_read_kernel ? BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) == CHECKSUM_PARTIAL : -1;
}

/*
 * Whether the frame's destination is this interface, or an address in edns_macs. A switch also floods frames for other hosts, which
 * get the query, too. Not checked on egress, where the destination is the next hop.
 */
static __always_inline bool frame_is_ours(struct __sk_buff *skb, const struct query *q)
{
    __u32 ifindex = skb->ifindex;
    struct edns_mac *accepted;
    __u64 *dest;

    if (!q->l3 || q->flags & (QUERY_TO_PEER | QUERY_PROBE) || settings.egress || skb->pkt_type != PACKET_OTHERHOST)
        return true;
    accepted = bpf_map_lookup_elem(&edns_macs, &ifindex);
    dest = octets_at(skb, 0, sizeof(*dest));
    return accepted && dest && (accepted->mac == ~0ULL || accepted->mac == (*dest & 0xffffffffffffULL));
}

/*
 * Whether IPVS has handled the packet (skb->ipvs_property). Before Linux 6.15 and its stable backports the reply would keep that flag,
 * and IPVS would not translate its addresses back. On ingress the flag is not set yet, because IPVS runs later.
 */
static __always_inline bool ipvs_handled(struct __sk_buff *ctx)
{
    struct sk_buff *skb = kernel_skb(ctx);

    if (!can_read_kernel)
        return settings.ipvs;
    return bpf_core_field_exists(skb->ipvs_property) && BPF_CORE_READ_BITFIELD_PROBED(skb, ipvs_property);
}

/*
 * Whether the packet, once grown, can be trimmed to `end` bytes. bpf_skb_change_tail refuses to trim below csum_start + csum_offset + 2
 * (CHECKSUM_PARTIAL) and below the transport header. The sender of a frame controls both: the former by virtio_net_hdr, the latter by
 * sll_protocol.
 */
static __always_inline bool can_trim(struct __sk_buff *ctx, const struct query *q, __u32 end)
{
    struct sk_buff *skb = kernel_skb(ctx);
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
 * Checks that the frame is for us and that the reply fits, and grows the packet: the last step that can fail. The packet's octets stay
 * as they are. Returns EDNS_CONTINUE or the outcome. Invalidates packet pointers.
 */
static __always_inline int reply_prepare(struct __sk_buff *skb, const struct query *q, const struct edns_answer *answer,
                                         struct reply_plan *plan)
{
    const __u32 end = tail_off(q) + answer->len + (q->opt_flags & QUERY_OPT ? sizeof(struct dns_opt) : 0);
    const __u32 ip_len = end - q->l3;
    __u32 len = skb->len;
    int is_partial;

    if (!frame_is_ours(skb, q))
        return EDNS_PASS_ADDRESS;
    if (skb->gso_size) /* several datagrams, of which only the first was read */
        return EDNS_PASS_FRAGMENT;
    if (settings.egress && !(q->flags & QUERY_PROBE) && ipvs_handled(skb))
        return EDNS_PASS_IPVS;
    if (end - q->udp - sizeof(struct udphdr) > q->limit)
        return EDNS_PASS_TOO_LARGE;
    if (ip_len > MTU_UNCHECKED && ip_len > link_mtu(skb))
        return EDNS_PASS_TOO_LARGE;
    plan->flags = q->flags | q->opt_flags;
    plan->name_len = q->name_len;
    is_partial = csum_is_partial(skb, q, plan->tail_csum);
    if (is_partial < 0)
        return EDNS_PASS_ERROR;
    if (is_partial)
        plan->flags |= QUERY_PARTIAL;
    if (end <= len && !can_trim(skb, q, end))
        return EDNS_PASS_ERROR;
    /* Always grow, by at least 1: growing drops CHECKSUM_COMPLETE, the interface's checksum of the old packet. */
    return bpf_skb_change_tail(skb, end > len ? end : len + 1, 0) ? EDNS_PASS_ERROR : EDNS_CONTINUE;
}

/* Writes `len` of the answer's octets, from `from` on, at `off`. */
static __always_inline void write_octets(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 from,
                                         __u32 len)
{
    /* Masks instead of comparisons: one path, on which the verifier sees a length of at least 1. */
    len = masked(len - 1, EDNS_ANSWER_MASK);
    from = masked(from, EDNS_ANSWER_MASK);
    bpf_skb_store_bytes(skb, off, (void *)(answer + 1) + from, len + 1, 0);
}

/*
 * Writes an answer of `size` to 2 * `size` octets as two overlapping blocks of `size` octets, without a helper, which would cost as
 * much as the lookup.
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
    at = detached(at);
    from = (void *)(answer + 1) + at;
    to = octets_at(skb, off + at, size);
    if (!to)
        return;
    for (i = 0; i < size / 8; i++)
        to[i] = from[i];
}

/* Writes the answer's octets at `off`. The records at its end that may rotate are rotated by `rotation`. */
static __always_inline void write_answer(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 rotation)
{
    __u32 len = answer->len, split = 0, first;

    if (answer->rotate_count > 1)
        split = rotation % answer->rotate_count * answer->rotate_stride;
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

/* Writes the OPT of a reply at `off`. Returns its checksum, as if it began at an even offset. */
static __always_inline __u16 write_opt(struct __sk_buff *skb, __u32 off, __u32 flags)
{
    union {
        struct dns_opt opt;
        __u16 words[(sizeof(struct dns_opt) + 1) / 2];
    } opt = {.words = {0}}; /* padded to whole words, for the checksum */
    void *to = octets_at(skb, off, sizeof(opt.opt));
    __u32 sum = 0, i;

    opt.opt.type = bpf_htons(DNS_TYPE_OPT);
    opt.opt.udp_size = bpf_htons(EDNS_ANSWER_MAX);
    opt.opt.flags = flags & QUERY_DO ? bpf_htons(DNS_OPT_DO) : 0;
    if (to)
        __builtin_memcpy(to, &opt.opt, sizeof(opt.opt));
    for (i = 0; i < ARRAY_SIZE(opt.words); i++)
        sum += opt.words[i];
    return csum_fold16(sum);
}

/* Swaps source and destination. In words, because clang would copy octet by octet. */
static __always_inline void write_eth(void *data)
{
    __u64 *first = data, word = *first;
    __u32 *last = data + sizeof(word);
    __u64 dest = word & 0xffffffffffffULL, source = word >> 48 | (__u64)*last << 16;

    *first = source | dest << 48;
    *last = dest >> 16;
}

static __always_inline void write_ipv4(struct iphdr *ip, __u32 len)
{
    __be16 *tos = (void *)ip, no_tos = bpf_htons(0x4500); /* with version and header length */
    __be32 addr = ip->saddr;
    __be16 tot_len = bpf_htons(len);
    /* TTL and protocol in one store: reading both after a store of one would be a store-forwarding stall. */
    __be16 *ttl = (void *)&ip->ttl, reply_ttl = (*ttl & bpf_htons(0xff)) | bpf_htons(REPLY_TTL << 8);
    __u32 sum = (__u16)~ip->check;

    ip->saddr = ip->daddr;
    ip->daddr = addr;
    sum += (__u16)~ip->tot_len + (__u16) ~*ttl + tot_len + reply_ttl;
    sum += (__u16) ~*tos + no_tos;
    *tos = no_tos;
    ip->tot_len = tot_len;
    *ttl = reply_ttl;
    if (len > MTU_UNCHECKED) {
        /* May be fragmented on its way, so it needs an ID that the client can't predict. */
        __be16 id = bpf_get_prandom_u32();

        sum += (__u16)~ip->id + (__u16)~ip->frag_off + id;
        ip->id = id;
        ip->frag_off = 0;
    }
    ip->check = ~csum_fold16(sum);
}

static __always_inline void write_ipv6(struct ipv6hdr *ip6, __u32 payload_len)
{
    __u64 *from = (void *)&ip6->saddr, *to = (void *)&ip6->daddr;
    __u64 first = from[0], last = from[1];

    from[0] = to[0];
    from[1] = to[1];
    to[0] = first;
    to[1] = last;
    *(__be32 *)ip6 = bpf_htonl(6U << 28); /* no traffic class, no flow label */
    ip6->payload_len = bpf_htons(payload_len);
    ip6->hop_limit = REPLY_TTL;
}

/*
 * Writes the reply over the query. It can't fail: the packet is linear, writable and long enough, and can be trimmed (see can_trim).
 * The remaining checks are for the verifier.
 */
static __always_inline void reply_write(struct __sk_buff *skb, const __u32 l2, const enum edns_family family,
                                        const struct reply_plan *plan, struct edns_answer *answer)
{
    const __u32 udp_at = l2 + (family == EDNS_IPV6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
    const __u32 dns_at = udp_at + sizeof(struct udphdr);
    const __u32 tail_at = dns_at + sizeof(struct dnshdr) + (plan->name_len & 0xff) + DNS_QUESTION_TAIL;
    const __u32 has_opt = !!(plan->flags & QUERY_OPT);
    const __u32 end = tail_at + answer->len + (has_opt ? sizeof(struct dns_opt) : 0);
    const __u32 udp_len = end - udp_at;
    __u16 check, pseudo_diff, opt_csum = 0;
    struct dnshdr *dns;
    struct udphdr *udp;
    void *data;
    __u64 diff;
    __u32 rotation;
    __be16 port;

    /* Longer additional records of the query, Ethernet padding, or the byte that reply_prepare added would follow the IP packet. */
    if (skb->len > end)
        bpf_skb_change_tail(skb, end, 0);
    data = skb_data(skb);
    if (data + dns_at + sizeof(*dns) > skb_data_end(skb))
        return;
    if (l2)
        write_eth(data);
    if (family == EDNS_IPV6)
        write_ipv6(data + l2, udp_len);
    else
        write_ipv4(data + l2, end - l2);

    udp = data + udp_at;
    port = udp->source;
    udp->source = udp->dest;
    udp->dest = port;
    check = udp->check;
    pseudo_diff = csum_fold16((__u64)(__u16)~udp->len + bpf_htons(udp_len));
    udp->len = bpf_htons(udp_len);

    dns = data + dns_at;
    rotation = bpf_ntohs(dns->id) + bpf_ntohs(port);
    diff = (__u16)~dns->flags + (__u16)~dns->arcount;
    /* RD and CD as in the query (RFC 1035 §4.1.1, RFC 4035 §3.2.2); RA, AD, Z and TC clear. */
    dns->flags = answer->flags | (dns->flags & bpf_htons(DNS_RD | DNS_CD));
    dns->ancount = answer->count[0];
    dns->nscount = answer->count[1];
    dns->arcount = bpf_htons(bpf_ntohs(answer->count[2]) + has_opt);
    diff += dns->flags + dns->ancount + dns->nscount + dns->arcount;
    barrier_var(diff); /* otherwise clang keeps them in registers, and adds them later */

    write_answer(skb, tail_at, answer, rotation);
    if (has_opt)
        opt_csum = csum_at(write_opt(skb, tail_at + answer->len, plan->flags), tail_at + answer->len - udp_at);

    udp = octets_at(skb, udp_at, sizeof(*udp));
    if (!udp || !check) /* the client sent no checksum (RFC 768) */
        return;
    /* A full checksum changes by all differences. A partial one changes only by the length in the pseudo-header. */
    if (plan->flags & QUERY_PARTIAL) {
        udp->check = csum_fold16((__u64)check + pseudo_diff);
        return;
    }
    diff += 2 * pseudo_diff; /* the length is in the UDP header and in the pseudo-header */
    diff += (__u16)~csum_at(plan->tail_csum, tail_at - udp_at);
    diff += csum_at(answer->csum, tail_at - udp_at) + opt_csum;
    udp->check = (__u16)~csum_fold16((__u16)~check + diff) ?: 0xffff; /* 0 means no checksum */
}

/*
 * Clears metadata that the reply would inherit from the query. The mark, for example, would misroute it (`ip rule fwmark`).
 * ARCHITECTURE.md lists all such fields.
 */
static __always_inline void clear_metadata(struct __sk_buff *skb)
{
    const struct saved_cb none = {};

    skb->mark = 0;
    skb->priority = 0;
    skb->tc_index = 0;
    skb->tc_classid = 0;
    cb_restore(skb, &none);
}

#endif
