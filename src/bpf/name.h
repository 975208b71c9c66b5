/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Names as words of 8 octets, the last one filled up with zeros; and the hash of a name. */
#ifndef EDNS_NAME_H
#define EDNS_NAME_H

/*
 * The 8 octets that end with the last of `len` octets at `off`: the packet may end there, and in front there is always a header.
 * NULL where the packet ends before.
 */
static __always_inline __u64 *last_octets_at(struct __sk_buff *skb, __u32 off, __u32 len)
{
    return octets_at(skb, off + len - 8, 8);
}

/* The last word of a name of `len` octets, out of what last_octets_at returns; 0 where its length is a multiple of 8. */
static __always_inline __u64 last_octets(__u64 word, __u32 len)
{
    return len % 8 ? word >> (64 - len % 8 * 8) : 0;
}

/* A word with A-Z in lower case. Length octets are at most 63 and never change. */
static __always_inline __u64 fold_case(__u64 x)
{
    const __u64 high = 0x8080808080808080ULL;
    __u64 low = x & ~high;
    __u64 from_a = low + 0x3f3f3f3f3f3f3f3fULL;  /* high bit where the octet is at least 'A' */
    __u64 above_z = low + 0x2525252525252525ULL; /* high bit where it is above 'Z' */

    return x | (from_a & ~above_z & ~x & high) >> 2;
}

/* The high bit of each octet that is zero; above the first one also of others. */
static __always_inline __u64 zero_octets(__u64 word)
{
    const __u64 ones = 0x0101010101010101ULL;

    return (word - ones) & ~word & ones << 7;
}

/* The key that hashes the names of the index that `index` (settings.index) describes. */
static __always_inline const volatile struct edns_key *hash_key(__u32 index)
{
    return &settings.keys[index >> EDNS_INDEX_KEY_SHIFT & (EDNS_KEYS - 1)];
}

/*
 * What a word of a name adds to the sum that is hashed; `key` is the key's word of the same number. As in NH (RFC 4418 §5.2.2) the
 * halves are multiplied, so that a chosen difference between two names changes the sum by a number that depends on the key, and no
 * other word can take it back. (word * (upper half + 1) needs no mask, and its factor is never 0.)
 */
static __always_inline __u64 hash_word(__u64 word, __u64 key)
{
    word += key;
    return word * ((word >> 32) + 1);
}

/* The hash of a name with this sum; different sums have different hashes. Its upper half is used. */
static __always_inline __u64 hash_finish(__u64 sum, const volatile struct edns_key *key)
{
    sum = (sum ^ sum >> 32) * key->multiplier[0];
    return (sum ^ sum >> 32) * key->multiplier[1];
}

/* A qname up to its first zero octet; its labels are not validated. */
struct scan {
    __u64 hash;
    __u64 sum; /* one's complement, of the octets as if they began at an even offset, unfolded */
    __u32 len; /* octets with the zero; 0 where there is none */
};

/* Adds the word that holds the first zero; `octets` are in front of it. */
static __always_inline void scan_last(struct scan *scan, __u64 word, __u64 zeros, __u32 octets, __u64 key)
{
    __u64 first = (zeros & -zeros) >> 7;

    word &= first - 1;
    scan->hash += hash_word(word, key);
    scan->sum += (word & 0xffffffff) + (word >> 32);
    /* The product's top octet is the number of octets in front of the zero. */
    scan->len = (first * 0x0001020304050607ULL >> 56) + octets + 1;
}

/*
 * Scans the octets of the packet from `off` up to the first zero; `end` is the end of the message. Most names end at their first
 * zero, and octets that equal a node's name are a valid name: so a name that is found needs no walk along its labels.
 */
static __always_inline struct scan name_scan(struct __sk_buff *skb, __u32 off, __u32 end, __u32 index)
{
    const volatile struct edns_key *key = hash_key(index);
    const __u64 *key_word = (void *)key->word;
    void *data = skb_data(skb), *data_end = skb_data_end(skb);
    struct scan scan = {};
    __u64 zeros, *word, last;
    __u32 at;

    off = masked(off, 0xff);
    data += off;
    for (at = 0; at < DNS_NAME_WORDS * 8; at += 8, data += 8, key_word++) {
        word = data;
        if ((void *)(word + 1) > data_end)
            break;
        zeros = zero_octets(*word);
        if (zeros) {
            scan_last(&scan, *word, zeros, at, *key_word);
            goto out;
        }
        scan.hash += hash_word(*word, *key_word);
        scan.sum += (*word & 0xffffffff) + (*word >> 32);
    }
    /* The packet ends within the next word, which is read by its end. last_octets adds zeros behind it: a length that is too long. */
    word = octets_at(skb, end - 8, 8);
    if (word && at < DNS_NAME_WORDS * 8) {
        last = last_octets(*word, end - off);
        zeros = zero_octets(last);
        if (zeros)
            scan_last(&scan, last, zeros, at, *key_word);
    }
out:
    scan.hash = hash_finish(scan.hash, key);
    scan.len = opaque(skb, scan.len);
    return scan;
}

#endif
