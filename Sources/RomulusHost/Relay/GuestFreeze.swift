import RomulusCore

/// The guest's standing still while it is not decided which copy runs: by the relay, or by the guard in its place.
struct GuestFreeze {
    private let guest: GuestPort
    private let lease: SharedLease
    private let log: Log
    /// The relay's, not undone yet.
    private var own: Int64 = 0
    private var isGuardMissed = false

    init(_ guest: GuestPort, _ lease: SharedLease, _ log: Log) {
        self.guest = guest
        self.lease = lease
        self.log = log
    }

    /// The guard has frozen the guest, and nobody has undone it.
    var isGuards: Bool { lease.hasFreezes }

    /// Said once: what the guard is there for has not happened, and may never.
    mutating func lookForGuard() {
        guard !isGuardMissed, !guest.isGuarded() else { return }
        isGuardMissed = true
        log.warning(
            "romulus-guard has ended, and was not told to: if xl remus is killed now, nobody pauses the guest here before the"
                + " backup takes over; end xl remus (Ctrl-C) and start it again")
    }

    mutating func freeze() {
        // The guard has done so, while this thread stood still.
        if isGuards { return }
        guard guest.freeze() else {
            return log.error("the guest could not be frozen: pause it with xl pause, before the replica runs")
        }
        own += 1
        lease.noteRelay(hasFrozen: true)
    }

    /// Undoes what this thread and the guard have done, and nobody else's pause. Should `xl` die in between, the guard finds a
    /// guest that is not frozen, and pauses it.
    mutating func thaw() {
        lease.noteRelay(hasFrozen: false)
        let times = own + lease.takeFreezes()
        own = 0
        for _ in 0..<times where !guest.thaw() {
            log.error("the guest could not be thawed: let it go on with xl unpause")
        }
    }
}
