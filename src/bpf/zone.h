/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The zone as the kernel sees it: name to node, node and type to answer. */
#ifndef EDNS_ZONE_H
#define EDNS_ZONE_H

/* A word of eight octets with A-Z in lower case. Length octets are at most 63 and never change. */
static __always_inline __u64 fold_case(__u64 x)
{
    const __u64 high = 0x8080808080808080ULL;
    __u64 low = x & ~high;
    __u64 from_a = low + 0x3f3f3f3f3f3f3f3fULL;  /* high bit where the octet is at least 'A' */
    __u64 above_z = low + 0x2525252525252525ULL; /* high bit where it is above 'Z' */

    return x | (from_a & ~above_z & ~x & high) >> 2;
}

static __always_inline __u64 hash_mix(__u64 hash, __u64 word)
{
    /* Upper bits into lower ones first: a multiplication alone carries them nowhere. */
    hash ^= word;
    return (hash ^ hash >> 32) * cfg_hash_multiplier;
}

/* The low octet is not used: qname_scan returns the name's length there. */
static __always_inline __u32 hash_start(__u64 hash)
{
    return (hash >> 48) % EDNS_LINE_WORDS;
}

/* The line of edns_index that is number `nth` of those that may hold the name, in settings.index. */
static __always_inline __u32 hash_line(__u64 hash, __u32 nth, __u64 index)
{
    return (__u32)index + (((hash >> 8) + nth) & ((index >> 32) - 1));
}

static __always_inline __u32 hash_tag(__u64 hash)
{
    return hash >> 56;
}

static __always_inline struct edns_node *node_at(__u32 ref)
{
    __u32 chunk = ref / EDNS_CHUNK_UNITS, unit = ref % EDNS_CHUNK_UNITS, zero = 0;
    struct edns_chunk *octets;
    void *inner;

    if (!ref)
        return NULL;
    inner = bpf_map_lookup_elem(&edns_chunks, &chunk);
    if (!inner)
        return NULL;
    octets = bpf_map_lookup_elem(inner, &zero);
    if (!octets)
        return NULL;
    return (void *)octets->octets + unit * EDNS_UNIT;
}

static __always_inline __u32 types_octets(const struct edns_node *node)
{
    return (node->n_types * sizeof(struct edns_type) + 7) & 0x78;
}

/* The high bit of each octet that is zero; above the first one also of others. */
static __always_inline __u64 zero_octets(__u64 word)
{
    const __u64 ones = 0x0101010101010101ULL;

    return (word - ones) & ~word & ones << 7;
}

/* qname_scan's result, where the word number `i` holds the first zero. */
static __always_inline __u64 qname_scanned(__u64 hash, __u64 word, __u64 zeros, __u32 i)
{
    __u64 first = (zeros & -zeros) >> 7;

    hash = hash_mix(hash, fold_case(word & (first - 1)));
    /* The product's top octet is how many octets are before the zero. */
    return (hash & ~0xffULL) | ((first * 0x0001020304050607ULL >> 56) + i * 8 + 1);
}

/*
 * The hash of the octets in the packet from `off` up to the first zero, and in the low octet how many these are; 0 where
 * there is none before the last octets of a question, or too late. Most names end at their first zero, and what equals the
 * name of a node is one: so a name that is found needs no walk along its labels.
 * `end` is where the message ends. This and what follows are global functions: the verifier looks at each once, not
 * wherever it is called, and knows nothing of a result, so not as many as there are loop exits.
 */
__noinline __u64 qname_scan(struct __sk_buff *skb, __u32 off, __u32 end)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 hash = cfg_hash_seed, last, zeros, *word;
    __u32 words, i;

    off &= 0xff;
    barrier_var(off);
    data += off;
    words = (end - off) / 8;
    barrier_var(words); /* else clang derives the loop's bound from a check that the verifier forgets */
    for (i = 0; i < DNS_NAME_WORDS && i < words; i++, data += 8) {
        word = data;
        if ((void *)(word + 1) > data_end)
            return 0;
        zeros = zero_octets(*word);
        if (zeros)
            return qname_scanned(hash, *word, zeros, i);
        hash = hash_mix(hash, fold_case(*word));
    }
    /* The message ends within the next word. Zeros that last_octets adds behind it give a length that is too long for it. */
    word = octets_at(skb, end - 8, 8);
    if (!word || words >= DNS_NAME_WORDS)
        return 0;
    last = last_octets(*word, end - off);
    zeros = zero_octets(last);
    return zeros ? qname_scanned(hash, last, zeros, i) : 0;
}

/* The same hash of the name of `len` octets in the packet at `off`. */
__noinline __u64 qname_hash(struct __sk_buff *skb, __u32 off, __u32 len)
{
    __u64 hash = cfg_hash_seed, *p;
    __u32 i, words = len / 8;

    if (off < 8 || len > DNS_NAME_MAX)
        return 0;
    barrier_var(words); /* else clang derives the loop's bound from a check that the verifier forgets */
    for (i = 0; i < DNS_NAME_WORDS && i < words; i++) {
        p = octets_at(skb, off + i * 8, 8);
        if (!p)
            return 0;
        hash = hash_mix(hash, fold_case(*p));
    }
    if (len % 8 == 0)
        return hash;
    p = last_octets_at(skb, off, len);
    return p ? hash_mix(hash, fold_case(last_octets(*p, len))) : 0;
}

