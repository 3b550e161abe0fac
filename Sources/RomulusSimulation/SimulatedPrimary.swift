import RomulusCore

enum CheckpointStep {
    case begin
    case mapRead
    case copied
    case resume
    case data(Int)
    case epochEnd
}

/// What xl with its relay, the helper and the guard are on the primary.
struct SimulatedPrimary {
    static let dataFrames = 3
    static let dataWords = SimulatedPages.wordsPerPage

    var host: SimulatedHost
    var session: PrimarySession
    var guest = SimulatedGuest()
    var plug = PlugQueue()
    var encoder = FrameEncoder()
    var decoder = FrameDecoder()
    var composedFrames: UInt64 = 0
    /// The epoch whose checkpoint is under way, and what the guest was at each suspension.
    var epoch = Epoch.none
    var snapshots: [UInt64] = [0]
    var heldFor = Epoch.none
    var committed = Epoch.none
    var isSaveStopped = false
    /// Not told to stop: it cannot go on.
    var hasSaveFailed = false
    var failsNextBuffer = false
    var isLeaveSeen = false
    var hasFrozen = false
    /// What on_crash has made: another domain.
    var isGuestRestarted = false
    var isLinkReadable = true
    var isXlAlive = true
    var isXlStopped = false
    var guardian = SimulatedGuard()
    var end: PrimarySession.End?
    /// It is decided that no replica will run: the guest's output is its own again.
    var isReplicaRuledOut = false
    var isOutputUndecided = false
    /// And the relay has not heard of it: what leaves meanwhile nobody can hold.
    var isRedirectLost = false
    var lines = 0
    let period: Int64

    init(clock: HostClock, arbiter: ArbiterKind, periodMilliseconds: [Int]) {
        host = SimulatedHost(clock: clock)
        session = PrimarySession(
            configuration: .init(
                guest: "guest", patienceNanoseconds: .nanoseconds(milliseconds: 10_000), hasBackChannel: true,
                arbiter: arbiter, isUnsafeAccepted: false), now: clock.local(0))
        period = .nanoseconds(milliseconds: periodMilliseconds[Int(clock.local(0).nanoseconds % 3)])
    }

    func now(_ time: Int64) -> MonotonicTime { host.clock.local(time) }

    var isXlThere: Bool { host.isUp && isXlAlive }
    /// xl's relay.
    var isRunning: Bool { host.isRunning && isXlAlive && !isXlStopped }
    /// The run is not over, whatever has become of its save.
    var isInRun: Bool { isXlThere && end == nil }

    /// The guest's copy here may be scheduled.
    var isActive: Bool { host.isRunning && (guest.isActive || isGuestRestarted) }
}

extension World {
    mutating func primaryHandles(_ event: PrimarySession.Event, at moment: MonotonicTime? = nil) {
        perform(primary.session.handle(event, now: moment ?? primary.now(time)))
        scheduleWake(.primary)
    }

    mutating func perform(_ actions: [PrimarySession.Action]) {
        for case .end(let end) in actions {
            primary.isReplicaRuledOut =
                switch end.fate {
                case .goesOn, .hasLeft(.none), .hasLeft(.discarded), .hasLeft(.ruledOut): true
                case .yields, .hasLeft(.unknown): false
                }
        }
        for action in actions {
            switch action {
            case .beginFrames: primaryHandles(.framesBegun)
            case .send(let message): compose(message)
            case .holdOutput(let epoch): holdOutput(epoch)
            case .releaseOutput(let epoch):
                if scenario.sabotage != .releaseWhenSent { leave(primary.plug.releaseOne()) }
                promises.released(epoch, self)
                reach(.released, epoch)
            case .commit(let epoch): committed(epoch)
            case .stopSave:
                primary.isSaveStopped = true
                if scenario.sabotage == .relieveAtTheSavesEnd { guardHandles(.runIsOver) }
            case .resumeGuest: events.add(.guestResumed, at: later(0...20))
            case .freezeGuest: freezeGuest()
            case .thawGuest:
                primary.guest.freezes = 0
                primary.guardian.hasFrozenGuest = false
            case .askArbiter:
                askArbiter(.primary)
                reach(.arbiterAsked, primary.epoch)
            case .openOutput: leave(primary.plug.open())
            case .openOutputIfGuestRuns: primary.isOutputUndecided = true
            case .dropOutput:
                if scenario.sabotage == .leakOnYield { leave(primary.plug.open()) }
                primary.plug.drop()
            case .log(let line):
                primary.lines += 1
                note("primary: \(line.text)")
            case .end(let end): ended(end)
            }
        }
        primary.guardian.lease = primary.session.watchdogDeadline
        guard primary.end == nil else { return }
        for action in actions {
            switch action {
            case .stopSave: reach(.saveEnded, primary.epoch)
            case .send(.farewell): reach(.farewellSent, primary.epoch)
            default: break
            }
        }
    }

