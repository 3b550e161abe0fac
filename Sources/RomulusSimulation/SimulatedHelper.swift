import RomulusCore

/// The save helper beside `xl`: production's duty, with a guest whose hypervisor never fails.
struct SimulatedHelper {
    /// As SharedLease keeps it.
    var lease: MonotonicTime?
    var hasFrozenGuest = false
    /// The domain that its lines name.
    var duty = HelperDuty(domain: 1)
}

extension World {
    mutating func helperHandles(_ event: HelperDuty.Event) {
        for action in primary.helper.duty.handle(event) {
            switch action {
            case .pauseGuest:
                if scenario.sabotage != .exitBeforeThePause || primary.isXlAlive { primary.guest.freezes += 1 }
                helperHandles(.guestPaused(true))
            case .noteFreeze:
                primary.helper.hasFrozenGuest = true
                primary.hasFrozen = true
            case .resumeGuest: if primary.guest.canBeResumed { primary.guest.isSuspended = false }
            case .releaseOutput:
                primary.isReplicaRuledOut = true
                leave(primary.plug.open())
            case .log(let line):
                primary.lines += 1
                note("helper: \(line.text)")
            case .exit:
                toBackup.breakNow()
                events.add(.arrival(.backup), at: time + delay())
            }
        }
    }

    // MARK: xl dies

    /// Not where the save is over: there is no helper then, and a last word that is not on its way yet is lost.
    mutating func killXl() {
        guard primary.host.isRunning, primary.isSaving else { return }
        primary.isXlAlive = false
        events.add(.helperSeesXlGone, at: later(0...5))
    }

    mutating func helperSeesXlGone() {
        guard primary.host.isUp else { return }
        guard primary.host.isRunning else {
            return events.add(.helperSeesXlGone, at: time + .nanoseconds(milliseconds: 3))
        }
        let isFrozen = primary.helper.hasFrozenGuest || primary.session.isFrozen
        helperHandles(.xlHasGone(isGuestFrozen: isFrozen))
    }

    // MARK: xl stands still

    mutating func stopXl() {
        guard primary.isRunning, primary.isSaving else { return }
        primary.isXlStopped = true
        events.add(.xlGoesOn, at: later(1...Self.detectTimeoutMilliseconds * 5))
    }

    mutating func xlGoesOn() {
        note("xl goes on")
        primary.isXlStopped = false
        arrive(.primary)
        events.add(.wake(.primary), at: time)
    }

    /// Its guardian wakes when the lease ends, or soon.
    mutating func helperLooks() {
        guard primary.isSaving else { return }
        guard primary.host.isRunning else {
            return events.add(.helperLooks, at: time + .nanoseconds(milliseconds: 3))
        }
        if let end = primary.helper.lease, primary.now(time) >= end, scenario.sabotage != .overlookAStandstill {
            primary.helper.lease = nil
            helperHandles(.leaseWasTaken)
        }
        let soon = time + .nanoseconds(milliseconds: 20)
        let next = primary.helper.lease.map { max(soon, primary.host.clock.trueTime(of: $0)) } ?? soon
        events.add(.helperLooks, at: next + random.milliseconds(0...2))
    }
}
