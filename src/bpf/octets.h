/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet's octets as words. */
#ifndef EDNS_OCTETS_H
#define EDNS_OCTETS_H

/* In assembly, since clang likes to copy these as 32-bit values, after which the verifier knows no packet pointer. */
static __always_inline void *skb_data(struct __sk_buff *skb)
{
    void *p;

    asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
    return p;
}

static __always_inline void *skb_data_end(struct __sk_buff *skb)
{
    void *p;

    asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
    return p;
}

/* `len` octets of the packet at `off`; NULL where it ends before. */
static __always_inline void *octets_at(struct __sk_buff *skb, __u64 off, __u32 len)
{
    void *p;

    /*
     * The whole offset in one scalar: a packet pointer with a negative constant part is refused. Clang must not know how large it
     * is, or it leaves out the mask, which Linux 5.10 needs: that forgets the bounds of what lay on the stack.
     */
    barrier_var(off);
    off &= 0xfff;
    barrier_var(off);
    p = skb_data(skb) + off;
    return p + len > skb_data_end(skb) ? NULL : p;
}

/*
 * A name or other octets of any length are read as words of 8, zeros behind their end. Where the length is no multiple of
 * 8 the last word is read such that it ends with them, since the packet may end there; in front there is always a header.
 */
static __always_inline __u64 *last_octets_at(struct __sk_buff *skb, __u32 off, __u32 len)
{
    return octets_at(skb, off + len - 8, 8);
}

static __always_inline __u64 last_octets(__u64 word, __u32 len)
{
    return len % 8 ? word >> (64 - len % 8 * 8) : 0;
}

/*
 * The same number, of which the verifier knows nothing: it goes on once from here, and not once for each value that a loop or a
 * branch could have left. It goes by way of skb->cb, which is free after cb_save and before plan_store.
 */
static __always_inline __u32 forget(struct __sk_buff *skb, __u32 x)
{
    skb->cb[0] = x;
    barrier_var(skb);
    return *(volatile __u32 *)&skb->cb[0];
}

/* One's complement sums here are of 16-bit words in memory order, unfolded. */
static __always_inline __u16 csum_fold16(__u64 sum)
{
    __u32 half;

    sum += sum >> 32 | sum << 32;
    half = sum >> 32;
    half += half >> 16 | half << 16;
    return half >> 16;
}

static __always_inline __u64 sum_of(const void *words, __u32 count)
{
    const __u32 *word = words;
    __u64 sum = 0;
    __u32 i;

    for (i = 0; i < count; i++)
        sum += word[i];
    return sum;
}

/* Has the processor fetch a cache line that is needed soon. */
static __always_inline void touch(const void *line)
{
    *(const volatile __u64 *)line;
}

#endif