    private mutating func holdOutput(_ epoch: Epoch) {
        if primary.failsNextBuffer {
            primary.failsNextBuffer = false
            return saveFails(.outputUnheld("the guest's output cannot be held"))
        }
        if scenario.sabotage != .forgetToBuffer { primary.plug.buffer() }
        if scenario.sabotage == .bufferTwice, epoch.rawValue % 2 == 0 { primary.plug.buffer() }
        primary.heldFor = epoch
    }

    private mutating func committed(_ epoch: Epoch) {
        primary.committed = epoch
        let due = max(time, primary.host.clock.trueTime(of: primary.now(time)) + primary.period)
        events.add(.checkpoint(.begin), at: due)
    }

    private mutating func freezeGuest() {
        if scenario.sabotage == .openOutputOnSuspicion { leave(primary.plug.open()) }
        primary.hasFrozen = true
        if primary.guardian.hasFrozenGuest { return }
        if scenario.sabotage != .neverFreeze { primary.guest.freezes += 1 }
    }

    private mutating func ended(_ end: PrimarySession.End) {
        note("primary ends: \(end.cause.text), \(end.fate)")
        primary.end = end
        primary.lines += 1
        switch end.fate {
        case .goesOn(let replica):
            if primary.guest.canBeResumed { primary.guest.isSuspended = false }
            if primary.guest.isSuspended { note("the guest cannot be resumed") }
            decideOutput(guestRuns: !primary.guest.isSuspended)
            if case .ruledOut = replica { tellArbiter(of: .primary, runs: !primary.guest.isSuspended) }
        case .yields:
            if scenario.sabotage == .overruleARefusal {
                primary.guest.freezes = 0
                primary.guest.isSuspended = false
            } else {
                primary.guest.exists = false
            }
        case .hasLeft(let replica):
            // The xl behind the guest has waited for this.
            if primary.guest.hasCrashed, primary.guest.exists { primary.isGuestRestarted = true }
            if case .ruledOut = replica { tellArbiter(of: .primary, runs: true) }
        }
    }

    private mutating func decideOutput(guestRuns: Bool) {
        guard primary.isOutputUndecided else { return }
        if guestRuns || scenario.sabotage == .leakOnYield { leave(primary.plug.open()) } else { primary.plug.drop() }
    }

    mutating func guestIsDestroyed() {
        primary.guest.exists = false
        primaryHandles(.guestLeft(.destroyed))
    }

    mutating func guestIsTaken() {
        primary.guest.isSuspended = true
        primaryHandles(.guestLeft(.taken))
    }

    /// The relay sees it when it looks next, whatever has become of the run until then.
    mutating func guestShutsDown() {
        primary.guest.hasShutDown = true
        events.add(.guestIsLookedAt, at: later(0...100))
    }

    mutating func guestCrashes() {
        primary.guest.hasCrashed = true
        guard scenario.sabotage == .overlookACrash else { return guestShutsDown() }
        primary.isGuestRestarted = true
        guestIsDestroyed()
    }

    mutating func lookAtGuest() {
        guard primary.isXlThere, primary.end == nil else { return }
        guard primary.isRunning else { return events.add(.guestIsLookedAt, at: later(1...100)) }
        primary.isLeaveSeen = true
        if scenario.sabotage == .forgetWhatComesWhileFrozen, primary.session.isFrozen { return }
        primaryHandles(.guestLeft(primary.guest.hasCrashed ? .crashed : .shutDown))
    }

