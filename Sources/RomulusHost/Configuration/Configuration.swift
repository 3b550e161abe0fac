import RomulusCore

/// /etc/xen/romulus.conf: what an admin may set. The shipped file documents every key.
public struct Configuration: Equatable, Sendable {
    public static let defaultPath = "/etc/xen/romulus.conf"

    /// Milliseconds without a byte after which the backup takes over.
    public var detectTimeoutMilliseconds = 1000
    /// The same for a peer without heartbeats (stock Xen), and before the first complete checkpoint.
    public var stockDetectTimeoutMilliseconds = 10_000
    /// When epochs begin, where `-i` is not given.
    public var schedule = SchedulePolicy.fixed(periodNanoseconds: .nanoseconds(milliseconds: 200))
    /// MiB of memory for dirty pages that wait for the link; nil is a quarter of the guest's, from 16 to 512.
    public var stagingMiB: Int?
    /// MiB that one epoch may take on the backup; nil is the guest's memory and 64 MiB, or a 256th of it, more.
    public var epochLimitMiB: Int?
    /// KiB of the guest's output that may wait, per network device.
    public var netbufLimitKiB = 32_768
    /// What walks the guest's memory.
    public var engine = Engine.native
    /// MiB for copies of pages that the backup has, on either side; nil is the guest's memory, at most 256.
    public var pageCacheMiB: Int?
    /// What becomes of a page that has no short delta.
    public var compression = Compression.lz4
    /// Who decides which copy goes on when the link is silent.
    public var arbiter = ArbiterKind.none
    /// A fence agent, by name or path, and its `name=value` options.
    public var fenceAgent: String?
    public var fenceOptions: [String] = []
    /// The same for each of several hosts.
    public var fencePeers: [FencePeerSettings] = []
    /// For each call of the agent.
    public var fenceTimeoutMilliseconds = 20_000
    /// Nil goes by the hosts' addresses.
    public var fenceOrder: FenceOrder?
    /// How long the host that goes second waits before it turns the other one off.
    public var fenceDelayMilliseconds: Int?
    /// etcd's client URLs; etcdctl's own default where there are none.
    public var leaseEndpoints: [String] = []
    /// More of etcdctl's options.
    public var leaseOptions: [String] = []
    public var leaseTTLSeconds = 3
    /// For each call of etcdctl.
    public var leaseTimeoutMilliseconds = 2000
    /// Shared objects that take part (romulus.h), each with its path and what is behind it.
    public var plugins = PluginSettings()
    /// A CSV file that gets one line per epoch.
    public var epochLogPath: String?
    /// Where a file of metrics is kept, for node_exporter.
    public var metricsDirectory: String?
    /// Whether what a run has in memory stays there.
    public var locksMemory = true
    /// Of the threads that a guest's lease hangs on; 0 is none.
    public var realtimePriority = 0

    public init() {}

    /// Reads the file at `path`; a missing file is one that sets nothing.
    public init(path: String) throws(ConfigurationError) {
        self.init()
        if let file = try ConfigurationFile.read(path: path) { self = try Configuration(file: file) }
    }

    init(file: ConfigurationFile) throws(ConfigurationError) {
        try file.requireKnown(Key.allCases.map(\.rawValue), prefix: Self.fencePeerPrefix)
        if let value = try file.integer(Key.detectTimeout.rawValue, in: 100...3_600_000) {
            detectTimeoutMilliseconds = value
        }
        if let value = try file.integer(Key.stockDetectTimeout.rawValue, in: 1000...3_600_000) {
            stockDetectTimeoutMilliseconds = value
        }
        stagingMiB = try file.integer(Key.staging.rawValue, in: 4...1_048_576)
        epochLimitMiB = try file.integer(Key.epochLimit.rawValue, in: 4...1_048_576)
        if let value = try file.integer(Key.netbufLimit.rawValue, in: 64...2_097_151) { netbufLimitKiB = value }
        if let choice = try file.choice(Key.engine.rawValue, of: Self.engines) { engine = choice }
        pageCacheMiB = try file.integer(Key.pageCache.rawValue, in: 1...1_048_576)
        if let choice = try file.choice(Key.compression.rawValue, of: Self.compressions) { compression = choice }
        try readPlugins(file)
        try readArbiter(file)
        try readSchedule(file)
        epochLogPath = try file.string(Key.epochLog.rawValue)
        metricsDirectory = try file.string(Key.metricsDirectory.rawValue)
        if let value = try file.integer(Key.lockMemory.rawValue, in: 0...1) { locksMemory = value == 1 }
        if let value = try file.integer(Key.realtimePriority.rawValue, in: 0...99) { realtimePriority = value }
    }

