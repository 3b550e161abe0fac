/// What the primary knows of the link and decides about it: pure, driven by events, performing nothing.
///
///     undecided ──answer──▶ welcome ──FRAMES_BEGIN written──▶ framed
///         └──first CHECKPOINT──▶ stock                           │
///     any ──end of the run──▶ ended  ◀───────────────────────────┘
public struct PrimarySession: Sendable {
    public struct Configuration: Sendable {
        /// How long the link may stand still before the first acknowledgement, or with a stock backup.
        public var patienceNanoseconds: Int64
        /// Without a back channel nobody can answer (`-b`): the stream is stock from its first byte to its last.
        public var hasBackChannel: Bool

        public init(patienceNanoseconds: Int64, hasBackChannel: Bool) {
            self.patienceNanoseconds = patienceNanoseconds
            self.hasBackChannel = hasBackChannel
        }
    }

    public enum Event: Equatable, Sendable {
        /// Bytes of any kind arrived on the back channel.
        case heard
        case received(Message)
        /// Bytes were written to the link, or nothing waits to be written.
        case linkMoved
        case framesBegun
        /// The first CHECKPOINT record has left, so no private record may follow in a stock stream.
        case firstCheckpointSent
        /// All of an epoch, CHECKPOINT_END (and EPOCH_END) included, has been written.
        case epochSent
        case linkBroken(String)
        case stopRequested(signalName: String)
        case guestLeft(GuestLeave)
        /// The stock save is over, for whatever reason.
        case saveEnded
    }

    public enum Action: Equatable, Sendable {
        /// Write FRAMES_BEGIN at the next boundary between libxc records; report `framesBegun`.
        case beginFrames(ProtocolVersion)
        case send(Message)
        /// The backup has all of this epoch (or, with a stock backup, the link has).
        case commit(Epoch)
        case log(LogLine)
        /// The run is over; nothing more of the stream is to be sent.
        case end(End)
    }

    /// How a guest can be gone without any failure.
    public enum GuestLeave: Equatable, Sendable {
        /// Powered off, rebooted or crashed.
        case shutDown
        case destroyed
    }

    /// Why a run ended, as far as the link can know.
    public enum End: Equatable, Sendable {
        case saveEnded
        case stopRequested(signalName: String)
        case guestLeft(GuestLeave)
        case linkBroken(String)
        case backupSilent(milliseconds: Int)
        case backupLeft(FarewellReason, text: String)
    }

    private enum Phase {
        case undecided
        case welcome(LinkTimes)
        case framed(LinkTimes, HeartbeatTimer)
        case stock
        /// A backup that is still to hear the last words must not take the silence before them for a failure.
        case ended(HeartbeatTimer?)
    }

    private let configuration: Configuration
    private var phase = Phase.undecided
    private var detector: FailureDetector
    private var sentEpoch = Epoch.none
    /// The run ends with the epoch that is under way.
    private var stopSignalName: String?
    public private(set) var acknowledgedEpoch = Epoch.none

    public init(configuration: Configuration, now: MonotonicTime) {
        self.configuration = configuration
        detector = FailureDetector(timeoutNanoseconds: configuration.patienceNanoseconds, now: now)
        if !configuration.hasBackChannel { phase = .stock }
    }

    public var isFramed: Bool { if case .framed = phase { true } else { false } }
    public var hasEnded: Bool { if case .ended = phase { true } else { false } }

    /// When `timePassed` must be called at the latest.
    public var deadline: MonotonicTime? {
        switch phase {
        case .ended(let heartbeat): heartbeat?.deadline
        case .framed(_, let heartbeat): min(heartbeat.deadline, detector.deadline ?? heartbeat.deadline)
        case .undecided, .welcome, .stock: detector.deadline
        }
    }

    public mutating func handle(_ event: Event, now: MonotonicTime) -> [Action] {
        if hasEnded { return [] }
        switch event {
        case .heard:
            detector.heard(at: now)
            return []
        case .received(let message):
            return received(message, now: now)
        case .linkMoved:
            linkMoved(now: now)
            return []
        case .framesBegun:
            guard case .welcome(let times) = phase else { return [] }
            phase = .framed(
                times, HeartbeatTimer(intervalNanoseconds: times.heartbeatNanoseconds, now: now))
            detector.heard(at: now)
            return []
        case .firstCheckpointSent:
            return firstCheckpointSent(now: now)
        case .epochSent:
            return epochSent()
        case .linkBroken(let reason):
            return end(.linkBroken(reason))
        case .stopRequested(let signalName):
            return stopRequested(signalName)
        case .guestLeft(let leave):
            return guestLeft(leave)
        case .saveEnded:
            return end(.saveEnded)
        }
    }

