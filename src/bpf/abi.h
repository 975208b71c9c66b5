/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The types and constants that the BPF programs and the daemon share. The daemon takes them from the object's BTF.
 * Fields are in host byte order unless their type is __be16 or __be32.
 *
 * The zone is one hash index over nodes in an arena:
 *
 *   edns_index   lines of 16 words, with room for an index of each size (see index.rs); a word is tag << 24 | ref, 0 where
 *                free, EDNS_WORD_TOMBSTONE where a node was removed
 *   edns_chunks  the arena: maps of EDNS_CHUNK_UNITS units each; a ref is the number of a unit, 0 is none
 *
 * A node does not change while a word or another node refers to it, except for child and deep, each of which changes by one store. To
 * replace a node, the daemon writes a new one and then stores the word; it reuses the old units only after a grace period, when
 * no program can still read them. Readers need no lock, no version and no barrier: word to node is an address dependency.
 */
#ifndef EDNS_ABI_H
#define EDNS_ABI_H

enum edns_limits {
    EDNS_UNIT = 64, /* bytes; a cache line */
    EDNS_CHUNK_UNITS = 1 << 15,
    EDNS_CHUNKS = 1 << 9,
    EDNS_LINE_WORDS = 16,    /* an index line is one cache line */
    EDNS_PROBE_LINES = 4,    /* lines that may hold a name, from its home line on */
    EDNS_ENCLOSERS_MAX = 16, /* ancestors that are looked up for a name without a node; deeper names pass */
    EDNS_REF_BITS = 24,
    EDNS_REF_MAX = (1 << EDNS_REF_BITS) - 1,
    EDNS_WORD_TOMBSTONE = 0xff << EDNS_REF_BITS,
    EDNS_TYPES_MAX = 8,    /* types listed in one node */
    EDNS_NODE_MAX = 16384, /* bytes; an answer starts below this offset */
    EDNS_ANSWER_MAX =
        1232, /* octets of the largest DNS message that is sent (DNS flag day 2020: fits IPv6's minimum MTU) */
    EDNS_ANSWER_MASK = 2047, /* covers EDNS_ANSWER_MAX */
    EDNS_CHUNK_OCTETS = EDNS_UNIT * EDNS_CHUNK_UNITS,
    /*
     * The verifier bounds the start of an answer by EDNS_NODE_MAX, and its length by a mask. So the map's value extends that far
     * behind the last unit.
     */
    EDNS_CHUNK_SLACK = EDNS_NODE_MAX + 8192,
    EDNS_SERVERS_MAX = 4096,
    EDNS_MACS_MAX = 1 << 16,
    EDNS_EVENT_OCTETS = 272,      /* octets of the message in an event: header, longest name, type and class */
    EDNS_EVENTS_OCTETS = 1 << 18, /* bytes of the ring of events */
    EDNS_SERVERS_FIRST = 4,       /* IPv4 servers kept in the settings, to save the map lookup */
    EDNS_KEYS = 2,                /* the current and the previous key; running programs may still use the latter */
    EDNS_KEY_WORDS = 32,          /* words of 8 octets in the longest name */
    EDNS_GATES = 1 << 8,          /* values of edns_node.gate */
};

/*
 * The parts of edns_settings.index. An index of n lines begins at line n, or at line 2n if it is in the sibling area. A
 * program reads the setting once for each query, so that no query mixes two keys or two areas.
 */
enum edns_index_part {
    EDNS_INDEX_LINES = 31,        /* mask of the binary logarithm of the number of lines, which is at least 1 */
    EDNS_INDEX_SIBLING_SHIFT = 5, /* bit that is set for the sibling area */
    EDNS_INDEX_KEY_SHIFT = 6,     /* number of the key that hashes the names */
};

/* The name set that a node belongs to. It selects gates and DnsServers. */
enum edns_zone {
    EDNS_ZONE_STATIC,
    EDNS_ZONE_CLUSTER,
    EDNS_ZONE_COUNT,
};

/*
 * The outcome of a query. Each below EDNS_OUTCOME_COUNT is a counter, edns_queries_total{outcome="…"}. Answers come first, up to
 * EDNS_NXDOMAIN; stats.h relies on that.
 */
