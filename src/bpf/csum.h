/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Internet checksums (RFC 1071), not complemented, of 16-bit words in memory order. */
#ifndef EDNS_CSUM_H
#define EDNS_CSUM_H

static __always_inline __u16 csum_fold16(__u64 sum)
{
    __u32 half;

    sum += sum >> 32 | sum << 32;
    half = sum >> 32;
    half += half >> 16 | half << 16;
    return half >> 16;
}

/* The unfolded checksum of `count` 32-bit words. */
static __always_inline __u64 csum_words(const void *words, __u32 count)
{
    const __u32 *word = words;
    __u64 sum = 0;
    __u32 i;

    for (i = 0; i < count; i++)
        sum += word[i];
    return sum;
}

/* Moves the checksum of octets from an even offset to `offset`. An odd one swaps the bytes (RFC 1071 §2 (B)). */
static __always_inline __u16 csum_at(__u16 sum, __u32 offset)
{
    return offset & 1 ? sum << 8 | sum >> 8 : sum;
}

#endif
