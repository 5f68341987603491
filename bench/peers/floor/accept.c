#include "accept.h"

#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const unsigned char block[64]) {
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f;
	memcpy(w, block, 64);
	for (int i = 0; i < 16; i++) w[i] = be32toh(w[i]);
	for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (int i = 0; i < 80; i++) {
		if (i < 20) f = ((b & c) | (~b & d)) + 0x5a827999;
		else if (i < 40) f = (b ^ c ^ d) + 0x6ed9eba1;
		else if (i < 60) f = ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
		else f = (b ^ c ^ d) + 0xca62c1d6;
		f += rotate(a, 5) + e + w[i];
		e = d, d = c, c = rotate(b, 30), b = a, a = f;
	}
	h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

void accept_key(const char *key, char out[29]) {
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned char text[128] = {0}, sum[21] = {0};
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	int bits = 8 * sprintf((char *)text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
	text[bits / 8] = 0x80, text[126] = bits >> 8, text[127] = bits & 255;
	sha1_block(h, text);
	sha1_block(h, text + 64);
	for (int i = 0; i < 20; i++) sum[i] = h[i / 4] >> (24 - i % 4 * 8);
	for (int i = 0; i < 27; i++) {
		int bit = 6 * i, pair = sum[bit / 8] << 8 | sum[bit / 8 + 1];
		out[i] = digits[pair >> (10 - bit % 8) & 63];
	}
	strcpy(out + 27, "=");
}
