import RomulusCore

/// The guard beside `xl`: production's duty, with a guest whose hypervisor never fails. It is there for the whole run, whatever
/// becomes of the save and its helper.
struct SimulatedGuard {
    /// As SharedLease keeps it.
    var lease: MonotonicTime?
    var hasFrozenGuest = false
    var replica = GuardDuty.Replica.none
    /// The domain that its lines name.
    var duty = GuardDuty(domain: 1)
}

extension World {
    mutating func guardHandles(_ event: GuardDuty.Event) {
        for action in primary.guardian.duty.handle(event) {
            switch action {
            case .pauseGuest:
                if scenario.sabotage != .exitBeforeThePause || primary.isXlAlive { primary.guest.freezes += 1 }
                guardHandles(.guestPaused(true))
            case .noteFreeze:
                primary.guardian.hasFrozenGuest = true
                primary.hasFrozen = true
            case .resumeGuest: if primary.guest.canBeResumed { primary.guest.isSuspended = false }
            case .releaseOutput:
                primary.isReplicaRuledOut = true
                leave(primary.plug.open())
            case .log(let line):
                primary.lines += 1
                note("guard: \(line.text)")
            case .exit: if !primary.isXlAlive { primarysEndOfTheLinkCloses() }
            }
        }
    }

    /// Whoever held it last is no more.
    private mutating func primarysEndOfTheLinkCloses() {
        toBackup.breakNow()
        events.add(.arrival(.backup), at: time + delay())
    }

    // MARK: xl dies

    mutating func killXl() {
        guard primary.host.isRunning, primary.isInRun else { return }
        primary.isXlAlive = false
        guard primary.guardian.duty.isWatching else { return primarysEndOfTheLinkCloses() }
        events.add(.guardSeesXlGone, at: later(0...5))
    }

    mutating func guardSeesXlGone() {
        guard primary.host.isUp else { return }
        guard primary.host.isRunning else {
            return events.add(.guardSeesXlGone, at: time + .nanoseconds(milliseconds: 3))
        }
        let isFrozen = primary.guardian.hasFrozenGuest || primary.session.isFrozen
        guardHandles(.xlHasGone(primary.guardian.replica, isGuestFrozen: isFrozen))
    }

    // MARK: xl stands still

    mutating func stopXl() {
        guard primary.isRunning, primary.isInRun else { return }
        primary.isXlStopped = true
        events.add(.xlGoesOn, at: later(1...Self.detectTimeoutMilliseconds * 5))
    }

    mutating func xlGoesOn() {
        note("xl goes on")
        primary.isXlStopped = false
        arrive(.primary)
        events.add(.wake(.primary), at: time)
    }

    /// It wakes when the lease ends, or soon.
    mutating func guardLooks() {
        guard primary.isInRun else { return }
        guard primary.host.isRunning else {
            return events.add(.guardLooks, at: time + .nanoseconds(milliseconds: 3))
        }
        if let end = primary.guardian.lease, primary.now(time) >= end, scenario.sabotage != .overlookAStandstill {
            primary.guardian.lease = nil
            guardHandles(.leaseWasTaken)
        }
        let soon = time + .nanoseconds(milliseconds: 20)
        let next = primary.guardian.lease.map { max(soon, primary.host.clock.trueTime(of: $0)) } ?? soon
        events.add(.guardLooks, at: next + random.milliseconds(0...2))
    }
}
