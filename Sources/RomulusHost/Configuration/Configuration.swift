import RomulusCore

/// /etc/xen/romulus.conf: what an admin may set. The shipped file documents every key.
public struct Configuration: Equatable, Sendable {
    public static let defaultPath = "/etc/xen/romulus.conf"

    /// Milliseconds without a byte after which the backup takes over.
    public var detectTimeoutMilliseconds = 1000
    /// The same for a peer without heartbeats (stock Xen), and before the first complete checkpoint.
    public var stockDetectTimeoutMilliseconds = 10_000
    /// MiB of memory for dirty pages that wait for the link; nil is a quarter of the guest's, from 16 to 512.
    public var stagingMiB: Int?
    /// MiB that one epoch may take on the backup; nil is the guest's memory and 64 MiB more.
    public var epochLimitMiB: Int?
    /// A CSV file that gets one line per epoch.
    public var epochLogPath: String?

    public init() {}

    /// Reads the file at `path`; a missing file is one that sets nothing.
    public init(path: String) throws(ConfigurationError) {
        self.init()
        if let file = try ConfigurationFile.read(path: path) { self = try Configuration(file: file) }
    }

    init(file: ConfigurationFile) throws(ConfigurationError) {
        try file.requireKnown(Key.allCases.map(\.rawValue))
        if let value = try file.integer(Key.detectTimeout.rawValue, in: 100...3_600_000) {
            detectTimeoutMilliseconds = value
        }
        if let value = try file.integer(Key.stockDetectTimeout.rawValue, in: 1000...3_600_000) {
            stockDetectTimeoutMilliseconds = value
        }
        stagingMiB = try file.integer(Key.staging.rawValue, in: 4...1_048_576)
        epochLimitMiB = try file.integer(Key.epochLimit.rawValue, in: 4...1_048_576)
        epochLogPath = try file.string(Key.epochLog.rawValue)
    }

    enum Key: String, CaseIterable {
        case detectTimeout = "detect_timeout_ms"
        case stockDetectTimeout = "stock_detect_timeout_ms"
        case staging = "staging_mib"
        case epochLimit = "epoch_limit_mib"
        case epochLog = "epoch_log"
    }

    public var patienceNanoseconds: Int64 { .nanoseconds(milliseconds: stockDetectTimeoutMilliseconds) }

    public func stagingBytes(guestKiB: UInt64) -> Int {
        if let stagingMiB { return stagingMiB << 20 }
        return min(max(Int(clamping: guestKiB) / 4, 16 << 10), 512 << 10) << 10
    }

    public func epochLimitBytes(guestKiB: UInt64) -> Int {
        if let epochLimitMiB { return epochLimitMiB << 20 }
        return (Int(clamping: guestKiB) + 64 << 10) << 10
    }
}

/// What is wrong with a configuration file, and where.
public enum ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
    case unreadable(path: String, reason: String)
    /// libxlutil's own words, which name file and line.
    case syntax(String)
    case unknownKey(path: String, line: Int, key: String)
    case notANumber(path: String, line: Int, key: String)
    case notAString(path: String, line: Int, key: String)
    case outOfRange(path: String, line: Int, key: String, value: Int, allowed: ClosedRange<Int>)

    public var description: String {
        switch self {
        case .unreadable(let path, let reason):
            "\(path): \(reason)"
        case .syntax(let message):
            message
        case .unknownKey(let path, let line, let key):
            "\(path):\(line): unknown key `\(key)'"
        case .notANumber(let path, let line, let key):
            "\(path):\(line): `\(key)' must be a whole number"
        case .notAString(let path, let line, let key):
            "\(path):\(line): `\(key)' must be a string"
        case .outOfRange(let path, let line, let key, let value, let allowed):
            "\(path):\(line): `\(key)' is \(value), but must be between \(allowed.lowerBound) and \(allowed.upperBound)"
        }
    }
}
