/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel's program and the daemon share, stated once: the daemon gets these types and constants from the
 * object's BTF. Multi-octet fields are in host order unless they are __be16.
 *
 * The zone is one hash index over nodes in an arena:
 *
 *   edns_index   lines of 16 words, with room for an index of each size (see index.rs); a word is tag << 24 | ref, 0 where
 *                free, EDNS_WORD_DEAD where a node was
 *   edns_chunks  the arena: maps of EDNS_CHUNK_UNITS units each; a ref is a unit's number in it, 0 is none
 *
 * A node never changes while a word or another node refers to it, but for child and deep, each of which is one store. The
 * daemon replaces it by writing another one and then storing the word, and reuses the old units only when every program that
 * may have seen them is done. So readers need no lock, no version and no barrier: word to node is an address dependency.
 */
#ifndef EDNS_ABI_H
#define EDNS_ABI_H

enum edns_limits {
    EDNS_UNIT = 64, /* octets; a cache line */
    EDNS_CHUNK_UNITS = 1 << 15,
    EDNS_CHUNKS = 1 << 9,
    EDNS_LINE_WORDS = 16, /* an index line is one cache line */
    EDNS_PROBE_LINES = 4, /* lines that may hold a name, from its home line on */
    EDNS_BELOW_MAX = 16,  /* ancestors that are looked up for a name without node; further ones: pass */
    EDNS_REF_BITS = 24,
    EDNS_REF_MAX = (1 << EDNS_REF_BITS) - 1,
    EDNS_WORD_DEAD = 0xff << EDNS_REF_BITS,
    EDNS_TYPES_MAX = 8,      /* types listed in one node */
    EDNS_NODE_MAX = 16384,   /* octets; an answer starts below this offset */
    EDNS_ANSWER_MAX = 1232,  /* octets of a DNS message that we send (RFC 9715 §3.1) */
    EDNS_ANSWER_MASK = 2047, /* covers EDNS_ANSWER_MAX */
    EDNS_CHUNK_OCTETS = EDNS_UNIT * EDNS_CHUNK_UNITS,
    /* The verifier wants all that a node's last unit could reach within the map's value. */
    EDNS_CHUNK_SLACK = EDNS_NODE_MAX + 8192,
    EDNS_SERVERS_MAX = 4096,
    EDNS_PORTS_MAX = 1 << 16,
    EDNS_EVENT_OCTETS = 272,      /* of a message that an event holds: header, longest name, type and class */
    EDNS_EVENTS_OCTETS = 1 << 18, /* of the ring that holds events */
    EDNS_SERVERS_FIRST = 4,       /* IPv4 addresses that are looked at before the map of all */
    EDNS_KEYS = 2,                /* hash keys: the one in use, and one that programs may still hash with */
    EDNS_KEY_WORDS = 32,          /* of 8 octets, as of the longest name */
    EDNS_GATES = 1 << 8,          /* values of edns_node.gate */
};

/*
 * The parts of edns_settings.index: an index of n lines begins at line n, or where it lies beside that one at line 2n. A program
 * reads it once for a query, so that no query mixes two keys or two areas.
 */
enum edns_index_part {
    EDNS_INDEX_LINES = 31,       /* mask of the binary logarithm of its lines, at least 1 */
    EDNS_INDEX_BESIDE_SHIFT = 5, /* whether it lies beside */
    EDNS_INDEX_KEY_SHIFT = 6,    /* the key that hashes its names */
};

/* Which names a node belongs to; see DnsServers. */
enum edns_zone {
    EDNS_ZONE_STATIC,
    EDNS_ZONE_CLUSTER,
    EDNS_ZONE_COUNT,
};

/* What became of a query. Each is a counter, edns_queries_total{outcome="…"}. */
enum edns_outcome {
    EDNS_ANSWERED,
    EDNS_NODATA,
    EDNS_NXDOMAIN,
    EDNS_PASS_NOT_FOUND, /* no such name here */
    EDNS_PASS_NAME,      /* a name that is left to the DNS server: PassNames, empty non-terminals, ... */
    EDNS_PASS_QTYPE,     /* a type or class that is left to the DNS server */
    EDNS_PASS_MALFORMED, /* not a query with one question, or lengths that contradict each other */
    EDNS_PASS_FRAGMENT,  /* of a datagram; or several datagrams in one packet (GSO) */
    EDNS_PASS_IP_OPTIONS,
    EDNS_PASS_ADDRESS, /* IP or MAC address that no reply may go to or come from, or source port 53 or 0 */
    EDNS_PASS_EDNS, /* additional records other than one OPT of version 0, or its options other than COOKIE and PADDING */
    EDNS_PASS_TOO_LARGE,  /* for the client or the interface */
    EDNS_PASS_SERVER,     /* sent to a server that we don't answer for */
    EDNS_PASS_IPVS,       /* on its way through IPVS, which would not know the reply for one of its own */
    EDNS_PASS_NOT_SYNCED, /* the zone was not read whole yet */
    EDNS_PASS_STALE, /* the view of the API is not current, or the maps are late: absence is not certain, after MaxStale nothing */
    EDNS_PASS_INCOMPLETE, /* the answer rests on absence, and a name went without the wait that its order asks for */
    EDNS_PASS_PAUSED,
    EDNS_PASS_DAEMON, /* no heartbeat of the daemon */
    EDNS_PASS_ERROR,  /* a helper failed: no memory; or none could be asked what is needed */
    EDNS_OUTCOME_COUNT,
    EDNS_NOT_DNS, /* not counted */
    EDNS_SEARCH,  /* none yet: the program that looks further has to say */
};