    /// Sends what is due; ends the run when the backup has been silent for too long.
    public mutating func timePassed(now: MonotonicTime) -> [Action] {
        if !hasEnded, detector.isSuspect(at: now) {
            return end(.backupSilent(milliseconds: detector.silenceNanoseconds(at: now).inMilliseconds))
        }
        switch phase {
        case .framed(let times, var heartbeat) where heartbeat.isDue(at: now):
            heartbeat.sent(at: now)
            phase = .framed(times, heartbeat)
            return [.send(.heartbeat(sentEpoch))]
        case .ended(var heartbeat?) where heartbeat.isDue(at: now):
            heartbeat.sent(at: now)
            phase = .ended(heartbeat)
            return [.send(.heartbeat(sentEpoch))]
        default:
            return []
        }
    }

    private mutating func received(_ message: Message, now: MonotonicTime) -> [Action] {
        switch (message, phase) {
        case (.answer(let version, _, let detectTimeout), .undecided):
            guard version >= .first, version <= .newest, detectTimeout >= 1, detectTimeout <= 3_600_000 else {
                return end(.linkBroken("the backup's answer makes no sense"))
            }
            phase = .welcome(LinkTimes(detectTimeoutMilliseconds: Int(detectTimeout)))
            return [.beginFrames(version)]
        case (.acknowledgement(let epoch), .framed(let times, _)):
            guard epoch == acknowledgedEpoch.next, epoch <= sentEpoch else {
                return end(.linkBroken("the backup acknowledged epoch \(epoch.rawValue) out of turn"))
            }
            // From now on the replica can take over, so from now on each side keeps to its deadline.
            detector.timeoutNanoseconds = times.primaryDeadlineNanoseconds
            return committed(epoch)
        case (.heartbeat, .welcome), (.heartbeat, .framed), (.answer, .stock):
            return []
        case (.farewell(let reason, let text), _):
            return end(.backupLeft(reason, text: text))
        default:
            return end(.linkBroken("the backup sent a message that is out of place"))
        }
    }

    private mutating func linkMoved(now: MonotonicTime) {
        switch phase {
        case .framed(let times, var heartbeat):
            heartbeat.sent(at: now)
            phase = .framed(times, heartbeat)
        case .undecided, .welcome, .stock:
            detector.heard(at: now)
        case .ended:
            break
        }
    }

    private mutating func firstCheckpointSent(now: MonotonicTime) -> [Action] {
        switch phase {
        case .undecided, .welcome:
            phase = .stock
            return [
                .log(
                    .warning(
                        "the backup did not answer as Romulus: checkpoints are not acknowledged and a power cut of this host"
                            + " is noticed only by ssh; install and activate Romulus there, then start xl remus again"))
            ]
        case .framed, .stock, .ended:
            return []
        }
    }

    private mutating func epochSent() -> [Action] {
        sentEpoch = sentEpoch.next
        guard case .stock = phase else { return [] }
        let actions = committed(sentEpoch)
        guard let stopSignalName else { return actions }
        // The end first: the helper must not hear of the commit and begin another epoch.
        return end(.stopRequested(signalName: stopSignalName)) + actions
    }

    /// A stock backup understands a farewell only between two epochs (`StockFarewell`).
    private mutating func stopRequested(_ signalName: String) -> [Action] {
        if case .stock = phase, configuration.hasBackChannel, sentEpoch > .none {
            stopSignalName = signalName
            return []
        }
        return end(.stopRequested(signalName: signalName))
    }

    private mutating func committed(_ epoch: Epoch) -> [Action] {
        let isFirst = acknowledgedEpoch == .none
        acknowledgedEpoch = epoch
        guard isFirst else { return [.commit(epoch)] }
        let how = isFramed ? "each epoch is acknowledged by the backup" : "stock stream, epochs are not acknowledged"
        return [.commit(epoch), .log(.note("protected: \(how)"))]
    }

    /// The backup hears it at once: libxl may wait a minute for a guest that will never suspend.
    private mutating func guestLeft(_ leave: GuestLeave) -> [Action] {
        let farewell: Message =
            switch leave {
            case .shutDown: .farewell(.guestShutDown, text: "the guest has shut down")
            case .destroyed: .farewell(.primaryDestroyed, text: "the primary's copy has been destroyed")
            }
        return (isFramed ? [.send(farewell)] : []) + end(.guestLeft(leave))
    }

    private mutating func end(_ end: End) -> [Action] {
        switch (end, phase) {
        case (.saveEnded, .framed(_, let heartbeat)), (.stopRequested, .framed(_, let heartbeat)):
            phase = .ended(heartbeat)
        default:
            phase = .ended(nil)
        }
        return [.end(end)]
    }
}

/// One line for the admin.
public enum LogLine: Equatable, Sendable {
    case note(String)
    case warning(String)
    case error(String)

    public var text: String {
        switch self {
        case .note(let text), .warning(let text), .error(let text): text
        }
    }
}
