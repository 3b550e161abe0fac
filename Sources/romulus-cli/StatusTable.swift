import RomulusHost

/// Sessions as a table for people: one row each, times in milliseconds.
struct StatusTable {
    private struct Column: Sendable {
        var head: String
        var isLeft = false
        /// Goes first where there is no room for all.
        var isDetail = false
        var cell: @Sendable (JSON) -> String
    }

    private static let columns: [Column] = [
        Column(head: "GUEST", isLeft: true) { $0["guest"]?.text ?? "?" },
        Column(head: "SIDE", isLeft: true) { $0["side"]?.text ?? "?" },
        Column(head: "STATE", isLeft: true) { $0["state"]?.text ?? "?" },
        Column(head: "EPOCH") { whole($0["epoch"]) },
        Column(head: "PERIOD") { tenths($0["period_ms"]) },
        Column(head: "PAUSE") { tenths($0["pause_ms"]) },
        Column(head: "SUSPEND", isDetail: true) { part($0, "suspend") },
        Column(head: "LOG", isDetail: true) { part($0, "log") },
        Column(head: "COPY", isDetail: true) { part($0, "copy") },
        Column(head: "STATE", isDetail: true) { part($0, "state") },
        Column(head: "HOLD", isDetail: true) { part($0, "hold") },
        Column(head: "RESUME", isDetail: true) { part($0, "resume") },
        Column(head: "PAGES") { whole($0["pages"]) },
        Column(head: "KIB") { $0["link_bytes"]?.double.map { tenths($0 / 1024) } ?? "-" },
        Column(head: "RATIO", cell: { ratio($0) }),
        Column(head: "ACK") { tenths($0["acknowledge_ms"]) },
        Column(head: "HELD") { whole($0["held_packets"]) },
    ]

    let lines: [String]

    /// - Parameter width: what there is for a line. Where that is too little the parts of the pause are left out.
    init(_ statuses: [JSON], width: Int = .max) {
        let all = Self.lines(statuses, Self.columns)
        lines = (all.first?.count ?? 0) <= width ? all : Self.lines(statuses, Self.columns.filter { !$0.isDetail })
    }

    private static func lines(_ statuses: [JSON], _ columns: [Column]) -> [String] {
        let rows = [columns.map(\.head)] + statuses.map { status in columns.map { $0.cell(status) } }
        let widths = columns.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row.indices.map { column in
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                return columns[column].isLeft ? row[column] + padding : padding + row[column]
            }.joined(separator: "  ")
        }
    }

    private static func whole(_ value: JSON?) -> String { value?.double.map { "\(Int64($0))" } ?? "-" }
    private static func tenths(_ value: JSON?) -> String { value?.double.map(tenths) ?? "-" }

    private static func tenths(_ value: Double) -> String {
        let tenths = Int64((value * 10).rounded())
        return "\(tenths / 10).\(abs(tenths % 10))"
    }

    private static func part(_ status: JSON, _ name: String) -> String { tenths(status["pause_parts_ms"]?[name]) }

    /// What went over the link, of the stock stream.
    private static func ratio(_ status: JSON) -> String {
        guard let stream = status["stream_bytes"]?.double, let link = status["link_bytes"]?.double, stream > 0 else {
            return "-"
        }
        let thousandths = Int64((link / stream * 1000).rounded())
        let digits = "\(thousandths % 1000)"
        return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - digits.count) + digits
    }

    /// What happened last, one line per session that has said anything.
    static func newestEvents(_ statuses: [JSON]) -> [String] {
        statuses.compactMap { $0["last_event"].flatMap(Event.init)?.line }
    }
}

extension Event {
    /// For people.
    var line: String { "\(localTime(time))  \(guest.isEmpty ? "-" : guest)  \(level.rawValue): \(text)" }
}
