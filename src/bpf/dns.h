/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The format of DNS messages. */
#ifndef EDNS_DNS_H
#define EDNS_DNS_H

#define DNS_PORT 53

/* RFC 1035 §4.1.1 */
struct dnshdr {
    __be16 id;
    __be16 flags;
    __be16 qdcount;
    __be16 ancount;
    __be16 nscount;
    __be16 arcount;
};

#define DNS_QR 0x8000
#define DNS_OPCODE 0x7800
#define DNS_TC 0x0200
#define DNS_RD 0x0100
#define DNS_CD 0x0010
#define DNS_CLASS_IN 1
#define DNS_TYPE_OPT 41
#define DNS_NAME_MAX 255
#define DNS_NAME_WORDS 32 /* of 8 octets */
#define DNS_LABEL_MAX 63
#define DNS_LABELS_MAX 128
#define DNS_UDP_MIN 512     /* octets that every client accepts (RFC 1035 §4.2.1) */
#define DNS_QUESTION_TAIL 4 /* octets of QTYPE and QCLASS */

/* RFC 6891 §6.1.2: the root name, then the type. */
struct dns_opt {
    __u8 name;
    __be16 type;
    __be16 udp_size;
    __u8 ext_rcode;
    __u8 version;
    __be16 flags;
    __be16 rdlen;
} __attribute__((packed));

#define DNS_OPT_DO 0x8000
#define DNS_OPTION_HEAD 4     /* octets of an EDNS option's code and length */
#define DNS_OPTION_COOKIE 10  /* RFC 7873 */
#define DNS_OPTION_PADDING 12 /* RFC 7830 */
#define DNS_OPTIONS_MAX 32    /* EDNS options that are read; each is one iteration for the verifier */
#define DNS_TAIL_MAX 2048     /* octets of additional records; longer ones pass */

#endif