    private mutating func readSchedule(_ file: ConfigurationFile) throws(ConfigurationError) {
        let isAdaptive = try file.choice(Key.schedule.rawValue, of: ["fixed": false, "adaptive": true]) ?? false
        let period = try file.integer(Key.period.rawValue, in: 1...3_600_000) ?? 200
        let floor = try file.integer(Key.periodFloor.rawValue, in: 1...60_000) ?? 25
        let ceiling = try file.integer(Key.periodCeiling.rawValue, in: 1...3_600_000) ?? 1000
        let percent = try file.integer(Key.maximumPause.rawValue, in: 1...100) ?? 20
        let delay = try file.integer(Key.maximumOutputDelay.rawValue, in: 1...3_600_000)
        let megabits = try file.integer(Key.maximumBandwidth.rawValue, in: 1...1_000_000)
        guard floor <= ceiling else {
            throw file.outOfRange(Key.periodFloor.rawValue, floor, allowed: 1...ceiling)
        }
        guard isAdaptive else {
            schedule = .fixed(periodNanoseconds: .nanoseconds(milliseconds: period))
            return
        }
        schedule = .adaptive(
            ScheduleBudgets(
                floorNanoseconds: .nanoseconds(milliseconds: floor),
                ceilingNanoseconds: .nanoseconds(milliseconds: ceiling), pauseShare: Double(percent) / 100,
                outputDelayNanoseconds: delay.map { .nanoseconds(milliseconds: $0) },
                bytesPerSecond: megabits.map { Double($0) * 1e6 / 8 }))
    }

    private mutating func readPlugins(_ file: ConfigurationFile) throws(ConfigurationError) {
        plugins.plugins = try file.strings(Key.plugin.rawValue) ?? []
        if let bad = plugins.plugins.first(where: { !$0.hasPrefix("/") || $0.contains("\n") }) {
            throw file.error(at: Key.plugin.rawValue, .notAPath(bad))
        }
        if let value = try file.integer(Key.pluginTimeout.rawValue, in: 1...10_000) {
            plugins.timeoutMilliseconds = value
        }
    }

    private mutating func readArbiter(_ file: ConfigurationFile) throws(ConfigurationError) {
        if let choice = try file.choice(Key.arbiter.rawValue, of: Self.arbiters) { arbiter = choice }
        fenceAgent = try file.string(Key.fenceAgent.rawValue)
        try readFenceOptions(file)
        leaseEndpoints = try file.strings(Key.leaseEndpoints.rawValue) ?? []
        leaseOptions = try file.strings(Key.leaseOptions.rawValue) ?? []
        if let value = try file.integer(Key.fenceTimeout.rawValue, in: 100...600_000) {
            fenceTimeoutMilliseconds = value
        }
        fenceOrder = try file.choice(Key.fenceOrder.rawValue, of: ["first": .first, "second": .second])
        fenceDelayMilliseconds = try file.integer(Key.fenceDelay.rawValue, in: 0...600_000)
        if let value = try file.integer(Key.leaseTTL.rawValue, in: 2...60) { leaseTTLSeconds = value }
        if let value = try file.integer(Key.leaseTimeout.rawValue, in: 100...60_000) {
            leaseTimeoutMilliseconds = value
        }
        if arbiter == .fence, fenceAgent == nil { throw file.error(at: Key.arbiter.rawValue, .missingAgent) }
        if arbiter == .plugin, plugins.plugins.isEmpty {
            throw file.error(at: Key.arbiter.rawValue, .missingPlugin)
        }
    }

    static let fencePeerPrefix = "fence_options."

    private mutating func readFenceOptions(_ file: ConfigurationFile) throws(ConfigurationError) {
        func options(_ key: String) throws(ConfigurationError) -> [String]? {
            let options = try file.strings(key)
            if let bad = options?.first(where: { !$0.contains("=") || $0.contains("\n") }) {
                throw file.error(at: key, .notAnOption(String(bad.prefix { $0 != "=" })))
            }
            return options
        }
        let shared = try options(Key.fenceOptions.rawValue)
        fenceOptions = shared ?? []
        for key in file.keys(withPrefix: Self.fencePeerPrefix) {
            guard shared == nil else { throw file.error(at: key, .bothFenceOptions(key)) }
            fencePeers.append(
                FencePeerSettings(
                    key: String(key.dropFirst(Self.fencePeerPrefix.count)), options: try options(key) ?? []))
        }
    }

    private static let engines: KeyValuePairs<String, Engine> = ["native": .native, "stock": .stock]
    private static let compressions: KeyValuePairs<String, Compression> = [
        "lz4": .lz4, "zstd": .zstd, "none": .none,
    ]
    package static let arbiters: KeyValuePairs<String, ArbiterKind> = [
        "none": .none, "fence": .fence, "lease": .lease, "plugin": .plugin,
    ]