enum edns_outcome {
    EDNS_ANSWERED,
    EDNS_NODATA,
    EDNS_NXDOMAIN,
    EDNS_PASS_NOT_FOUND, /* the name has no node, and no closest encloser that answers for it */
    EDNS_PASS_NAME,      /* a name that is left to the DNS server: PassNames, empty non-terminals, ... */
    EDNS_PASS_QTYPE,     /* a type or class that is left to the DNS server */
    EDNS_PASS_MALFORMED, /* not a query with one question, or lengths that contradict each other */
    EDNS_PASS_FRAGMENT,  /* IP fragment, or several datagrams in one packet (GSO) */
    EDNS_PASS_IP_OPTIONS,
    EDNS_PASS_ADDRESS, /* IP or MAC address that no reply may go to or come from, or source port 53 or 0 */
    EDNS_PASS_EDNS, /* additional records other than one OPT of version 0, or EDNS options other than COOKIE and PADDING */
    EDNS_PASS_TOO_LARGE, /* a reply that exceeds the client's limit or the MTU, or too many octets behind the question */
    EDNS_PASS_SERVER,    /* sent to a server that DnsServers does not list */
    EDNS_PASS_IPVS,      /* IPVS has handled the packet, and would not recognise the reply */
    EDNS_PASS_NOT_SYNCED, /* the initial sync of the zone is not done */
    EDNS_PASS_STALE, /* the view is stale, or changes wait longer than 2.5 s: negative answers pass, after MaxStale all do */
    EDNS_PASS_INCOMPLETE, /* a negative answer passes: a removal could not wait for a grace period */
    EDNS_PASS_PAUSED,
    EDNS_PASS_DAEMON, /* the daemon's heartbeat is too old, or the daemon exited */
    /* no reply can be built: a helper failed (no memory), the kernel can't report or trim what is needed, or the scratch is in use */
    EDNS_PASS_ERROR,
    EDNS_OUTCOME_COUNT,
    EDNS_NOT_DNS,  /* not counted */
    EDNS_CONTINUE, /* no outcome yet: the next step decides */
    EDNS_SEARCH,   /* no outcome yet: edns_search decides */
};

/* The variants of edns_packet. */
enum edns_variant {
    EDNS_VARIANT_ETH,         /* packets with Ethernet header */
    EDNS_VARIANT_ETH_TO_PEER, /* packets with Ethernet header, on ingress; replies go to the network namespace of the peer */
    EDNS_VARIANT_IP,          /* packets without link-layer header: tun, WireGuard, tunnels */
    EDNS_VARIANT_PROBE,       /* the daemon's own queries, with Ethernet header */
};

/* Slots of edns_steps: the programs that edns_packet tail-calls, for packets with and without Ethernet header. */
enum edns_step {
    EDNS_STEP_SEARCH_ETH,
    EDNS_STEP_SEARCH_IP,
    EDNS_STEP_REPLY_ETH,
    EDNS_STEP_REPLY_IP,
    EDNS_STEP_COUNT,
};

enum edns_family {
    EDNS_IPV4,
    EDNS_IPV6,
    EDNS_FAMILY_COUNT,
};

/* Counters of one CPU. */
struct edns_stats {
    __u64 queries[EDNS_OUTCOME_COUNT][EDNS_FAMILY_COUNT];
    __u64 events_lost; /* events that were dropped because the ring was full */
};

/* A query and its outcome, written while a trace runs. */
struct edns_event {
    __u64 time;       /* nanoseconds of CLOCK_MONOTONIC */
    __u32 ifindex;    /* the interface that the program is attached to */
    __u8 outcome;     /* enum edns_outcome */
    __u8 family;      /* enum edns_family */
    __u16 len;        /* octets in `message` */
    __be32 client[4]; /* IPv4 as ::ffff:a.b.c.d */
    __be32 server[4];
    __be16 client_port;
    __u8 _pad[6];
    /* The start of the DNS message. It may be the reply; its header's flags and counts then differ from the query. */
    __u8 message[EDNS_EVENT_OCTETS];
};

