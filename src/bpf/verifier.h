/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Code that looks odd because a verifier needs it, each with the reason and the kernels concerned. Elsewhere:
 *
 * - Nested loops are in global functions (lookup.h, parse.h). Every verifier checks such a function once, for any arguments, and not
 *   at each call. They take only numbers: Linux 5.10 verifies one that takes the packet only if the kernel has BTF.
 * - With BPF-to-BPF calls Linux 5.10 marks all scalars precise, so that states rarely merge. edns_packet makes no such calls.
 * - Global functions exchange data in volatile fields of edns_scratch, whose values the verifier doesn't track.
 */
#ifndef EDNS_VERIFIER_H
#define EDNS_VERIFIER_H

/* In assembly: clang would move these as 32-bit values, which loses the packet pointer type. */
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
 * Hides x's origin from clang. Otherwise clang replaces a bound by an earlier comparison, which Linux 5.10 lost when x was spilled to
 * the stack.
 */
static __always_inline __u32 detached(__u32 x)
{
    barrier_var(x);
    return x;
}

/*
 * Bounds x by a mask instead of a comparison, which would be lost as above. The first barrier stops clang from omitting the mask, the
 * second one from masking a copy.
 */
static __always_inline __u64 masked(__u64 x, const __u64 mask)
{
    barrier_var(x);
    x &= mask;
    barrier_var(x);
    return x;
}

/*
 * The `len` octets of the packet at `off`; NULL if the packet ends earlier. Pass the whole offset as one variable: verifiers refuse a
 * packet pointer with a negative constant part.
 */
static __always_inline void *octets_at(struct __sk_buff *skb, __u64 off, __u32 len)
{
    void *p = skb_data(skb) + masked(off, 0xfff);

    return p + len > skb_data_end(skb) ? NULL : p;
}

#endif
