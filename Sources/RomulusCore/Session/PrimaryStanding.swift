/// What ends a run, and what the backup is to hear of it.
struct Leaving: Sendable {
    let cause: PrimarySession.Cause
    let farewell: Message
    /// The backup is told when the guest is known to run here, and keeps its replica until then.
    var needsGuest = false

    /// Where the guest cannot run here again (its device model is dead, `xl destroy` is at work) the replica is what is left.
    static func wanted(_ cause: PrimarySession.Cause, telling text: String) -> Leaving {
        Leaving(cause: cause, farewell: .farewell(.protectionEnded, text: text), needsGuest: true)
    }

    static func failed(_ why: String, needsGuest: Bool) -> Leaving {
        Leaving(
            cause: .saveEnded(why), farewell: .farewell(.primaryFailed, text: "checkpointing failed: \(why)"),
            needsGuest: needsGuest)
    }

    static func guest(_ how: PrimarySession.GuestLeave) -> Leaving {
        let cause = PrimarySession.Cause.guestLeft(how)
        let farewell: Message =
            switch how {
            case .destroyed: .farewell(.primaryDestroyed, text: "the primary's copy has been destroyed")
            case .shutDown, .crashed: .farewell(.guestShutDown, text: cause.text)
            case .taken: .farewell(.primaryFailed, text: "the guest is being saved or migrated by somebody else")
            }
        return Leaving(cause: cause, farewell: farewell)
    }
}

/// A run whose link is framed. From the end of the first epoch on there is a replica that could run, and it stands in one of four
/// ways (`PrimarySession`).
struct FramedRun: Sendable {
    enum Standing {
        case protecting
        /// The save is to end, and a guest that it has suspended to run again, its output held: only then is the replica not
        /// needed any more.
        case returning(Leaving)
        /// A farewell is on its way, and the guest goes on here once the backup has answered it.
        case leaving(PrimarySession.Cause)
        /// The replica may be about to run. `cause` is what the run ends with if the guest goes on.
        case frozen(PrimarySession.Cause, isLinkUsable: Bool)
    }

    var heartbeat: HeartbeatTimer
    private(set) var lease: LinkLease
    /// The EPOCH_END of the first epoch has been composed: from here on the backup may have a replica that can run.
    private(set) var isReplicaPossible = false
    private(set) var standing = Standing.protecting
    /// Came while the guest was frozen, or was not said before: the backup hears of it when it is heard again.
    private var unsaid: Leaving?

    init(times: LinkTimes, now: MonotonicTime) {
        heartbeat = HeartbeatTimer(intervalNanoseconds: times.heartbeatNanoseconds, now: now)
        lease = LinkLease(times: times, now: now)
    }

    var isFrozen: Bool { if case .frozen = standing { true } else { false } }
    var awaitsGuest: Bool { if case .returning = standing { true } else { false } }

    var mayEndEpoch: Bool { isReplicaPossible || lease.isDataHeard }

    var watchdogDeadline: MonotonicTime? {
        guard isReplicaPossible, !isFrozen else { return nil }
        return lease.deadline + lease.lengthNanoseconds / 12
    }

    /// When something is due; nil while the guest stands still.
    ///
    /// - Parameter detectorsDeadline: of silence while there is no lease yet.
    func deadline(withoutReplica detectorsDeadline: MonotonicTime?) -> MonotonicTime? {
        if isFrozen { return nil }
        let end = isReplicaPossible ? lease.deadline : detectorsDeadline ?? lease.deadline
        return min(heartbeat.deadline, end)
    }

    mutating func frameComposed(_ frame: PrimarySession.ComposedFrame, at now: MonotonicTime) {
        lease.frameComposed(bytes: frame.bytes, isData: frame.kind == .data, at: now)
        guard frame.kind == .epochEnd, !isReplicaPossible else { return }
        isReplicaPossible = true
        lease.begin(at: now)
    }

    /// - Returns: false for a claim that cannot be true.
    mutating func heard(frames: UInt64, at now: MonotonicTime) -> Bool { lease.heard(frames: frames, at: now) }

