/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Turns a query's packet into its reply, in place. */
#ifndef EDNS_REPLY_H
#define EDNS_REPLY_H

#define REPLY_TTL 64 /* of the IP packet */
/* IPv4 hosts take 576 octets whatever the link (RFC 791 §3.1); up to that the interface's MTU is not looked at. */
#define MTU_UNCHECKED 576

/* One's complement sums here are of 16-bit words in memory order, unfolded. */
static __always_inline __u16 csum_fold16(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

/* The sum of octets that begin at an odd offset: their bytes change places (RFC 1071 §2 (B)). */
static __always_inline __u16 csum_at(__u16 sum, __u32 offset)
{
    return offset & 1 ? sum << 8 | sum >> 8 : sum;
}

/*
 * The sum of the packet's octets from `off` on, `len` of them, as if they began at an even offset.
 * Above 0xffff where the packet ends before. Global functions are verified once.
 */
__noinline __u32 csum_octets(struct __sk_buff *skb, __u32 off, __u32 len)
{
    __u64 sum = 0, word, *p;
    __u32 i;

    if (off < 8 || len > DNS_TAIL_MAX)
        return -1;
    /* In steps of 32 first, to keep the loop short for the verifier. */
    for (i = 0; i < DNS_TAIL_MAX / 32 && len >= 32; i++, off += 32, len -= 32) {
        __u32 *w = octets_at(skb, off, 32);

        if (!w)
            return -1;
        sum += (__u64)w[0] + w[1] + w[2] + w[3] + w[4] + w[5] + w[6] + w[7];
    }
    for (i = 0; i < 3 && len >= 8; i++, off += 8, len -= 8) {
        p = octets_at(skb, off, 8);
        if (!p)
            return -1;
        sum += (*p & 0xffffffff) + (*p >> 32);
    }
    p = last_octets_at(skb, off, len);
    if (!p)
        return -1;
    word = last_octets(*p, len);
    sum += (word & 0xffffffff) + (word >> 32);
    return csum_fold16(sum);
}

/* The MTU of the interface that the packet is on; 0 where the BTF that the program was loaded with is not this kernel's. */
__noinline __u32 link_mtu(struct __sk_buff *ctx)
{
    /* The context of a tc program is the kernel's skb; the verifier only lets us read that with a helper. */
    struct net_device *dev = BPF_CORE_READ((struct sk_buff *)ctx, dev);

    if ((__u32)BPF_CORE_READ(dev, ifindex) != ctx->ifindex)
        return 0;
    return BPF_CORE_READ(dev, mtu);
}

/* Writes `len` of the answer's octets, from `from` on, at `off`. */
static __always_inline long write_octets(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 from,
                                         __u32 len)
{
    /* Masks instead of comparisons: one path for the verifier, and one that it knows to be of at least one octet. */
    len = (len - 1) & EDNS_ANSWER_MASK;
    barrier_var(len);
    from &= EDNS_ANSWER_MASK;
    barrier_var(from);
    return bpf_skb_store_bytes(skb, off, (void *)(answer + 1) + from, len + 1, 0);
}

/*
 * Writes `size` to twice as many of the answer's octets without a helper, which would cost as much as the look-up: two
 * pieces of `size` octets, the second of which ends with them. False where the packet ends before.
 */
static __always_inline bool write_pieces(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 len,
                                         const __u32 size)
{
    __u32 at = (len - size) & (2 * size - 1), i;
    __u64 *from = (void *)(answer + 1), *to = octets_at(skb, off, size);

    if (!to)
        return false;
    for (i = 0; i < size / 8; i++)
        to[i] = from[i];
    barrier_var(at);
    from = (void *)(answer + 1) + at;
    to = octets_at(skb, off + at, size);
    if (!to)
        return false;
    for (i = 0; i < size / 8; i++)
        to[i] = from[i];
    return true;
}

/* Writes the answer's octets at `off`; records that may be rotated begin with another one at each `turn`. */
static __always_inline long write_answer(struct __sk_buff *skb, __u32 off, struct edns_answer *answer, __u32 turn)
{
    __u32 len = answer->len, split = 0;

    if (answer->rotate_count > 1)
        split = turn % answer->rotate_count * answer->rotate_stride;
    if (!split && len >= 16 && len <= 32)
        return write_pieces(skb, off, answer, len, 16) ? 0 : -1;
    if (!split && len > 32 && len <= 64)
        return write_pieces(skb, off, answer, len, 32) ? 0 : -1;
    if (split && write_octets(skb, off + len - split, answer, 0, split))
        return -1;
    return write_octets(skb, off, answer, split, len - split);
}

#define CHECKSUM_PARTIAL 3

/*
 * Whether the UDP header's field holds not the sum of all but that of the pseudo-header (CHECKSUM_PARTIAL: a query from a
 * local socket, whose sum some interface will finish).
 */
static __always_inline bool csum_partial(struct __sk_buff *ctx)
{
    struct sk_buff *skb = (void *)ctx; /* see link_mtu */

    return BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) == CHECKSUM_PARTIAL;
}

