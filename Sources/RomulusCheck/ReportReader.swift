import RomulusCore
import RomulusHost

/// Why what another host said is no report.
public enum ReportError: Error, Equatable, Sendable, CustomStringConvertible {
    case missing(String)
    case badValue(String)
    case tooManyLines(String)

    public var description: String {
        switch self {
        case .missing(let key): "its report lacks `\(key)'"
        case .badValue(let key): "its report has no usable `\(key)'"
        case .tooManyLines(let key): "its report has too many lines of `\(key)'"
        }
    }
}

extension HostReport {
    /// - Parameter lines: between the first line and the last. Keys that are not known are a newer Romulus's.
    init(lines: [String]) throws(ReportError) {
        let reader = ReportReader(lines: lines)
        version = try reader.text(.version)
        activation = try reader.choice(.activation) { Activation(rawValue: $0) }
        moduleProblems = try reader.texts(.moduleProblem)
        dom0AvailableKiB = reader.isGiven(.dom0AvailableKiB) ? try reader.kibibytes(.dom0AvailableKiB) : nil
        sessionsKiB = reader.isGiven(.sessionsKiB) ? try reader.kibibytes(.sessionsKiB) : 0
        connection = try reader.connection()
        if let reason = try reader.texts(.xenProblem).first {
            xen = .unknown(reason)
        } else {
            xen = .known(
                Xen(
                    version: try reader.text(.xen), hasShadow: try reader.yesOrNo(.shadow),
                    freeKiB: try reader.kibibytes(.freeKiB), takesFromDom0: try reader.yesOrNo(.takesFromDom0)))
        }
        if let reason = try reader.texts(.settingsProblem).first {
            settings = .unknown(reason)
        } else {
            settings = .known(try reader.settings())
        }
    }
}

private struct ReportReader {
    let values: [Substring: [Substring]]

    // More than any host has, and nothing overflows.
    private static let mostKiB: UInt64 = 1 << 50
    private static let mostMiB: UInt64 = 1 << 20
    private static let mostMilliseconds: UInt64 = 1 << 22

    init(lines: [String]) {
        var values: [Substring: [Substring]] = [:]
        for line in lines {
            let parts = line.split(separator: " ", maxSplits: 1)
            if let key = parts.first { values[key, default: []].append(parts.count == 2 ? parts[1] : "") }
        }
        self.values = values
    }

    func texts(_ key: ReportFormat.Key) throws(ReportError) -> [String] {
        let found = values[key.rawValue[...]] ?? []
        guard found.count <= ReportFormat.mostLines else { throw .tooManyLines(key.rawValue) }
        return found.map(String.init)
    }

    func text(_ key: ReportFormat.Key) throws(ReportError) -> String {
        guard let text = try texts(key).first else { throw .missing(key.rawValue) }
        return text
    }

    func choice<Value>(_ key: ReportFormat.Key, _ find: (String) -> Value?) throws(ReportError) -> Value {
        guard let value = find(try text(key)) else { throw .badValue(key.rawValue) }
        return value
    }

    func yesOrNo(_ key: ReportFormat.Key) throws(ReportError) -> Bool {
        try choice(key) { $0 == "yes" ? true : $0 == "no" ? false : nil }
    }

    func kibibytes(_ key: ReportFormat.Key) throws(ReportError) -> UInt64 { try number(key, upTo: Self.mostKiB) }

    private func mebibytes(_ key: ReportFormat.Key) throws(ReportError) -> Int? {
        isGiven(key) ? Int(try number(key, upTo: Self.mostMiB)) : nil
    }

    private func number(_ key: ReportFormat.Key, upTo most: UInt64) throws(ReportError) -> UInt64 {
        try choice(key) { UInt64($0).flatMap { $0 <= most ? $0 : nil } }
    }

    func isGiven(_ key: ReportFormat.Key) -> Bool { values[key.rawValue[...]] != nil }

    func settings() throws(ReportError) -> HostReport.Settings {
        let test = try texts(.arbiterOK).map(CheckLine.ok) + texts(.arbiterProblem).map(CheckLine.problem)
        return HostReport.Settings(
            arbiter: try choice(.arbiter) { name in Configuration.arbiters.first { $0.key == name }?.value },
            arbiterTest: test, detectTimeoutMilliseconds: Int(try number(.detectTimeout, upTo: Self.mostMilliseconds)),
            epochLimitMiB: try mebibytes(.epochLimit),
            pageCacheMiB: try mebibytes(.pageCache), stagingMiB: try mebibytes(.staging),
            fenceOrder: isGiven(.fenceOrder) ? try choice(.fenceOrder) { FenceOrder(rawValue: $0) } : nil)
    }

    func connection() throws(ReportError) -> PeerConnection? {
        guard isGiven(.connection) else { return nil }
        return try choice(.connection) { text in
            let ends = text.split(separator: " ").compactMap { HostAddress($0) }
            return ends.count == 2 ? PeerConnection(own: ends[0], peer: ends[1]) : nil
        }
    }
}
