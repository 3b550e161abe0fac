/// What the backup knows of the primary, and when it takes over: pure, driven by events, performing nothing.
///
/// Until the first complete checkpoint there is nothing to take over, and every end discards the replica.
public struct BackupSession: Sendable {
    public struct Configuration: Sendable {
        public var detectTimeoutMilliseconds: Int
        /// How long a stock primary, which has no heartbeats, may be silent; also any primary before the first
        /// complete checkpoint.
        public var patienceNanoseconds: Int64

        public init(detectTimeoutMilliseconds: Int, patienceNanoseconds: Int64) {
            self.detectTimeoutMilliseconds = detectTimeoutMilliseconds
            self.patienceNanoseconds = patienceNanoseconds
        }
    }

    public enum Event: Equatable, Sendable {
        /// Bytes of any kind arrived.
        case heard
        case announced(Announcement)
        case framesBegun(ProtocolVersion)
        /// A complete, checked epoch is in memory. `streamBytes` counts what DATA frames held since the last one.
        case epochReceived(streamBytes: UInt64)
        case received(Message)
        case messageSent
        case linkEnded
        case linkBroken(String)
        /// libxl or its helper has gone away from its end: there is no replica any more.
        case restorerFailed
    }

    public enum Action: Equatable, Sendable {
        case send(Message)
        case log(LogLine)
        case end(End)
    }

    public enum End: Equatable, Sendable {
        case failOver(cause: String)
        case discard(cause: String)
    }

    private enum Phase {
        /// A stock primary, or one that has not announced itself yet.
        case plain
        /// The answer has been given; frames have not begun.
        case answered(ProtocolVersion)
        case framed
        case ended
    }

    private let configuration: Configuration
    private let times: LinkTimes
    private var phase = Phase.plain
    private var detector: FailureDetector
    private var heartbeat: HeartbeatTimer
    /// Complete in memory, not yet confirmed by the primary's EPOCH_END.
    private var unconfirmedStreamBytes: UInt64?
    /// The last epoch that is complete here, and acknowledged where the primary listens.
    public private(set) var lastEpoch = Epoch.none

    public init(configuration: Configuration, now: MonotonicTime) {
        self.configuration = configuration
        times = LinkTimes(detectTimeoutMilliseconds: configuration.detectTimeoutMilliseconds)
        detector = FailureDetector(timeoutNanoseconds: configuration.patienceNanoseconds, now: now)
        heartbeat = HeartbeatTimer(intervalNanoseconds: times.heartbeatNanoseconds, now: now)
    }

    public var isFramed: Bool { if case .framed = phase { true } else { false } }
    public var hasEnded: Bool { if case .ended = phase { true } else { false } }

    public var deadline: MonotonicTime? {
        switch phase {
        case .ended: nil
        case .plain: detector.deadline
        case .answered, .framed: min(heartbeat.deadline, detector.deadline ?? heartbeat.deadline)
        }
    }

    /// While nothing is read, silence is no evidence.
    public mutating func setListening(_ listens: Bool, now: MonotonicTime) {
        detector.setListening(listens, at: now)
    }

    public mutating func handle(_ event: Event, now: MonotonicTime) -> [Action] {
        if hasEnded { return [] }
        switch event {
        case .heard:
            detector.heard(at: now)
            return []
        case .announced(let announcement):
            return announced(announcement, now: now)
        case .framesBegun(let version):
            guard case .answered(version) = phase else { return linkFailed("frames begin without an answer") }
            phase = .framed
            return []
        case .epochReceived(let streamBytes):
            return epochReceived(streamBytes: streamBytes)
        case .received(let message):
            return received(message)
        case .messageSent:
            heartbeat.sent(at: now)
            return []
        case .linkEnded:
            return linkFailed("the link to the primary ended without a farewell")
        case .linkBroken(let reason):
            return linkFailed(reason)
        case .restorerFailed:
            let text = "the restore on the backup failed; its own messages say why"
            return end(.discard(cause: text), farewell: .farewell(.replicaDiscarded, text: text))
        }
    }

    public mutating func timePassed(now: MonotonicTime) -> [Action] {
        if hasEnded { return [] }
        if detector.isSuspect(at: now) {
            return linkFailed("no byte from the primary for \(detector.silenceNanoseconds(at: now).inMilliseconds) ms")
        }
        switch phase {
        case .answered, .framed:
            guard heartbeat.isDue(at: now) else { return [] }
            heartbeat.sent(at: now)
            return [.send(.heartbeat(lastEpoch))]
        case .plain, .ended:
            return []
        }
    }

    private mutating func announced(_ announcement: Announcement, now: MonotonicTime) -> [Action] {
        guard case .plain = phase, lastEpoch == .none else { return linkFailed("an announcement out of place") }
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
        phase = .answered(version)
        heartbeat.sent(at: now)
        return [
            .send(
                .answer(
                    version: version, features: announcement.features.intersection([]),
                    detectTimeoutMilliseconds: UInt32(configuration.detectTimeoutMilliseconds)))
        ]
    }

    private mutating func epochReceived(streamBytes: UInt64) -> [Action] {
        if isFramed {
            guard unconfirmedStreamBytes == nil else { return linkFailed("an epoch began before the last one's end") }
            unconfirmedStreamBytes = streamBytes
            return []
        }
        return epochCompleted()
    }

    private mutating func received(_ message: Message) -> [Action] {
        switch message {
        case .epochEnd(let epoch, let streamBytes):
            guard epoch == lastEpoch.next, streamBytes == unconfirmedStreamBytes else {
                return linkFailed("epoch \(epoch.rawValue)'s end does not fit what arrived")
            }
            unconfirmedStreamBytes = nil
            return epochCompleted()
        case .heartbeat:
            return []
        case .farewell(let reason, let text):
            return farewell(reason, text)
        case .answer, .acknowledgement:
            return linkFailed("the primary sent a message that is out of place")
        }
    }

    private mutating func epochCompleted() -> [Action] {
        lastEpoch = lastEpoch.next
        var actions: [Action] = []
        if isFramed { actions.append(.send(.acknowledgement(lastEpoch))) }
        if lastEpoch.rawValue == 1 {
            if isFramed { detector.timeoutNanoseconds = times.backupDeadlineNanoseconds }
            let limit = detector.timeoutNanoseconds.inMilliseconds
            actions.append(.log(.note("replica ready: takes over after \(limit) ms without a byte from the primary")))
        }
        return actions
    }

    private mutating func farewell(_ reason: FarewellReason, _ text: String) -> [Action] {
        switch reason {
        case .protectionEnded, .guestShutDown, .primaryFailed:
            let cause = "the primary said farewell: \(text)"
            return end(.discard(cause: cause), farewell: .farewell(.replicaDiscarded, text: cause))
        case .primaryDestroyed:
            return linkFailed(text)
        case .replicaDiscarded, .replicaActivated:
            return linkFailed("the primary sent the backup's farewell")
        }
    }

    private mutating func linkFailed(_ reason: String) -> [Action] {
        if lastEpoch == .none {
            let cause = "\(reason), before the first complete checkpoint"
            return end(.discard(cause: cause), farewell: .farewell(.replicaDiscarded, text: cause))
        }
        return end(.failOver(cause: reason), farewell: .farewell(.replicaActivated, text: reason))
    }

    private mutating func end(_ end: End, farewell: Message) -> [Action] {
        let canSpeak =
            switch phase {
            case .answered, .framed: true
            case .plain, .ended: false
            }
        phase = .ended
        return (canSpeak ? [.send(farewell)] : []) + [.end(end)]
    }
}