/*
 * Writes the reply over the query. Returns EDNS_ANSWERED, or why the packet passes, which then is as it was.
 * Invalidates packet pointers.
 */
static __always_inline int reply_write(struct __sk_buff *skb, const __u32 l2, const bool v6, struct query *q,
                                       struct edns_answer *answer)
{
    const __u32 udp_off = l2 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
    const __u32 dns_off = udp_off + sizeof(struct udphdr);
    const __u32 tail_off = q->qname + q->qname_len + DNS_QUESTION_TAIL;
    const __u32 tail_len = udp_off + q->udp_len - tail_off;
    const __u32 opt_len = q->has_opt ? sizeof(struct dns_opt) : 0;
    const __u32 message = tail_off - dns_off + answer->len + opt_len;
    const __u32 udp_len = message + sizeof(struct udphdr);
    const __u32 old_len = skb->len;
    const __u32 new_len = udp_off + udp_len;
    const __u32 answer_csum = csum_at(answer->csum, tail_off - udp_off);
    union {
        struct dns_opt opt;
        __u16 words[(sizeof(struct dns_opt) + 1) / 2];
    } opt = {.words = {0}}; /* all of them: the octet behind the record counts in its sum */
    __u64 diff = 0, pseudo = bpf_htons(IPPROTO_UDP);
    __u16 check, pseudo_diff;
    struct dnshdr *dns;
    struct udphdr *udp;
    void *data, *end;
    __u32 turn;
    __be16 port;

    opt.opt.type = bpf_htons(DNS_TYPE_OPT);
    opt.opt.udp_size = bpf_htons(EDNS_ANSWER_MAX);
    opt.opt.flags = q->dnssec_ok ? bpf_htons(DNS_OPT_DO) : 0;
    if (message > q->limit)
        return EDNS_PASS_TOO_LARGE;
    if (new_len - l2 > MTU_UNCHECKED && new_len - l2 > link_mtu(skb))
        return EDNS_PASS_TOO_LARGE;

    if (tail_len) {
        __u32 sum = csum_octets(skb, tail_off, tail_len);

        if (sum > 0xffff)
            return EDNS_PASS_ERROR;
        diff = (__u16)~csum_at(sum, tail_off - udp_off);
    }

    /*
     * The only step that can fail, and it leaves the octets that it keeps as they were. Growing also gives up a sum that
     * the interface computed over the old packet (CHECKSUM_COMPLETE), so a packet that shrinks grows first.
     */
    if (new_len <= old_len && bpf_skb_change_tail(skb, old_len + 1, 0))
        return EDNS_PASS_ERROR;
    if (bpf_skb_change_tail(skb, new_len, 0))
        return EDNS_PASS_ERROR;
    data = skb_data(skb);
    end = skb_data_end(skb);
    if (data + dns_off + sizeof(*dns) > end)
        return EDNS_PASS_ERROR;

