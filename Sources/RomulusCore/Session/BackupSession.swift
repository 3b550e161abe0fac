/// What the backup knows of the primary, and when it takes over: pure, driven by events, performing nothing.
///
/// Until the first complete checkpoint there is nothing to take over, and every end discards the replica.
///
///     collecting ──silence, or a broken link──▶ suspecting ──the arbiter's verdict, or the deadline──▶ ended
///         └──a farewell: clear evidence, nobody is asked──────────────────────────────────────────────▶ ended
///
/// A suspicion is final: from then on nothing is taken in but a farewell, and nothing is said to have been heard, so that the
/// primary's lease (`LinkLease`) ends and is not renewed.
public struct BackupSession: Sendable {
    private enum Phase {
        /// A stock primary, or one that has not announced itself yet.
        case plain
        /// The answer has been given; frames have not begun.
        case answered(ProtocolVersion)
        case framed
        /// The primary is given up. Until `waitsUntil` its own lease on the link may still let it run.
        case suspecting(cause: String, waitsUntil: MonotonicTime?)
        case ended
    }

    private struct StopOrder {
        let text: String
        /// It was heard after the order. What it said is heeded first: it may have handed the guest over.
        var isPrimaryAlive = false
    }

    private let configuration: Configuration
    private let times: LinkTimes
    private var phase = Phase.plain
    private var hasFrames = false
    /// What was said in a suspicion, and counts unless the arbiter has granted by then.
    private var farewellHeard: String?
    /// In a suspicion whose deadline is not there yet.
    private var hasAdminResumed = false
    private var detector: FailureDetector
    private var secondOpinion: SecondOpinion?
    private var heartbeat: HeartbeatTimer
    private var reports = HearingReports()
    /// The primary has announced itself, so it knows frames. Set at the end.
    private var canSpeak = false
    /// The primary has announced itself under this name of the run.
    public private(set) var run: UInt64?
    /// Who wants this to end. Followed when the primary is heard after it: one that has died leaves the only copy here.
    private var stopOrder: StopOrder?
    /// Complete in memory, not yet confirmed by the primary's EPOCH_END.
    private var unconfirmedStreamBytes: UInt64?
    /// The last epoch that is complete here, and acknowledged where the primary listens.
    public private(set) var lastEpoch = Epoch.none

    public init(configuration: Configuration, now: MonotonicTime) {
        self.configuration = configuration
        times = LinkTimes(detectTimeoutMilliseconds: configuration.detectTimeoutMilliseconds)
        detector = FailureDetector(timeoutNanoseconds: configuration.patienceNanoseconds, now: now)
        heartbeat = HeartbeatTimer(intervalNanoseconds: times.heartbeatNanoseconds, now: now)
        secondOpinion = configuration.hasSecondOpinion ? SecondOpinion() : nil
    }

    public var isFramed: Bool { if case .framed = phase { true } else { false } }
    public var hasEnded: Bool { if case .ended = phase { true } else { false } }
    public var isAskedToStop: Bool { stopOrder != nil }
    public var isSuspecting: Bool { if case .suspecting = phase { true } else { false } }
    public var listensForFarewell: Bool { isSuspecting && hasFrames }

    public var deadline: MonotonicTime? {
        switch phase {
        case .ended: nil
        case .suspecting(_, let waitsUntil): waitsUntil
        case .plain: suspicionDeadline
        case .answered, .framed: min(heartbeat.deadline, suspicionDeadline ?? heartbeat.deadline)
        }
    }

    private var suspicionDeadline: MonotonicTime? {
        guard let deadline = detector.deadline else { return nil }
        return secondOpinion?.deadline(deadline, timeoutNanoseconds: detector.timeoutNanoseconds) ?? deadline
    }

    /// While nothing is read, silence is no evidence.
    public mutating func setListening(_ listens: Bool, now: MonotonicTime) {
        detector.setListening(listens, at: now)
    }

    /// The memory for one more epoch is there, or is not. The primary sends none before the last is acknowledged, so the
    /// link itself is read at all times.
    public mutating func setRoom(_ hasRoom: Bool) -> [Action] {
        reports.setRoom(hasRoom)
        return acknowledgeIfDue()
    }