struct edns_line {
    __u32 word[EDNS_LINE_WORDS];
};

struct edns_chunk {
    __u8 octets[EDNS_CHUNK_OCTETS + EDNS_CHUNK_SLACK];
};

/* A type that a node lists, and its answer. */
struct edns_type {
    __be16 qtype; /* 0: any type */
    __u16 answer; /* offset of the answer from its node in units of 8 bytes; 0: the query passes */
};

/* Followed by types[n_types], padded to 8 bytes; the name in lower case, padded with zeros to 8 bytes; answers. */
struct edns_node {
    __u8 name_len; /* octets with the final zero; 0: a node without a name, which others refer to */
    __u8 zone;     /* enum edns_zone */
    __u8 n_types;
    __u8 gate;      /* index into edns_settings.gate for negative answers, besides the zone's gate */
    __u32 fallback; /* ref of the node for types that are not listed */
    __u32 child;    /* ref of the node for names one label below that have no node */
    __u32 deep;     /* ref of the node for names further below that have no node */
};

/* Followed by the octets, at least one. */
struct edns_answer {
    __be16 flags;        /* of the DNS header: QR, AA and rcode */
    __be16 count[3];     /* ANCOUNT, NSCOUNT, ARCOUNT without OPT */
    __u16 len;           /* octets that follow */
    __u16 csum;          /* their checksum (not complemented), as if they began at an even offset */
    __u16 rotate_stride; /* octets of one rotating record; even, so that rotation keeps the checksum */
    __u8 rotate_count;   /* number of records at the end that rotate; below 2: none */
    __u8 outcome;        /* enum edns_outcome */
};

/* A destination MAC address that is accepted on an interface besides its own. */
struct edns_mac {
    __u64 mac; /* as in the frame, followed by zeros; all ones: any address */
};

/* A server's address; IPv4 as ::ffff:a.b.c.d. The map's value is a bit mask of enum edns_zone. */
struct edns_server {
    __be32 addr[4];
};

/* Random numbers of the hash, see hash_word. A tenant who doesn't know them can't choose colliding names. */
struct edns_key {
    __u64 multiplier[2]; /* odd */
    __u64 word[EDNS_KEY_WORDS];
    __u64 _pad[6]; /* pads to a cache line */
};

/*
 * Written while programs run: beat by edns_beat, the rest by the daemon. The fields are independent of each other. Those that each
 * packet needs share one cache line.
 */
struct edns_settings {
    __u64 beat;                          /* jiffies at the last heartbeat */
    __u64 beat_max;                      /* jiffies after which the heartbeat has expired */
    __u8 index;                          /* the current index; see enum edns_index_part */
    __u8 encloser_labels_min;            /* labels of the shortest name with child or deep; 255: no name has one */
    __u8 name_labels_max;                /* labels of the longest name outside arpa */
    __u8 arpa_labels_max;                /* labels of the longest name in arpa (an IPv6 address has 34) */
    __u8 any_server;                     /* bit mask of zones that are answered for any server */
    __u8 paused;                         /* whether everything passes */
    __u8 trace;                          /* whether queries are written to edns_events */
    __u8 positive_gate[EDNS_ZONE_COUNT]; /* 0: open; else the outcome of all queries of the zone */
    __u8 negative_gate[EDNS_ZONE_COUNT]; /* 0: open; else the outcome of negative and wildcard answers */
    __u8 egress;                         /* whether programs are on egress; set before they are attached */
    __u8 ipvs; /* whether IPVS has services; only used where programs can't read skb->ipvs_property */
    __u8 _pad[35];
    __u64 servers[EDNS_SERVERS_FIRST]; /* IPv4 address as in the packet << 32 | bit mask of enum edns_zone; 0: none */
    __u64 _pad_servers[4];             /* pads to a cache line */
    struct edns_key keys[EDNS_KEYS];   /* the key of the current index never changes */
    /* Gates of negative answers, by edns_node.gate (one or more namespaces): as negative_gate; gate 0 is never closed. */
    __u8 gate[EDNS_GATES];
};

#endif
