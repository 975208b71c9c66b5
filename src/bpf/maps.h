/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The variant's constants, the settings and the maps. All variants share settings and maps. */
#ifndef EDNS_MAPS_H
#define EDNS_MAPS_H

/*
 * Set before loading. edns_search and edns_reply only depend on whether packets have an Ethernet header: variants with one share
 * them.
 */
const volatile enum edns_variant variant = EDNS_VARIANT_ETH;
/* Whether the kernel has bpf_probe_read_kernel (CONFIG_BPF_EVENTS). */
const volatile bool can_read_kernel = true;

volatile struct edns_settings settings __attribute__((aligned(64))) = {};

/* Keeps in the object's BTF the types of abi.h that no map and no variable names. */
const volatile struct {
    enum edns_limits limits;
    enum edns_family family;
    enum edns_zone zone;
    enum edns_outcome outcome;
    enum edns_step step;
    struct edns_node node;
    struct edns_type type;
    struct edns_answer answer;
    struct edns_port port;
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
    /* Sizes, since clang leaves types that only an inner map names out of the BTF. */
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct edns_chunk));
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, EDNS_CHUNKS);
    __type(key, __u32);
    __array(values, struct edns_chunk_map);
} edns_chunks SEC(".maps");

/* DNS servers in whose place queries are answered. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
    __uint(max_entries, EDNS_SERVERS_MAX);
    __type(key, struct edns_server);
    __type(value, __u8);
} edns_servers SEC(".maps");

/* By ifindex. Interfaces that are not in it accept frames to their own address only. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
    __uint(max_entries, EDNS_PORTS_MAX);
    __type(key, __u32);
    __type(value, struct edns_port);
} edns_ports SEC(".maps");

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
    /* Of name_search; volatile: see verifier.h. */
    volatile __u32 expected_len; /* octets of the name; 0: any */
    volatile __u32 lookup;       /* enum name_lookup */
    volatile __u32 name_len;     /* octets of the name with the final zero */
    volatile __u32 labels;       /* of the name */
    volatile __u32 ref;          /* its node, or the closest encloser's child or deep node; 0: none */
    volatile __u32 is_absent;    /* whether the name has no node */
    volatile __u32 option;       /* offset of the next EDNS option */
    __u32 users;                 /* see scratch_take */
};

/* Slots of edns_scratch: packets may interrupt a probe. */
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
 * Takes a slot for this program and the one that it tail-calls; the last one gives it back. NULL where an interrupted program holds
 * it, which a kernel with PREEMPT_RT allows. Of two that try at the same time perhaps both get NULL.
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

/* Reads `len` octets, at least one, of the packet at `off`. */
static __always_inline bool scratch_load(struct __sk_buff *skb, struct scratch *scratch, __u32 off, __u32 len)
{
    len = masked(len - 1, DNS_TAIL_MAX - 1);
    return !bpf_skb_load_bytes(skb, off, scratch->octets, len + 1);
}

#endif