    private mutating func acknowledgeIfDue() -> [Action] {
        guard isFramed, let message = reports.takeAcknowledgement(of: lastEpoch) else { return [] }
        return [.send(message)]
    }

    public mutating func handle(_ event: Event, now: MonotonicTime) -> [Action] {
        switch phase {
        case .ended: return []
        case .suspecting(let cause, let waitsUntil):
            return handleInSuspicion(event, cause, isTooEarly: waitsUntil.map { now < $0 } ?? false)
        case .plain, .answered, .framed: return handleInTouch(event, now: now)
        }
    }

    private mutating func handleInTouch(_ event: Event, now: MonotonicTime) -> [Action] {
        switch event {
        case .heard:
            detector.heard(at: now)
            stopOrder?.isPrimaryAlive = true
            return []
        case .frameTaken(let bytes, let count):
            return reports.frameTaken(bytes: bytes, count: count).map { [.send($0)] } ?? []
        case .announced(let announcement):
            return announced(announcement, now: now)
        case .framesBegun(let version):
            guard case .answered(version) = phase else {
                return linkFailed("frames begin without an answer", now: now)
            }
            phase = .framed
            hasFrames = true
            return []
        case .epochReceived(let streamBytes):
            return epochReceived(streamBytes: streamBytes, now: now)
        case .received(let message):
            return received(message, now: now)
        case .messageSent:
            heartbeat.sent(at: now)
            return []
        case .linkEnded:
            return linkFailed("the link to the primary ended without a farewell", now: now)
        case .linkBroken(let reason):
            return linkFailed(reason, now: now)
        case .epochTooLarge(let limitBytes):
            // The link is well, and so is the primary: no reason to take over.
            return discard(
                "an epoch does not fit into epoch_limit_mib (\(limitBytes >> 20) on the backup): raise it in"
                    + " /etc/xen/romulus.conf there")
        case .restorerFailed:
            return restorerFailed()
        case .secondOpinion(let patience):
            secondOpinion?.answered(patienceNanoseconds: patience, now: now)
            return []
        case .stopRequested(let signalName):
            return stopRequested(by: signalName)
        case .adminSaid(.yield):
            return stopRequested(by: "romulus yield")
        case .verdict, .questionWithdrawn, .adminSaid(.resume):
            return []
        }
    }

    private mutating func stopRequested(by order: String) -> [Action] {
        // A stock primary has no signs of life to wait for.
        guard isFramed, lastEpoch > .none else { return stop(order) }
        stopOrder = stopOrder ?? StopOrder(text: order)
        return []
    }

    private mutating func stop(_ order: String) -> [Action] {
        discard("the backup was asked to stop (\(order))")
    }

    private func notStopping(_ order: String) -> [Action] {
        [
            .log(
                .warning(
                    "\(order) is not followed, because the primary is not heard and the replica may be the only copy:"
                        + " `romulus yield' gives it up"))
        ]
    }

    /// - Parameter isTooEarly: the primary may still have its right to run.
    private mutating func handleInSuspicion(_ event: Event, _ cause: String, isTooEarly: Bool) -> [Action] {
        switch event {
        case .verdict(.granted(let why)): failOver("\(cause); \(why)")
        case .verdict(.refused(let why)): discard("\(cause), and the arbiter refused: \(why)")
        case .questionWithdrawn: farewellHeard.map { discard("the primary said farewell: \($0)") } ?? []
        case .received(.farewell(let reason, let text)): lateFarewell(reason, text)
        case .adminSaid(.resume) where isTooEarly: resumeLater()
        case .adminSaid(.resume): failOver("\(cause); the admin said so")
        case .adminSaid(.yield): discard("\(cause), and the admin said so")
        case .restorerFailed: restorerFailed()
        case .stopRequested(let signalName): notStopping(signalName)
        case .heard, .announced, .framesBegun, .frameTaken, .epochReceived, .received, .messageSent, .linkEnded,
            .linkBroken, .epochTooLarge, .secondOpinion:
            []
        }
    }

