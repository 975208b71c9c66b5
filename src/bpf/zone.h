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
    return (hash ^ hash >> 32) * settings.hash_multiplier;
}

/* The low octet takes no part: nothing that a multiplication carries gets there. */
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

/* What a walk over a question's name tells, without an eye for labels. */
struct scan {
    __u64 hash; /* that of qname_hash */
    __u64 sum;  /* one's complement, of the octets, unfolded */
    __u32 len;  /* octets up to the first zero, and that; 0 where there is none */
};

/* Adds the word that holds the first zero, after `words` without. */
static __always_inline void scan_last(struct scan *scan, __u64 word, __u64 zeros, __u32 words)
{
    __u64 first = (zeros & -zeros) >> 7;

    word &= first - 1;
    scan->hash = hash_mix(scan->hash, fold_case(word));
    scan->sum += (word & 0xffffffff) + (word >> 32);
    /* The product's top octet is how many octets are before the zero. */
    scan->len = (first * 0x0001020304050607ULL >> 56) + words * 8 + 1;
}

/*
 * Scans the octets in the packet from `off` up to the first zero; `end` is where the message ends. Most names end at their
 * first zero, and what equals the name of a node is one: so a name that is found needs no walk along its labels.
 */
static __always_inline void qname_scan(struct __sk_buff *skb, __u32 off, __u32 end, struct scan *scan)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 zeros, *word, last;
    __u32 i;

    scan->hash = settings.hash_seed;
    scan->sum = 0;
    scan->len = 0;
    off &= 0xff;
    barrier_var(off);
    data += off;
    for (i = 0; i < DNS_NAME_WORDS; i++, data += 8) {
        word = data;
        if ((void *)(word + 1) > data_end)
            break;
        zeros = zero_octets(*word);
        if (zeros) {
            scan_last(scan, *word, zeros, i);
            goto out;
        }
        scan->hash = hash_mix(scan->hash, fold_case(*word));
        scan->sum += (*word & 0xffffffff) + (*word >> 32);
    }
    /* The packet ends within the next word, which is read as the end of one. Behind it last_octets adds zeros: a length that is too long. */
    word = octets_at(skb, end - 8, 8);
    if (word && i < DNS_NAME_WORDS) {
        last = last_octets(*word, end - off);
        zeros = zero_octets(last);
        if (zeros)
            scan_last(scan, last, zeros, i);
    }
out:
    /* The verifier would go on once for each number of words, if it knew it: it knows nothing of what lies here. */
    skb->cb[0] = scan->len;
    barrier_var(skb);
    scan->len = *(volatile __u32 *)&skb->cb[0];
}

/* The same hash of the name of `len` octets in the packet at `off`. */
static __always_inline __u64 qname_hash(struct __sk_buff *skb, __u32 off, __u32 len)
{
    __u64 hash = settings.hash_seed, *p;
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

/* Whether the node is that of the name of `len` octets in the packet at `off`. */
static __always_inline bool node_is(const struct edns_node *node, struct __sk_buff *skb, __u32 off, __u32 len)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 differs = 0, *name, *p;
    __u32 i, words = len / 8;

    if (node->name_len != len)
        return false;
    name = (void *)(node + 1) + types_octets(node);
    barrier_var(words); /* as above */
    data += off & 0xfff;
    for (i = 0; i < DNS_NAME_WORDS && i < words; i++, data += 8) {
        p = data;
        if ((void *)(p + 1) > data_end)
            return false;
        differs |= name[i] ^ fold_case(*p);
    }
    if (len % 8) {
        p = last_octets_at(skb, off, len);
        if (!p)
            return false;
        words &= DNS_NAME_WORDS - 1;
        barrier_var(words);
        differs |= name[words] ^ fold_case(last_octets(*p, len));
    }
    return !differs;
}

