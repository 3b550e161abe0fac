/// What the primary knows of the link and decides about its guest: pure, driven by events, performing nothing.
///
///     undecided ──answer──▶ welcome ──FRAMES_BEGIN written──▶ framed
///         └──first CHECKPOINT──▶ stock                           │
///     any ──end of the run──▶ ended  ◀───────────────────────────┘
///
/// From the end of the first epoch on there is a replica that could run, so a framed run stands in one of four ways:
///
///     protecting ──the run is to end──▶ returning ──the guest runs here──▶ leaving ──the replica is gone──▶ the guest goes on
///          │  ▲                            │  ▲ └──it cannot──▶ yields        │
///       the lease ends, or the link     the same                           the same
///          ▼  │                            ▼  │ the backup was heard in time after all
///        frozen ──a verdict, the backup's farewell, or the admin's word──▶ the guest goes on, or yields
public struct PrimarySession: Sendable {
    private enum Phase {
        case undecided
        case welcome(LinkTimes)
        case framed(FramedRun)
        case stock
        case ended
    }

    private let configuration: Configuration
    private var phase = Phase.undecided
    /// Of a link without leases: before there is a replica, and with a stock backup.
    private var detector: FailureDetector
    private var suspendedEpoch = Epoch.none
    private var sentEpoch = Epoch.none
    /// Why the run ends with the epoch that is under way.
    private var stopCause: Cause?
    /// The guest has left by itself, or with somebody else.
    private var guestsLeave: Leaving?
    public private(set) var acknowledgedEpoch = Epoch.none
    private var committedEpoch = Epoch.none

    public init(configuration: Configuration, now: MonotonicTime) {
        self.configuration = configuration
        detector = FailureDetector(timeoutNanoseconds: configuration.patienceNanoseconds, now: now)
        if !configuration.hasBackChannel { phase = .stock }
    }

    public var isFramed: Bool { if case .framed = phase { true } else { false } }
    public var hasEnded: Bool { if case .ended = phase { true } else { false } }

    private var framed: FramedRun? { if case .framed(let framed) = phase { framed } else { nil } }
    private var isReplicaPossible: Bool { framed?.isReplicaPossible ?? false }

    public var isFrozen: Bool { framed?.isFrozen ?? false }

    /// The run waits for the answer to `resumeGuest`. At no other time is a guest resumed for it.
    public var awaitsGuest: Bool { framed?.awaitsGuest ?? false }

    /// DATA may be composed: what is under way is not so much that it would hold a sign of life back.
    public var hasRoomOnLink: Bool { framed?.lease.hasRoom ?? true }

    /// EPOCH_END may be composed. The first one begins the lease, so nothing may stand before it in a queue.
    public var mayEndEpoch: Bool { framed?.mayEndEpoch ?? true }

    /// By when the guest must stand still whoever sees to it; nil where it need not, or does. Later than `deadline` by a
    /// twelfth of the lease, which leaves as much of its quarter.
    public var watchdogDeadline: MonotonicTime? { framed?.watchdogDeadline }

    /// When `timePassed` must be called at the latest.
    public var deadline: MonotonicTime? {
        switch phase {
        case .ended: nil
        case .undecided, .welcome, .stock: detector.deadline
        case .framed(let framed): framed.deadline(withoutReplica: detector.deadline)
        }
    }

    // MARK: What happens

    /// A frame was composed, in the order in which frames go onto the link.
    public mutating func frameComposed(_ frame: ComposedFrame, now: MonotonicTime) {
        guard case .framed(var framed) = phase else { return }
        framed.frameComposed(frame, at: now)
        phase = .framed(framed)
    }

    public mutating func handle(_ event: Event, now: MonotonicTime) -> [Action] {
        if hasEnded { return [] }
        // A thread that was not run for a while finds events that are older than its deadline: the deadline first, so
        // that nothing is released or begun on the strength of an old message.
        let overdue = suspectIfOverdue(now: now)
        if hasEnded { return overdue }
        return overdue + handleInTime(event, now: now)
    }

    /// Sends what is due; freezes the guest, or ends the run, when the backup has not heard for too long.
    public mutating func timePassed(now: MonotonicTime) -> [Action] {
        let overdue = suspectIfOverdue(now: now)
        guard case .framed(var framed) = phase, !isFrozen, framed.heartbeat.isDue(at: now) else { return overdue }
        framed.heartbeat.sent(at: now)
        phase = .framed(framed)
        return overdue + [.send(.heartbeat(sentEpoch))]
    }

