/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The zone as the kernel sees it: name to node, node and type to answer. */
#ifndef EDNS_ZONE_H
#define EDNS_ZONE_H

/* The key that hashes the names of the index that settings.index named. */
static __always_inline const volatile struct edns_key *hash_key(__u32 index)
{
    return &settings.keys[index >> EDNS_INDEX_KEY_SHIFT & (EDNS_KEYS - 1)];
}

/*
 * What a word of a name adds to the name's sum, by the key's word of the same number. As in NH (RFC 4418 §5.2.2) halves multiply each
 * other, so that a chosen difference of two names changes the sum by a number that depends on the key, and no other word takes it
 * back. (word * (upper half + 1) does without a mask, and its factor is never 0.)
 */
static __always_inline __u64 hash_word(__u64 word, __u64 key)
{
    word += key;
    return word * ((word >> 32) + 1);
}

/* The hash of a name with this sum; different sums have different ones. What is used is the upper half. */
static __always_inline __u64 hash_finish(__u64 sum, const volatile struct edns_key *key)
{
    sum = (sum ^ sum >> 32) * key->multiplier[0];
    return (sum ^ sum >> 32) * key->multiplier[1];
}

/* The word of a line that is looked at first. */
static __always_inline __u32 hash_start(__u64 hash)
{
    return (hash >> 40) % EDNS_LINE_WORDS;
}

/* The line of edns_index that is number `nth` of those that may hold the name, in the index that settings.index named. */
static __always_inline __u32 hash_line(__u64 hash, __u32 nth, __u32 index)
{
    __u32 bits = index & EDNS_INDEX_LINES, lines = 1U << bits, home = hash >> (64 - bits);
    __u32 first = lines << (index >> EDNS_INDEX_BESIDE_SHIFT & 1);

    return first + (nth ? (home + nth) & (lines - 1) : home);
}

static __always_inline __u32 hash_tag(__u64 hash)
{
    return (__u8)(hash >> 32);
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
    __u64 hash;
    __u64 sum; /* one's complement, of the octets, unfolded */
    __u32 len; /* octets up to the first zero, and that; 0 where there is none */
};

/* Adds the word that holds the first zero, behind `octets` without. */
static __always_inline void scan_last(struct scan *scan, __u64 word, __u64 zeros, __u32 octets, __u64 key)
{
    __u64 first = (zeros & -zeros) >> 7;

    word &= first - 1;
    scan->hash += hash_word(word, key);
    scan->sum += (word & 0xffffffff) + (word >> 32);
    /* The product's top octet is how many octets are before the zero. */
    scan->len = (first * 0x0001020304050607ULL >> 56) + octets + 1;
}

/*
 * Scans the octets in the packet from `off` up to the first zero; `end` is where the message ends. Most names end at their
 * first zero, and what equals the name of a node is one: so a name that is found needs no walk along its labels.
 */
static __always_inline void qname_scan(struct __sk_buff *skb, __u32 off, __u32 end, __u32 index, struct scan *scan)
{
    const volatile struct edns_key *key = hash_key(index);
    const __u64 *key_word = (void *)key->word;
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 zeros, *word, last;
    __u32 at;

    scan->hash = 0;
    scan->sum = 0;
    scan->len = 0;
    off &= 0xff;
    barrier_var(off);
    data += off;
    for (at = 0; at < DNS_NAME_WORDS * 8; at += 8, data += 8, key_word++) {
        word = data;
        if ((void *)(word + 1) > data_end)
            break;
        zeros = zero_octets(*word);
        if (zeros) {
            scan_last(scan, *word, zeros, at, *key_word);
            goto out;
        }
        scan->hash += hash_word(*word, *key_word);
        scan->sum += (*word & 0xffffffff) + (*word >> 32);
    }
    /*
     * The packet ends within the next word, which is read as the end of one. Behind it last_octets adds zeros: a length that is
     * too long.
     */
    word = octets_at(skb, end - 8, 8);
    if (word && at < DNS_NAME_WORDS * 8) {
        last = last_octets(*word, end - off);
        zeros = zero_octets(last);
        if (zeros)
            scan_last(scan, last, zeros, at, *key_word);
    }
out:
    scan->hash = hash_finish(scan->hash, key);
    scan->len = forget(skb, scan->len);
}

