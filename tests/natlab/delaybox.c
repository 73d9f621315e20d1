/*
 * delaybox INTERFACE INTERFACE MICROSECONDS PERMILLE: a wire between two interfaces with a constant
 * delay one way, and random loss.  For kernels that lack netem.
 *
 * delaybox INTERFACE: has it send packets as they are on a real wire, no larger and with checksums.
 * Both ends of both veths need that.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Frames on their way in one direction: a power of two, the positions run over. */
#define ROOM 65536u
#define SECOND 1000000000LL
/* Taken from one side before the other one has its turn. */
#define BATCH 256

struct frame {
    long long due; /* nanoseconds */
    int size;
    unsigned char *data;
};

struct direction {
    struct frame frames[ROOM];
    unsigned head, tail;
};

static struct direction directions[2];

static long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int open_interface(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), yes = 1, buffer = 8 << 20;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = if_nametoindex(name),
    };
    struct packet_mreq all = {
        .mr_ifindex = address.sll_ifindex,
        .mr_type = PACKET_MR_PROMISC,
    };

    if (fd < 0 || !address.sll_ifindex || bind(fd, (void *)&address, sizeof address)) {
        perror(name);
        exit(1);
    }
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes);
    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    return fd;
}

static void take(struct direction *way, int fd, long long delay, int loss)
{
    static unsigned char data[65600];
    long long due = now() + delay;

    for (int count = 0; count < BATCH; count++) {
        int size = recv(fd, data, sizeof data, MSG_DONTWAIT);
        struct frame *frame;

        if (size <= 0)
            return;
        if ((loss && rand() % 1000 < loss) || way->head - way->tail >= ROOM)
            continue;
        frame = &way->frames[way->head++ % ROOM];
        frame->due = due;
        frame->size = size;
        frame->data = malloc(size);
        memcpy(frame->data, data, size);
    }
}

static void pass_on(struct direction *way, int fd)
{
    long long time = now();

    while (way->head != way->tail && way->frames[way->tail % ROOM].due <= time) {
        struct frame *frame = &way->frames[way->tail++ % ROOM];

        send(fd, frame->data, frame->size, MSG_DONTWAIT);
        free(frame->data);
    }
}

static int send_plainly(const char *name)
{
    static const unsigned offloads[] = {
        ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO, ETHTOOL_STXCSUM, ETHTOOL_SRXCSUM,
    };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    for (unsigned number = 0; number < sizeof offloads / sizeof *offloads; number++) {
        struct ethtool_value off = {.cmd = offloads[number], .data = 0};
        struct ifreq request = {.ifr_data = (void *)&off};

        strncpy(request.ifr_name, name, IFNAMSIZ - 1);
        if (ioctl(fd, SIOCETHTOOL, &request) < 0 && offloads[number] != ETHTOOL_SRXCSUM) {
            perror(name);
            return 1;
        }
    }
    return 0;
}

int main(int count, char **words)
{
    if (count == 2)
        return send_plainly(words[1]);
    if (count != 5) {
        fprintf(stderr, "delaybox INTERFACE [INTERFACE MICROSECONDS PERMILLE]\n");
        return 2;
    }

    int fds[2] = {open_interface(words[1]), open_interface(words[2])};
    long long delay = atoll(words[3]) * 1000;
    int loss = atoi(words[4]);

    srand(time(NULL) ^ getpid());
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd polled[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
        long long rest = SECOND;

        for (int way = 0; way < 2; way++) {
            struct direction *it = &directions[way];

            if (it->head != it->tail) {
                long long left = it->frames[it->tail % ROOM].due - now();

                if (left < rest)
                    rest = left < 0 ? 0 : left;
            }
        }

        struct timespec wait = {rest / SECOND, rest % SECOND};

        ppoll(polled, 2, &wait, NULL);
        for (int way = 0; way < 2; way++)
            if (polled[way].revents & POLLIN)
                take(&directions[way], fds[way], delay, loss);
        for (int way = 0; way < 2; way++)
            pass_on(&directions[way], fds[1 - way]);
    }
}
