import RomulusCore

/// What the relay and libxl are on the backup.
struct SimulatedBackup {
    var host: SimulatedHost
    var session: BackupSession
    var encoder = FrameEncoder()
    var decoder = FrameDecoder()
    /// Words of the epoch that is being collected.
    var collecting: [UInt64] = []
    /// Whole, but not confirmed by its EPOCH_END.
    var received: [UInt64] = []
    var complete: [UInt64] = []
    var completeEpoch = Epoch.none
    var isLinkReadable = true
    /// libxl will fail with what it has been given (a bridge, a device model, memory is missing).
    var restoreFails = false
    var end: BackupSession.End?
    /// What the replica knew when it began to run.
    var activated: [UInt64]?
    var lines = 0

    init(clock: HostClock, arbiter: ArbiterKind, hasSecondOpinion: Bool) {
        host = SimulatedHost(clock: clock)
        session = BackupSession(
            configuration: .init(
                detectTimeoutMilliseconds: World.detectTimeoutMilliseconds,
                patienceNanoseconds: .nanoseconds(milliseconds: 10_000), arbiter: arbiter,
                hasSecondOpinion: hasSecondOpinion), now: clock.local(0))
    }

    func now(_ time: Int64) -> MonotonicTime { host.clock.local(time) }
    var isActive: Bool { host.isRunning && activated != nil }
}

extension World {
    mutating func backupHandles(_ event: BackupSession.Event) {
        let actions = backup.session.handle(event, now: backup.now(time))
        if backup.session.lastEpoch > backup.completeEpoch {
            backup.completeEpoch = backup.session.lastEpoch
            backup.complete = backup.received
            reach(.epochComplete, backup.completeEpoch)
        }
        if backup.host.isRunning { perform(actions) }
        scheduleWake(.backup)
    }

    mutating func perform(_ actions: [BackupSession.Action]) {
        for action in actions {
            switch action {
            case .send(let message):
                send(message)
            case .askArbiter:
                if scenario.sabotage == .activateWithoutTheArbiter {
                    backupHandles(.verdict(.granted("nobody asked")))
                } else {
                    askArbiter(.backup)
                }
                reach(.arbiterAsked, backup.session.lastEpoch)
            case .withdrawQuestion: isFenceWithdrawn = true
            case .askSecondOpinion(_, let timesBefore):
                note("the backup is asked for patience")
                events.add(.secondOpinion(hesitation(timesBefore)), at: later(1...30))
            case .log(let line):
                backup.lines += 1
                note("backup: \(line.text)")
            case .end(let end):
                ended(end)
            }
        }
    }

    /// A plugin's patience, which ends in time for the world to see what comes of it.
    private mutating func hesitation(_ timesBefore: Int) -> Int64 {
        timesBefore >= 3 || random.chance(3) ? 0 : random.milliseconds(1...150)
    }

    private mutating func send(_ message: Message) {
        let arrival = time + delay()
        if scenario.sabotage == .leaveWithoutFarewell, backup.session.isAskedToStop, case .farewell = message {
            toPrimary.breakNow()
            return events.add(.arrival(.primary), at: arrival)
        }
        toPrimary.send(backup.encoder.frame(message), at: arrival)
        events.add(.arrival(.primary), at: arrival)
        backupHandles(.messageSent)
        if case .acknowledgement(let epoch, _) = message { reach(.acknowledgementSent, epoch) }
    }

    private mutating func ended(_ end: BackupSession.End) {
        note("backup ends: \(end)")
        backup.end = end
        backup.lines += 1
        guard case .failOver(let cause) = end else { return tellArbiter(of: .backup, runs: false) }
        reach(.activation, backup.session.lastEpoch)
        guard backup.host.isUp else { return }
        guard !backup.restoreFails else {
            note("the restore fails")
            tellArbiter(of: .backup, runs: false)
            if let farewell = backup.session.farewell(afterRestore: false, cause: cause) { send(farewell) }
            return
        }
        let isPartial = scenario.sabotage == .activateFromAPartialEpoch && !backup.collecting.isEmpty
        backup.activated = isPartial ? backup.collecting : backup.complete
        promises.activated(self)
        tellArbiter(of: .backup, runs: true)
        if let farewell = backup.session.farewell(afterRestore: true, cause: cause) { send(farewell) }
    }

    mutating func backupReads() {
        guard backup.host.isRunning, backup.isLinkReadable else { return }
        guard !backup.session.listensForFarewell else { return backupHearsFarewell() }
        for bytes in toBackup.receive(at: time, damage: damage) {
            guard backup.host.isRunning, !backup.session.isSuspecting, !backup.session.hasEnded else { return }
            backupHandles(.heard)
            backupTakes(bytes)
            // As at the end of each of the relay's turns.
            if backup.host.isRunning { perform(backup.session.timePassed(now: backup.now(time))) }
        }
        guard toBackup.isBroken, !backup.session.isSuspecting, !backup.session.hasEnded else { return }
        backup.isLinkReadable = false
        if scenario.sabotage == .activateAtOnceOnEndOfFile, backup.session.lastEpoch > .none {
            ended(.failOver(cause: "end of file"))
        } else {
            backupHandles(.linkEnded)
        }
    }

    private mutating func backupHearsFarewell() {
        for bytes in toBackup.receive(at: time, damage: damage) {
            guard let frame = try? bytes.withUnsafeBytes({ try backup.decoder.next(in: $0) }) else {
                backup.isLinkReadable = false
                return
            }
            guard case .message(let message) = frame.frame, backup.host.isRunning else { continue }
            backupHandles(.received(message))
        }
        if toBackup.isBroken { backup.isLinkReadable = false }
    }

    private mutating func backupTakes(_ bytes: [UInt8]) {
        do {
            let frame = try bytes.withUnsafeBytes { bytes in
                try backup.decoder.next(in: bytes).map { next -> Taken in
                    switch next.frame {
                    case .message(let message): .message(message)
                    case .encodedData(let payload):
                        .words(try pages.decode(payload, checks: scenario.sabotage != .dropTheChecksum))
                    case .data: throw FrameError.malformed(.data)
                    }
                }
            }
            guard let frame else { throw FrameError.checksum }
            backupHandles(.frameTaken(bytes: bytes.count, count: backup.decoder.frameCount))
            switch frame {
            case .words(let words): collect(words)
            case .message(let message): backupHandles(.received(message))
            }
        } catch {
            backup.isLinkReadable = false
            backupHandles(.linkBroken("what arrived is damaged (\(error))"))
        }
    }

    private enum Taken {
        case message(Message)
        case words([UInt64])
    }

    private mutating func collect(_ words: [UInt64]) {
        if scenario.sabotage == .acknowledgeTooEarly, backup.collecting.isEmpty {
            perform(
                [.send(.acknowledgement(backup.session.lastEpoch.next, frames: backup.decoder.frameCount))]
                    as [BackupSession.Action])
        }
        backup.collecting += words
        guard backup.collecting.count == SimulatedPrimary.dataFrames * SimulatedPrimary.dataWords else { return }
        backup.received = backup.collecting
        backup.collecting = []
        backupHandles(.epochReceived(streamBytes: UInt64(backup.received.count * 8)))
    }
}
