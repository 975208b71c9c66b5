/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a few queries need: a name that is not in its home line or has no node, and additional records other than a bare OPT.
 *
 * Loops within loops, so these are global functions: the verifier looks at each once, for any arguments. They take numbers
 * only, since Linux 5.10 needs BTF of its own to verify one that takes the packet: what they read lies in edns_scratch.
 */
#ifndef EDNS_SEARCH_H
#define EDNS_SEARCH_H

struct scratch {
    union {
        __u64 words[DNS_TAIL_MAX / 8 + 2];
        __u8 octets[DNS_TAIL_MAX + 16];
    };
    /* Of the name in it. Volatile: what comes from here the verifier knows nothing of, so it goes on once; see forget. */
    volatile __u32 name_len;
    volatile __u32 labels;
    volatile __u32 option; /* where the next option of an OPT begins */
    __u32 users;           /* see scratch_take */
    struct cb cb;          /* of the packet that is searched for */
};

/* What is read of a packet. The daemon's own may be interrupted by others: they have a slot of their own (plan_slot). */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, struct scratch);
} edns_scratch SEC(".maps");

/* A word of eight octets with A-Z in lower case. Length octets are at most 63 and never change. */
static __always_inline __u64 fold_case(__u64 x)
{
    const __u64 high = 0x8080808080808080ULL;
    __u64 low = x & ~high;
    __u64 from_a = low + 0x3f3f3f3f3f3f3f3fULL;  /* high bit where the octet is at least 'A' */
    __u64 above_z = low + 0x2525252525252525ULL; /* high bit where it is above 'Z' */

    return x | (from_a & ~above_z & ~x & high) >> 2;
}

static __always_inline __u32 plan_slot(const struct plan *plan)
{
    return plan->flags & PLAN_PROBE ? 1 : 0;
}

static __always_inline struct scratch *scratch_at(__u32 slot)
{
    return bpf_map_lookup_elem(&edns_scratch, &slot);
}

static __always_inline void scratch_give_back(struct scratch *scratch)
{
    __sync_fetch_and_add(&scratch->users, -1);
}

/*
 * The scratch, for the caller and the program that it jumps to, whichever of them ends: that one gives it back. NULL where it is
 * taken by a program that this one has interrupted, as a kernel with PREEMPT_RT may let it; where both try at the same time perhaps
 * neither gets it.
 */
static __always_inline struct scratch *scratch_take(__u32 slot)
{
    struct scratch *scratch = scratch_at(slot);

    if (!scratch)
        return NULL;
    __sync_fetch_and_add(&scratch->users, 1);
    if (*(volatile __u32 *)&scratch->users == 1)
        return scratch;
    scratch_give_back(scratch);
    return NULL;
}

/* Word `nth` of the suffix that begins at `off`; zeros are behind the name. */
static __always_inline __u64 scratch_word(const struct scratch *scratch, __u32 off, __u32 nth)
{
    return *(__u64 *)(scratch->octets + (off & 0xff) + nth * 8);
}

/* Whether the node at `ref` is that of the suffix. */
__noinline int suffix_is(__u32 slot, __u32 off, __u32 ref)
{
    struct scratch *scratch = bpf_map_lookup_elem(&edns_scratch, &slot);
    struct edns_node *node = node_at(ref);
    __u64 differs = 0, *name;
    __u32 i, len;

    if (!scratch || !node)
        return false;
    len = scratch->name_len - off;
    if (node->name_len != len)
        return false;
    name = (void *)(node + 1) + types_octets(node);
    for (i = 0; i < DNS_NAME_WORDS && i * 8 < len; i++)
        differs |= name[i] ^ scratch_word(scratch, off, i);
    return !differs;
}

/* The ref of the node of the suffix in the index that settings.index named; 0 where there is none. */
__noinline __u32 suffix_find(__u32 slot, __u32 off, __u32 index)
{
    struct scratch *scratch = bpf_map_lookup_elem(&edns_scratch, &slot);
    const volatile struct edns_key *key = hash_key(index);
    __u64 hash = 0;
    __u32 i, l, len;

    if (!scratch)
        return 0;
    len = scratch->name_len - off;
    for (i = 0; i < DNS_NAME_WORDS && i * 8 < len; i++)
        hash += hash_word(scratch_word(scratch, off, i), key->word[i]);
    hash = hash_finish(hash, key);
    for (l = 0; l < EDNS_PROBE_LINES; l++) {
        __u32 nth = hash_line(hash, l, index);
        struct edns_line *line = bpf_map_lookup_elem(&edns_index, &nth);

        if (!line)
            return 0;
        for (i = 0; i < EDNS_LINE_WORDS; i++) {
            __u32 w = *(volatile __u32 *)&line->word[(hash_start(hash) + i) % EDNS_LINE_WORDS];

            if (!w)
                return 0;
            if (w >> EDNS_REF_BITS == hash_tag(hash) && suffix_is(slot, off, w & EDNS_REF_MAX))
                return w & EDNS_REF_MAX;
        }
    }
    return 0;
}