/* The same of a ref. */
__noinline int node_matches(struct __sk_buff *skb, __u32 off, __u32 len, __u32 ref)
{
    struct edns_node *node = node_at(ref);

    return node && len <= DNS_NAME_MAX && node_is(node, skb, off, len);
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

/* The index word where most names are found, which is read without a call. */
static __always_inline __u32 word_first(__u64 hash)
{
    __u32 key = hash_line(hash, 0, settings.index);
    struct edns_line *line = bpf_map_lookup_elem(&edns_index, &key);

    return line ? *(volatile __u32 *)&line->word[hash_start(hash)] : 0;
}

/* The node that `word` leads to, where it is that of the name with that hash and of `len` octets in the packet at `off`. */
static __always_inline struct edns_node *node_first(struct __sk_buff *skb, __u32 off, __u32 len, __u64 hash, __u32 word)
{
    struct edns_node *node;

    if (word >> EDNS_REF_BITS != hash_tag(hash))
        return NULL;
    node = node_at(word & EDNS_REF_MAX);
    if (!node)
        return NULL;
    /* A node's answer mostly lies in its second line: it is fetched while the name in the first is compared. */
    touch((void *)node + EDNS_UNIT);
    return node_is(node, skb, off, len) ? node : NULL;
}

/* The ref of the node of the name of `len` octets in the packet at `off`; 0 where there is none. */
__noinline __u32 node_lookup(struct __sk_buff *skb, __u32 off, __u32 len)
{
    __u64 hash = qname_hash(skb, off, len);
    __u32 word = word_first(hash);

    if (len > DNS_NAME_MAX || !word)
        return 0;
    if (node_first(skb, off, len, hash, word))
        return word & EDNS_REF_MAX;
    return node_find(skb, off, len, hash);
}

/* Takes the first label off a name; false where there is none. */
static __always_inline bool strip_label(struct __sk_buff *skb, __u32 *off, __u32 *len)
{
    __u8 *label = octets_at(skb, *off, 1);

    if (!label || !*label)
        return false;
    *len -= *label + 1;
    *off += *label + 1;
    return true;
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
        node = node_at(node_lookup(skb, off, len));
        if (node)
            return labels - left == 1 ? node->child : node->deep;
    }
    return 0;
}

/*
 * For a name that is not at `word`, where most are: sets `*ref` to its node, or to the one that speaks for names like it,
 * which then do not exist; 0 where there is none. Returns EDNS_ANSWERED, or why the packet passes.
 */
static __always_inline int node_search(struct __sk_buff *skb, struct query *q, struct scan *scan, __u32 word,
                                       __u32 *ref, bool *absence)
{
    __u32 extent, len;

    *ref = word ? node_find(skb, q->qname, q->qname_len, scan->hash) : 0;
    if (*ref)
        return EDNS_ANSWERED;
    extent = qname_extent(skb, q->qname);
    len = extent & 0xff;
    if (!len)
        return EDNS_PASS_MALFORMED;
    if (len != q->qname_len) {
        /* A label holds a zero. */
        scan->len = 0;
        q->qname_len = len;
        *ref = node_lookup(skb, q->qname, len);
    }
    if (!*ref && extent >> 8 > settings.below_min) {
        *ref = node_below(skb, q->qname, len, extent >> 8);
        *absence = true;
    }
    return EDNS_ANSWERED;
}

/* An answer, and where it lies. */
struct place {
    __u32 ref;
    __u32 at; /* octets from the node on */
};

static __always_inline struct edns_answer *answer_at(struct edns_node *node, __u32 at)
{
    return (void *)node + (at & (EDNS_NODE_MAX - 8));
}

/*
 * The answer of a node, or of its fallback, for a type. Sets `*zone` to the set of names that it belongs to, and `*why`
 * where there is none: a node that lists nothing stands for a name that is left to the DNS server.
 */
static __always_inline struct edns_answer *answer_find(struct edns_node *node, __be16 qtype, struct place *place,
                                                       __u32 *zone, int *why)
{
    __u32 round, i;

    *why = EDNS_PASS_NAME;
    for (round = 0; round < 2; round++) {
        struct edns_type *type = (void *)(node + 1);

        *zone = node->zone;
        for (i = 0; i < EDNS_TYPES_MAX && i < node->n_types; i++, type++) {
            *why = EDNS_PASS_QTYPE;
            if (type->qtype != qtype && type->qtype)
                continue;
            place->at = type->answer * 8;
            return place->at ? answer_at(node, place->at) : NULL;
        }
        place->ref = node->fallback;
        node = node_at(place->ref);
        if (!node)
            return NULL;
    }
    return NULL;
}

#endif
