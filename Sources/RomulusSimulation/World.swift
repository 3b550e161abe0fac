import RomulusCore

/// Primary, backup, guest, link, network buffer and arbiter in one process, on one simulated clock.
///
/// The sessions, the lease, and the frames are production's; what a relay, the guard and libxl do with their actions is
/// played here. Nothing is read but the scenario.
public struct World {
    static let detectTimeoutMilliseconds = 400
    static let endsAt = Int64.nanoseconds(milliseconds: 4000)

    let scenario: Scenario
    var random: Seeded
    var time: Int64 = 0
    var events = EventQueue()
    var primary: SimulatedPrimary
    var backup: SimulatedBackup
    var toBackup = SimulatedLink()
    var toPrimary = SimulatedLink()
    var lease = SimulatedLease(ttl: .nanoseconds(milliseconds: 300))
    var arbiterAwayUntil: Int64 = 0
    /// The backup's agent is to begin nothing more.
    var isFenceWithdrawn = false
    var promises = Promises()
    var pending: [Scenario.Planned]
    var happened: [Fault] = []
    var trace: [String] = []
    let pages = SimulatedPages()
    private let longestDelay: Int
    private let isTraced: Bool

    public init(_ scenario: Scenario, isTraced: Bool = false) {
        self.scenario = scenario
        self.isTraced = isTraced
        random = Seeded(scenario.seed)
        pending = scenario.faults
        longestDelay = [1, 4, 20].randomElement(using: &random)!
        // Rates within one part in eight of true time, the bound that LinkLease states; within one in twenty where the guard
        // freezes the guest, which waits for a twelfth of the lease longer.
        let spread: Int64 = scenario.isGuarded ? 50 : 125
        primary = SimulatedPrimary(
            clock: HostClock(random: &random, spreadPermille: spread), arbiter: scenario.arbiter.kind,
            periodMilliseconds: [20, 50, 120])
        backup = SimulatedBackup(
            clock: HostClock(random: &random, spreadPermille: spread), arbiter: scenario.arbiter.kind,
            hasSecondOpinion: scenario.hesitates)
    }

    /// Runs to its end.
    public static func run(_ scenario: Scenario, isTraced: Bool = false) -> Verdict {
        var world = World(scenario, isTraced: isTraced)
        world.play()
        return Verdict(
            violations: world.promises.violations, committedEpochs: world.primary.committed.rawValue,
            faultsThatHappened: world.happened, trace: world.trace)
    }

    private mutating func play() {
        begin()
        while let (moment, event) = events.next(), moment <= Self.endsAt {
            time = max(time, moment)
            perform(event)
            promises.check(self)
            if promises.violations.count > 4 { return }
        }
        promises.checkEnd(self)
    }

    private mutating func begin() {
        for planned in pending {
            if case .at(let milliseconds) = planned.moment {
                events.add(.fault(planned.fault), at: .nanoseconds(milliseconds: milliseconds))
            }
        }
        pending.removeAll { if case .at = $0.moment { true } else { false } }
        if scenario.arbiter == .lease {
            lease.begin(at: time)
            events.add(.arbiter(.keepAlive), at: lease.ttl / 3)
        }
        // The run begins framed: the answer is given below without its way over the link.
        _ = backup.session.handle(.announced(Announcement(run: 1)), now: backup.now(time))
        backupHandles(.framesBegun(.first))
        primaryHandles(
            .received(
                .answer(
                    version: .first, arbiter: scenario.arbiter.kind, features: .encodedData,
                    detectTimeoutMilliseconds: UInt32(Self.detectTimeoutMilliseconds), pageSlots: 8)))
        events.add(.guestRuns, at: 0)
        events.add(.checkpoint(.begin), at: .nanoseconds(milliseconds: 5))
        if scenario.isGuarded { events.add(.guardLooks, at: .nanoseconds(milliseconds: 20)) }
    }