/* Where the first label behind the one at `off` begins. */
static __always_inline __u32 label_next(const struct scratch *scratch, __u32 off)
{
    return (off + scratch->octets[off & 0xff] + 1) & 0xff;
}

/* Whether the label at `off` is a wildcard's. */
static __always_inline bool is_asterisk(const struct scratch *scratch, __u32 off)
{
    return scratch->octets[off & 0xff] == 1 && scratch->octets[(off + 1) & 0xff] == '*';
}

/* Whether the name is below arpa; perhaps also where its last label but ends like that. */
static __always_inline bool is_in_arpa(const struct scratch *scratch)
{
    return scratch_word(scratch, scratch->name_len - 8, 0) >> 16 == 0x006170726104ULL;
}

/*
 * For a name without node: the node that holds for names below its closest encloser (RFC 4592 §3.3.1); 0 where nothing
 * holds there. Names of more than below_max (arpa_max) or less than below_min labels need no look-up: no node of use is there.
 */
static __always_inline __u32 name_below(const struct scratch *scratch, __u32 slot, __u32 labels, __u32 index)
{
    __u32 max = is_in_arpa(scratch) ? settings.arpa_max : settings.below_max;
    __u32 min = settings.below_min, left = labels, off = 0, i;

    for (i = 0; i < DNS_LABELS_MAX && left > max + 1; i++, left--)
        off = label_next(scratch, off);
    for (i = 0; i < EDNS_BELOW_MAX && left > min; i++) {
        struct edns_node *node;
        __u32 below = off;

        off = label_next(scratch, off);
        left--;
        node = node_at(suffix_find(slot, off, index));
        if (!node)
            continue;
        if (labels - left == 1)
            return node->child;
        /* A wildcard's own name exists, so nothing of it holds for names below (RFC 4592 §2.2.1). */
        return is_asterisk(scratch, below) ? 0 : node->deep;
    }
    return 0;
}

#define FOUND_ABSENCE (1ULL << EDNS_REF_BITS)
#define FOUND_LEN_SHIFT 32

/*
 * Looks for the name at the scratch's start: its length << FOUND_LEN_SHIFT | the ref of its node, or FOUND_ABSENCE | that of the
 * one that speaks for names like it, which then do not exist; or no ref. 0 where it is no name, or not `len` octets.
 * `absent`: it is known to have no node.
 */
__noinline __u64 name_search(__u32 slot, __u32 len, __u32 absent, __u32 index)
{
    struct scratch *scratch = bpf_map_lookup_elem(&edns_scratch, &slot);
    __u32 labels, at = 0, ref = 0;
    __u64 found;

    if (!scratch)
        return 0;
    for (labels = 0; labels < DNS_LABELS_MAX && at < DNS_NAME_MAX; labels++) {
        __u32 label = scratch->octets[at];

        if (!label)
            goto end;
        if (label > DNS_LABEL_MAX) /* a pointer, or a label type of no meaning (RFC 6891 §5) */
            return 0;
        at += label + 1;
    }
    return 0;
end:
    at++;
    if (len && at != len)
        return 0;
    *(__u64 *)(scratch->octets + (at & 0xff)) = 0;
    scratch->name_len = at;
    scratch->labels = labels;
    labels = scratch->labels;
    found = (__u64)scratch->name_len << FOUND_LEN_SHIFT;
    if (!absent)
        ref = suffix_find(slot, 0, index);
    if (!ref && labels > settings.below_min) {
        ref = name_below(scratch, slot, labels, index);
        found |= FOUND_ABSENCE;
    }
    return found | (ref & EDNS_REF_MAX);
}

/* The one's complement sum of the first `len` octets of the scratch. */
__noinline __u32 scratch_sum(__u32 slot, __u32 len)
{
    struct scratch *scratch = bpf_map_lookup_elem(&edns_scratch, &slot);
    __u64 sum = 0;
    __u32 i;

    if (!scratch || len > DNS_TAIL_MAX)
        return 0;
    *(__u64 *)(scratch->octets + len) = 0;
    for (i = 0; i < DNS_TAIL_MAX / 8 && i * 8 < len; i++)
        sum += (scratch->words[i] & 0xffffffff) + (scratch->words[i] >> 32);
    return csum_fold16(sum);
}

