/* Keyed hashes. SipHash-1-3 (Aumasson and Bernstein, 2012; as in Rust and CPython) for what a client chooses; its
 * outputs, which nobody outside sees, are combined by one multiplication each. */
#ifndef TIDEGATE_HASH_H
#define TIDEGATE_HASH_H

#include <stdint.h>
#include <string.h>

static inline uint64_t tg_rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

#define TG_SIPROUND                                                                                                    \
    do {                                                                                                               \
        v0 += v1; v1 = tg_rotate(v1, 13); v1 ^= v0; v0 = tg_rotate(v0, 32);                                            \
        v2 += v3; v3 = tg_rotate(v3, 16); v3 ^= v2;                                                                    \
        v0 += v3; v3 = tg_rotate(v3, 21); v3 ^= v0;                                                                    \
        v2 += v1; v1 = tg_rotate(v1, 17); v1 ^= v2; v2 = tg_rotate(v2, 32);                                            \
    } while (0)

static inline uint64_t tg_siphash(const uint64_t secret[2], const void *data, size_t size)
{
    uint64_t v0 = secret[0] ^ 0x736f6d6570736575u, v1 = secret[1] ^ 0x646f72616e646f6du;
    uint64_t v2 = secret[0] ^ 0x6c7967656e657261u, v3 = secret[1] ^ 0x7465646279746573u;
    const uint8_t *at = data;
    uint64_t word;
    for (size_t left = size; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        v3 ^= word;
        TG_SIPROUND;
        v0 ^= word;
    }
    word = (uint64_t)size << 56;
    for (size_t i = 0; i < (size & 7); i++) word |= (uint64_t)at[i] << (8 * i);
    v3 ^= word;
    TG_SIPROUND;
    v0 ^= word;
    v2 ^= 0xff;
    TG_SIPROUND;
    TG_SIPROUND;
    TG_SIPROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* Both halves of a product, folded: as good as its inputs are secret. */
static inline uint64_t tg_mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xe7037ed1a0b428dbu);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* For the operator's own strings, where speed counts and nobody attacks: eight bytes at a time. */
static inline uint64_t tg_quick(const void *data, size_t size)
{
    const uint8_t *at = data;
    uint64_t hash = size, word;
    for (; size >= 8; size -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = tg_mix(hash, word);
    }
    word = 0;
    for (size_t i = 0; i < size; i++) word = word << 8 | at[i];
    return tg_mix(hash, word);
}

/* FNV-1a: a checksum against damage, not against anybody. */
static inline uint64_t tg_fnv(const void *data, size_t size)
{
    const uint8_t *at = data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

#endif
