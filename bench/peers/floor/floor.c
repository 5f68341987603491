/* floor: what a push costs when nothing is done but what the kernel has to do. It accepts, reads the request, answers it with a canned
 * 101, and then makes a bare write to each subscriber, in one thread over one epoll. It is no server: it takes no look at
 * what a good client never sends, and one client that does not read stops it, since its sockets block.
 *
 *   floor [-listen HOST:PORT] [-publish HOST:PORT] [-batch K]
 *
 * -batch K holds the messages of a topic until K of them leave in one write; fewer leave once nothing has come in for 20 ms. */
#define _GNU_SOURCE
#include "accept.h"

#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { INPUT = 1 << 20, EVENTS = 1024, BUCKETS = 1 << 14, PATIENCE = 20 };

struct conn { /* found by its descriptor */
	char *rest; /* a message that is not yet complete */
	unsigned restlen, age; /* age: how many had this descriptor before */
	enum { REQUEST, OPEN, PUBLISHER } kind;
};
struct member { int fd; unsigned age; }; /* has left once the connection is of another age */
struct topic {
	struct topic *next; /* in its bucket */
	struct member *members;
	size_t n;
	char *batch; /* frames that wait */
	size_t len;
	int waiting, namelen;
	char name[];
};

static struct conn *conns;
static struct topic *topics[BUCKETS];
static char input[INPUT + 1];
static int epoll, batch = 1, waiting;

static void *must(void *p) { if (!p) errx(1, "out of memory"); return p; }

static void send_all(int fd, const char *p, size_t len) {
	if (write(fd, p, len) < 0) {} /* the client is gone, and epoll says so too */
}

static struct topic *find_topic(const char *name, int len) {
	unsigned h = 2166136261u; /* FNV-1a */
	for (int i = 0; i < len; i++) h = (h ^ (unsigned char)name[i]) * 16777619u;
	struct topic **at = &topics[h % BUCKETS];
	while (*at && ((*at)->namelen != len || memcmp((*at)->name, name, len))) at = &(*at)->next;
	if (!*at) {
		*at = must(calloc(1, sizeof **at + len));
		(*at)->namelen = len;
		memcpy((*at)->name, name, len);
	}
	return *at;
}

/* frame writes a text frame to out, which has room for len + 10 bytes, and returns its end (RFC 6455, section 5.2). */
static char *frame(char *out, const char *payload, size_t len) {
	int more = len < 126 ? 0 : len < 65536 ? 2 : 8; /* bytes of the longer length */
	*out++ = (char)0x81;
	*out++ = more == 0 ? (char)len : more == 2 ? 126 : 127;
	for (int shift = 8 * more; shift > 0;) *out++ = (char)(len >> (shift -= 8));
	memcpy(out, payload, len);
	return out + len;
}

static void flush(struct topic *t) {
	for (size_t i = 0; i < t->n;) {
		struct member m = t->members[i];
		if (conns[m.fd].age == m.age) {
			send_all(m.fd, t->batch, t->len);
			i++;
		} else t->members[i] = t->members[--t->n];
	}
	waiting -= t->waiting;
	t->len = t->waiting = 0;
}

static void publish(struct topic *t, const char *payload, size_t len) {
	t->batch = must(realloc(t->batch, t->len + len + 10));
	t->len = frame(t->batch + t->len, payload, len) - t->batch;
	waiting++;
	if (++t->waiting >= batch) flush(t);
}

static void flush_all(void) {
	for (int i = 0; i < BUCKETS; i++)
		for (struct topic *t = topics[i]; t; t = t->next)
			if (t->waiting) flush(t);
}

/* command takes {"type":"subscribe","topic":"X"}, spelled like this, or the same with unsubscribe. */
static void command(int fd, const char *text, size_t len) {
	char answer[600], out[610];
	const char *name = memmem(text, len, "\"topic\":\"", 9), *end = NULL;
	if (name) name += 9, end = memchr(name, '"', text + len - name);
	if (!end || end - name > 255) return;
	struct topic *t = find_topic(name, end - name);
	int leave = memmem(text, len, "\"unsubscribe\"", 13) != NULL;
	if (leave) {
		for (size_t i = 0; i < t->n;)
			if (t->members[i].fd == fd) t->members[i] = t->members[--t->n];
			else i++;
	} else {
		if (!(t->n & (t->n - 1))) t->members = must(realloc(t->members, (t->n ? 2 * t->n : 1) * sizeof *t->members));
		t->members[t->n++] = (struct member){fd, conns[fd].age};
	}
	int n = sprintf(answer, "{\"type\":\"%ssubscribed\",\"topic\":\"%.*s\"}", leave ? "un" : "", (int)(end - name), name);
	send_all(fd, out, frame(out, answer, n) - out);
}

