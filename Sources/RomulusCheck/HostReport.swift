import RomulusCore
import RomulusHost

/// What a host knows of itself that `romulus check` judges.
public struct HostReport: Equatable, Sendable {
    /// Of Romulus.
    public var version: String
    public var activation: Activation
    public var xen: Answer<Xen>
    /// What is wrong with kernel modules that Romulus needs: one line each.
    public var moduleProblems: [String]
    public var settings: Answer<Settings>
    /// Memory that programs of dom0 may still take; nil where the kernel does not say.
    public var dom0AvailableKiB: UInt64?
    /// What of it the sessions that run already may still take.
    public var sessionsKiB: UInt64 = 0
    /// The connection by which it was asked, as it has it.
    public var connection: PeerConnection?

    /// What was asked for, or why it is not known.
    public enum Answer<Value: Equatable & Sendable>: Equatable, Sendable {
        case known(Value)
        case unknown(String)

        public var value: Value? {
            if case .known(let value) = self { value } else { nil }
        }
    }

    /// What the `xl` is that a command finds.
    public enum Activation: String, Sendable, CaseIterable {
        case active
        /// A stock one.
        case inactive
        /// The launcher, without what it should load.
        case broken
        /// There is none.
        case absent
    }

    public struct Xen: Equatable, Sendable {
        public var version: String
        /// Without it no PV guest's writes can be logged.
        public var hasShadow: Bool
        public var freeKiB: UInt64
        /// Whether xl takes memory from dom0 for new guests.
        public var takesFromDom0: Bool

        public init(version: String, hasShadow: Bool, freeKiB: UInt64, takesFromDom0: Bool) {
            self.version = version
            self.hasShadow = hasShadow
            self.freeKiB = freeKiB
            self.takesFromDom0 = takesFromDom0
        }
    }

    /// Of /etc/xen/romulus.conf.
    public struct Settings: Equatable, Sendable {
        public var arbiter: ArbiterKind
        /// What the arbiter's own test says; none without an arbiter.
        public var arbiterTest: [CheckLine]
        public var detectTimeoutMilliseconds: Int
        public var epochLimitMiB: Int?
        public var pageCacheMiB: Int?
        public var stagingMiB: Int?
        /// Whether this host goes first when both hosts would turn the other off.
        public var fenceOrder: FenceOrder?

        public init(
            arbiter: ArbiterKind, arbiterTest: [CheckLine], detectTimeoutMilliseconds: Int, epochLimitMiB: Int?,
            pageCacheMiB: Int?, stagingMiB: Int? = nil, fenceOrder: FenceOrder? = nil
        ) {
            self.arbiter = arbiter
            self.arbiterTest = arbiterTest
            self.detectTimeoutMilliseconds = detectTimeoutMilliseconds
            self.epochLimitMiB = epochLimitMiB
            self.pageCacheMiB = pageCacheMiB
            self.stagingMiB = stagingMiB
            self.fenceOrder = fenceOrder
        }
    }
}

/// How a report goes from host to host: lines of `key value`, between the first line and the last.
enum ReportFormat {
    static let begin = "romulus-report 1"
    static let end = "end"
    static let longestBytes = 64 << 10
    static let longestLineBytes = 1024
    /// Of the lines that may come more than once.
    static let mostLines = 32

    enum Key: String {
        case version
        case activation
        case xen
        case xenProblem = "xen-problem"
        case shadow
        case freeKiB = "free-kib"
        case takesFromDom0 = "takes-from-dom0"
        case dom0AvailableKiB = "dom0-available-kib"
        case sessionsKiB = "sessions-kib"
        case moduleProblem = "module-problem"
        case settingsProblem = "settings-problem"
        case arbiter
        case arbiterOK = "arbiter-ok"
        case arbiterProblem = "arbiter-problem"
        case detectTimeout = "detect-timeout-ms"
        case epochLimit = "epoch-limit-mib"
        case pageCache = "page-cache-mib"
        case staging = "staging-mib"
        case fenceOrder = "fence-order"
        case connection
    }

    /// Behind the report: each such line is answered with itself and the host's clock, until the input ends.
    static let echo = "echo"
}
