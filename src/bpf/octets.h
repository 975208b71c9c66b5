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
static __always_inline void *octets_at(struct __sk_buff *skb, __u32 off, __u32 len)
{
    void *p;

    /* The whole offset in one scalar: a packet pointer with a negative constant part is refused. */
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

/* Has the processor fetch a cache line that is needed soon. */
static __always_inline void touch(const void *line)
{
    *(const volatile __u64 *)line;
}

#endif