    enum Key: String, CaseIterable {
        case detectTimeout = "detect_timeout_ms"
        case stockDetectTimeout = "stock_detect_timeout_ms"
        case staging = "staging_mib"
        case epochLimit = "epoch_limit_mib"
        case netbufLimit = "netbuf_limit_kib"
        case engine
        case pageCache = "page_cache_mib"
        case compression
        case arbiter
        case fenceAgent = "fence_agent"
        case fenceOptions = "fence_options"
        case fenceTimeout = "fence_timeout_ms"
        case fenceOrder = "fence_order"
        case fenceDelay = "fence_delay_ms"
        case leaseEndpoints = "lease_endpoints"
        case leaseOptions = "lease_options"
        case leaseTTL = "lease_ttl_s"
        case leaseTimeout = "lease_timeout_ms"
        case schedule
        case period = "period_ms"
        case periodFloor = "period_floor_ms"
        case periodCeiling = "period_ceiling_ms"
        case maximumPause = "max_pause_percent"
        case maximumOutputDelay = "max_output_delay_ms"
        case maximumBandwidth = "max_mbit_per_s"
        case plugin
        case pluginTimeout = "plugin_timeout_ms"
        case epochLog = "epoch_log"
        case metricsDirectory = "metrics_directory"
        case lockMemory = "lock_memory"
        case realtimePriority = "realtime_priority"
    }

    package static func name(of arbiter: ArbiterKind) -> String {
        arbiters.first { $0.value == arbiter }?.key ?? "\(arbiter)"
    }

    /// What the file may ask for at most. libxl has all ones for memory that is not set.
    private static let mostEpochKiB: UInt64 = 1 << 30

    public var patienceNanoseconds: Int64 { .nanoseconds(milliseconds: stockDetectTimeoutMilliseconds) }

    /// By then the host that goes first, which may notice later by a timeout, has turned this one off or cannot.
    var fenceDelay: Int { fenceDelayMilliseconds ?? fenceTimeoutMilliseconds + 2 * detectTimeoutMilliseconds }

    public func stagingBytes(guestKiB: UInt64) -> Int {
        if let stagingMiB { return stagingMiB << 20 }
        return min(max(Int(clamping: guestKiB) / 4, 16 << 10), 512 << 10) << 10
    }

    /// How many pages each side keeps.
    public func pageSlots(guestKiB: UInt64) -> Int {
        let mebibytes = pageCacheMiB ?? min(max(Int(clamping: guestKiB) >> 10, 1), 256)
        return (mebibytes << 20) / PageFormat.pageBytes
    }

    public func epochLimitBytes(guestKiB: UInt64) -> Int {
        if let epochLimitMiB { return epochLimitMiB << 20 }
        // Each page has eight bytes beside it, so that a large guest needs more than a fixed amount.
        let kibibytes = Int(clamping: min(guestKiB, Self.mostEpochKiB))
        return min(kibibytes + max(64 << 10, kibibytes / 256), Int(Self.mostEpochKiB)) << 10
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
    case notAList(path: String, line: Int, key: String)
    case notAChoice(path: String, line: Int, key: String, value: String, allowed: [String])
    case badSetting(path: String, line: Int, Fault)
    case outOfRange(path: String, line: Int, key: String, value: Int, allowed: ClosedRange<Int>)

    public enum Fault: Equatable, Sendable {
        case missingAgent
        case missingPlugin
        case notAPath(String)
        /// The option's name, without a value, which may be a secret.
        case notAnOption(String)
        case bothFenceOptions(String)
    }

    public var description: String {
        switch self {
        case .notAList(let path, let line, let key):
            "\(path):\(line): `\(key)' must be a list of strings, as in [ \"one\", \"two\" ]"
        case .notAChoice(let path, let line, let key, let value, let allowed):
            "\(path):\(line): there is no \(key) \"\(value)\": choose one of \(allowed.joined(separator: ", "))"
        case .badSetting(let path, let line, .missingPlugin):
            "\(path):\(line): arbiter = \"plugin\" needs a plugin that is an arbiter"
        case .badSetting(let path, let line, .notAPath(let text)):
            "\(path):\(line): `plugin' must be a whole path each; \"\(text)\" is not"
        case .badSetting(let path, let line, .missingAgent):
            "\(path):\(line): arbiter = \"fence\" needs a fence_agent"
        case .badSetting(let path, let line, .notAnOption(let name)):
            "\(path):\(line): `fence_options' must be \"name=value\" each; \"\(name)\" is not"
        case .badSetting(let path, let line, .bothFenceOptions(let key)):
            "\(path):\(line): `\(key)' cannot stand beside `fence_options': name the host there too, fence_options.HOST"
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