/* The three takers return how many bytes they have done with, 0 where more has to come, -1 to close. in[len] is 0. */
static long take_request(int fd, char *in, size_t len) {
	char *end = memmem(in, len, "\r\n\r\n", 4), *key = strcasestr(in, "\r\nSec-WebSocket-Key:"), accept[29], out[200];
	if (!end) return len > 16384 ? -1 : 0;
	if (!key || key > end) return -1;
	key += 20;
	key += strspn(key, " ");
	if (strcspn(key, " \r\n") != 24) return -1;
	accept_key(key, accept);
	send_all(fd, out, sprintf(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Accept: %s\r\n\r\n", accept));
	conns[fd].kind = OPEN;
	return end + 4 - in;
}

static long take_frame(int fd, char *in, size_t len) {
	unsigned char *b = (unsigned char *)in;
	size_t head = 6, n = len < 2 ? 0 : b[1] & 127;
	if (n == 127) return -1;
	if (n == 126) head = 8, n = b[2] << 8 | b[3];
	if (len < head || len < head + n) return 0;
	for (size_t i = 0; i < n; i++) b[head + i] ^= b[head - 4 + i % 4];
	if ((b[0] & 15) == 8) return -1;
	if ((b[0] & 15) == 1) command(fd, in + head, n);
	return head + n;
}

/* A publication: u32 length of the rest, u8 length of the topic, the topic, the payload. */
static long take_publication(int fd, char *in, size_t len) {
	(void)fd;
	unsigned char *b = (unsigned char *)in;
	if (len < 5) return 0;
	size_t rest = (size_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3], name = b[4];
	if (rest > INPUT - 4 || rest < 1 + name) return -1;
	if (len < 4 + rest) return 0;
	publish(find_topic(in + 5, name), in + 5 + name, rest - 1 - name);
	return 4 + rest;
}

static void readable(int fd) {
	static long (*const take[])(int, char *, size_t) = {take_request, take_frame, take_publication};
	struct conn *c = &conns[fd];
	size_t len = c->restlen, done = 0;
	long step = -1;
	if (len) {
		memcpy(input, c->rest, len);
		free(c->rest);
		c->restlen = 0;
	}
	ssize_t got = read(fd, input + len, INPUT - len);
	if (got > 0) {
		len += got;
		input[len] = 0;
		while (done < len && (step = take[c->kind](fd, input + done, len - done)) > 0) done += step;
	}
	if (step < 0) {
		c->age++;
		close(fd);
	} else if ((c->restlen = len - done)) c->rest = memcpy(must(malloc(c->restlen)), input + done, c->restlen);
}

static void watch(int fd) {
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)) err(1, "epoll_ctl");
}

static int open_port(const char *flag, const char *address, char got[80]) {
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	char host[64] = "", *colon = strrchr(address, ':');
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
	if (colon && colon - address < 63) memcpy(host, address, colon - address), a.sin_port = htons(atoi(colon + 1));
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) errx(1, "%s %s: not an IPv4 address and a port", flag, address);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted sockets inherit it */
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 65535)) err(1, "%s %s", flag, address);
	getsockname(fd, (struct sockaddr *)&a, &len);
	sprintf(got, "%s:%d", host, ntohs(a.sin_port));
	watch(fd);
	return fd;
}

int main(int argc, char **argv) {
	const char *listen_at = "127.0.0.1:0", *publish_at = "127.0.0.1:0";
	char ws[80], publish[80];
	for (int i = 1; i < argc; i += 2) {
		char *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "-listen")) listen_at = value;
		else if (!strcmp(argv[i], "-publish")) publish_at = value;
		else if (strcmp(argv[i], "-batch") || (batch = atoi(value)) < 1)
			errx(2, "usage: floor [-listen HOST:PORT] [-publish HOST:PORT] [-batch K]");
	}
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max > 1 << 20) files.rlim_max = 1 << 20;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files)) err(1, "setrlimit");
	conns = must(calloc(files.rlim_max, sizeof *conns));
	signal(SIGPIPE, SIG_IGN);
	if ((epoll = epoll_create1(0)) < 0) err(1, "epoll_create1");
	int clients = open_port("-listen", listen_at, ws), publishers = open_port("-publish", publish_at, publish);
	printf("listening ws=%s publish=%s\n", ws, publish);
	fflush(stdout);
	for (struct epoll_event events[EVENTS];;) {
		int n = epoll_wait(epoll, events, EVENTS, waiting ? PATIENCE : -1);
		if (n < 0 && errno != EINTR) err(1, "epoll_wait");
		if (n == 0) flush_all();
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd, new;
			if (fd != clients && fd != publishers) {
				readable(fd);
				continue;
			}
			while ((new = accept4(fd, NULL, NULL, 0)) >= 0) {
				conns[new].kind = fd == clients ? REQUEST : PUBLISHER;
				watch(new);
			}
		}
	}
}