    /// What libxl does when the save is over; it may be at it when the guest is frozen.
    mutating func resumeGuest() {
        guard primary.isXlThere, primary.session.awaitsGuest || primary.session.isFrozen else { return }
        guard primary.isRunning else { return events.add(.guestResumed, at: time + .nanoseconds(milliseconds: 3)) }
        if primary.guest.canBeResumed { primary.guest.isSuspended = false }
        let runs = !primary.guest.isSuspended || scenario.sabotage == .leaveWithoutTheGuest
        primaryHandles(.guestResumed(runs))
    }

    mutating func helperDies() {
        primary.isSaveStopped = true
        saveFails(.saveEnded("the save helper has ended"))
    }

    private mutating func saveFails(_ event: PrimarySession.Event) {
        primary.hasSaveFailed = true
        if scenario.sabotage == .forgetWhatComesWhileFrozen, primary.session.isFrozen { return }
        primaryHandles(event)
    }

    // MARK: The guest and its checkpoints

    mutating func guestRuns() {
        events.add(.guestRuns, at: later(3...15))
        guard primary.host.isRunning, primary.guest.runs else { return }
        primary.guest.counter += 1
        let packets = primary.plug.enqueue(Packet(counter: primary.guest.counter))
        if !primary.isRedirectLost { leave(packets) }
    }

    mutating func leave(_ packets: [Packet]) {
        for packet in packets { promises.packetLeft(packet, self) }
    }

    mutating func checkpoint(_ step: CheckpointStep) {
        guard primary.isXlThere, !primary.isSaveStopped else { return }
        // libxl waits for a guest that stands still, and everybody for a host or an xl that does.
        if !primary.isRunning || primary.guest.freezes > 0 {
            events.add(.checkpoint(step), at: time + .nanoseconds(milliseconds: 3))
            return
        }
        let epoch = primary.epoch
        switch step {
        case .begin: suspend()
        case .mapRead:
            reach(.dirtyMapRead, epoch)
            events.add(.checkpoint(.copied), at: later(0...2))
        case .copied:
            reach(.stagingCopied, epoch)
            events.add(.checkpoint(.resume), at: later(0...2))
        case .resume:
            guard primary.heldFor >= epoch else { break }
            guard primary.guest.canBeResumed else { return helperDies() }
            primary.guest.isSuspended = false
            reach(.resumed, epoch)
            events.add(.checkpoint(.data(0)), at: later(0...2))
        case .data(let index): sendData(index)
        case .epochEnd: endEpoch()
        }
    }

    private mutating func suspend() {
        guard primary.guest.runs else { return }
        primary.epoch = primary.epoch.next
        reach(.beforeSuspend, primary.epoch)
        guard primary.isRunning, !primary.isSaveStopped, primary.guest.runs else {
            primary.epoch = Epoch(rawValue: primary.epoch.rawValue - 1)
            return events.add(.checkpoint(.begin), at: time + .nanoseconds(milliseconds: 3))
        }
        primary.guest.isSuspended = true
        primary.snapshots.append(primary.guest.counter)
        primaryHandles(.guestSuspended)
        reach(.suspended, primary.epoch)
        // libxl has its state saved now.
        if !primary.guest.canBeResumed, !primary.isSaveStopped { return helperDies() }
        events.add(.checkpoint(.mapRead), at: later(0...3))
    }

    private mutating func sendData(_ index: Int) {
        if index == SimulatedPrimary.dataFrames - 1, scenario.sabotage != .forgetTheReplica {
            primary.guardian.replica = .possible
        }
        guard primary.session.hasRoomOnLink else {
            return events.add(.checkpoint(.data(index)), at: time + .nanoseconds(milliseconds: 1))
        }
        let frames = primary.epoch.rawValue * UInt64(SimulatedPrimary.dataFrames) + UInt64(index)
        let number = SimulatedPages.number(ofFrame: frames)
        let payload = pages.encode(number, state: primary.snapshots[Int(primary.epoch.rawValue)])
        let frame = payload.withUnsafeBytes { primary.encoder.encodedDataHeader($0) + $0 }
        if scenario.sabotage == .encodeWhatIsNotSent {
            _ = pages.encode(number, state: primary.guest.counter &+ 1)
        }
        put(frame, .data)
        primaryHandles(.linkMoved)
        reach(index == SimulatedPrimary.dataFrames - 1 ? .checkpointSent : .midPageFrame, primary.epoch)
        let next: CheckpointStep = index == SimulatedPrimary.dataFrames - 1 ? .epochEnd : .data(index + 1)
        events.add(.checkpoint(next), at: later(0...3))
    }

