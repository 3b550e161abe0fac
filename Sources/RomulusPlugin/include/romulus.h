/*
 * romulus.h: plugins for Romulus, which makes `xl remus' highly available.
 *
 * A plugin is a shared object with one entry point, `romulus_plugin'. It is named in /etc/xen/romulus.conf on the host
 * where it is to work:
 *
 *     plugin = [ "/usr/local/lib/romulus/mine.so", "/usr/local/lib/romulus/other.so its options" ]
 *
 * What follows the first space is the plugin's own, as romulus_host.options. A file that is named twice is loaded once, and
 * its entry point called twice. Build one with
 *
 *     cc -std=c99 -fPIC -shared -o mine.so mine.c
 *
 * A plugin can take over, or listen to, any of the steps below. A callback that is NULL is not called. Where several
 * plugins have the same callback, later ones in the list stand around earlier ones, and all of them around Romulus's own.
 *
 * PROCESSES. The same list is loaded by up to two processes of a host, each with a plugin of its own: by `xl remus' and by
 * its libxl-save-helper on the primary, by `xl migrate-receive' on the backup; `romulus test' loads it, too. What
 * they know of each other is the plugin's own business. romulus_host.process tells which one this is.
 *
 * THREADS. No callback is called on a thread of Xen's or of Romulus's own. Each plugin has, in each process, one thread for
 * all its callbacks, one at a time, but for these: `sink' and `arbitrate' have a thread each, so a plugin that has them
 * beside others must expect to be called by up to three threads at once. All signals are blocked on these threads.
 *
 * TIME. A callback has plugin_timeout_ms (romulus.conf; default 100) for itself; what is different says so. One that does
 * not come back in time is left behind: its thread may run on, but nothing more is called on it, what it returns is not
 * looked at, and Romulus does what it would do without it, for the rest of the run. One line tells the admin.
 *
 * ERRORS. A callback that returns a failure is not called again in this run, nor is any other of that thread's; one line
 * tells the admin. Nothing that a plugin does ends protection.
 *
 * OWNERSHIP. What Romulus hands to a callback is Romulus's, constant, and gone when the callback returns, but for the
 * host and its strings, which stay for the life of the process. What the plugin returns from its entry point is the
 * plugin's and must stay for the life of the process. A plugin is never unloaded.
 *
 * A CALLBACK MUST NOT: call libxl, or open or close a handle of libxenctrl, libxenstore or the like (in `xl', libxl forks,
 * and its child would wait for their lock for ever; open what you need in the entry point); fork; exit; touch file
 * descriptors that it did not open; change signal handlers; throw C++ exceptions through.
 *
 * VERSIONS. Structures begin with their size in bytes and grow only at their ends. Romulus reads as much of a plugin's as
 * both know: an unknown tail is ignored, a missing one is NULL. A plugin that wants to work with older Romulus looks at
 * the sizes of what it is given before it reads newer members.
 */
#ifndef ROMULUS_H
#define ROMULUS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes only when what is compiled against an older one could not work any more. */
#define ROMULUS_PLUGIN_ABI 1

/* What has loaded the plugin. */
enum romulus_process {
    ROMULUS_XL_REMUS = 1,   /* `xl remus' on the primary: observe, schedule, arbitrate */
    ROMULUS_SAVE_HELPER = 2, /* libxl-save-helper on the primary: suspend, postcopy, checkpoint */
    ROMULUS_XL_RECEIVE = 3, /* `xl migrate-receive' on the backup: suspect, sink, arbitrate */
    ROMULUS_TEST = 4,       /* `romulus test': nothing is called but close */
};

/* What Romulus tells a plugin. Stays for the life of the process. */
struct romulus_host {
    uint32_t size;
    uint32_t process; /* enum romulus_process */
    const char *guest; /* the guest's name; in the save helper and in `romulus test', an empty string */
    uint32_t domain;   /* the guest's domain number here; 0 where there is none yet */
    uint32_t plugin_timeout_ms;
    const char *options; /* what romulus.conf has behind the path; an empty string without */
    /* One line for the admin: standard error and the system's log. Any thread, any time. */
    void (*log)(const struct romulus_host *host, const char *line);
};

/* One of the three steps that libxl takes at each checkpoint. */
struct romulus_step {
    uint32_t size;
    uint32_t reserved;
    uint64_t epoch; /* the first is 1 */
    /*
     * What the step would be without this plugin: the next plugin's, in the end libxl's. Above zero is success. Call it at
     * most once, from the callback's thread or one of your own, before you return; it runs elsewhere, and its time is not
     * yours. A second call, or one after the callback was left behind, returns -1 and does nothing.
     */
    int (*next)(const struct romulus_step *step);
};

/* What one committed epoch came to. Times are nanoseconds. */
struct romulus_epoch {
    uint32_t size;
    uint32_t reserved;
    uint64_t epoch;
    uint64_t requested_ns;    /* when the guest was asked to suspend, by CLOCK_BOOTTIME */
    uint64_t pause_ns;        /* from then until it ran again */
    uint64_t suspend_ns;      /* of that: its suspending, */
    uint64_t copy_ns;         /* copying its pages and its state, */
    uint64_t hold_ns;         /* holding its output, */
    uint64_t resume_ns;       /* its resuming */
    uint64_t pages;           /* that the epoch names */
    uint64_t stream_bytes;    /* of Xen's stream */
    uint64_t link_bytes;      /* of that, as it was encoded, over the link */
    uint64_t sent_ns;         /* from when the guest ran again until all of it was sent, */
    uint64_t acknowledged_ns; /* and until the backup had it */
    uint64_t period_ns;       /* from one request to suspend to the next, as it was aimed at */
};

