import RomulusCore

// What the backup's relay is given, and what it gives back.

extension BackupRelay {
    public struct Configuration: Sendable {
        public var guest: String
        public var session: BackupSession.Configuration
        /// The most that one epoch may take of memory; three are kept at a time.
        public var epochLimitBytes: Int
        public var farewellNanoseconds: Int64 = 1_000_000_000
        /// Of the relay's thread; 0 is none.
        public var realtimePriority: Int

        public init(
            guest: String, session: BackupSession.Configuration, epochLimitBytes: Int, realtimePriority: Int = 0
        ) {
            self.guest = guest
            self.session = session
            self.epochLimitBytes = epochLimitBytes
            self.realtimePriority = realtimePriority
        }
    }

    /// The world beside the link. What is nil is not there.
    public struct Ports {
        /// Made when the primary has announced itself, by the name of its run.
        public var arbiter: (_ run: UInt64) -> ArbiterDesk?
        public var admin: AdminSocket?
        /// Goes with `BackupSession.Configuration.hasSecondOpinion`.
        public var suspicion: SuspicionPlugins?
        public var sinks: EpochSinks
        public var metrics: MetricsFile?

        public init(
            arbiter: @escaping (_ run: UInt64) -> ArbiterDesk? = { _ in nil }, admin: AdminSocket? = nil,
            suspicion: SuspicionPlugins? = nil, sinks: EpochSinks = EpochSinks(), metrics: MetricsFile? = nil
        ) {
            self.arbiter = arbiter
            self.admin = admin
            self.metrics = metrics
            self.suspicion = suspicion
            self.sinks = sinks
        }
    }

    public struct Outcome: Sendable {
        public var end: BackupSession.End
        public var lastEpoch: Epoch
        public var lastHeardAt: MonotonicTime
        public var decidedAt: MonotonicTime
        /// When libxl had all it will get.
        public var closedAt: MonotonicTime
        /// By the arbiter, or by the admin's word where that is kept; not by the primary, nor by time.
        public var isArbitrated: Bool
        /// To be said when the restored replica runs, or will not; nil where nobody hears it, or it was said.
        public var farewell: BackupFarewell?
    }
}
