/* What the guest's files know of each other. */
#ifndef LAB_GUEST_H
#define LAB_GUEST_H

#include <stddef.h>
#include <stdint.h>

/* Grows by one about every millisecond that the guest runs. */
extern volatile uint64_t counter;

/* A bound socket, listening if it is a stream's, for IPv4 and IPv6. */
int server(int type, int port);

/* Serves TCP port 7001, for ever. */
void *serve_streams(void *unused);

/* The most recent connection: "<last n received> <last g sent>", or "BAD ..." after a gap. */
void describe_stream(char *answer, size_t size);

/* Begins one of the kinds in work.c, in place of the one before. */
void work(const char *kind);

/* The commands about disks, with their answers. They wait for the disk, and all other commands for them. */
void list_disks(char *answer, size_t size);
void obey_disk(const char *command, char *answer, size_t size);

#endif
