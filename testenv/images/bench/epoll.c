/*
 * The smallest milter that can answer RCPT TO: one thread, epoll, no library. A recipient is
 * unknown if its local part begins with x. It is what the benchmark compares CPU with.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { maxPacket = 64 << 10, maxEvents = 64 };

struct conn {
	int fd;
	size_t used;
	unsigned char in[maxPacket];
};

static void die(const char *what) {
	perror(what);
	exit(1);
}

/* reply appends one packet to out and returns its length. */
static size_t reply(unsigned char *out, char command, const void *data, size_t len) {
	uint32_t n = htonl(len + 1);
	memcpy(out, &n, 4);
	out[4] = command;
	memcpy(out + 5, data, len);
	return len + 5;
}

/* answer answers one packet and returns the length of the answer; -1 ends the connection. */
static ssize_t answer(unsigned char *out, const unsigned char *packet, size_t len) {
	switch (packet[0]) {
	case 'O': { /* all callbacks but RCPT are unwanted */
		uint32_t options[3] = {htonl(6), 0, 0}, offered = 0;
		if (len >= 13)
			memcpy(&offered, packet + 9, 4);
		options[2] = htonl(0x377 & ntohl(offered));
		return reply(out, 'O', options, sizeof options);
	}
	case 'D':
	case 'A':
	case 'K':
		return 0;
	case 'Q':
		return -1;
	case 'R': {
		const char *rcpt = (const char *)packet + 1;
		if (len > 2 && (rcpt[0] == '<' ? rcpt[1] : rcpt[0]) == 'x') {
			static const char text[] = "550 5.1.1 Recipient address rejected: User unknown";
			return reply(out, 'y', text, sizeof text);
		}
		return reply(out, 'c', "", 0);
	}
	default:
		return reply(out, 'c', "", 0);
	}
}

/* serve reads what is there and answers all complete packets with one write. */
static int serve(struct conn *c) {
	unsigned char out[4096];
	size_t at = 0, pending = 0;
	ssize_t n = read(c->fd, c->in + c->used, sizeof c->in - c->used);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	c->used += n;
	while (c->used - at >= 5) {
		uint32_t len;
		memcpy(&len, c->in + at, 4);
		len = ntohl(len);
		if (len == 0 || len > maxPacket - 4)
			return -1;
		if (c->used - at - 4 < len)
			break;
		if (pending + 256 > sizeof out)
			return -1;
		ssize_t made = answer(out + pending, c->in + at + 4, len);
		if (made < 0)
			return -1;
		pending += made;
		at += 4 + len;
	}
	memmove(c->in, c->in + at, c->used - at);
	c->used -= at;
	if (pending > 0 && write(c->fd, out, pending) != (ssize_t)pending)
		return -1;
	return 0;
}

int main(int argc, char **argv) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct epoll_event event = {.events = EPOLLIN}, events[maxEvents];
	if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
		fprintf(stderr, "usage: bench-epoll SOCKET\n");
		return 64;
	}
	strcpy(address.sun_path, argv[1]);
	unlink(argv[1]);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0);
	if (listener < 0 || poller < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(listener, 1024) < 0 || chmod(argv[1], 0666) < 0)
		die(argv[1]);
	if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0) /* data.ptr is NULL */
		die("epoll_ctl");
	for (;;) {
		int n = epoll_wait(poller, events, maxEvents, -1);
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (c == NULL) {
				int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
				if (fd < 0)
					continue;
				c = malloc(sizeof *c);
				if (c == NULL)
					die("malloc");
				c->fd = fd;
				c->used = 0;
				struct epoll_event added = {.events = EPOLLIN, .data.ptr = c};
				if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &added) < 0)
					die("epoll_ctl");
			} else if (serve(c) < 0) {
				close(c->fd);
				free(c);
			}
		}
	}
}