/* Programs in edns_steps, each for frames with Ethernet header and for packets without. */
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

struct edns_stats {
    __u64 queries[EDNS_OUTCOME_COUNT][EDNS_FAMILY_COUNT];
    __u64 events_lost; /* for which the ring had no room */
};

/* What became of a query, while somebody traces. */
struct edns_event {
    __u64 time;       /* nanoseconds of CLOCK_MONOTONIC */
    __u32 ifindex;    /* the interface that the program is on */
    __u8 outcome;     /* enum edns_outcome */
    __u8 family;      /* enum edns_family */
    __u16 len;        /* octets of the message that are here */
    __be32 client[4]; /* IPv4 as ::ffff:a.b.c.d */
    __be32 server[4];
    __be16 client_port;
    __u8 _pad[6];
    /* The start of the DNS message, as the client wrote it up to the end of the question but for the header's flags and counts. */
    __u8 message[EDNS_EVENT_OCTETS];
};

struct edns_line {
    __u32 word[EDNS_LINE_WORDS];
};

struct edns_chunk {
    __u8 octets[EDNS_CHUNK_OCTETS + EDNS_CHUNK_SLACK];
};

/* What a type gets. */
struct edns_type {
    __be16 qtype; /* 0: any */
    __u16 answer; /* offset of the answer from its node in units of 8 octets; 0: pass */
};

/* Followed by types[n_types], padded to 8 octets; the name in lower case, padded with zeros to 8 octets; answers. */
struct edns_node {
    __u8 name_len; /* octets with the final zero; 0: no name of its own, only referred to */
    __u8 zone;     /* enum edns_zone */
    __u8 n_types;
    __u8 gate;      /* of negative answers, besides that of the zone: see edns_settings */
    __u32 fallback; /* node for types that are not listed */
    __u32 child;    /* node for names one label below that have none */
    __u32 deep;     /* node for names further below that have none */
};

/* Followed by the octets, at least one. */
struct edns_answer {
    __be16 flags;        /* of the header: QR, AA and rcode */
    __be16 count[3];     /* ANCOUNT, NSCOUNT, ARCOUNT without OPT */
    __u16 len;           /* octets that follow */
    __u16 csum;          /* their one's complement sum, as if they began at an even offset */
    __u16 rotate_stride; /* octets of each of the last records, all of one size (even, so that the sum stays) */
    __u8 rotate_count;   /* how many of them may change places; below 2: none */
    __u8 outcome;        /* enum edns_outcome */
};

/* Frames on an interface that may be answered beside those that the kernel counts as its own. */
struct edns_port {
    __u64 mac; /* to this address, as a frame begins, zeros behind it; all ones: to any */
};

/* A server's address; IPv4 as ::ffff:a.b.c.d. The map's value is a bit mask of enum edns_zone. */
struct edns_server {
    __be32 addr[4];
};

/* Random numbers that hash names, see hash_word: who does not know them can't choose names that collide. */
struct edns_key {
    __u64 multiplier[2]; /* odd */
    __u64 word[EDNS_KEY_WORDS];
    __u64 _pad[6]; /* to the end of a cache line */
};

/* Written by the daemon while programs run; each field stands for itself. What each packet needs is in one cache line. */
struct edns_settings {
    __u64 beat;      /* jiffies of the daemon's last heartbeat */
    __u64 beat_max;  /* jiffies after which it counts as gone */
    __u8 index;      /* the index in use; see enum edns_index_part */
    __u8 below_min;  /* labels of the shortest name with child or deep; 255: there is none */
    __u8 below_max;  /* labels of the longest name outside arpa */
    __u8 arpa_max;   /* the same within: an IPv6 address' name has 34 */
    __u8 any_server; /* bit mask of zones answered whatever the server */
    __u8 paused;
    __u8 trace;                          /* whether queries are told of in edns_events */
    __u8 positive_gate[EDNS_ZONE_COUNT]; /* 0, or the outcome that every answer of the zone becomes */
    __u8 negative_gate[EDNS_ZONE_COUNT]; /* the same for answers that rest on the absence of a name or type */
    __u8 egress;                         /* whether programs are on egress; set before anything is attached */
    __u8 ipvs; /* whether IPVS has services, where programs can't see which packets are theirs */
    __u8 _pad[35];
    __u64 servers[EDNS_SERVERS_FIRST]; /* an address as in the packet << 32 | bit mask of enum edns_zone; 0: none */
    __u64 _pad_servers[4];             /* to the end of a cache line */
    struct edns_key keys[EDNS_KEYS];   /* the one that index names never changes */
    /* As negative_gate, for a part of the cluster's zone whose changes wait; gate 0 is never closed. Read for negative answers only. */
    __u8 gate[EDNS_GATES];
};

#endif
