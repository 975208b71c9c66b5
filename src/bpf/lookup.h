/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds the node of a name. edns_packet looks up the name as it is written, in its home line of the index. edns_search looks up the
 * name in lower case, in all EDNS_PROBE_LINES lines that may hold it, and then its closest encloser.
 */
#ifndef EDNS_LOOKUP_H
#define EDNS_LOOKUP_H

/* The position within a line at which a lookup starts. */
static __always_inline __u32 hash_start(__u64 hash)
{
    return (hash >> 40) % EDNS_LINE_WORDS;
}

/* The number of the `nth` line of edns_index that may hold the name; `index` is settings.index. */
static __always_inline __u32 hash_line(__u64 hash, __u32 nth, __u32 index)
{
    __u32 bits = index & EDNS_INDEX_LINES, lines = 1U << bits, home = hash >> (64 - bits);
    __u32 first = lines << (index >> EDNS_INDEX_SIBLING_SHIFT & 1);

    return first + (nth ? (home + nth) & (lines - 1) : home);
}

static __always_inline __u32 hash_tag(__u64 hash)
{
    return (__u8)(hash >> 32);
}

/* The `nth` word of a line, counted from hash_start. Volatile: the daemon stores to it while programs read. */
static __always_inline __u32 line_word(const struct edns_line *line, __u64 hash, __u32 nth)
{
    return *(const volatile __u32 *)&line->word[(hash_start(hash) + nth) % EDNS_LINE_WORDS];
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

/* Bytes that a node's types take. */
static __always_inline __u32 types_size(const struct edns_node *node)
{
    return (node->n_types * sizeof(struct edns_type) + 7) & 0x78;
}

/* Loads a word, to bring its cache line into the cache. */
static __always_inline void prefetch(const void *line)
{
    *(const volatile __u64 *)line;
}

/* Whether the node's name equals the `len` octets of the packet at `off`. Capitals (0x20) never match here. */
static __always_inline bool node_has_name(const struct edns_node *node, struct __sk_buff *skb, __u32 off, __u32 len)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 differs = 0, *name, *p;
    __u32 i, words = detached(len / 8);

    if (node->name_len != len)
        return false;
    name = (void *)(node + 1) + types_size(node);
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
        /* Recomputed: the loop left `words` with one verifier state per iteration. */
        len = detached(len);
        words = len / 8 % DNS_NAME_WORDS;
        differs |= name[words] ^ last_octets(*p, len);
    }
    return !differs;
}

/*
 * The first word in the name's home line that may refer to its node; 0 if the name has no node, EDNS_WORD_TOMBSTONE if another line may
 * hold its word.
 */
static __always_inline __u32 index_lookup(__u64 hash, __u32 index)
{
    __u32 key = hash_line(hash, 0, index), i, word;
    struct edns_line *line = bpf_map_lookup_elem(&edns_index, &key);

    if (!line)
        return 0;
    for (i = 0; i < EDNS_LINE_WORDS; i++) {
        word = line_word(line, hash, i);
        if (!word || word >> EDNS_REF_BITS == hash_tag(hash))
            return word;
    }
    return EDNS_WORD_TOMBSTONE;
}

/* The node at `ref`; NULL unless its name equals the `len` octets of the packet at `off`. */
static __always_inline struct edns_node *node_lookup(struct __sk_buff *skb, __u32 off, __u32 len, __u32 ref)
{
    struct edns_node *node = node_at(ref);

    if (!node)
        return NULL;
    /* The answer is usually in the node's second cache line. It is fetched while the name in the first one is compared. */
    prefetch((void *)node + EDNS_UNIT);
    return node_has_name(node, skb, off, len) ? node : NULL;
}

/* The rest of this file runs in edns_search. Its global functions take a slot of edns_scratch and numbers; see verifier.h. */