    /// The run is to end.
    mutating func leave(_ leaving: Leaving) -> [PrimarySession.Action] {
        let cause = leaving.cause
        switch standing {
        case .protecting where leaving.needsGuest:
            standing = .returning(leaving)
            return [.stopSave, .resumeGuest]
        case .protecting:
            standing = .leaving(cause)
            return [.stopSave, .send(leaving.farewell)]
        case .returning:
            // The guest has left, or must not run before the replica is gone.
            guard !leaving.needsGuest else { return [] }
            standing = .leaving(cause)
            return [.send(leaving.farewell)]
        case .leaving(let own):
            guard cause.isOfGuest, !own.isOfGuest else { return [] }
            standing = .leaving(cause)
            return []
        case .frozen(let first, _):
            // Also a guest that has left waits: what its host makes of it may run, and so may the replica.
            let known = unsaid?.cause ?? first
            let mustNotReturn = !leaving.needsGuest && unsaid?.needsGuest == true
            guard known.isOfLink || mustNotReturn || (cause.isOfGuest && !known.isOfGuest) else { return [] }
            unsaid = leaving
            return [.log(.warning("\(cause.text) while the guest is frozen: the run ends when that is decided"))]
        }
    }

    /// The answer counts where it is waited for: while the guest is frozen whoever decides does so without it.
    ///
    /// - Returns: what was waited with.
    mutating func guestResumed(_ runs: Bool) -> Leaving? {
        guard case .returning(let own) = standing else { return nil }
        standing = runs ? .leaving(own.cause) : .frozen(own.cause, isLinkUsable: true)
        return own
    }

    /// The link is silent or broken.
    mutating func freeze(_ cause: PrimarySession.Cause, isLinkUsable: Bool) {
        switch standing {
        case .frozen(let first, _):
            standing = .frozen(first, isLinkUsable: isLinkUsable)
        case .returning(let own):
            unsaid = own
            standing = .frozen(own.cause, isLinkUsable: isLinkUsable)
        case .leaving(let own):
            standing = .frozen(own, isLinkUsable: isLinkUsable)
        case .protecting:
            standing = .frozen(cause, isLinkUsable: isLinkUsable)
        }
    }

    /// Before anybody has decided.
    mutating func heardAgain(frozenBy cause: PrimarySession.Cause, _ sentEpoch: Epoch) -> [PrimarySession.Action] {
        let heard = "the backup was heard again before its deadline"
        let heartbeat = PrimarySession.Action.send(.heartbeat(sentEpoch))
        if let unsaid {
            self.unsaid = nil
            let told = PrimarySession.Action.log(.note("\(heard): it is told that this run ends"))
            guard unsaid.needsGuest else {
                standing = .leaving(unsaid.cause)
                return [.thawGuest, .stopSave, .send(unsaid.farewell), told]
            }
            standing = .returning(unsaid)
            return [.thawGuest, .stopSave, heartbeat, .resumeGuest, told]
        }
        guard case .backupSilent = cause else {
            standing = .leaving(cause)
            return [.thawGuest, heartbeat, .log(.note("\(heard): the run ends when it has answered"))]
        }
        standing = .protecting
        return [.thawGuest, heartbeat, .log(.note("\(heard): the guest goes on, protected"))]
    }
}

extension PrimarySession.Fate {
    /// What becomes of the guest and of its output.
    func consequences(wasFrozen: Bool, _ arbiter: ArbiterKind) -> [PrimarySession.Action] {
        switch self {
        // Granted is not yet running.
        case .goesOn(.ruledOut) where arbiter == .lease: (wasFrozen ? [.thawGuest] : []) + [.openOutputIfGuestRuns]
        case .goesOn, .hasLeft(.none), .hasLeft(.discarded), .hasLeft(.ruledOut):
            (wasFrozen ? [.thawGuest] : []) + [.openOutput]
        case .yields: (wasFrozen ? [] : [.freezeGuest]) + [.dropOutput]
        case .hasLeft(.unknown): [.dropOutput]
        }
    }
}
