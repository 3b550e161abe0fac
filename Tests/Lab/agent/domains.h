#ifndef LAB_DOMAINS_H
#define LAB_DOMAINS_H

/* Writes what `xl list` prints to fd, but for the first line. 0, or 1 with a line that says why. */
int list_domains(int fd);

#endif