/*
 * Whether the options of the OPT at the scratch's start, which takes `len` octets, ask for nothing: COOKIE of a length that there
 * is (RFC 7873 §4) and PADDING. To others, to what does not add up, and to more than DNS_OPTIONS_MAX, the server has its own
 * reply.
 */
__noinline int options_ask_nothing(__u32 slot, __u32 len)
{
    struct scratch *scratch = bpf_map_lookup_elem(&edns_scratch, &slot);
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

/* Reads `len` octets, one at least, of the packet at `off` into the scratch. */
static __always_inline bool scratch_load(struct __sk_buff *skb, struct scratch *scratch, __u32 off, __u32 len)
{
    len = (len - 1) & (DNS_TAIL_MAX - 1); /* a mask, since the verifier forgets a comparison */
    barrier_var(len);
    return !bpf_skb_load_bytes(skb, off, scratch->octets, len + 1);
}

/*
 * Copies the `len` octets of the packet at `off` into the scratch, in lower case, zeros behind them. Returns whether they were in
 * lower case.
 */
static __always_inline bool scratch_name(struct __sk_buff *skb, struct scratch *scratch, __u32 off, __u32 len)
{
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    __u64 *p, last, differs = 0;
    __u32 i, words = len / 8;

    barrier_var(words); /* see node_is */
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
    barrier_var(len);
    last = last_octets(*p, len);
    scratch->words[len / 8 % DNS_NAME_WORDS] = fold_case(last);
    return !(differs | (fold_case(last) ^ last));
}

/* node_search with the scratch. */
static __always_inline int scratch_search(struct __sk_buff *skb, struct query *q, struct scratch *scratch, __u32 slot,
                                          bool absent, __u32 index, __u64 *found)
{
    __u32 len = q->udp + q->udp_len - q->qname, i;

    /* The first look was for the name as it is written. */
    absent &= scratch_name(skb, scratch, q->qname, q->qname_len);
    *found = name_search(slot, q->qname_len, absent, index);
    if (*found)
        return EDNS_ANSWERED;
    /* No name; or a label holds a zero, so that the first one is not its end. */
    q->has_sum = false;
    if (!scratch_load(skb, scratch, q->qname, len < DNS_NAME_MAX ? len : DNS_NAME_MAX))
        return EDNS_PASS_ERROR;
    for (i = 0; i < DNS_NAME_WORDS; i++)
        scratch->words[i] = fold_case(scratch->words[i]);
    *found = name_search(slot, 0, false, index);
    return *found ? EDNS_ANSWERED : EDNS_PASS_MALFORMED;
}

/*
 * Sets `*ref` to the node of the question's name, or to the one that speaks for names like it, which then do not exist; 0
 * where there is none. `absent`: as it is written, the name has no node. Returns EDNS_ANSWERED, or why the packet passes.
 */
static __always_inline int node_search(struct __sk_buff *skb, struct query *q, struct scratch *scratch, __u32 slot,
                                       bool absent, __u32 index, __u32 *ref, bool *absence)
{
    __u64 found = 0;
    int outcome;

    outcome = scratch_search(skb, q, scratch, slot, absent, index, &found);
    if (outcome)
        return outcome;
    q->qname_len = found >> FOUND_LEN_SHIFT;
    *ref = found & EDNS_REF_MAX;
    *absence = found & FOUND_ABSENCE;
    return EDNS_ANSWERED;
}

/*
 * Sets `*sum` to that of the octets behind the question, as if they began at an even offset; there is nothing, or an OPT, mostly
 * one without options. Others only the program that searches can look at, which has the scratch. Returns EDNS_ANSWERED, or why not.
 */
static __always_inline int tail_sum(struct __sk_buff *skb, const struct query *q, struct scratch *scratch, __u32 slot,
                                    __u32 *sum)
{
    const __u32 off = q->qname + q->qname_len + DNS_QUESTION_TAIL;

    *sum = 0;
    if (!q->tail_len)
        return EDNS_ANSWERED;
    if (q->tail_len == sizeof(struct dns_opt)) {
        void *opt = octets_at(skb, off, sizeof(struct dns_opt));

        if (!opt)
            return EDNS_PASS_ERROR;
        *sum = csum_fold16(sum_of(opt, 2) + *(__u16 *)(opt + 8) + *(__u8 *)(opt + 10));
        return EDNS_ANSWERED;
    }
    if (!scratch)
        return EDNS_SEARCH;
    if (!scratch_load(skb, scratch, off, q->tail_len))
        return EDNS_PASS_ERROR;
    if (!options_ask_nothing(slot, q->tail_len))
        return EDNS_PASS_EDNS;
    *sum = scratch_sum(slot, q->tail_len);
    return EDNS_ANSWERED;
}

#endif