    private mutating func suspectIfOverdue(now: MonotonicTime) -> [Action] {
        switch phase {
        case .ended: return []
        case .framed(let framed) where framed.isReplicaPossible:
            guard !isFrozen, now >= framed.lease.deadline else { return [] }
            let silence = now - framed.lease.deadline + framed.lease.lengthNanoseconds
            return suspect(.backupSilent(milliseconds: silence.inMilliseconds), isLinkUsable: true)
        case .undecided, .welcome, .stock, .framed:
            guard detector.isSuspect(at: now) else { return [] }
            return suspect(
                .backupSilent(milliseconds: detector.silenceNanoseconds(at: now).inMilliseconds), isLinkUsable: true)
        }
    }

    private mutating func handleInTime(_ event: Event, now: MonotonicTime) -> [Action] {
        switch event {
        case .heard:
            detector.heard(at: now)
            return []
        case .received(let message): return received(message, now: now)
        case .linkMoved:
            linkMoved(now: now)
            return []
        case .framesBegun:
            guard case .welcome(let times) = phase else { return [] }
            phase = .framed(FramedRun(times: times, now: now))
            detector.heard(at: now)
            return []
        case .guestSuspended:
            suspendedEpoch = suspendedEpoch.next
            return [.holdOutput(suspendedEpoch)]
        case .firstCheckpointSent: return firstCheckpointSent()
        case .epochSent: return epochSent()
        case .epochPutOff:
            // A stop that waits for an epoch's end would wait for the admin.
            guard case .stock = phase, let stopCause else { return [] }
            return end(stopCause, .goesOn(.unknown))
        case .linkBroken(let reason): return suspect(.linkBroken(reason), isLinkUsable: false)
        case .stopRequested(let signalName): return stopRequested(signalName)
        case .guestLeft(let leave): return guestLeft(leave)
        case .replicaLacks(let what):
            return stop(.wanted(.replicaLacks(what), telling: "the guest is no longer as it was: \(what)"))
        case .saveEnded(let why): return leave(.failed(why, needsGuest: true))
        case .outputUnheld(let why): return leave(.failed(why, needsGuest: false))
        case .guestResumed(let runs): return guestResumed(runs)
        case .verdict(let verdict): return decided(verdict)
        case .adminSaid(let word): return adminSaid(word)
        }
    }

    // MARK: The backup's messages

    private mutating func received(_ message: Message, now: MonotonicTime) -> [Action] {
        switch (message, phase) {
        case (.answer(let version, let arbiter, let features, let detectTimeout, let slots), .undecided):
            let terms = LinkTerms(version: version, pageSlots: features.contains(.encodedData) ? Int(slots) : 0)
            return answered(terms, arbiter, detectTimeoutMilliseconds: detectTimeout)
        case (.acknowledgement(let epoch, let frames), .framed):
            guard epoch == acknowledgedEpoch.next, epoch <= sentEpoch else {
                return suspect(
                    .linkBroken("the backup acknowledged epoch \(epoch.rawValue) out of turn"), isLinkUsable: false)
            }
            acknowledgedEpoch = epoch
            return heard(frames: frames, now: now)
        case (.heard(let frames), .framed):
            return heard(frames: frames, now: now)
        case (.heard, .welcome), (.answer, .stock), (.heard, .stock):
            return []
        case (.farewell(let reason, let text), _):
            return backupLeft(reason, text)
        default:
            return suspect(.linkBroken("the backup sent a message that is out of place"), isLinkUsable: false)
        }
    }

    private mutating func answered(
        _ terms: LinkTerms, _ arbiter: ArbiterKind, detectTimeoutMilliseconds: UInt32
    ) -> [Action] {
        guard terms.version >= .first, terms.version <= .newest, (1...3_600_000).contains(detectTimeoutMilliseconds)
        else {
            return suspect(.linkBroken("the backup's answer makes no sense"), isLinkUsable: false)
        }
        guard arbiter == configuration.arbiter else {
            return end(
                .refused(
                    "the hosts have different arbiters (here \(configuration.arbiter), on the backup \(arbiter)): set"
                        + " the same `arbiter' in /etc/xen/romulus.conf on both"), .goesOn(.none))
        }
        phase = .welcome(LinkTimes(detectTimeoutMilliseconds: Int(detectTimeoutMilliseconds)))
        return [.beginFrames(terms)]
    }

