import RomulusCore

enum ArbiterStep {
    case fenceDone(by: Side)
    case leaseAsked(by: Side)
    case leaseAnswered(Side, ArbiterVerdict)
    /// The side that was granted tells whether its copy runs.
    case told(by: Side, runs: Bool)
    case keepAlive
}

/// etcd's register for one guest: who holds it, and until when if it is on a lease.
struct SimulatedLease {
    enum Holder: Equatable {
        case nobody
        case leased(until: Int64)
        case settled(Side)
        case runs(Side)
        case failed(Side)
    }

    private(set) var holder = Holder.leased(until: 0)
    let ttl: Int64

    mutating func keepAlive(at time: Int64) {
        if case .leased(let until) = current(at: time), until > time { holder = .leased(until: time + ttl) }
    }

    mutating func begin(at time: Int64) { holder = .leased(until: time + ttl) }

    /// One transaction. Nil while there is nothing to say yet.
    mutating func ask(_ side: Side, at time: Int64) -> ArbiterVerdict? {
        switch (current(at: time), side) {
        case (.nobody, _), (.leased, .primary):
            holder = .settled(side)
            return .granted("the lease")
        case (.leased, .backup): return nil
        case (.settled(let winner), _): return winner == side ? .granted("the lease") : nil
        case (.runs(let winner), _): return winner == side ? .granted("the lease") : .refused("the other has it")
        case (.failed(let winner), _):
            if winner == side { return .refused("it could not run") }
            holder = .settled(side)
            return .granted("the other could not run it")
        }
    }

    func wasGivenToOther(than side: Side) -> Bool {
        switch holder {
        case .settled(let winner), .runs(let winner), .failed(let winner): winner != side
        case .nobody, .leased: false
        }
    }

    /// "Granted" is not yet "runs".
    mutating func tell(_ side: Side, runs: Bool) {
        if holder == .settled(side) { holder = runs ? .runs(side) : .failed(side) }
    }

    private func current(at time: Int64) -> Holder {
        if case .leased(let until) = holder, until <= time { return .nobody }
        return holder
    }
}

extension World {
    mutating func askArbiter(_ side: Side) {
        note("\(side) asks its arbiter")
        switch scenario.arbiter {
        case .none: break
        case .fence: events.add(.arbiter(.fenceDone(by: side)), at: later(2...30))
        case .lease: events.add(.arbiter(.leaseAsked(by: side)), at: later(1...20))
        }
    }

    mutating func arbitrate(_ step: ArbiterStep) {
        switch step {
        case .fenceDone(let side): fence(by: side)
        case .leaseAsked(let side): askLease(side)
        case .leaseAnswered(let side, let verdict): answer(side, verdict)
        case .told(let side, let runs): tell(side, runs)
        case .keepAlive:
            guard primary.isXlThere, primary.end == nil else { return }
            if primary.isRunning, time >= arbiterAwayUntil { lease.keepAlive(at: time) }
            events.add(.arbiter(.keepAlive), at: time + lease.ttl / 3)
        }
    }

    /// The agent runs on the host that asks; it goes down with it, and stands still with it.
    private mutating func fence(by side: Side) {
        guard isUp(side), side == .primary || backup.end == nil else { return }
        guard isRunning(side), time >= arbiterAwayUntil else {
            events.add(.arbiter(.fenceDone(by: side)), at: time + .nanoseconds(milliseconds: 20))
            return
        }
        // Perhaps the agent was under way already.
        if side == .backup, isFenceWithdrawn, random.chance(2) { return backupHandles(.questionWithdrawn) }
        switch side {
        case .primary: backup.host.isUp = false
        case .backup: primary.host.isUp = false
        }
        answer(side, .granted("the other host is off"))
    }

    /// One transaction on the third host; its answer may be late, or be asked for again.
    private mutating func askLease(_ side: Side) {
        guard isUp(side), !hasEnded(side) else { return }
        guard isRunning(side), time >= arbiterAwayUntil, let verdict = askedLease(side) else {
            events.add(.arbiter(.leaseAsked(by: side)), at: time + .nanoseconds(milliseconds: 20))
            return
        }
        if random.chance(8) {
            events.add(.arbiter(.leaseAsked(by: side)), at: later(5...30))
        } else {
            events.add(.arbiter(.leaseAnswered(side, verdict)), at: later(1...20))
        }
    }

    private mutating func askedLease(_ side: Side) -> ArbiterVerdict? {
        if scenario.sabotage == .refuseBeforeTheOtherRuns, lease.wasGivenToOther(than: side) {
            return .refused("the other has it")
        }
        return lease.ask(side, at: time)
    }

    mutating func tellArbiter(of side: Side, runs: Bool) {
        events.add(.arbiter(.told(by: side, runs: runs)), at: later(1...20))
    }

    private mutating func tell(_ side: Side, _ runs: Bool) {
        guard isUp(side) else { return }
        guard isRunning(side), time >= arbiterAwayUntil else {
            events.add(.arbiter(.told(by: side, runs: runs)), at: time + .nanoseconds(milliseconds: 20))
            return
        }
        lease.tell(side, runs: runs)
    }

    private func hasEnded(_ side: Side) -> Bool {
        switch side {
        case .primary: primary.end != nil
        case .backup: backup.end != nil
        }
    }

    private mutating func answer(_ side: Side, _ verdict: ArbiterVerdict) {
        guard isUp(side) else { return }
        guard isRunning(side) else {
            events.add(.arbiter(.leaseAnswered(side, verdict)), at: time + .nanoseconds(milliseconds: 20))
            return
        }
        note("\(side)'s verdict: \(verdict)")
        switch side {
        case .primary: primaryHandles(.verdict(verdict))
        case .backup: backupHandles(.verdict(verdict))
        }
    }

    private func isUp(_ side: Side) -> Bool {
        switch side {
        case .primary: primary.isXlThere
        case .backup: backup.host.isUp
        }
    }

    private func isRunning(_ side: Side) -> Bool {
        switch side {
        case .primary: primary.isRunning
        case .backup: backup.host.isRunning
        }
    }
}