    private mutating func resumeLater() -> [Action] {
        hasAdminResumed = true
        return []
    }

    /// An agent may be about to turn the primary's host off at this moment: only what it says then tells whether the guest goes
    /// on there. etcd and a plugin have the last word themselves.
    private mutating func lateFarewell(_ reason: FarewellReason, _ text: String) -> [Action] {
        switch reason {
        case .primaryDestroyed: return failOver(text)
        case .protectionEnded, .guestShutDown, .primaryFailed:
            guard configuration.arbiter == .fence, farewellHeard == nil else { return [] }
            farewellHeard = text
            return [.withdrawQuestion]
        case .replicaDiscarded, .replicaActivated: return []
        }
    }

    private mutating func restorerFailed() -> [Action] {
        discard("the restore on the backup failed; its own messages say why")
    }

    public mutating func timePassed(now: MonotonicTime) -> [Action] {
        switch phase {
        case .ended: return []
        case .suspecting(let cause, let waitsUntil):
            guard let waitsUntil, now >= waitsUntil else { return [] }
            return leaseIsOver(cause)
        case .plain, .answered, .framed: break
        }
        if let stopOrder, stopOrder.isPrimaryAlive { return stop(stopOrder.text) }
        var actions: [Action] = []
        if detector.isSuspect(at: now), let deadline = detector.deadline {
            switch secondOpinionIsHeard(since: deadline, now: now) {
            case .suspect:
                let silence = detector.silenceNanoseconds(at: now).inMilliseconds
                return linkFailed("no byte from the primary for \(silence) ms", now: now)
            case .ask(let timesBefore):
                actions.append(
                    .askSecondOpinion(
                        silenceNanoseconds: detector.silenceNanoseconds(at: now), timesBefore: timesBefore))
            case .wait: break
            }
        } else {
            secondOpinion?.heard()
        }
        if case .plain = phase { return actions }
        guard heartbeat.isDue(at: now) else { return actions }
        heartbeat.sent(at: now)
        return actions + [.send(reports.heard())]
    }

    /// Without a replica there is nothing that patience could save.
    private mutating func secondOpinionIsHeard(since deadline: MonotonicTime, now: MonotonicTime)
        -> SecondOpinion.Advice
    {
        guard lastEpoch > .none else { return .suspect }
        return secondOpinion?.suspected(
            since: deadline, timeoutNanoseconds: detector.timeoutNanoseconds, now: now) ?? .suspect
    }

    private mutating func announced(_ announcement: Announcement, now: MonotonicTime) -> [Action] {
        guard case .plain = phase, lastEpoch == .none else {
            return linkFailed("an announcement out of place", now: now)
        }
        guard let version = announcement.commonVersion() else {
            return [
                .log(
                    .warning(
                        "the primary's Romulus speaks protocol \(announcement.oldestVersion.rawValue) to"
                            + " \(announcement.newestVersion.rawValue), this one \(ProtocolVersion.first.rawValue) to"
                            + " \(ProtocolVersion.newest.rawValue): going on as with a stock primary; upgrade the older"
                    ))
            ]
        }
        run = announcement.run
        phase = .answered(version)
        heartbeat.sent(at: now)
        let features = announcement.features.intersection(configuration.pageSlots > 0 ? .encodedData : [])
        return [
            .send(
                .answer(
                    version: version, arbiter: configuration.arbiter, features: features,
                    detectTimeoutMilliseconds: UInt32(configuration.detectTimeoutMilliseconds),
                    pageSlots: features.contains(.encodedData) ? UInt32(configuration.pageSlots) : 0))
        ]
    }

    private mutating func epochReceived(streamBytes: UInt64, now: MonotonicTime) -> [Action] {
        if isFramed {
            guard unconfirmedStreamBytes == nil else {
                return linkFailed("an epoch began before the last one's end", now: now)
            }
            unconfirmedStreamBytes = streamBytes
            return []
        }
        return epochCompleted()
    }