/* The `nth` word of the suffix of the name that begins at `off`. */
static __always_inline __u64 suffix_word(const struct scratch *scratch, __u32 off, __u32 nth)
{
    return *(__u64 *)(scratch->octets + (off & 0xff) + nth * 8);
}

/* Whether the node at `ref` has the suffix as its name. */
__noinline int suffix_is(__u32 slot, __u32 off, __u32 ref)
{
    struct scratch *scratch = scratch_at(slot);
    struct edns_node *node = node_at(ref);
    __u64 differs = 0, *name;
    __u32 i, len;

    if (!scratch || !node)
        return false;
    len = scratch->name_len - off;
    if (node->name_len != len)
        return false;
    name = (void *)(node + 1) + types_size(node);
    for (i = 0; i < DNS_NAME_WORDS && i * 8 < len; i++)
        differs |= name[i] ^ suffix_word(scratch, off, i);
    return !differs;
}

/* The ref of the suffix's node; 0 if it has none. */
__noinline __u32 suffix_find(__u32 slot, __u32 off, __u32 index)
{
    struct scratch *scratch = scratch_at(slot);
    const volatile struct edns_key *key = hash_key(index);
    __u64 hash = 0;
    __u32 i, l, len;

    if (!scratch)
        return 0;
    len = scratch->name_len - off;
    for (i = 0; i < DNS_NAME_WORDS && i * 8 < len; i++)
        hash += hash_word(suffix_word(scratch, off, i), key->word[i]);
    hash = hash_finish(hash, key);
    for (l = 0; l < EDNS_PROBE_LINES; l++) {
        __u32 nth = hash_line(hash, l, index);
        struct edns_line *line = bpf_map_lookup_elem(&edns_index, &nth);

        if (!line)
            return 0;
        for (i = 0; i < EDNS_LINE_WORDS; i++) {
            __u32 word = line_word(line, hash, i);

            if (!word)
                return 0;
            if (word >> EDNS_REF_BITS == hash_tag(hash) && suffix_is(slot, off, word & EDNS_REF_MAX))
                return word & EDNS_REF_MAX;
        }
    }
    return 0;
}

/* Offset of the label behind the one at `off`. */
static __always_inline __u32 label_next(const struct scratch *scratch, __u32 off)
{
    return (off + scratch->octets[off & 0xff] + 1) & 0xff;
}

/* Whether the label at `off` is a wildcard's. */
static __always_inline bool is_asterisk(const struct scratch *scratch, __u32 off)
{
    return scratch->octets[off & 0xff] == 1 && scratch->octets[(off + 1) & 0xff] == '*';
}

/* Whether the name is below arpa. May also be true for a last label that ends in "\4arpa", which only costs lookups. */
static __always_inline bool is_in_arpa(const struct scratch *scratch)
{
    return suffix_word(scratch, scratch->name_len - 8, 0) >> 16 == 0x006170726104ULL;
}

/*
 * For a name without a node: the ref of its closest encloser's child or deep node (RFC 4592 §3.3.1); 0 if it has none. Counted in
 * labels, no ancestor is longer than name_labels_max, and none shorter than encloser_labels_min has a child or deep node.
 */
static __always_inline __u32 encloser_find(const struct scratch *scratch, __u32 slot, __u32 index)
{
    __u32 max = is_in_arpa(scratch) ? settings.arpa_labels_max : settings.name_labels_max;
    __u32 min = settings.encloser_labels_min, labels = scratch->labels, left = labels, off = 0, i;

    for (i = 0; i < DNS_LABELS_MAX && left > max + 1; i++, left--)
        off = label_next(scratch, off);
    for (i = 0; i < EDNS_ENCLOSERS_MAX && left > min; i++) {
        struct edns_node *node;
        __u32 below = off;

        off = label_next(scratch, off);
        left--;
        node = node_at(suffix_find(slot, off, index));
        if (!node)
            continue;
        if (labels - left == 1)
            return node->child;
        /* The name of a wildcard exists, so the wildcard does not cover names below it (RFC 4592 §2.2.1). */
        return is_asterisk(scratch, below) ? 0 : node->deep;
    }
    return 0;
}

