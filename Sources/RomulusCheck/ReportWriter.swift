import RomulusCore
import RomulusHost

extension HostReport {
    /// For `HostReport(lines:)` on the other host.
    public var text: String {
        var writer = ReportWriter()
        writer.add(.version, version)
        writer.add(.activation, activation.rawValue)
        switch xen {
        case .known(let xen):
            writer.add(.xen, xen.version)
            writer.add(.shadow, xen.hasShadow ? "yes" : "no")
            writer.add(.freeKiB, "\(xen.freeKiB)")
            writer.add(.takesFromDom0, xen.takesFromDom0 ? "yes" : "no")
        case .unknown(let reason): writer.add(.xenProblem, reason)
        }
        if let dom0AvailableKiB { writer.add(.dom0AvailableKiB, "\(dom0AvailableKiB)") }
        writer.add(.sessionsKiB, "\(sessionsKiB)")
        if let connection { writer.add(.connection, "\(connection.own) \(connection.peer)") }
        for problem in moduleProblems { writer.add(.moduleProblem, problem) }
        switch settings {
        case .known(let settings): writer.add(settings)
        case .unknown(let reason): writer.add(.settingsProblem, reason)
        }
        return writer.finished
    }
}

private struct ReportWriter {
    private var lines = [ReportFormat.begin]

    mutating func add(_ key: ReportFormat.Key, _ value: String) {
        var line = "\(key.rawValue) "
        for character in value.unicodeScalars.map({ $0.properties.isPrintable ? Character($0) : " " }) {
            guard line.utf8.count + character.utf8.count <= ReportFormat.longestLineBytes else { break }
            line.append(character)
        }
        lines.append(line)
    }

    mutating func add(_ settings: HostReport.Settings) {
        add(.arbiter, Configuration.name(of: settings.arbiter))
        for line in settings.arbiterTest { add(line.isProblem ? .arbiterProblem : .arbiterOK, line.text) }
        add(.detectTimeout, "\(settings.detectTimeoutMilliseconds)")
        if let limit = settings.epochLimitMiB { add(.epochLimit, "\(limit)") }
        if let cache = settings.pageCacheMiB { add(.pageCache, "\(cache)") }
        if let staging = settings.stagingMiB { add(.staging, "\(staging)") }
        if let order = settings.fenceOrder { add(.fenceOrder, order.rawValue) }
    }

    var finished: String { (lines + [ReportFormat.end]).joined(separator: "\n") + "\n" }
}

extension Unicode.Scalar.Properties {
    /// Does not move a terminal's cursor, nor break a line.
    var isPrintable: Bool {
        switch generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned: false
        default: true
        }
    }
}