    private mutating func endEpoch() {
        guard primary.session.mayEndEpoch else {
            return events.add(.checkpoint(.epochEnd), at: time + .nanoseconds(milliseconds: 1))
        }
        let bytes = UInt64(SimulatedPrimary.dataFrames * SimulatedPrimary.dataWords * 8)
        compose(.epochEnd(primary.epoch, streamBytes: bytes))
        primaryHandles(.epochSent)
        if scenario.sabotage == .releaseWhenSent { leave(primary.plug.releaseOne()) }
    }

    // MARK: The link

    private mutating func compose(_ message: Message) {
        put(primary.encoder.frame(message), message.composedKind)
    }

    private mutating func put(_ frame: [UInt8], _ kind: PrimarySession.ComposedFrame.Kind) {
        primary.composedFrames += 1
        primary.session.frameComposed(.init(bytes: frame.count, kind: kind), now: primary.now(time))
        let arrival = time + delay()
        toBackup.send(frame, at: arrival)
        events.add(.arrival(.backup), at: arrival)
    }

    mutating func primaryReads() {
        guard primary.isRunning, primary.isLinkReadable, primary.end == nil else { return }
        // What is read after a standstill was, by the sabotage, read when it came.
        let moment = primary.now(
            scenario.sabotage == .readOldMessagesInTheirOwnTime && primary.host.frozenAt > 0
                ? primary.host.frozenAt : time)
        if scenario.sabotage != .readOldMessagesInTheirOwnTime {
            perform(primary.session.timePassed(now: moment))
        }
        for bytes in toPrimary.receive(at: time, damage: damage) {
            if scenario.sabotage == .thawOnAnySign { primary.guest.freezes = 0 }
            primaryHandles(.heard, at: moment)
            primaryTakes(bytes, moment)
        }
        if toPrimary.isBroken {
            primary.isLinkReadable = false
            primaryHandles(.linkBroken("the link to the backup was closed"))
        }
    }

    private mutating func primaryTakes(_ bytes: [UInt8], _ moment: MonotonicTime) {
        do {
            guard let frame = try bytes.withUnsafeBytes({ try primary.decoder.next(in: $0) }),
                case .message(var message) = frame.frame
            else { throw FrameError.checksum }
            if scenario.sabotage == .renewTheLeaseByHearing, case .heard = message {
                message = .heard(frames: primary.composedFrames)
            }
            if case .acknowledgement(let epoch, _) = message { reach(.acknowledgementReceived, epoch) }
            guard primary.isRunning else { return }
            primaryHandles(.received(message), at: moment)
        } catch {
            primary.isLinkReadable = false
            primaryHandles(.linkBroken("the backup sent \(error)"), at: moment)
        }
    }

    mutating func arrive(_ side: Side) {
        switch side {
        case .primary: primaryReads()
        case .backup: backupReads()
        }
    }

    /// One bit. The sabotage makes the checksums fit again, as if nobody looked at them.
    func damage(_ bytes: inout [UInt8]) {
        var random = Seeded(scenario.seed ^ UInt64(bitPattern: time))
        guard scenario.sabotage == .dropTheChecksum else {
            bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random)
            return
        }
        guard bytes.count > FrameFormat.headerBytes else { return }
        bytes[Int.random(in: FrameFormat.headerBytes..<bytes.count, using: &random)] ^= 1
        var checksum = CRC32C()
        bytes.withUnsafeBytes { all in
            checksum.update(UnsafeRawBufferPointer(rebasing: all[..<12]))
            checksum.update(UnsafeRawBufferPointer(rebasing: all[FrameFormat.headerBytes...]))
        }
        withUnsafeBytes(of: checksum.value.littleEndian) { bytes.replaceSubrange(16..<20, with: $0) }
    }
}