    private mutating func perform(_ event: EventQueue.Event) {
        switch event {
        case .wake(let side): wake(side)
        case .arrival(let side): arrive(side)
        case .guestRuns: guestRuns()
        case .guestResumed: resumeGuest()
        case .checkpoint(let step): checkpoint(step)
        case .arbiter(let step): arbitrate(step)
        case .fault(let fault): strike(fault)
        case .thaw(let side): thaw(side)
        case .secondOpinion(let patience):
            if backup.host.isRunning { backupHandles(.secondOpinion(patienceNanoseconds: patience)) }
        case .guestIsLookedAt: lookAtGuest()
        case .heal: heal()
        case .redirectNoticed:
            if scenario.sabotage != .overlookALostRedirect { primary.plug.isBypassed = false }
            primary.isRedirectLost = false
        case .guardLooks: guardLooks()
        case .guardSeesXlGone: guardSeesXlGone()
        case .xlGoesOn: xlGoesOn()
        }
    }

    // MARK: Time

    mutating func later(_ milliseconds: ClosedRange<Int>) -> Int64 { time + random.milliseconds(milliseconds) }

    mutating func delay() -> Int64 {
        random.chance(200) ? random.milliseconds(0...40) : random.milliseconds(0...longestDelay)
    }

    mutating func note(_ text: @autoclosure () -> String) {
        if isTraced { trace.append("\(time / 1000) us: \(text())") }
    }

    private mutating func wake(_ side: Side) {
        switch side {
        case .primary:
            guard primary.isRunning else { return }
            perform(primary.session.timePassed(now: primary.now(time)))
            scheduleWake(.primary)
        case .backup:
            guard backup.host.isRunning else { return }
            perform(backup.session.timePassed(now: backup.now(time)))
            scheduleWake(.backup)
        }
    }

    /// A thread wakes a little late.
    mutating func scheduleWake(_ side: Side) {
        let (deadline, clock) =
            switch side {
            case .primary: (primary.session.deadline, primary.host.clock)
            case .backup: (backup.session.deadline, backup.host.clock)
            }
        guard let deadline else { return }
        let moment = max(clock.trueTime(of: deadline), time) + Int64.random(in: 1...2_000_000, using: &random)
        switch side {
        case .primary:
            guard moment != primary.host.nextWake else { return }
            if primary.host.nextWake > time, primary.host.nextWake <= moment { return }
            primary.host.nextWake = moment
        case .backup:
            if backup.host.nextWake > time, backup.host.nextWake <= moment { return }
            backup.host.nextWake = moment
        }
        events.add(.wake(side), at: moment)
    }

    // MARK: Points and faults

    /// The moment has come that a fault may be planned for.
    mutating func reach(_ point: CutPoint, _ epoch: Epoch) {
        while let index = pending.firstIndex(where: { $0.moment == .point(point, epoch: epoch.rawValue) }) {
            let planned = pending.remove(at: index)
            note("at \(point) of epoch \(epoch.rawValue)")
            strike(planned.fault)
        }
    }

    private mutating func strike(_ fault: Fault) {
        note("fault: \(fault)")
        happened.append(fault)
        switch fault {
        case .primaryPowerCut: primary.host.isUp = false
        case .backupPowerCut: backup.host.isUp = false
        case .linkCut: cut(toBackup: true, toPrimary: true)
        case .linkCutToBackup: cut(toBackup: true, toPrimary: false)
        case .linkCutToPrimary: cut(toBackup: false, toPrimary: true)
        case .shortLinkCut:
            cut(toBackup: true, toPrimary: true)
            events.add(.heal, at: later(1...Self.detectTimeoutMilliseconds * 3 / 4))
        case .longLinkCut:
            cut(toBackup: true, toPrimary: true)
            events.add(.heal, at: later(Self.detectTimeoutMilliseconds * 3...Self.detectTimeoutMilliseconds * 4))
        case .linkBroken:
            toBackup.breakNow()
            toPrimary.breakNow()
            events.add(.arrival(.primary), at: time + delay())
            events.add(.arrival(.backup), at: time + delay())
        case .corruptedToBackup: toBackup.corruptsNext = true
        case .corruptedToPrimary: toPrimary.corruptsNext = true
        case .primaryFrozen: freeze(.primary)
        case .backupFrozen: freeze(.backup)
        case .helperKilled: if primary.isRunning { helperDies() }
        case .xlKilled: killXl()
        case .xlStopped: stopXl()
        case .bufferFails: primary.failsNextBuffer = true
        case .deviceModelKilled:
            primary.guest.canBeResumed = false
            if primary.isRunning, primary.guest.isSuspended { helperDies() }
        case .restoreFailsAfterTheGrant: backup.restoreFails = true
        case .restorerFails: if backup.host.isRunning { backupHandles(.restorerFailed) }
        case .backupIsAskedToStop:
            if backup.host.isRunning { backupHandles(.stopRequested(signalName: "SIGTERM")) }
        case .adminStops: if primary.isRunning { primaryHandles(.stopRequested(signalName: "SIGINT")) }
        case .adminDestroys: if primary.isRunning { guestIsDestroyed() }
        case .guestShutsDown: if primary.isRunning, primary.guest.runs { guestShutsDown() }
        case .guestCrashes: if primary.isRunning, primary.guest.runs { guestCrashes() }
        case .guestSavedAway:
            guard primary.isRunning, primary.guest.runs else { break }
            if scenario.sabotage != .overlookAnotherSuspension { guestIsTaken() }
            guestIsDestroyed()
        case .arbiterAway: arbiterAwayUntil = later(200...1500)
        case .adminDecides: adminDecides()
        case .redirectRemoved:
            primary.plug.isBypassed = true
            primary.isRedirectLost = true
            events.add(.redirectNoticed, at: later(0...20))
        }
    }

