/// Prometheus's text format, version 0.0.4; names and units by its conventions.
struct PrometheusText {
    private let label: String
    private(set) var text = ""

    init(guest: String) {
        let escaped = guest.map { $0 == "\\" ? "\\\\" : $0 == "\"" ? "\\\"" : $0 == "\n" ? "\\n" : String($0) }.joined()
        label = "guest=\"\(escaped)\""
    }

    private mutating func head(_ name: String, _ help: String, _ kind: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
    }

    mutating func gauge(_ name: String, _ help: String, _ value: String) {
        head(name, help, "gauge")
        text += "\(name){\(label)} \(value)\n"
    }

    mutating func gauge(_ name: String, _ help: String, _ value: Bool) { gauge(name, help, value ? "1" : "0") }

    mutating func counter(_ name: String, _ help: String, _ value: some BinaryInteger) {
        head(name, help, "counter")
        text += "\(name){\(label)} \(value)\n"
    }

    mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) {
        head(name, help, "histogram")
        var below: UInt64 = 0
        for (bound, count) in zip(histogram.bounds.map { "\($0)" } + ["+Inf"], histogram.counts) {
            below += count
            text += "\(name)_bucket{\(label),le=\"\(bound)\"} \(below)\n"
        }
        text += "\(name)_sum{\(label)} \(histogram.sum)\n\(name)_count{\(label)} \(below)\n"
    }
}