/*
 * Whether the node is that of the name of `len` octets in the packet at `off`, which is in lower case. Few write names otherwise
 * (0x20): theirs are searched.
 */
static __always_inline bool node_is(const struct edns_node *node, struct __sk_buff *skb, __u32 off, __u32 len)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 differs = 0, *name, *p;
    __u32 i, words = len / 8;

    if (node->name_len != len)
        return false;
    name = (void *)(node + 1) + types_octets(node);
    barrier_var(words); /* else clang derives the loop's bound from a check that the verifier forgets */
    data += off & 0xfff;
    for (i = 0; i < DNS_NAME_WORDS && i < words; i++, data += 8) {
        p = data;
        if ((void *)(p + 1) > data_end)
            return false;
        differs |= name[i] ^ *p;
    }
    if (len % 8) {
        p = last_octets_at(skb, off, len);
        if (!p)
            return false;
        /* Anew: the loop told the verifier much of the number above. */
        barrier_var(len);
        words = len / 8 % DNS_NAME_WORDS;
        differs |= name[words] ^ last_octets(*p, len);
    }
    return !differs;
}

/*
 * The index word that most likely leads to the name with that hash; 0 where none does, EDNS_WORD_DEAD where its home line is
 * not enough to tell.
 */
static __always_inline __u32 word_first(__u64 hash, __u32 index)
{
    __u32 key = hash_line(hash, 0, index), i, w;
    struct edns_line *line = bpf_map_lookup_elem(&edns_index, &key);

    if (!line)
        return 0;
    for (i = 0; i < EDNS_LINE_WORDS; i++) {
        w = *(volatile __u32 *)&line->word[(hash_start(hash) + i) % EDNS_LINE_WORDS];
        if (!w || w >> EDNS_REF_BITS == hash_tag(hash))
            return w;
    }
    return EDNS_WORD_DEAD;
}

/* The node that `word` leads to, where it is that of the name of `len` octets in the packet at `off`. */
static __always_inline struct edns_node *node_first(struct __sk_buff *skb, __u32 off, __u32 len, __u32 word)
{
    struct edns_node *node = node_at(word & EDNS_REF_MAX);

    if (!node)
        return NULL;
    /* A node's answer mostly lies in its second line: it is fetched while the name in the first is compared. */
    touch((void *)node + EDNS_UNIT);
    return node_is(node, skb, off, len) ? node : NULL;
}

static __always_inline struct edns_answer *answer_at(struct edns_node *node, __u32 at)
{
    return (void *)node + (at & (EDNS_NODE_MAX - 8));
}

/*
 * The answer of a node, or of its fallback, for a type. Sets `*zone` to the set of names that it belongs to, `*gate` to its gate of
 * negative answers, and `*why` where there is no answer: a node that lists nothing stands for a name that is left to the DNS server.
 */
static __always_inline struct edns_answer *answer_find(struct edns_node *node, __be16 qtype, struct place *place,
                                                       __u32 *zone, __u32 *gate, int *why)
{
    __u32 round, i, n_types, listed = 0, at = 0;

    for (round = 0; round < 2; round++) {
        struct edns_type *type = (void *)(node + 1);

        *zone = node->zone;
        *gate = node->gate;
        n_types = node->n_types;
        listed |= types_octets(node); /* not n_types, of which the loop tells the verifier more and more */
        for (i = 0; i < EDNS_TYPES_MAX && i < n_types; i++, type++) {
            if (type->qtype == qtype || !type->qtype) {
                at = type->answer * 8;
                goto out;
            }
        }
        if (round)
            break;
        place->ref = node->fallback;
        node = node_at(place->ref);
        if (!node)
            break;
    }
out:
    place->at = at;
    *why = listed ? EDNS_PASS_QTYPE : EDNS_PASS_NAME;
    return node && at ? answer_at(node, at) : NULL;
}

#endif