/* What name_search looks up. */
enum name_lookup {
    NAME_ENCLOSER_ONLY, /* skips the name: the first lookup proved it absent */
    NAME_AND_ENCLOSER,
};

/*
 * Looks up the name at the start of the scratch, in the index that the request states, and sets ref and is_absent. False if the
 * labels are invalid or the length is not the expected one.
 */
__noinline int name_search(__u32 slot)
{
    struct scratch *scratch = scratch_at(slot);
    __u32 labels, index, ref = 0, at = 0;

    if (!scratch)
        return false;
    for (labels = 0; labels < DNS_LABELS_MAX && at < DNS_NAME_MAX; labels++) {
        __u32 label = scratch->octets[at];

        if (!label)
            goto end;
        if (label > DNS_LABEL_MAX) /* a pointer, or a label type that is not in use (RFC 6891 §5) */
            return false;
        at += label + 1;
    }
    return false;
end:
    at++;
    if (scratch->expected_len && at != scratch->expected_len)
        return false;
    *(__u64 *)(scratch->octets + (at & 0xff)) = 0;
    scratch->name_len = at;
    scratch->labels = labels;
    scratch->is_absent = false;
    index = scratch->request.index;
    if (scratch->lookup == NAME_AND_ENCLOSER)
        ref = suffix_find(slot, 0, index);
    if (!ref && scratch->labels > settings.encloser_labels_min) {
        ref = encloser_find(scratch, slot, index);
        scratch->is_absent = true;
    }
    scratch->ref = ref & EDNS_REF_MAX;
    return true;
}

/* Copies the qname into the scratch, in lower case and zero-padded. Returns whether it was in lower case. */
static __always_inline bool scratch_name(struct __sk_buff *skb, struct scratch *scratch, __u32 off, __u32 len)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 *p, last, differs = 0;
    __u32 i, words = detached(len / 8);

    data += off & 0xfff;
    for (i = 0; i < DNS_NAME_WORDS && i < words; i++, data += 8) {
        p = data;
        if ((void *)(p + 1) > data_end)
            return false;
        scratch->words[i] = fold_case(*p);
        differs |= scratch->words[i] ^ *p;
    }
    p = last_octets_at(skb, off, len);
    if (!p)
        return false;
    len = detached(len);
    last = last_octets(*p, len);
    scratch->words[len / 8 % DNS_NAME_WORDS] = fold_case(last);
    return !(differs | (fold_case(last) ^ last));
}

/* Searches for the qname. Returns EDNS_CONTINUE with the result in the scratch, or the outcome. */
static __always_inline int search(struct __sk_buff *skb, struct scratch *scratch, __u32 slot, struct query *q)
{
    __u32 len = q->udp + q->udp_len - q->name, i;
    bool is_lower = scratch_name(skb, scratch, q->name, q->name_len);

    scratch->expected_len = q->name_len;
    /* The first lookup was for the name as written, so it counts only if that is lower-case. */
    scratch->lookup = is_lower && !scratch->request.word ? NAME_ENCLOSER_ONLY : NAME_AND_ENCLOSER;
    if (name_search(slot))
        return EDNS_CONTINUE;
    /* The labels are invalid, or a label contains a zero octet, so that the name is longer than scanned. */
    q->has_name_csum = false;
    if (!scratch_load(skb, scratch, q->name, len < DNS_NAME_MAX ? len : DNS_NAME_MAX))
        return EDNS_PASS_ERROR;
    for (i = 0; i < DNS_NAME_WORDS; i++)
        scratch->words[i] = fold_case(scratch->words[i]);
    scratch->expected_len = 0;
    scratch->lookup = NAME_AND_ENCLOSER;
    return name_search(slot) ? EDNS_CONTINUE : EDNS_PASS_MALFORMED;
}

#endif