    private mutating func heard(frames: UInt64, now: MonotonicTime) -> [Action] {
        guard case .framed(var framed) = phase else { return [] }
        guard framed.heard(frames: frames, at: now) else {
            return suspect(.linkBroken("the backup has heard what was never sent"), isLinkUsable: false)
        }
        var actions: [Action] = []
        if case .frozen(let cause, isLinkUsable: true) = framed.standing {
            // Once an arbiter has been asked, only its verdict counts.
            guard configuration.arbiter == .none, now < framed.lease.deadline else {
                phase = .framed(framed)
                return []
            }
            framed.heartbeat.sent(at: now)
            actions = framed.heardAgain(frozenBy: cause, sentEpoch)
        }
        phase = .framed(framed)
        return isFrozen ? actions : actions + commitAcknowledged()
    }

    private mutating func commitAcknowledged() -> [Action] {
        acknowledgedEpoch > committedEpoch ? committed(acknowledgedEpoch) : []
    }

    private mutating func backupLeft(_ reason: FarewellReason, _ text: String) -> [Action] {
        switch reason {
        case .replicaActivated:
            return end(.backupLeft(text: text), .yields("the replica runs on the backup"))
        case .replicaDiscarded:
            if let guestsLeave { return end(guestsLeave.cause, .hasLeft(.discarded)) }
            guard case .framed(let framed) = phase, case .leaving(let own) = framed.standing else {
                return end(.backupLeft(text: text), .goesOn(.discarded))
            }
            return end(own, .goesOn(.discarded))
        case .protectionEnded, .guestShutDown, .primaryFailed, .primaryDestroyed:
            return suspect(.linkBroken("the backup sent the primary's farewell"), isLinkUsable: false)
        }
    }

    // MARK: Epochs

    private mutating func linkMoved(now: MonotonicTime) {
        switch phase {
        case .framed(var framed):
            framed.heartbeat.sent(at: now)
            phase = .framed(framed)
        case .undecided, .welcome, .stock:
            detector.heard(at: now)
        case .ended:
            break
        }
    }

    private mutating func firstCheckpointSent() -> [Action] {
        switch phase {
        case .undecided, .welcome:
            phase = .stock
            let what =
                "the backup did not answer as Romulus: checkpoints are not acknowledged, and both copies may run after a"
                + " failure; install and activate Romulus there"
            guard configuration.isUnsafeAccepted else {
                return end(.refused("\(what) (-F accepts this)"), .goesOn(.none))
            }
            return [.log(.warning(what))]
        case .framed, .stock, .ended:
            return []
        }
    }

    private mutating func epochSent() -> [Action] {
        sentEpoch = sentEpoch.next
        guard case .stock = phase else { return [] }
        acknowledgedEpoch = sentEpoch
        let actions = committed(sentEpoch)
        guard let stopCause else { return actions }
        // The stop first: the helper must not hear of the commit and begin another epoch.
        return [.stopSave] + actions + end(stopCause, .goesOn(.unknown))
    }

    /// The output before the commit: the helper begins the next epoch when it hears of it, and sch_plug remembers only
    /// one epoch that is closed and not released.
    private mutating func committed(_ epoch: Epoch) -> [Action] {
        let isFirst = committedEpoch == .none
        committedEpoch = epoch
        let actions: [Action] = [.releaseOutput(epoch), .commit(epoch)]
        guard isFirst else { return actions }
        let how = isFramed ? "each epoch is acknowledged by the backup" : "stock stream, epochs are not acknowledged"
        return actions + [.log(.note("protected: \(how)"))]
    }

    // MARK: Leaving

    private mutating func stopRequested(_ signalName: String) -> [Action] {
        if isFrozen { return [.log(.warning("\(signalName) decides nothing while the guest is frozen: \(whatToSay)"))] }
        return stop(
            .wanted(
                .stopRequested(signalName: signalName),
                telling: "protection was ended by \(signalName); the guest goes on at the primary"))
    }

    private mutating func stop(_ leaving: Leaving) -> [Action] {
        if case .stock = phase, configuration.hasBackChannel, sentEpoch > .none {
            // A stock backup understands a farewell only between two epochs (`StockFarewell`).
            stopCause = stopCause ?? leaving.cause
            return []
        }
        return leave(leaving)
    }

    /// The backup hears it at once: libxl may take its time.
    private mutating func guestLeft(_ how: GuestLeave) -> [Action] {
        let leaving = Leaving.guest(how)
        if how == .destroyed { return guestDestroyed(leaving) }
        guestsLeave = guestsLeave ?? leaving
        return leave(leaving)
    }

