// What the backup's session is told, what it says, and how a run ends.

extension BackupSession {
    public struct Configuration: Sendable {
        public var detectTimeoutMilliseconds: Int
        /// How long a stock primary, which has no heartbeats, may be silent; also any primary before the first
        /// complete checkpoint.
        public var patienceNanoseconds: Int64
        public var arbiter: ArbiterKind
        /// How many pages it can keep for ENCODED_DATA.
        public var pageSlots: Int
        /// Somebody is asked before a silent primary is suspected.
        public var hasSecondOpinion: Bool

        public init(
            detectTimeoutMilliseconds: Int, patienceNanoseconds: Int64, arbiter: ArbiterKind, pageSlots: Int = 0,
            hasSecondOpinion: Bool = false
        ) {
            self.pageSlots = pageSlots
            self.hasSecondOpinion = hasSecondOpinion
            self.detectTimeoutMilliseconds = detectTimeoutMilliseconds
            self.patienceNanoseconds = patienceNanoseconds
            self.arbiter = arbiter
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
        /// A frame has been taken in, of whatever kind; `count` of them so far.
        case frameTaken(bytes: Int, count: UInt64)
        case messageSent
        case linkEnded
        case linkBroken(String)
        /// An epoch does not fit into the memory that there is for one.
        case epochTooLarge(limitBytes: Int)
        /// libxl or its helper has gone away from its end: there is no replica any more.
        case restorerFailed
        case verdict(ArbiterVerdict)
        /// The answer to `withdrawQuestion`, where nothing was done on this side's behalf.
        case questionWithdrawn
        case adminSaid(AdminWord)
        /// This host's admin, or its shutdown, wants the receiver to end.
        case stopRequested(signalName: String)
        /// The answer to `askSecondOpinion`; 0 agrees.
        case secondOpinion(patienceNanoseconds: Int64)
    }

    public enum Action: Equatable, Sendable {
        case send(Message)
        case askArbiter
        /// What the arbiter has begun is to be finished; report the verdict, or `questionWithdrawn`.
        case withdrawQuestion
        case askSecondOpinion(silenceNanoseconds: Int64, timesBefore: Int)
        case log(LogLine)
        case end(End)
    }

    public enum End: Equatable, Sendable {
        case failOver(cause: String)
        case discard(cause: String)
    }
}