/* The primary is silent. */
struct romulus_suspicion {
    uint32_t size;
    uint32_t asked;      /* how often before in this silence */
    uint64_t silence_ns; /* since its last byte */
    uint64_t epoch;      /* the newest complete one */
};

enum romulus_side {
    ROMULUS_PRIMARY = 1,
    ROMULUS_BACKUP = 2,
};

enum romulus_verdict {
    ROMULUS_NO_VERDICT = 0, /* nobody could be asked, or it is not decided yet: it is asked again a second later */
    ROMULUS_GRANTED = 1,
    ROMULUS_REFUSED = 2,
};

/* Which copy goes on? */
struct romulus_question {
    uint32_t size;
    uint32_t side;          /* enum romulus_side: who asks */
    uint64_t run;           /* this run's name, the same on both hosts and another for each run */
    const char *guest_uuid; /* as xl writes it */
    char *reason;           /* a few words for the admin may go here, */
    size_t reason_bytes;    /* at most so many, with the NUL behind them */
};

/*
 * A piece of the stream that libxl restores the guest from (docs/specs/libxl-migration-stream.pandoc in Xen's source). Two
 * records in its first epoch are Romulus's own; they have the bit by which libxc's stream says that a record is optional.
 */
struct romulus_piece {
    uint32_t size;
    uint32_t is_last; /* with this piece the epoch is complete, checked, and will not be taken back */
    uint64_t epoch;
    const void *bytes; /* may be NULL where length is 0 */
    size_t length;
};

struct romulus_plugin {
    uint32_t size; /* sizeof(struct romulus_plugin) */
    uint32_t abi;  /* ROMULUS_PLUGIN_ABI */
    const char *name; /* for the admin's lines; NULL is the file's name */
    void *self;       /* the first argument of every callback */

    /*
     * The last call, when the run is over; not where a callback was left behind. On the thread of the sink where there is
     * one, behind its last piece, and it may then take a minute: the process ends that much later, the guest does not wait.
     */
    void (*close)(void *self);

    /*
     * In the save helper, with the guest's processors running before, and after: suspend asks the guest to stand still, and
     * has succeeded when it does; postcopy lets it go on. The guest waits for both. checkpoint runs while it does, and tells
     * libxl that the epoch's pages are written.
     *
     * Return above zero for success. Where `next' has failed, that counts, whatever you return. A plugin that fails, or is
     * left behind, before it has called `next': Romulus calls it. After it: what `next' has returned counts.
     */
    int (*suspend)(void *self, const struct romulus_step *step);
    int (*postcopy)(void *self, const struct romulus_step *step);
    int (*checkpoint)(void *self, const struct romulus_step *step);

    /* In `xl remus', once per committed epoch. Nothing waits for it. 0 is success. */
    int (*observe)(void *self, const struct romulus_epoch *epoch);

    /*
     * In `xl remus', once per committed epoch, after observe: the period from one request to suspend to the next, from
     * 1,000,000 (a millisecond) to 60,000,000,000; 0 leaves it at `period_ns', which the plugin before this one, or
     * Romulus, has chosen. Nothing waits for the answer: it holds from the moment at which it comes, until the next.
     */
    uint64_t (*schedule)(void *self, const struct romulus_epoch *epoch, uint64_t period_ns);

    /*
     * On the backup, when Romulus suspects a primary that is silent, never before, and not where the link broke: 0 agrees;
     * any other number asks for patience, and is the milliseconds after which to ask again. Bytes of the primary end the
     * suspicion. Where several plugins answer, the most patient one counts; after ten times detect_timeout_ms of silence
     * nobody is asked any more. Whoever decides which copy goes on (`arbiter' in romulus.conf) is asked after this.
     */
    uint32_t (*suspect)(void *self, const struct romulus_suspicion *suspicion);

    /*
     * On either host, with arbiter = "plugin" in romulus.conf on both, when the link has failed: whether the copy on this
     * side goes on. It stands still until then, and the other side's does, or may not: GRANT ONLY WHAT NO OTHER CALL, ON EITHER
     * HOST, IS GRANTED FOR THE SAME RUN, however late it asks; two copies of one guest destroy its data. A copy that is
     * refused is destroyed at once: who refuses before the other side's copy runs loses the guest where that cannot. enum
     * romulus_verdict; the first that decides is final. May take its time: plugin_timeout_ms only says when the admin hears
     * of it. Where several plugins have it, the last one is asked.
     */
    int (*arbitrate)(void *self, const struct romulus_question *question);

    /*
     * On the backup: every complete epoch, in order. Epoch 1 comes with everything before it, from libxl's header on,
     * in pieces and while it arrives; it may end before it is complete. 0 is success. The link waits for the sink in epoch
     * 1, unless it takes nothing for ten times plugin_timeout_ms. Later nothing waits, and what the sink has not taken yet is
     * kept in memory, up to epoch_limit_mib (romulus.conf); beyond that, the sink is given up.
     */
    int (*sink)(void *self, const struct romulus_piece *piece);
};

/*
 * The one symbol that a plugin exports: called once, before the guest is touched. Open here what callbacks need. NULL
 * refuses to work, and then the run does not start; say why with host->log. `abi' is the ROMULUS_PLUGIN_ABI that Romulus
 * was built with. There is no time limit.
 */
const struct romulus_plugin *romulus_plugin(uint32_t abi, const struct romulus_host *host);

#ifdef __cplusplus
}
#endif

#endif