    private mutating func guestDestroyed(_ leaving: Leaving) -> [Action] {
        // By whoever had it: its replica would be a second copy, or one from before its end.
        if let guestsLeave {
            let told: [Action] = isFrozen ? [.send(guestsLeave.farewell)] : []
            return told + end(guestsLeave.cause, fateWithoutWord(of: guestsLeave.cause))
        }
        return (isFramed ? [.send(leaving.farewell)] : []) + end(leaving.cause, fateWithoutWord(of: leaving.cause))
    }

    private mutating func leave(_ leaving: Leaving) -> [Action] {
        let cause = leaving.cause
        guard case .framed(var framed) = phase else { return end(cause, fateWithoutWord(of: cause)) }
        guard framed.isReplicaPossible else {
            return [.send(leaving.farewell)] + end(cause, fateWithoutWord(of: cause))
        }
        defer { phase = .framed(framed) }
        return framed.leave(leaving)
    }

    private mutating func guestResumed(_ runs: Bool) -> [Action] {
        guard case .framed(var framed) = phase, let own = framed.guestResumed(runs) else { return [] }
        phase = .framed(framed)
        if runs { return [.send(own.farewell)] }
        let text = "\(own.cause.text), and the guest cannot go on at the primary"
        return [.freezeGuest, .send(.farewell(.primaryDestroyed, text: text))]
            + end(own.cause, .yields("it cannot go on here"))
    }

    private func fateWithoutWord(of cause: Cause) -> Fate {
        let replica = !isReplicaPossible && sentEpoch == .none ? Replica.none : .unknown
        return cause.isOfGuest ? .hasLeft(replica) : .goesOn(replica)
    }

    // MARK: Who goes on

    /// The link is silent or broken. Where a replica may run, the guest here must not until somebody has decided.
    private mutating func suspect(_ cause: Cause, isLinkUsable: Bool) -> [Action] {
        guard case .framed(var framed) = phase, framed.isReplicaPossible else {
            return end(cause, fateWithoutWord(of: cause))
        }
        let wasFrozen = framed.isFrozen
        framed.freeze(cause, isLinkUsable: isLinkUsable)
        phase = .framed(framed)
        if wasFrozen { return [] }
        let frozen = "\(cause.text): the guest here is frozen and its output held"
        guard configuration.arbiter != .none else {
            return [.freezeGuest, .log(.warning("\(frozen), because the replica may take over; \(whatToSay)"))]
        }
        return [
            .freezeGuest, .log(.warning("\(frozen) until the arbiter (\(configuration.arbiter)) has decided")),
            .askArbiter,
        ]
    }

    private var whatToSay: String {
        "look at the backup: if the guest runs there, `romulus yield \(configuration.guest)' here; if it cannot,"
            + " `romulus resume \(configuration.guest)' here"
    }

    private mutating func decided(_ verdict: ArbiterVerdict, byAdmin isAdmins: Bool = false) -> [Action] {
        guard case .framed(let framed) = phase, case .frozen(let cause, let isLinkUsable) = framed.standing else {
            return []
        }
        switch verdict {
        case .granted(let why):
            // A backup that only stood still may come back to this, and is to discard its replica.
            let farewell = Message.farewell(.protectionEnded, text: "the guest goes on at the primary: \(why)")
            let told: [Action] = isLinkUsable ? [.send(guestsLeave?.farewell ?? farewell)] : []
            if let guestsLeave { return told + end(guestsLeave.cause, .hasLeft(.ruledOut(why))) }
            // etcd keeps "granted" and "runs" apart, and the backup hears of the second there.
            let isHeardThere = configuration.arbiter == .lease && !isAdmins
            return (isHeardThere ? [] : told) + end(cause, .goesOn(.ruledOut(why)))
        case .refused(let why):
            return end(cause, .yields(why))
        }
    }

    private mutating func adminSaid(_ word: AdminWord) -> [Action] {
        switch word {
        case .resume: decided(.granted("the admin said so"), byAdmin: true)
        case .yield: decided(.refused("the admin said so"), byAdmin: true)
        }
    }

    /// What becomes of the guest and of its output comes before the news of it.
    private mutating func end(_ cause: Cause, _ fate: Fate) -> [Action] {
        let wasFrozen = isFrozen
        phase = .ended
        return [.stopSave] + fate.consequences(wasFrozen: wasFrozen, configuration.arbiter)
            + [.end(End(cause: cause, fate: fate))]
    }
}
