import RomulusCore

// What the primary's relay is given, and what it gives back.

extension PrimaryRelay {
    public struct Configuration: Sendable {
        public var session: PrimarySession.Configuration
        /// This run's name, which the backup hears.
        public var run: UInt64
        public var helper: HelperSettings
        public var schedule: SchedulePolicy
        /// How pages are encoded where the backup understands it; nil where they are not (`-u`).
        public var pages: PageSettings?
        /// How long the last words may take to leave, and the backup's answer to them to arrive.
        public var farewellNanoseconds: Int64 = 1_000_000_000
        /// How often the guest is looked at.
        public var guestCheckNanoseconds: Int64 = 100_000_000
        public var epochWatch = EpochWatch()
        /// What a helper may take to end that was told to. A host that is busy may take its time without hanging.
        public var endingNanoseconds: Int64 = 20_000_000_000
        /// The same for one that has not moved for long already.
        public var hangingNanoseconds: Int64 = 10_000_000_000

        public init(
            session: PrimarySession.Configuration, run: UInt64, helper: HelperSettings, schedule: SchedulePolicy,
            pages: PageSettings? = nil
        ) {
            self.session = session
            self.run = run
            self.helper = helper
            self.schedule = schedule
            self.pages = pages
        }
    }

    /// The world around the link. What is nil is not there.
    public struct Ports {
        public var guest: GuestPort
        public var shape: ShapeWatch?
        public var output: OutputBuffer?
        public var arbiter: ArbiterDesk?
        public var admin: AdminSocket?
        public var trace: EpochTrace?
        public var metrics: MetricsFile?
        public var plugins: EpochPlugins?
        /// Whether the backup may have a replica that takes over if this process is killed; for whoever comes after it.
        public var noteReplica: (Bool) -> Void

        public init(
            guest: GuestPort, shape: ShapeWatch? = nil, output: OutputBuffer? = nil, arbiter: ArbiterDesk? = nil,
            admin: AdminSocket? = nil,
            trace: EpochTrace? = nil, metrics: MetricsFile? = nil, plugins: EpochPlugins? = nil,
            noteReplica: @escaping (Bool) -> Void = { _ in }
        ) {
            self.guest = guest
            self.shape = shape
            self.output = output
            self.arbiter = arbiter
            self.admin = admin
            self.trace = trace
            self.metrics = metrics
            self.plugins = plugins
            self.noteReplica = noteReplica
        }
    }

    /// What the run came to.
    public struct Outcome: Sendable {
        public var end: PrimarySession.End
        public var statistics: RunStatistics
        /// The backup knows what becomes of the guest here: it has answered the farewell with its own, or, where it is
        /// stock, was sent one that it cannot misunderstand.
        public var wasFarewellHeard: Bool
        /// A guest that is suspended is so for a checkpoint. Else it is somebody's who saves or migrates it.
        public var isSuspensionOurs: Bool
        /// The guest may have an order to suspend that nobody waits for any more.
        public var isSuspendOrderOut: Bool
    }
}
