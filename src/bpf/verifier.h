/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Code that looks odd because a verifier needs it, each with the reason and the kernels that have it. Besides what is here:
 *
 * - Loops within loops are in global functions (lookup.h, parse.h): every verifier checks such a function once, for any arguments,
 *   and not at each call. They take numbers only: Linux 5.10 verifies one that takes the packet only with BTF of its own.
 * - Where a program calls functions, Linux 5.10 treats every number as one that matters, and so merges few states. The program
 *   that sees all packets has none.
 * - What passes between such functions lies in volatile fields of edns_scratch: the verifier knows nothing about them, see opaque.
 */
#ifndef EDNS_VERIFIER_H
#define EDNS_VERIFIER_H

/* In assembly: clang likes to copy these as 32-bit values, after which no verifier knows the packet pointer. */
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

/*
 * Launders x through skb->cb: the verifier drops its bounds, and continues once instead of once for each value that a loop or a
 * branch leaves (all kernels). skb->cb is free between cb_save and the hand-over to another program.
 */
static __always_inline __u32 opaque(struct __sk_buff *skb, __u32 x)
{
    skb->cb[0] = x;
    barrier_var(skb);
    return *(volatile __u32 *)&skb->cb[0];
}

/*
 * x, of which clang forgets where it came from. Otherwise clang derives a loop's bound from an earlier comparison, which Linux
 * 5.10 does not remember of a number that lay on the stack.
 */
static __always_inline __u32 detached(__u32 x)
{
    barrier_var(x);
    return x;
}

/*
 * x & mask, where a comparison would be lost as above. The first barrier keeps clang from leaving the mask out, the second one
 * from masking a copy.
 */
static __always_inline __u64 masked(__u64 x, const __u64 mask)
{
    barrier_var(x);
    x &= mask;
    barrier_var(x);
    return x;
}

/*
 * `len` octets of the packet at `off`; NULL where the packet ends before. The whole offset is one number: verifiers refuse a packet
 * pointer with a negative constant part.
 */
static __always_inline void *octets_at(struct __sk_buff *skb, __u64 off, __u32 len)
{
    void *p = skb_data(skb) + masked(off, 0xfff);

    return p + len > skb_data_end(skb) ? NULL : p;
}

#endif