/* Whether `ref` is the node of the name of `len` octets in the packet at `off`. */
__noinline int node_matches(struct __sk_buff *skb, __u32 off, __u32 len, __u32 ref)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    struct edns_node *node = node_at(ref);
    __u64 differs = 0, *name, *p;
    __u32 i, words = len / 8;

    if (!node || node->name_len != len || len > DNS_NAME_MAX)
        return 0;
    name = (void *)(node + 1) + types_octets(node);
    barrier_var(words); /* as above */
    data += off & 0xfff;
    for (i = 0; i < DNS_NAME_WORDS && i < words; i++, name++, data += 8) {
        p = data;
        if ((void *)(p + 1) > data_end)
            return 0;
        differs |= *name ^ fold_case(*p);
    }
    if (len % 8) {
        p = last_octets_at(skb, off, len);
        if (!p)
            return 0;
        differs |= *name ^ fold_case(last_octets(*p, len));
    }
    return !differs;
}

/* The ref of the node of the name with that hash and of `len` octets in the packet at `off`; 0 where there is none. */
__noinline __u32 node_find(struct __sk_buff *skb, __u32 off, __u32 len, __u64 hash)
{
    __u64 index = settings.index;
    __u32 i, l;

    for (l = 0; l < EDNS_PROBE_LINES; l++) {
        __u32 key = hash_line(hash, l, index);
        struct edns_line *line = bpf_map_lookup_elem(&edns_index, &key);

        if (!line)
            return 0;
        for (i = 0; i < EDNS_LINE_WORDS; i++) {
            __u32 w = *(volatile __u32 *)&line->word[(hash_start(hash) + i) % EDNS_LINE_WORDS];

            if (!w)
                return 0;
            if (w >> EDNS_REF_BITS == hash_tag(hash) && node_matches(skb, off, len, w & EDNS_REF_MAX))
                return w & EDNS_REF_MAX;
        }
    }
    return 0;
}

/* The same; most are where they are looked for first, so that is done without a call. */
static __always_inline __u32 node_find_first(struct __sk_buff *skb, __u32 off, __u32 len, __u64 hash)
{
    __u32 key = hash_line(hash, 0, settings.index), w;
    struct edns_line *line = bpf_map_lookup_elem(&edns_index, &key);

    if (!line)
        return 0;
    w = *(volatile __u32 *)&line->word[hash_start(hash)];
    if (!w)
        return 0;
    if (w >> EDNS_REF_BITS == hash_tag(hash) && node_matches(skb, off, len, w & EDNS_REF_MAX))
        return w & EDNS_REF_MAX;
    return node_find(skb, off, len, hash);
}

/* Takes the first label off a name; false where there is none. */
static __always_inline bool strip_label(struct __sk_buff *skb, __u32 *off, __u32 *len)
{
    __u8 label = 0;

    bpf_skb_load_bytes(skb, *off, &label, sizeof(label));
    *off += label + 1;
    *len -= label + 1;
    return label;
}

/*
 * For a name without node: the node that holds for names below its closest encloser (RFC 4592 §3.3.1); 0 where nothing
 * holds there. Names of more than below_max or less than below_min labels need no look-up: no node of use is there.
 */
__noinline __u32 node_below(struct __sk_buff *skb, __u32 off, __u32 len, __u32 labels)
{
    __u32 min = settings.below_min, max = settings.below_max, left = labels, i;

    for (i = 0; i < DNS_LABELS_MAX && left > max + 1; i++, left--)
        if (!strip_label(skb, &off, &len))
            return 0;
    for (i = 0; i < EDNS_BELOW_MAX && left > min; i++) {
        struct edns_node *node;

        if (!strip_label(skb, &off, &len))
            return 0;
        left--;
        node = node_at(node_find(skb, off, len, qname_hash(skb, off, len)));
        if (node)
            return labels - left == 1 ? node->child : node->deep;
    }
    return 0;
}

/*
 * The answer of a node, or of its fallback, for a type. Sets `*zone` to the set of names that it belongs to, and `*why`
 * where there is none: a node that lists nothing stands for a name that is left to the DNS server.
 */
static __always_inline struct edns_answer *answer_find(__u32 ref, __be16 qtype, __u32 *zone, int *why)
{
    __u32 round, i;

    *why = EDNS_PASS_NAME;
    for (round = 0; round < 2; round++) {
        struct edns_node *node = node_at(ref);
        struct edns_type *type;

        if (!node)
            return NULL;
        *zone = node->zone;
        type = (void *)(node + 1);
        for (i = 0; i < EDNS_TYPES_MAX && i < node->n_types; i++, type++) {
            __u32 at;

            *why = EDNS_PASS_QTYPE;
            if (type->qtype != qtype && type->qtype)
                continue;
            at = type->answer * 8;
            if (!at)
                return NULL;
            at &= EDNS_NODE_MAX - 8;
            return (void *)node + at;
        }
        ref = node->fallback;
        if (!ref)
            return NULL;
    }
    return NULL;
}

#endif
