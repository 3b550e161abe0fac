"""What Romulus says, as patterns for a scenario's EXPECTS: no numbers of epochs, no times, and each to its line's end."""

from __future__ import annotations

PRIMARY = r"romulus: [\w-]+: "
BACKUP = r"romulus: [\w-]+ \(backup\): "
# Of a save helper that has lost its xl, and with it the guest's name.
HELPER = r"romulus: domain \d+: "

# Causes. Which of them it is depends on who notices first, ssh or the other side.
BACKUP_SILENT = r"the backup has heard nothing for \d+ ms"
PRIMARY_SILENT = r"no byte from the primary for \d+ ms"
BACKUP_GONE = rf"({BACKUP_SILENT}|the link to the backup (was closed|broke( \([^()]*\))?))"
PRIMARY_GONE = rf"({PRIMARY_SILENT}|the link to the primary ended without a farewell)"

FAREWELL = "the primary said farewell: "


def failover(cause: str) -> str:
    return (BACKUP + rf"warning: failover: {cause}; going on from epoch \d+; detected after \d+ ms, stream closed after"
            r" \d+ ms more, restored after \d+ ms more; the guest runs here now, unprotected$")


def suspected(cause: str) -> str:
    return BACKUP + rf"warning: {cause}: (taking over|asking the arbiter) in \d+ ms$"


def asked(cause: str, arbiter: str) -> str:
    return BACKUP + rf"warning: {cause}: asking the arbiter \({arbiter}\)$"


def discarded(cause: str) -> str:
    return BACKUP + rf"replica discarded: {cause}$"


# Both wait for the end of the lease: on a machine that was slow just then, xl's relay finds that its helper's guard was faster.
XL_STUCK = HELPER + r"warning: xl remus does not run \(stopped, or stuck\), and the backup takes over: the copy here is frozen$"


def frozen(cause: str) -> str:
    """Until the admin speaks."""
    return (rf"{XL_STUCK}|{PRIMARY}warning: {cause}: the guest here is frozen and its output held, because the replica may"
            r" take over; look at the backup: ")


def frozen_until(cause: str, arbiter: str) -> str:
    return (rf"{XL_STUCK}|{PRIMARY}warning: {cause}: the guest here is frozen and its output held until the arbiter"
            rf" \({arbiter}\) has decided$")


# The host with the higher address.
GOES_SECOND = (rf"({PRIMARY}|{BACKUP})warning: in \d+ ms this host turns the other one off, unless that is off before: it"
               r" goes second, so that they do not turn each other off$")


def goes_on(cause: str, replica: str) -> str:
    return (PRIMARY + rf"error: {cause}: the guest goes on here, unprotected; start xl remus again to protect it;"
            rf" {replica}$")


def destroyed(cause: str, why: str) -> str:
    """The copy of the primary, because the other one runs."""
    return (PRIMARY + rf"error: {cause}: the copy here is destroyed, so that only one runs \({why}\); look for it on"
            r" the backup$")


# Of a guest that was created by an xl without Romulus.
NO_KEEPER = PRIMARY + r"warning: no xl that minds checkpoints stays behind \w+ "
VIF_GONE = PRIMARY + r"vif\d+\.\d+ has gone and is let go$"
HEARD_AGAIN = PRIMARY + "the backup was heard again before its deadline: the guest goes on, protected$"
STALE_BUFFER = PRIMARY + r"removed rom\d+\.\d+, the network buffer that an earlier run had left behind$"
STALE_REPLICA = BACKUP + r"removed the replica that an earlier run had left behind \(domain \d+\)$"

SHUT_DOWN = PRIMARY + r"protection ended: the guest has shut down; its replica is discarded$"
CRASHED = (PRIMARY + r"warning: protection ended: the guest has crashed; its replica is discarded; what its on_crash says is done"
           r" here now$")
KILLED_HELPER = r"save/restore helper \[\d+\] died due to fatal signal Killed$"

# Without a backup that answers as Romulus.
STOCK_STREAM = PRIMARY + "protected: stock stream, epochs are not acknowledged$"
NEVER_BEGUN = discarded("the link to the primary ended without a farewell, before the first complete checkpoint")
# Who goes on when the link is gone and the other host lives: the backup, and the primary hears of it.
TAKEN_OVER = (
    frozen(BACKUP_GONE), suspected(PRIMARY_GONE), failover(PRIMARY_GONE),
    destroyed(rf"({BACKUP_GONE}|the backup gave up \({PRIMARY_GONE}\))", "the replica runs on the backup"))

# In any run that goes well.
COMMON = (
    PRIMARY + r"warning: no arbiter: when the link to the backup fails, ",
    PRIMARY + r"protected: each epoch is acknowledged by the backup$",
    # As every run that is kept to go back to.
    PRIMARY + r"warning: the guest was paused in the middle of a checkpoint, which waits until it runs again \(xl unpause\)$",
    PRIMARY + r"the guest is paused \(xl pause\): no epoch is taken until it runs again \(xl unpause\); its replica stays as it is$",
    # The lab's hosts are slow.
    PRIMARY + r"an epoch took longer than the period of \d+ ms, so the next began at once \(\d+ so far\)$",
    PRIMARY + r"\d+ epochs in [\d.]+ s; pages per epoch \d+ \(most \d+\); .* staging was full \d+ times$",
    # As an admin ends a run, and as the lab does between two scenarios.
    PRIMARY + r"protection ended by SIGINT: the guest goes on here, unprotected; .*; its replica is discarded$",
    BACKUP + r"replica ready: (takes over|asks the arbiter \(\w+\)) after \d+ ms without a byte from the primary$",
    discarded(FAREWELL + "protection was ended by SIGINT; the guest goes on at the primary"),
)
# A machine that is slow for a moment may account for these: a guest that is frozen and goes on, a lease that was lost, a run
# that was over before its scenario meant it to be.
SLOW = (
    frozen(BACKUP_SILENT), frozen_until(BACKUP_SILENT, r"\w+"), HEARD_AGAIN,
    destroyed(rf"the backup gave up \({PRIMARY_SILENT}\)", "the replica runs on the backup"),
    PRIMARY + "warning: the lease in etcd cannot be kept ", PRIMARY + "the lease in etcd is there again$")
