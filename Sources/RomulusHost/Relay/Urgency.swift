import CLinux
import Glibc

/// What keeps a guest's lease from waiting for other work of this host.
public enum Urgency {
    /// From now on nothing of this process that has been in memory is swapped out, or read from a disk again. What it has
    /// reserved and not touched takes no memory, as before; a child of its own is not concerned.
    public static func lockMemory(_ log: Log) {
        let code = romulus_lock_memory()
        guard code != 0 else { return }
        log.warning(
            "memory cannot be locked (\(String(cString: strerror(code)))): where this host is short of it, checkpoints may come so"
                + " late that the backup takes over; let xl lock it (CAP_IPC_LOCK, LimitMEMLOCK=infinity), or set lock_memory = 0"
                + " in /etc/xen/romulus.conf")
    }

    public static func unlockMemory() { munlockall() }

    /// The calling thread comes before all that is not in a hurry; what it starts does not.
    ///
    /// - Parameter priority: of SCHED_RR; 0 leaves it as it is.
    public static func raise(to priority: Int, _ log: Log) {
        guard priority > 0 else { return }
        let code = romulus_make_realtime(Int32(priority))
        guard code != 0 else { return }
        log.warning(
            "there is no real-time priority \(priority) to be had (\(String(cString: strerror(code)))), so it goes on without: let"
                + " xl have it (CAP_SYS_NICE, LimitRTPRIO=\(priority)), or set realtime_priority = 0 in /etc/xen/romulus.conf"
        )
    }
}
