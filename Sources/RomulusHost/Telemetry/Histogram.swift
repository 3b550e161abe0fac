/// Counts of values up to each of some bounds, as Prometheus has them.
struct Histogram: Equatable, Sendable {
    let bounds: [Double]
    /// Per bound, not added up; the last one counts what is above all of them.
    private(set) var counts: [UInt64]
    private(set) var sum = 0.0

    /// - Parameter bounds: rising.
    init(_ bounds: [Double]) {
        self.bounds = bounds
        counts = [UInt64](repeating: 0, count: bounds.count + 1)
    }

    mutating func add(_ value: Double) {
        counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
        sum += value
    }

    static let seconds = Histogram([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    static let bytes = Histogram((12...30).filter { $0 % 2 == 0 }.map { Double(1 << $0) })
}