    if (l2) {
        struct ethhdr *eth = data;
        __u8 mac[6];

        __builtin_memcpy(mac, eth->h_dest, sizeof(mac));
        __builtin_memcpy(eth->h_dest, eth->h_source, sizeof(mac));
        __builtin_memcpy(eth->h_source, mac, sizeof(mac));
    }
    if (v6) {
        struct ipv6hdr *ip6 = data + l2;
        struct in6_addr addr = ip6->saddr;
        __u32 i;

        for (i = 0; i < 4; i++)
            pseudo += (__u64)ip6->saddr.in6_u.u6_addr32[i] + ip6->daddr.in6_u.u6_addr32[i];
        ip6->saddr = ip6->daddr;
        ip6->daddr = addr;
        ip6->payload_len = bpf_htons(udp_len);
        ip6->hop_limit = REPLY_TTL;
    } else {
        struct iphdr *ip = data + l2;
        __be32 addr = ip->saddr;
        __be16 *ttl = (void *)&ip->ttl;
        __u32 sum = (__u16)~ip->check;

        pseudo += (__u64)ip->saddr + ip->daddr;
        ip->saddr = ip->daddr;
        ip->daddr = addr;
        sum += (__u16)~ip->tot_len + (__u16) ~*ttl;
        ip->tot_len = bpf_htons(udp_len + sizeof(*ip));
        ip->ttl = REPLY_TTL;
        sum += ip->tot_len + *ttl;
        ip->check = ~csum_fold16(sum);
    }

    udp = data + udp_off;
    port = udp->source;
    udp->source = udp->dest;
    udp->dest = port;
    check = udp->check;
    pseudo += udp->len;
    pseudo_diff = csum_fold16((__u64)(__u16)~udp->len + bpf_htons(udp_len));
    udp->len = bpf_htons(udp_len);

    dns = data + dns_off;
    turn = bpf_ntohs(dns->id) + bpf_ntohs(port);
    diff += (__u16)~dns->flags + (__u16)~dns->arcount;
    /* RD and CD as asked (RFC 1035 §4.1.1, RFC 4035 §3.2.2); RA, AD, Z and TC clear. */
    dns->flags = answer->flags | (dns->flags & bpf_htons(DNS_RD | DNS_CD));
    dns->ancount = answer->count[0];
    dns->nscount = answer->count[1];
    dns->arcount = bpf_htons(bpf_ntohs(answer->count[2]) + q->has_opt);
    diff += dns->flags + dns->ancount + dns->nscount + dns->arcount;
    diff += 2 * pseudo_diff; /* the length counts in both headers */
    diff += answer_csum;

    /* From here on nothing can fail: the packet is linear, writable and long enough. */
    if (write_answer(skb, tail_off, answer, turn))
        return EDNS_PASS_ERROR;
    if (q->has_opt) {
        const __u32 opt_off = tail_off + answer->len;
        __u32 sum = 0, i;

        void *to = octets_at(skb, opt_off, sizeof(opt.opt));

        if (!to)
            return EDNS_PASS_ERROR;
        opt.opt.type = bpf_htons(DNS_TYPE_OPT);
        opt.opt.udp_size = bpf_htons(EDNS_ANSWER_MAX);
        opt.opt.flags = q->dnssec_ok ? bpf_htons(DNS_OPT_DO) : 0;
        __builtin_memcpy(to, &opt.opt, sizeof(opt.opt));
        for (i = 0; i < ARRAY_SIZE(opt.words); i++)
            sum += opt.words[i];
        diff += csum_at(csum_fold16(sum), opt_off - udp_off);
    }

    if (check) { /* else the client sent none (RFC 768) */
        /* The sum changes as its octets do. One of the pseudo-header alone is just the one that these headers give. */
        bool partial = csum_fold16(pseudo + (__u16)~check) == 0xffff && csum_partial(skb);

        udp = octets_at(skb, udp_off, sizeof(*udp));
        if (!udp)
            return EDNS_PASS_ERROR;
        if (partial)
            udp->check = csum_fold16((__u64)check + pseudo_diff);
        else
            udp->check = (__u16)~csum_fold16((__u16)~check + diff) ?: 0xffff; /* 0 would be: none */
    }
    return EDNS_ANSWERED;
}

#endif