    /// What is true decides: whose copy runs, and who is no more.
    private mutating func adminDecides() {
        if primary.isRunning, primary.session.isFrozen {
            if backup.activated != nil, scenario.sabotage != .decideWithoutLooking {
                primaryHandles(.adminSaid(.yield))
            } else if !backup.host.isUp || backup.end != nil {
                primaryHandles(.adminSaid(.resume))
            }
        } else if backup.host.isRunning, backup.session.isSuspecting {
            backupHandles(.adminSaid(primary.host.isUp ? .yield : .resume))
        }
    }

    private mutating func cut(toBackup isBackupCut: Bool, toPrimary isPrimaryCut: Bool) {
        if isBackupCut { toBackup.isCut = true }
        if isPrimaryCut { toPrimary.isCut = true }
    }

    private mutating func heal() {
        note("the link heals")
        toBackup.heal(at: time)
        toPrimary.heal(at: time)
        events.add(.arrival(.backup), at: time)
        events.add(.arrival(.primary), at: time)
    }

    private mutating func freeze(_ side: Side) {
        let until = later(1...Self.detectTimeoutMilliseconds * 5)
        switch side {
        case .primary:
            primary.host.isFrozen = true
            primary.host.frozenAt = time
        case .backup:
            backup.host.isFrozen = true
        }
        events.add(.thaw(side), at: until)
    }

    /// The relay's thread runs before the guest does; what arrived meanwhile is there to be read.
    private mutating func thaw(_ side: Side) {
        note("\(side) thaws")
        switch side {
        case .primary:
            primary.host.isFrozen = false
            arrive(.primary)
        case .backup:
            backup.host.isFrozen = false
            arrive(.backup)
        }
        wake(side)
    }
}

extension ArbiterChoice {
    var kind: ArbiterKind {
        switch self {
        case .none: .none
        case .fence: .fence
        case .lease: .lease
        }
    }
}

/// A host's own clock, which runs at its own rate.
struct HostClock {
    private let offset: Int64
    private let ratePermille: Int64

    init(random: inout Seeded, spreadPermille spread: Int64) {
        offset = Int64.random(in: 0...1_000_000_000_000, using: &random)
        ratePermille = random.chance(2) ? 0 : Int64.random(in: -spread...spread, using: &random)
    }

    func local(_ time: Int64) -> MonotonicTime {
        MonotonicTime(nanoseconds: offset + time + time * ratePermille / 1000)
    }

    func trueTime(of moment: MonotonicTime) -> Int64 {
        (moment.nanoseconds - offset) * 1000 / (1000 + ratePermille) + 1
    }
}

struct SimulatedHost {
    let clock: HostClock
    var isUp = true
    var isFrozen = false
    var frozenAt: Int64 = 0
    var nextWake: Int64 = -1

    var isRunning: Bool { isUp && !isFrozen }
}
