/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The variant's constants, the settings and the maps. All variants share settings and maps. */
#ifndef EDNS_MAPS_H
#define EDNS_MAPS_H

/*
 * Set before loading. edns_search and edns_reply only depend on whether packets have an Ethernet header, so the variants with one
 * share them.
 */
const volatile enum edns_variant variant = EDNS_VARIANT_ETH;
/* Whether the kernel has bpf_probe_read_kernel (CONFIG_BPF_EVENTS). */
const volatile bool can_read_kernel = true;

volatile struct edns_settings settings __attribute__((aligned(64))) = {};

/* Keeps those types of abi.h in the object's BTF that no map and no other variable uses. */
const volatile struct {
    enum edns_limits limits;
    enum edns_family family;
    enum edns_zone zone;
    enum edns_outcome outcome;
    enum edns_step step;
    struct edns_node node;
    struct edns_type type;
    struct edns_answer answer;
    struct edns_mac mac;
    struct edns_event event;
    enum edns_index_part index_part;
} abi = {};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1); /* set before loading */
    __type(key, __u32);
    __type(value, struct edns_line);
} edns_index SEC(".maps");

struct edns_chunk_map {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    /* Sizes instead of types: clang omits types that only an inner map uses from the BTF. */
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct edns_chunk));
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, EDNS_CHUNKS);
    __type(key, __u32);
    __array(values, struct edns_chunk_map);
} edns_chunks SEC(".maps");

/* Destinations that the program answers for. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
    __uint(max_entries, EDNS_SERVERS_MAX);
    __type(key, struct edns_server);
    __type(value, __u8);
} edns_servers SEC(".maps");

/* MAC addresses accepted besides the interface's own, by ifindex. An interface without an entry accepts only its own. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
    __uint(max_entries, EDNS_MACS_MAX);
    __type(key, __u32);
    __type(value, struct edns_mac);
} edns_macs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct edns_stats);
} edns_stats SEC(".maps");

/* Queries and their outcomes, while a trace runs. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, EDNS_EVENTS_OCTETS);
} edns_events SEC(".maps");

/* The programs that edns_packet tail-calls. The daemon holds the map; the kernel empties it when the daemon exits. */
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, EDNS_STEP_COUNT);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} edns_steps SEC(".maps");

/* The memory of one search. */
struct scratch {
    /* The qname in lower case, or the octets behind the question. */
    union {
        __u64 words[DNS_TAIL_MAX / 8 + 2];
        __u8 octets[DNS_TAIL_MAX + 16];
    };
    struct search_request request;
    /* Arguments and results of name_search. Volatile: see verifier.h. */
    volatile __u32 expected_len; /* octets of the name; 0: any */
    volatile __u32 lookup;       /* enum name_lookup */
    volatile __u32 name_len;     /* octets of the name with the final zero */
    volatile __u32 labels;       /* of the name */
    volatile __u32 ref;          /* its node, or the closest encloser's child or deep node; 0: none */
    volatile __u32 is_absent;    /* whether the name has no node */
    volatile __u32 option;       /* offset of the next EDNS option */
    __u32 users;                 /* see scratch_take */
};

/* Slots of edns_scratch: a packet can interrupt a probe on its CPU, so each has a slot. */
enum scratch_slot {
    SCRATCH_PACKET,
    SCRATCH_PROBE,
    SCRATCH_COUNT,
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, SCRATCH_COUNT);
    __type(key, __u32);
    __type(value, struct scratch);
} edns_scratch SEC(".maps");

static __always_inline struct scratch *scratch_at(__u32 slot)
{
    return bpf_map_lookup_elem(&edns_scratch, &slot);
}

static __always_inline void scratch_give_back(struct scratch *scratch)
{
    __sync_fetch_and_add(&scratch->users, -1);
}

/*
 * Takes a slot; edns_search gives it back. NULL if another program on this CPU holds it (possible with PREEMPT_RT). Two concurrent
 * takers may both get NULL.
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

/* Copies `len` octets of the packet at `off` to the start of the scratch; at least one, at most DNS_TAIL_MAX. */
static __always_inline bool scratch_load(struct __sk_buff *skb, struct scratch *scratch, __u32 off, __u32 len)
{
    len = masked(len - 1, DNS_TAIL_MAX - 1);
    return !bpf_skb_load_bytes(skb, off, scratch->octets, len + 1);
}

#endif