    private mutating func received(_ message: Message, now: MonotonicTime) -> [Action] {
        switch message {
        case .epochEnd(let epoch, let streamBytes):
            guard epoch == lastEpoch.next, streamBytes == unconfirmedStreamBytes, !reports.isAcknowledgementDue else {
                return linkFailed("epoch \(epoch.rawValue)'s end does not fit what arrived", now: now)
            }
            unconfirmedStreamBytes = nil
            return epochCompleted()
        case .heartbeat:
            return []
        case .farewell(let reason, let text):
            return farewell(reason, text, now: now)
        case .answer, .acknowledgement, .heard:
            return linkFailed("the primary sent a message that is out of place", now: now)
        }
    }

    private mutating func epochCompleted() -> [Action] {
        lastEpoch = lastEpoch.next
        if isFramed { reports.epochCompleted() }
        var actions = acknowledgeIfDue()
        if lastEpoch.rawValue == 1 {
            if isFramed { detector.timeoutNanoseconds = times.backupDeadlineNanoseconds }
            let limit = detector.timeoutNanoseconds.inMilliseconds
            let what = configuration.arbiter == .none ? "takes over" : "asks the arbiter (\(configuration.arbiter))"
            actions.append(.log(.note("replica ready: \(what) after \(limit) ms without a byte from the primary")))
        }
        return actions
    }

    private mutating func farewell(_ reason: FarewellReason, _ text: String, now: MonotonicTime) -> [Action] {
        switch reason {
        case .protectionEnded, .guestShutDown, .primaryFailed:
            return discard("the primary said farewell: \(text)")
        case .primaryDestroyed:
            return lastEpoch == .none ? discard(text) : failOver(text)
        case .replicaDiscarded, .replicaActivated:
            return linkFailed("the primary sent the backup's farewell", now: now)
        }
    }

    private mutating func linkFailed(_ reason: String, now: MonotonicTime) -> [Action] {
        if lastEpoch == .none { return discard("\(reason), before the first complete checkpoint") }
        return (stopOrder.map { notStopping($0.text) } ?? []) + suspect(reason, now: now)
    }

    private mutating func suspect(_ reason: String, now: MonotonicTime) -> [Action] {
        // Without frames there is no lease to wait for, as with stock; and a host that is off needs none.
        guard isFramed, configuration.arbiter != .fence else { return leaseIsOver(reason) }
        // While nothing is read no deadline runs: what is taken in then has come at some time before.
        let deadline = detector.deadline ?? now + detector.timeoutNanoseconds
        guard now < deadline else { return leaseIsOver(reason) }
        phase = .suspecting(cause: reason, waitsUntil: deadline)
        let next = configuration.arbiter == .none ? "taking over" : "asking the arbiter"
        return [.log(.warning("\(reason): \(next) in \((deadline - now).inMilliseconds) ms"))]
    }

    /// An arbiter's lease may have ended while the primary had its right to run from the link: it is asked only now.
    private mutating func leaseIsOver(_ cause: String) -> [Action] {
        if configuration.arbiter == .none { return failOver(cause) }
        if hasAdminResumed { return failOver("\(cause); the admin said so") }
        phase = .suspecting(cause: cause, waitsUntil: nil)
        return [.log(.warning("\(cause): asking the arbiter (\(configuration.arbiter))")), .askArbiter]
    }

    /// The primary hears of it when libxl has restored the replica (`farewell(afterRestore:)`), and not before: should that
    /// fail, the primary's copy is the only one.
    private mutating func failOver(_ cause: String) -> [Action] {
        canSpeak = if case .plain = phase { false } else { true }
        phase = .ended
        return [.end(.failOver(cause: cause))]
    }

    private mutating func discard(_ cause: String) -> [Action] {
        canSpeak = if case .plain = phase { false } else { true }
        phase = .ended
        return (canSpeak ? [.send(.farewell(.replicaDiscarded, text: cause))] : []) + [.end(.discard(cause: cause))]
    }

    /// What the primary is told after a failover; nil where it would not understand.
    public func farewell(afterRestore isRestored: Bool, cause: String) -> Message? {
        guard canSpeak else { return nil }
        return isRestored
            ? .farewell(.replicaActivated, text: cause)
            : .farewell(.replicaDiscarded, text: "the restore on the backup failed")
    }
}
