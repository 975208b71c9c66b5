/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Names as words of 8 octets, the last one zero-padded; and the hash of a name. */
#ifndef EDNS_NAME_H
#define EDNS_NAME_H

/*
 * The last 8 of the `len` octets at `off`. The packet may end with the name, so this reads backwards from the name's end; the headers
 * before it make that safe. NULL if the packet ends earlier.
 */
static __always_inline __u64 *last_octets_at(struct __sk_buff *skb, __u32 off, __u32 len)
{
    return octets_at(skb, off + len - 8, 8);
}

/* The last partial word of a name of `len` octets, zero-padded, from the word at last_octets_at; 0 if `len` is a multiple of 8. */
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

/* Sets the high bit of each zero octet. Only the lowest set bit is exact. */
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
 * One term of the hash, similar to NH (RFC 4418 §5.2.2): word' * (upper half of word' + 1), where word' = word + key, and `key` is
 * the key's word of the same number. The effect of a difference in one word depends on the key, so that no difference in another
 * word cancels it. (The product needs no mask, and its factor is never 0.)
 */
static __always_inline __u64 hash_word(__u64 word, __u64 key)
{
    word += key;
    return word * ((word >> 32) + 1);
}

/* The hash of a name from the sum of its terms. Different sums have different hashes. Callers use bits 32 to 63. */
static __always_inline __u64 hash_finish(__u64 sum, const volatile struct edns_key *key)
{
    sum = (sum ^ sum >> 32) * key->multiplier[0];
    return (sum ^ sum >> 32) * key->multiplier[1];
}

/* A qname up to its first zero octet. Its labels are not validated. */
struct scan {
    __u64 hash;
    __u64 csum; /* unfolded checksum of the octets, as if they began at an even offset */
    __u32 len;  /* octets with the zero; 0 if there is none */
};

/* Adds the word that holds the first zero. `octets` is the offset of that word in the name. */
static __always_inline void scan_last(struct scan *scan, __u64 word, __u64 zeros, __u32 octets, __u64 key)
{
    __u64 first = (zeros & -zeros) >> 7;

    word &= first - 1;
    scan->hash += hash_word(word, key);
    scan->csum += (word & 0xffffffff) + (word >> 32);
    /* The product's top octet is the number of octets of this word before the zero. */
    scan->len = (first * 0x0001020304050607ULL >> 56) + octets + 1;
}

/*
 * Scans the octets of the packet from `off` up to the first zero; `end` is the offset of the message's end. Labels are not walked
 * here: if all octets match a node's name, the name is valid.
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
        scan.csum += (*word & 0xffffffff) + (*word >> 32);
    }
    /*
     * Fewer than 8 octets are left: load the last 8 of the message. A zero that last_octets added is behind the message, so that the
     * length is refused later.
     */
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
